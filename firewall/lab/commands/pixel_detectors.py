"""`firewall lab judge` and `firewall lab leave-one-out`: detectors of pixels alone, without a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from firewall.lab.commands.options import Data, Json, Seed, Threads, names_of
from firewall.lab.commands.output import write_json

__all__ = ["judge", "leave_one_out"]


def judge(
    detector: Annotated[
        Path, typer.Argument(metavar="DETECTOR", help="Folder of 'lab train residual' or 'lab train image-cnn'.")
    ],
    database: Annotated[
        Path, typer.Option(metavar="DB", help="What it was trained on; thresholds are set on its dev split.")
    ],
    others: Annotated[
        str, typer.Option(help="Further databases with commas, of which all images are evaluated on.")
    ] = "",
    originals: Annotated[bool, typer.Option(help="Also apply shifts before images are resized.")] = True,
    json_file: Json = None,
    data: Data = None,
) -> None:
    """Evaluate a trained detector of pixels on each attack, and on benign images under noise, JPEG, blur, light, rain.

    Takes seconds, since nothing is classified. 'firewall lab evaluate' evaluates whole bundles.
    """
    from firewall.lab.database import Database
    from firewall.lab.training.detector_folder import load_trained
    from firewall.lab.training.detectors.pixel_evaluation import evaluate as judged

    further = [Database(Path(name)) for name in names_of(others)]
    write_json(judged(load_trained(detector), Database(database), further, data=data, originals=originals), json_file)


def leave_one_out(
    database: Annotated[Path, typer.Option(metavar="DB", help="To train on: its train split.")],
    others: Annotated[str, typer.Option(help="Databases to evaluate on, with commas; the report is of the last one.")],
    out: Annotated[Path, typer.Option(help="Folder of the trainings.")],
    attacks: Annotated[str, typer.Option(help="Attacks to use, with commas.  [default: all]")] = "",
    detector: Annotated[str, typer.Option(help="residual or image-cnn.")] = "residual",
    network: Annotated[str, typer.Option(help="Network of the detector.")] = "noise",
    also: Annotated[str, typer.Option(help="Further compression rates of the residual, with commas.")] = "0.75",
    augment: Annotated[str, typer.Option(help="none, shifts or sensor, see 'lab train residual'.")] = "none",
    epochs: Annotated[int, typer.Option(min=1, help="Epochs of each training.")] = 8,
    seed: Seed = 0,
    threads: Threads = 2,
    json_file: Json = None,
) -> None:
    """Train a detector of pixels once for each family of attacks, without that family, and evaluate it on the family.

    Stop it at any time; the same command goes on.
    """
    from firewall.lab.database import Database
    from firewall.lab.training.detectors.leave_one_out import leave_one_out as run
    from firewall.lab.training.detectors.pixel_detectors import Settings

    further = tuple(float(rate) for rate in names_of(also)) if detector == "residual" else ()
    settings = Settings(detector=detector, network=network, also=further, augment=augment, epochs=epochs, seed=seed)
    databases = [Database(Path(name)) for name in names_of(others)]
    result = run(Database(database), databases, out, settings, attacks=list(names_of(attacks)), threads=threads)
    write_json(result, json_file)
