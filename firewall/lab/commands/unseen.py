"""`firewall lab unseen`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from firewall.lab.commands.fuse import FalsePositiveRate, FittedOn, SetOn
from firewall.lab.commands.options import Bundle, Data, Json, Split, names_of
from firewall.lab.commands.output import write_json

__all__ = ["unseen"]


def unseen(
    trainings: Annotated[
        str,
        typer.Option(
            metavar="DIRS", help="Folders of 'lab leave-one-out' with commas, one for each detector of pixels."
        ),
    ],
    database: FittedOn,
    calibration: SetOn,
    judge: Annotated[Path, typer.Option(metavar="DB", help="Attacks on other images, to evaluate on.")],
    bundle: Bundle = "default",
    rule: Annotated[str, typer.Option(help="The rule of the bundle's fusion.")] = "logistic-squares",
    false_positive_rate: FalsePositiveRate = 0.01,
    shift: Annotated[int, typer.Option(metavar="N", help="As for 'lab fuse'.")] = 100,
    shift_rate: Annotated[float, typer.Option(help="As for 'lab fuse'.")] = 0.0,
    calibration_split: Annotated[str, typer.Option(help="As for 'lab fuse'.")] = "all",
    split: Split = "all",
    json_file: Json = None,
    data: Data = None,
) -> None:
    """Evaluate a fused bundle on each family of attacks, with everything trained and fused without that family."""
    from firewall.bundle import load_bundle
    from firewall.lab.calibration.fusion_bundle import FusionSettings
    from firewall.lab.database import Database
    from firewall.lab.database.normals import named_splits
    from firewall.lab.evaluation.unseen_families import unseen as evaluated
    from firewall.lab.models import open_classifier

    splits = named_splits(calibration_split, "--calibration-split")
    result = evaluated(
        load_bundle(bundle),
        open_classifier(bundle, data),
        [Path(name) for name in names_of(trainings)],
        Database(database),
        Database(calibration),
        Database(judge),
        FusionSettings(false_positive_rate, rule, shift=shift, shift_rate=shift_rate, splits=splits),
        split=split,
    )
    write_json(result, json_file)
