"""A line for the user besides a command's result, on stderr."""

from __future__ import annotations

from rich.console import Console

__all__ = ["say"]


def say(line: str) -> None:
    """Print `firewall: ` and a line, as errors are shown.

    Args:
        line: Without a line end.
    """
    Console(stderr=True).print(f"firewall: {line}", markup=False, highlight=False, soft_wrap=True)
