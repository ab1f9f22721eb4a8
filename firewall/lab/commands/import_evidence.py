"""`firewall lab import-evidence`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from firewall.lab.commands.options import Bundle

__all__ = ["import_evidence"]


def import_evidence(
    quarantine: Annotated[Path, typer.Argument(help="Folder that 'firewall serve --output quarantine:FOLDER' keeps.")],
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder of the pictures; may hold those of an import before.")
    ],
    bundle: Bundle = "default",
) -> None:
    """Sort the crops of a quarantine into folders of classes, to be looked at, labelled and calibrated on.

    The class is the classifier's, which an attack may have changed; without '--operator' it isn't known. --bundle gives
    the classes their names. Do it again at any time: only new cases are taken.
    """
    from firewall.bundle import load_bundle
    from firewall.errors import DataError
    from firewall.lab.datasets import quarantined

    manifest = load_bundle(bundle).manifest
    found = quarantined.import_evidence(
        quarantine,
        out,
        labels=manifest.classifier.labels,
        bundle=manifest.name,
        tell=lambda line: typer.echo(line, err=True),
    )
    typer.echo(
        f"{out}: {found.taken} crops taken, {found.there} were there, {found.without} cases have no crop, {found.bad} "
        "can't be used"
    )
    if found.bad and not found.taken + found.there + found.without:
        raise DataError(f"nothing in {quarantine} can be used")
