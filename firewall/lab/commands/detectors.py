"""`firewall lab train DETECTOR`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from firewall.errors import UsageError

if TYPE_CHECKING:
    from firewall.lab.training.detectors.pixel_detectors import Settings

__all__ = ["train_image_cnn", "train_residual", "train_statistics"]

Database = Annotated[Path, typer.Option(metavar="DB", help="Made by 'firewall lab attack' on the classifier.")]
Out = Annotated[Path, typer.Option(help="Folder of the trained detector.")]
Classifier = Annotated[str, typer.Option(help="The classifier that the database was made on.")]
Data = Annotated[Path | None, typer.Option(help="Folder of the data sets and classifiers.")]
Epochs = Annotated[int, typer.Option(min=1, help="Passes over the normal images of the train split.")]
Network = Annotated[str, typer.Option(help="Of the detector: a name in firewall.lab.models.detector_network.")]
Attacks = Annotated[str, typer.Option(help="Comma-separated attacks of the database to train with.  [default: all]")]
LeaveOut = Annotated[
    str, typer.Option(help="Comma-separated attacks not to train with; they are measured all the same.")
]
Augment = Annotated[
    str,
    typer.Option(
        help="none; shifts: noise, JPEG, blur, light, sharpening, rain under attacks; sensor: more noise on normal "
        "images, none that hides an attack."
    ),
]
More = Annotated[str, typer.Option(help="Comma-separated further databases, of other tracks, all to be trained on.")]
Loss = Annotated[str, typer.Option(help="softmax (cross-entropy) or raw (without the final softmax, as the paper).")]
Threads = Annotated[int, typer.Option(min=1, help="Threads of torch.")]
Seed = Annotated[int, typer.Option(min=0, help="Initial weights and order.")]


def train_statistics(
    database: Database,
    out: Out,
    classifier: Classifier = "default",
    model: Annotated[str, typer.Option(help="svm, forest, lda or mlp.")] = "svm",
    feature: Annotated[str, typer.Option(help="counting or differences (the paper), or odds.")] = "differences",
    operations: Annotated[
        str, typer.Option(help="jpeg, scaling, blur, rotation, jpeg+scaling or all; with odds also two or four.")
    ] = "all",
    table: Annotated[bool, typer.Option("--table", help="Also measure every combination, as the paper.")] = False,
    attacks: Attacks = "",
    data: Data = None,
    seed: Seed = 0,
) -> None:
    """Train the statistics detector: labels under many operations (Nguyen H., Kuribayashi et al.).

    The copies are classified once and kept in the database's folder.
    """
    from firewall.lab.database import Database as Opened
    from firewall.lab.models import open_classifier
    from firewall.lab.training.detectors import statistics

    names = tuple(part.strip() for part in attacks.split(",") if part.strip())
    settings = statistics.Settings(model, feature, operations, seed, table, names)
    report = statistics.train(Opened(database), open_classifier(classifier, data), out, settings)
    typer.echo(json.dumps({key: report[key] for key in report if key not in ("parameters", "database")}, indent=1))


def train_image_cnn(
    database: Database,
    out: Out,
    epochs: Epochs = 30,
    loss: Loss = "softmax",
    network: Network = "small",
    attacks: Attacks = "",
    leave_out: LeaveOut = "",
    augment: Augment = "none",
    more: More = "",
    seed: Seed = 0,
    threads: Threads = 2,
) -> None:
    """Train the image CNN detector: a network that looks at the image itself (Nguyen H., Kuribayashi et al.).

    Stop it at any time; the same command goes on from the last finished epoch.
    """
    from firewall.lab.training.detectors.pixel_detectors import Settings

    settings = Settings(
        detector="image-cnn",
        epochs=epochs,
        loss=loss,
        network=network,
        attacks=_names(attacks),
        leave_out=_names(leave_out),
        augment=augment,
        seed=seed,
    )
    _train(database, out, settings, threads, more)


def train_residual(
    database: Database,
    out: Out,
    rate: Annotated[float, typer.Option(help="Compression rate, more than 0 and less than 1.")] = 0.05,
    reading: Annotated[str, typer.Option(help="What the rate is the share of: removed or kept pixels.")] = "removed",
    also: Annotated[str, typer.Option(help="Comma-separated further rates, whose residuals become channels.")] = "",
    epochs: Epochs = 30,
    loss: Loss = "softmax",
    network: Network = "small",
    attacks: Attacks = "",
    leave_out: LeaveOut = "",
    augment: Augment = "none",
    more: More = "",
    seed: Seed = 0,
    threads: Threads = 2,
) -> None:
    """Train the residual detector: a network that looks at image - up(down(image)) (Sun et al.).

    Stop it at any time; the same command goes on from the last finished epoch.
    """
    from firewall.lab.training.detectors.pixel_detectors import Settings

    try:
        further = tuple(float(part) for part in _names(also))
    except ValueError:
        raise UsageError(f"--also must be numbers with commas between, got {also!r}") from None
    settings = Settings(
        detector="residual",
        rate=rate,
        reading=reading,
        also=further,
        epochs=epochs,
        loss=loss,
        network=network,
        attacks=_names(attacks),
        leave_out=_names(leave_out),
        augment=augment,
        seed=seed,
    )
    _train(database, out, settings, threads, more)


def _names(text: str) -> tuple[str, ...]:
    return tuple(part for part in text.split(",") if part)


def _train(database: Path, out: Path, settings: Settings, threads: int, more: str) -> None:
    from firewall.lab.database import Database as Opened
    from firewall.lab.training.detectors.pixel_detectors import train

    further = [Opened(Path(name)) for name in _names(more)]
    report = train(Opened(database), out, settings, threads=threads, more=further)
    typer.echo(json.dumps(report["eval"], indent=1))
