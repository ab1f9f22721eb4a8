"""Groups of commands in which one may be left out: what it did before it had others beside it."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup

__all__ = ["DatabaseUnlessNamed"]


class DatabaseUnlessNamed(TyperGroup):
    """`lab attack --dataset ...` and `lab evaluate --database ...` mean their sub-command `database`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the sub-command's name in front where it is left out."""
        named = bool(args) and args[0] in self.commands
        return super().parse_args(ctx, args if named else ["database", *args])
