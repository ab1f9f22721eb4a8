"""What may follow an output's name, `?size=10M&keep=5`, checked where it is read."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, urlsplit

from firewall.errors import UsageError

__all__ = ["Options", "path_and_options", "shown", "split_uri"]

_SIZE = re.compile(r"([0-9]{1,12})([KMG]?)(?:i?B)?", re.IGNORECASE)
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_OPTIONS = re.compile(r"[a-z_]+=[^&?]*(&[a-z_]+=[^&?]*)*")


class Options:
    """The options of one output.

    Args:
        output: The output as it was named, without credentials, for messages.
        query: What follows its `?`.
        known: The options that it has.

    Raises:
        UsageError: If one is unknown, or stands there twice.
    """

    def __init__(self, output: str, query: str, known: tuple[str, ...]) -> None:
        self.output = output
        pairs = parse_qsl(query, keep_blank_values=True)
        self._given = dict(pairs)
        wrong = next((key for key, _ in pairs if key not in known), None)
        if wrong is not None:
            raise UsageError(f"--output {output} has no option {wrong!r}; it knows {', '.join(known)}")
        if len(self._given) < len(pairs):
            raise UsageError(f"--output {output} has an option twice; give each once")

    def text(self, key: str, default: str) -> str:
        """A word that isn't empty."""
        value = self._given.get(key, default)
        if not value and key in self._given:
            raise UsageError(f"option {key!r} of --output {self.output} is empty; give it a value or leave it out")
        return value

    def whole(self, key: str, default: int, least: int, most: int) -> int:
        """A whole number."""
        value = self._given.get(key, str(default))
        if not (value.isascii() and value.isdecimal() and len(value) <= 12 and least <= int(value) <= most):
            raise UsageError(
                f"option {key!r} of --output {self.output} must be a whole number from {least} to {most}, got {value!r}"
            )
        return int(value)

    def size(self, key: str, *, least: int = 4096) -> int | None:
        """A size in bytes, such as 500K, 10M or 2G (powers of 1024); None if it isn't given. least: 4K, or whole M."""
        value = self._given.get(key)
        if value is None:
            return None
        found = _SIZE.fullmatch(value)
        size = int(found[1]) * _UNITS[found[2].upper()] if found else 0
        if size < least:
            shown = f"{least >> 20}M" if least >> 20 else f"{least >> 10}K"
            raise UsageError(
                f"option {key!r} of --output {self.output} must be a size of {shown} or more such as 10M, got {value!r}"
            )
        return size


def shown(text: str) -> str:
    """An output as it was named, fit for a message: without a user's name and password, also if it is misspelt."""
    head, at, tail = text.rpartition("@")
    return f"{head.partition(':')[0]}:...@{tail}" if at and ":" in head else text


def split_uri(text: str) -> SplitResult:
    """The parts of `SCHEME://...`.

    Raises:
        UsageError: If it is no URI, or not of valid characters.
    """
    try:
        text.encode()
        return urlsplit(text)
    except ValueError as error:
        raise UsageError(f"--output {shown(text)!r} is no valid URI: {str(error).split(':')[0]}") from error


def path_and_options(text: str, known: tuple[str, ...]) -> tuple[Path, Options]:
    """The file and the options of `SCHEME:PATH?OPTIONS`. A question mark that no option follows is part of the name.

    Raises:
        UsageError: If there is no path, or an option is wrong.
    """
    scheme, _, rest = text.partition(":")
    path, mark, query = rest.rpartition("?")
    if not (mark and _OPTIONS.fullmatch(query)):
        path, query = rest, ""
    if not path:
        raise UsageError(f"--output {text!r} names no file; give {scheme}:PATH")
    return Path(path), Options(f"{scheme}:{path}", query, known)
