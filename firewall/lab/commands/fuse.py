"""`firewall lab fuse`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from firewall.lab.commands.options import Bundle, Data
from firewall.lab.commands.output import write_json

__all__ = ["FalsePositiveRate", "FittedOn", "SetOn", "fuse"]

FittedOn = Annotated[
    Path,
    typer.Option(metavar="DB", help="Attacks on the bundle's classifier; weights and early exits are fitted to it."),
]
SetOn = Annotated[
    Path,
    typer.Option("--calibration", metavar="DB", help="The threshold is set on its benign images, of other tracks."),
]
FalsePositiveRate = Annotated[
    float, typer.Option(help="Share of the frames of new tracks that may be withheld, between 0 and 1.")
]


def fuse(
    bundle: Bundle,
    database: FittedOn,
    calibration: SetOn,
    out: Annotated[Path, typer.Option(help="Folder of the new bundle.")],
    false_positive_rate: FalsePositiveRate = 0.01,
    rule: Annotated[
        str,
        typer.Option(
            help="sum, squares, logistic, logistic-squares; or auto: the simplest that is about the best on attacks "
            "left out of its fit."
        ),
    ] = "auto",
    loss: Annotated[
        float,
        typer.Option(
            min=0, max=0.1, help="Share of an attack's images that early exits may release instead of withholding."
        ),
    ] = 0.005,
    calibration_split: Annotated[
        str, typer.Option(help="Splits of the calibration database: train, dev or eval, several with commas, or all.")
    ] = "all",
    shift: Annotated[
        int,
        typer.Option(metavar="N", help="Use N benign images once more in rain, noise, blur and so on; 0 for none."),
    ] = 100,
    shift_rate: Annotated[
        float,
        typer.Option(help="Largest share of them that may be withheld under any such shift; 0: no limit."),
    ] = 0.0,
    correction: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of 'lab train correction': goes into the bundle.")
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Also write the report as JSON.")
    ] = None,
    data: Data = None,
) -> None:
    """Fuse a bundle's detectors into one suspicion, with one false-positive rate that counts tracks, not frames."""
    from firewall.bundle import load_bundle
    from firewall.lab.calibration.fusion_bundle import FusionSettings
    from firewall.lab.calibration.fusion_bundle import fuse as fused
    from firewall.lab.database import Database
    from firewall.lab.database.normals import named_splits
    from firewall.lab.models import open_classifier
    from firewall.lab.training.detectors.correction import load_correction

    splits = named_splits(calibration_split, "--calibration-split")
    settings = FusionSettings(false_positive_rate, rule, loss, shift, shift_rate, splits)
    classifier = open_classifier(bundle, data)
    result = fused(
        load_bundle(bundle),
        classifier,
        Database(database),
        Database(calibration),
        out,
        settings,
        correction=None if correction is None else load_correction(correction, classifier),
    )
    write_json(result.report, None)
    if json_file is not None:
        write_json(result.report, json_file)
