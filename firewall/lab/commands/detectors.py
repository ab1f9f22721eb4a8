"""`firewall lab train statistics | image-cnn | residual`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from firewall.errors import UsageError
from firewall.lab.commands.options import (
    Attacks,
    AttacksOn,
    Classifier,
    Data,
    DetectorFolder,
    Seed,
    Threads,
    names_of,
    with_options,
)
from firewall.lab.commands.output import write_json

__all__ = ["train_image_cnn", "train_residual", "train_statistics"]

Epochs = Annotated[int, typer.Option(min=1, help="Passes over the benign images of the train split.")]
Network = Annotated[
    str, typer.Option(help="Network of the detector, by its name in firewall.lab.models.detector_network.")
]
LeaveOut = Annotated[str, typer.Option(help="Attacks not to train with, with commas; they are measured all the same.")]
Augment = Annotated[
    str,
    typer.Option(
        help="none; shifts: noise, JPEG, blur, light, sharpening, rain on attacked images too; sensor: more noise on "
        "benign images, and none that hides an attack."
    ),
]
More = Annotated[
    str, typer.Option(help="Further databases, of other tracks, with commas; all of their images are trained on.")
]
Loss = Annotated[str, typer.Option(help="softmax (cross-entropy) or raw (without the final softmax, as in the paper).")]


def train_statistics(
    database: AttacksOn,
    out: DetectorFolder,
    classifier: Classifier = "default",
    model: Annotated[str, typer.Option(help="svm, forest, lda or mlp.")] = "svm",
    feature: Annotated[
        str, typer.Option(help="counting or differences (both as in the paper), or odds.")
    ] = "differences",
    operations: Annotated[
        str, typer.Option(help="jpeg, scaling, blur, rotation, jpeg+scaling or all; with odds also two or four.")
    ] = "all",
    table: Annotated[bool, typer.Option("--table", help="Also measure every combination, as in the paper.")] = False,
    attacks: Attacks = "",
    data: Data = None,
    seed: Seed = 0,
) -> None:
    """Train the statistics detector on labels under many operations (Nguyen H., Kuribayashi et al.).

    The copies are classified once and kept in the database's folder.
    """
    from firewall.lab.database import Database as Opened
    from firewall.lab.models import open_classifier
    from firewall.lab.training.detectors import statistics

    settings = statistics.Settings(model, feature, operations, seed, table, names_of(attacks))
    report = statistics.train(Opened(database), open_classifier(classifier, data), out, settings)
    write_json({key: report[key] for key in report if key not in ("parameters", "database")}, None)


@dataclass(frozen=True)
class Training:
    """How a detector of pixels is trained, whatever it sees of them: the options of that name.

    Attributes:
        settings: Those that Settings of firewall.lab.training.detectors.pixel_detectors takes.
        more: Further databases.
        threads: Threads of torch.
    """

    settings: dict[str, Any]
    more: tuple[str, ...]
    threads: int


def _training(
    *,
    epochs: Epochs = 30,
    loss: Loss = "softmax",
    network: Network = "small",
    attacks: Attacks = "",
    leave_out: LeaveOut = "",
    augment: Augment = "none",
    more: More = "",
    seed: Seed = 0,
    threads: Threads = 2,
) -> Training:
    settings = {
        "epochs": epochs,
        "loss": loss,
        "network": network,
        "attacks": names_of(attacks),
        "leave_out": names_of(leave_out),
        "augment": augment,
        "seed": seed,
    }
    return Training(settings, names_of(more), threads)


@with_options("training", _training)
def train_image_cnn(*, database: AttacksOn, out: DetectorFolder, training: Training) -> None:
    """Train the image CNN detector, a network that sees the image itself (Nguyen H., Kuribayashi et al.).

    Stop it at any time; the same command goes on from the last finished epoch.
    """
    _train(database, out, training, detector="image-cnn")


@with_options("training", _training)
def train_residual(
    *,
    database: AttacksOn,
    out: DetectorFolder,
    rate: Annotated[float, typer.Option(help="Compression rate, more than 0 and less than 1.")] = 0.05,
    reading: Annotated[
        str, typer.Option(help="The rate is the share of pixels that are removed, or that are kept.")
    ] = "removed",
    also: Annotated[str, typer.Option(help="Further rates with commas, whose residuals become further channels.")] = "",
    training: Training,
) -> None:
    """Train the residual detector, a network that sees image - up(down(image)) (Sun et al.).

    Stop it at any time; the same command goes on from the last finished epoch.
    """
    try:
        further = tuple(float(part) for part in names_of(also))
    except ValueError:
        raise UsageError(f"--also must be numbers with commas between, got {also!r}") from None
    _train(database, out, training, detector="residual", rate=rate, reading=reading, also=further)


def _train(database: Path, out: Path, training: Training, **own: Any) -> None:
    from firewall.lab.database import Database as Opened
    from firewall.lab.training.detectors.pixel_detectors import Settings, train

    further = [Opened(Path(name)) for name in training.more]
    settings = Settings(**own, **training.settings)
    report = train(Opened(database), out, settings, threads=training.threads, more=further)
    write_json(report["eval"], None)
