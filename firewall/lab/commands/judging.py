"""`firewall lab judge` and `leave-one-out`: detectors of pixels on images, and on attacks, that they never saw."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["judge", "leave_one_out"]


def judge(
    detector: Annotated[Path, typer.Argument(metavar="DETECTOR", help="Folder of 'lab train residual' or image-cnn.")],
    database: Annotated[Path, typer.Option(metavar="DB", help="It was trained on: dev sets the thresholds.")],
    others: Annotated[str, typer.Option(help="Comma-separated further databases, judged on all their images.")] = "",
    originals: Annotated[bool, typer.Option(help="Also shift images before they are resized.")] = True,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the result as JSON.")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of the data sets.")] = None,
) -> None:
    """Judge a trained detector of pixels: by attack, and normal images under noise, JPEG, blur, light, rain.

    Takes seconds, since nothing is classified; 'firewall lab evaluate' judges whole bundles.
    """
    from firewall.lab.database import Database
    from firewall.lab.training.detector_folder import load_trained
    from firewall.lab.training.detectors.pixel_evaluation import evaluate as judged

    further = [Database(Path(name)) for name in others.split(",") if name]
    result = judged(load_trained(detector), Database(database), further, data=data, originals=originals)
    text = json.dumps(result, indent=1) + "\n"
    if json_file is None:
        typer.echo(text)
    else:
        json_file.write_text(text, encoding="utf-8")


def leave_one_out(
    database: Annotated[Path, typer.Option(metavar="DB", help="To train on: its train split.")],
    others: Annotated[str, typer.Option(help="Comma-separated databases to judge on; the last one is reported.")],
    out: Annotated[Path, typer.Option(help="Folder of the trainings; the same command goes on with them.")],
    attacks: Annotated[str, typer.Option(help="Comma-separated attacks to train and judge with.  [default: all]")] = "",
    detector: Annotated[str, typer.Option(help="residual or image-cnn.")] = "residual",
    network: Annotated[str, typer.Option(help="Of the detector.")] = "noise",
    also: Annotated[str, typer.Option(help="Comma-separated further rates of the residual.")] = "0.75",
    augment: Annotated[str, typer.Option(help="none, shifts or sensor, see 'lab train residual'.")] = "none",
    epochs: Annotated[int, typer.Option(min=1, help="Of each training.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="Initial weights and order.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="Threads of torch.")] = 2,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the result as JSON.")] = None,
) -> None:
    """Train a detector of pixels once for each family of attacks, without that family, and judge it on the family.

    Stop it at any time; the same command goes on.
    """
    from firewall.lab.database import Database
    from firewall.lab.training.detectors.leave_one_out import leave_one_out as run
    from firewall.lab.training.detectors.pixel_detectors import Settings

    further = tuple(float(rate) for rate in also.split(",") if rate) if detector == "residual" else ()
    settings = Settings(detector=detector, network=network, also=further, augment=augment, epochs=epochs, seed=seed)
    result = run(
        Database(database),
        [Database(Path(name)) for name in others.split(",") if name],
        out,
        settings,
        attacks=[name for name in attacks.split(",") if name],
        threads=threads,
    )
    text = json.dumps(result, indent=1) + "\n"
    if json_file is None:
        typer.echo(text)
    else:
        json_file.write_text(text, encoding="utf-8")
