"""`firewall lab demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from firewall.lab.commands.options import Bundle, Seed
from firewall.lab.commands.output import write_json

__all__ = ["demo"]


def demo(
    out: Annotated[Path, typer.Option(help="File of the attacked signs.")], bundle: Bundle = "default", seed: Seed = 0
) -> None:
    """Attack the demo's signs on the bundle's classifier and store them losslessly."""
    from firewall.lab.database import demonstration

    write_json(demonstration.make(out, bundle, seed=seed), None)
