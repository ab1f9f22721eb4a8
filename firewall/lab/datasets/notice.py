"""What a command has to tell its user besides its result: one line on stderr."""

from __future__ import annotations

from rich.console import Console

__all__ = ["say"]


def say(line: str) -> None:
    """`firewall: ` and the line, as errors are shown."""
    Console(stderr=True).print(f"firewall: {line}", markup=False, highlight=False, soft_wrap=True)
