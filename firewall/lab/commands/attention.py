"""`firewall lab train attention`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from firewall.lab.commands.options import AttacksOn, Classifier, Data, DetectorFolder, Seed, Threads
from firewall.lab.commands.output import write_json

__all__ = ["train_attention"]


def train_attention(
    database: AttacksOn,
    out: DetectorFolder,
    classifier: Classifier = "default",
    form: Annotated[
        str,
        typer.Option(help="thesis (network f2 sees the mask alone) or joint (f2 sees the image under a learnt mask)."),
    ] = "joint",
    teacher: Annotated[
        str, typer.Option(help="What a joint mask is learnt from: lan (the thesis' loss), grad-cam or smoothgrad.")
    ] = ("lan"),
    start: Annotated[
        str, typer.Option(help="Classifier whose weights a joint f2 begins with; empty: random weights.")
    ] = "",
    hardened: Annotated[
        float, typer.Option(help="Share of f2's training images, 0 to 1, that get an FGSM step against the classifier.")
    ] = 0.0,
    beta: Annotated[float, typer.Option(help="beta of the thesis' equation 9: the weight of corruption.")] = 3.0,
    epochs: Annotated[
        int, typer.Option(min=1, help="Epochs of f2, and of the mask network g where both are trained together.")
    ] = 12,
    mask_epochs: Annotated[int, typer.Option(min=1, help="Epochs of g before f2, in the form thesis.")] = 3,
    learning_rate: Annotated[float, typer.Option(help="Highest learning rate of the schedule.")] = 2e-3,
    images: Annotated[
        str, typer.Option(help="Images to learn from: data-set (its training images) or database (its train split).")
    ] = "data-set",
    limit: Annotated[int, typer.Option(min=0, help="Up to how many images to learn from; 0 = all.")] = 0,
    also: Annotated[
        list[Path] | None, typer.Option(metavar="DB", help="A further database of the classifier to measure on.")
    ] = None,
    data: Data = None,
    seed: Seed = 0,
    threads: Threads = 2,
) -> None:
    """Train the attention detector, which classifies what matters in the image (Nguyen C., thesis, chapter 3).

    Stop it at any time; the same command goes on from the last finished epoch.
    """
    from firewall.lab.database import Database
    from firewall.lab.models import open_classifier
    from firewall.lab.training.detectors.attention import Settings, Sources, train

    settings = Settings(
        form=form,
        teacher=teacher,
        start=start,
        hardened=hardened,
        beta=beta,
        epochs=epochs,
        mask_epochs=mask_epochs,
        learning_rate=learning_rate,
        seed=seed,
    )
    report = train(
        Database(database),
        open_classifier(classifier, data),
        out,
        settings,
        sources=Sources(data, images, limit),
        also=[Database(folder) for folder in also or ()],
        threads=threads,
    )
    write_json(report["eval"], None)
