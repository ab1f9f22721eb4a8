"""`firewall lab fuse`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["fuse", "unseen"]


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
    shift: Annotated[
        int,
        typer.Option(metavar="N", help="Also N normal images in rain, noise, blur and so on; 0 for none."),
    ] = 100,
    shift_rate: Annotated[
        float, typer.Option(help="Share that may be withheld under any such shift; 0: whatever it is.")
    ] = 0.0,
    correction: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Of 'lab train correction': goes into the bundle.")
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Also write how the fusion came about.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of the data sets and classifiers.")] = None,
) -> None:
    """Weigh a bundle's detectors into one suspicion, with a false-positive rate that is promised by track."""
    from firewall.bundle import load_bundle
    from firewall.lab.calibration.fused_bundle import Options
    from firewall.lab.calibration.fused_bundle import fuse as fused
    from firewall.lab.database import Database
    from firewall.lab.database.normals import named_splits
    from firewall.lab.models import open_classifier
    from firewall.lab.training.detectors.correction import load_correction

    classifier = open_classifier(bundle, data)
    result = fused(
        load_bundle(bundle),
        classifier,
        Database(database),
        Database(calibration),
        out,
        Options(
            rate=false_positive_rate,
            rule=rule,
            loss=loss,
            shift=shift,
            shift_rate=shift_rate,
            splits=named_splits(calibration_split, "--calibration-split"),
        ),
        correction=None if correction is None else load_correction(correction, classifier),
    )
    text = json.dumps(result.report, indent=1)
    typer.echo(text)
    if json_file is not None:
        json_file.write_text(text + "\n", encoding="utf-8")


def unseen(
    trainings: Annotated[
        str,
        typer.Option(metavar="DIRS", help="Comma-separated --out of 'lab leave-one-out', one a detector of pixels."),
    ],
    database: Annotated[Path, typer.Option(metavar="DB", help="As of 'lab fuse'.")],
    calibration: Annotated[Path, typer.Option(metavar="DB", help="As of 'lab fuse'.")],
    judge: Annotated[Path, typer.Option(metavar="DB", help="Attacks to judge on, of other images.")],
    bundle: Annotated[str, typer.Option(help="'default' or the folder of a bundle.")] = "default",
    rule: Annotated[str, typer.Option(help="As of 'lab fuse'; the one that the bundle has.")] = "logistic-squares",
    false_positive_rate: Annotated[float, typer.Option(help="As of 'lab fuse'.")] = 0.01,
    shift: Annotated[int, typer.Option(metavar="N", help="As of 'lab fuse'.")] = 100,
    shift_rate: Annotated[float, typer.Option(help="As of 'lab fuse'.")] = 0.0,
    calibration_split: Annotated[str, typer.Option(help="As of 'lab fuse'.")] = "all",
    split: Annotated[str, typer.Option(help="Of the judged database: train, dev, eval, several, or all.")] = "all",
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the result as JSON.")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of the data sets and classifiers.")] = None,
) -> None:
    """Judge a fused bundle on each family of attacks after everything was trained and fused without that family."""
    from firewall.bundle import load_bundle
    from firewall.lab.calibration.fused_bundle import Options
    from firewall.lab.database import Database
    from firewall.lab.database.normals import named_splits
    from firewall.lab.evaluation.unseen import unseen as judged
    from firewall.lab.models import open_classifier

    result = judged(
        load_bundle(bundle),
        open_classifier(bundle, data),
        [Path(name) for name in trainings.split(",") if name],
        Database(database),
        Database(calibration),
        Database(judge),
        Options(
            rate=false_positive_rate,
            rule=rule,
            shift=shift,
            shift_rate=shift_rate,
            splits=named_splits(calibration_split, "--calibration-split"),
        ),
        split=split,
    )
    text = json.dumps(result, indent=1) + "\n"
    if json_file is None:
        typer.echo(text)
    else:
        json_file.write_text(text, encoding="utf-8")
