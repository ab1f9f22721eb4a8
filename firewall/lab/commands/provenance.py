"""`firewall lab provenance`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["provenance"]


def provenance(
    bundle: Annotated[str, typer.Option(help="The bundle that the recipe made.")],
    graph: Annotated[Path, typer.Option(metavar="FILE", help="DVC's dvc.yaml, or a copy of it.")],
    record: Annotated[Path, typer.Option(metavar="FILE", help="DVC's dvc.lock.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The new bundle; may be the bundle's own folder.")],
    version: Annotated[int | None, typer.Option(min=1, help="Raise the bundle's version to this.")] = None,
) -> None:
    """Write into a bundle's manifest how it was made: command, parameters and hashes of each stage of the recipe."""
    from firewall.bundle import load_bundle
    from firewall.lab.calibration.provenance import read_record, with_provenance

    found = read_record(graph, record, os.environ.get("DVC_STAGE", ""))
    written = with_provenance(load_bundle(bundle), out, found, version)
    typer.echo(
        f"{out}: {written.manifest.name} version {written.manifest.version}, {len(found.stages)} stages recorded"
    )
