"""Values that mean the same in a settings file, in the environment and on the command line."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator

__all__ = ["Text", "numbers"]


def _text(value: Any) -> Any:
    """A number or truth value where text is asked for: what YAML or a program made of `0` or `off`."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value) if isinstance(value, int | float) else value


def numbers(value: Any) -> Any:
    """A list of four numbers for a text of them."""
    return ",".join(map(str, value)) if isinstance(value, list) and len(value) == 4 else value


#: Text, also if it looks like a number or a truth value.
Text = Annotated[str, BeforeValidator(_text)]
