"""JSON of strangers: what two programs could read in two ways is refused."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["read_json"]

_MOST_DIGITS = 21


def read_json(data: bytes) -> dict[str, Any]:
    """The object that `data` is.

    Args:
        data: UTF-8.

    Returns:
        The object.

    Raises:
        ValueError: In one line, if it is none: no UTF-8, no JSON, NaN or infinities, a key that stands there twice, a
            number without end, nested too deeply, or another value than an object.
    """
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=_unique, parse_int=_whole, parse_constant=_constant)
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8") from None
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"is no JSON: {error.msg} at character {error.pos}") from None
    if not isinstance(value, dict):
        raise ValueError("is no JSON object")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("has a key twice in one object")
    return found


def _whole(text: str) -> int:
    if len(text) > _MOST_DIGITS:
        raise ValueError("holds a whole number that is too long")
    return int(text)


def _constant(name: str) -> Any:
    raise ValueError(f"holds {name}, which JSON doesn't have")
