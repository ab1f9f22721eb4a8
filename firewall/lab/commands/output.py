"""Where a command's result goes."""

from __future__ import annotations

import json
from pathlib import Path

import typer

from firewall.errors import FirewallError

__all__ = ["write_json"]


def write_json(result: object, file: Path | None) -> None:
    """Write a result as JSON.

    Args:
        result: Ready for JSON.
        file: Where to; None for stdout. Its folder is made.

    Raises:
        FirewallError: The file can't be written.
    """
    text = json.dumps(result, indent=1) + "\n"
    if file is None:
        typer.echo(text, nl=False)
        return
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise FirewallError(f"can't write {file}: {error.strerror}") from error
