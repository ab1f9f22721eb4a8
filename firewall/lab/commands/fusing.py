"""`firewall lab fuse`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["fuse"]


def fuse(
    bundle: Annotated[str, typer.Option(help="'default' or the folder of a bundle: its detectors are fused.")],
    database: Annotated[
        Path, typer.Option(metavar="DB", help="Attacks on the bundle's classifier, to fit weights and early exits on.")
    ],
    calibration: Annotated[
        Path, typer.Option(metavar="DB", help="Its normal images, of other tracks, set the threshold.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the new bundle.")],
    false_positive_rate: Annotated[
        float, typer.Option(help="Share of frames of new tracks that may be withheld.")
    ] = 0.01,
    rule: Annotated[
        str, typer.Option(help="sum, squares, logistic, logistic-squares, or auto: whichever survives unseen attacks.")
    ] = "auto",
    loss: Annotated[
        float, typer.Option(min=0, max=0.1, help="Share of an attack's images that early exits may release.")
    ] = 0.005,
    calibration_split: Annotated[
        str, typer.Option(help="Of the calibration database: train, dev or eval, several with commas, or all.")
    ] = "all",
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Also write how the fusion came about.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of the data sets and classifiers.")] = None,
) -> None:
    """Weigh a bundle's detectors into one suspicion, with a false-positive rate that is promised by track."""
    from firewall.bundle import load_bundle
    from firewall.lab.database import Database
    from firewall.lab.database.normals import named_splits
    from firewall.lab.fused import fuse as fused
    from firewall.lab.models import open_classifier

    result = fused(
        load_bundle(bundle),
        open_classifier(bundle, data),
        Database(database),
        Database(calibration),
        out,
        rate=false_positive_rate,
        rule=rule,
        loss=loss,
        splits=named_splits(calibration_split, "--calibration-split"),
    )
    text = json.dumps(result.report, indent=1)
    typer.echo(text)
    if json_file is not None:
        json_file.write_text(text + "\n", encoding="utf-8")
