"""`firewall lab train classifier` and `firewall lab classifiers`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from firewall import __version__
from firewall.errors import DataError, UsageError
from firewall.lab.commands.options import Data, Json, Seed, Threads, Workers, names_of
from firewall.lab.commands.output import write_json

__all__ = ["classifiers", "train_classifier"]


def train_classifier(
    data: Data = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for checkpoint, log, ONNX file and card. (default: runs/classifiers/ARCHITECTURE)"),
    ] = None,
    architecture: Annotated[
        str, typer.Option(help="sign or sign-small (GTSRB), lenet or two-layer (MNIST), alexnet or vgg (CIFAR-10).")
    ] = "sign",
    dataset: Annotated[str | None, typer.Option(help="Data set to train on; each architecture has its own.")] = None,
    outliers: Annotated[
        list[Path] | None,
        typer.Option(
            help="sign: images without signs (a pack or a folder; may be repeated), on which it learns to be unsure."
        ),
    ] = None,
    scenes: Annotated[
        int | None,
        typer.Option(min=0, help="sign: with --outliers, rendered road scenes to find more in. (default: 300)"),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(min=1, help="Passes over the training images. (default: sign 32, CIFAR-10 24, MNIST 15)"),
    ] = None,
    seed: Seed = 0,
    start: Annotated[
        Path | None, typer.Option(help="sign: checkpoint to begin with instead of random weights.")
    ] = None,
    learning_rate: Annotated[float, typer.Option(min=0, help="Highest learning rate of the schedule.")] = 3e-3,
    batch: Annotated[
        int | None, typer.Option(min=2, help="sign: images to learn from at a time. (default: 128)")
    ] = None,
    average: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="sign: what the average of the weights keeps a step. (default: 0.998, or 0.99)"
        ),
    ] = None,
    obstructed: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="sign: share of the versions with something on the sign. (default: 0.35)"),
    ] = None,
    weather: Annotated[
        float | None, typer.Option(min=0, max=1, help="sign: share of the versions in bad weather. (default: 0.2)")
    ] = None,
    without: Annotated[
        str,
        typer.Option(
            help="sign: obstructions, or families such as light, that are not drawn, so that they stay unseen."
        ),
    ] = "",
    threads: Threads = 2,
    workers: Workers = 1,
) -> None:
    """Train a classifier, export it to ONNX and measure it on the test images.

    Stop it at any time (Ctrl-C, kill); the same command goes on from the last finished epoch.
    """
    from firewall.lab.datasets import data_root
    from firewall.lab.models.opening import TRAINED

    out = TRAINED / architecture if out is None else out
    if architecture == "sign":
        from firewall.lab.training.classifiers import default_classifier as signs

        if dataset not in (None, "gtsrb"):
            raise UsageError(f"the architecture sign is trained on gtsrb, not on {dataset}")
        card = signs.train_and_export(
            data_root(data),
            out,
            outliers or [],
            signs.Settings(
                epochs=epochs or 32,
                batch=batch or 128,
                seed=seed,
                learning_rate=learning_rate,
                # A refining run is short: the average has to forget faster, and hard outliers are what it is for.
                moving_average=average if average is not None else 0.998 if start is None else 0.99,
                outlier_share=0.12 if start is None else 0.3,
                partial_share=0.0 if start is None else 0.3,
                obstructed=0.35 if obstructed is None else obstructed,
                weather=0.2 if weather is None else weather,
                without=names_of(without),
            ),
            start=start,
            scenes=300 if scenes is None else scenes,
            threads=threads,
            workers=workers,
        )
    else:
        from firewall.lab.training.classifiers import small_classifiers as small

        if (
            outliers
            or any(given is not None for given in (start, scenes, batch, average, obstructed, weather))
            or without
        ):
            raise UsageError(
                "--outliers, --start, --scenes, --batch, --average, --obstructed, --weather and --without are for the "
                f"architecture sign, not for {architecture}"
            )
        settings = small.Settings.of(architecture, dataset, epochs=epochs, learning_rate=learning_rate, seed=seed)
        card = small.train_small(data, out, settings, threads=threads, workers=workers)
    write_json(card, None)


def classifiers(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[CLASSIFIER]...", help="As for 'lab attack'. (default: all that are installed or trained)"
        ),
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="Data set to measure on, NAME or NAME/PART. (default: its own)")
    ] = None,
    data: Data = None,
    json_file: Json = None,
) -> None:
    """Measure the accuracy of classifiers on images that they were not trained on."""
    from firewall.lab.measurement.classifiers import survey

    rows, missing = survey(names, dataset, data)
    if not rows:
        raise DataError("; ".join(missing))
    table = Table("classifier", "input", "gradients", "data", "images", "accuracy (95 %)", "top-5")
    for row in rows:
        for test in row["test"]:
            table.add_row(
                row["classifier"],
                "x".join(str(size) for size in row["input"]),
                "yes" if row["differentiable"] else "no",
                test["data"],
                str(test["images"]),
                f"{test['accuracy']:.2%} ({test['interval'][0]:.2%} to {test['interval'][1]:.2%})",
                f"{test['top5']:.2%}",
            )
    Console().print(table)
    for line in missing:
        typer.echo(f"not measured: {line}", err=True)
    if json_file is not None:
        import torch

        result: dict[str, Any] = {
            "how": "images as stored, resized by firewall.transforms.resize to the network's input; top-1 with the "
            "95 % interval of Clopper and Pearson for independent images",
            "classifiers": rows,
            "not measured": missing,
            "versions": {"firewall": __version__, "torch": torch.__version__},
        }
        write_json(result, json_file)
