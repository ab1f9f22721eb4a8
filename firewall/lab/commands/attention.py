"""`firewall lab train attention`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["train_attention"]


def train_attention(
    database: Annotated[Path, typer.Option(metavar="DB", help="Made by 'firewall lab attack' on the classifier.")],
    out: Annotated[Path, typer.Option(help="Folder of the trained detector.")],
    classifier: Annotated[str, typer.Option(help="The classifier that the database was made on.")] = "default",
    form: Annotated[
        str, typer.Option(help="thesis (f2 reads the mask alone) or joint (f2 reads the image under a learnt mask).")
    ] = "joint",
    teacher: Annotated[str, typer.Option(help="Of a joint mask: lan (the thesis' loss), grad-cam or smoothgrad.")] = (
        "lan"
    ),
    start: Annotated[str, typer.Option(help="Classifier that a joint f2 begins as; empty for a new network.")] = "",
    hardened: Annotated[
        float, typer.Option(help="Share of f2's training images, 0..1, that get an FGSM step against the classifier.")
    ] = 0.0,
    beta: Annotated[float, typer.Option(help="Of equation 9: how much corruption is worth.")] = 3.0,
    epochs: Annotated[int, typer.Option(min=1, help="Of f2, and of g where they are trained together.")] = 12,
    mask_epochs: Annotated[int, typer.Option(min=1, help="Of g before f2, in the form thesis.")] = 3,
    learning_rate: Annotated[float, typer.Option(help="Largest of the schedule.")] = 2e-3,
    images: Annotated[
        str, typer.Option(help="Where to learn: data-set (training images) or database (its train split).")
    ] = "data-set",
    limit: Annotated[int, typer.Option(min=0, help="Images to learn from; 0 = all.")] = 0,
    also: Annotated[
        list[Path] | None, typer.Option(metavar="DB", help="A further database of the classifier to measure on.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of the data sets and classifiers.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Initial weights and order.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="Threads of torch.")] = 2,
) -> None:
    """Train the attention detector: what matters in the image, and its class (Nguyen C., thesis, chapter 3).

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
    typer.echo(json.dumps(report["eval"], indent=1))
