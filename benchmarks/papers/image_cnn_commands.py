"""`python -m benchmarks.papers image-cnn` and `python -m benchmarks.papers start`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["image_cnn", "train_start"]

_RUNS = Path("runs") / "papers" / "image-cnn"
_DATABASES = Path("runs") / "databases"


def train_start(
    out: Annotated[Path, typer.Option(help="Folder of the run.")],
    network: Annotated[str, typer.Option(help="resnet50 or xception.")] = "resnet50",
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the images.")] = 2,
    images: Annotated[int, typer.Option(min=32, help="Images to train on.")] = 4000,
    data: Annotated[Path | None, typer.Option(help="Folder of the data sets.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Initial weights and choice of images.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="Threads of torch.")] = 2,
) -> None:
    """Train a detector's large network to name signs first: what its fine-tuning begins with.

    On the tracks that the default classifier was trained on, never on kept-out ones. Stop it at any time; the same
    command goes on from the last finished epoch.
    """
    from benchmarks.papers.transfer import Settings, learn_signs
    from firewall.lab.datasets import data_root, open_dataset

    signs = open_dataset("gtsrb", data_root(data), part="fitted")
    learn_signs(signs, out, Settings(network=network, epochs=epochs, images=images, seed=seed), threads=threads)


def image_cnn(
    json_file: Annotated[Path, typer.Option("--json", metavar="FILE", help="Write the results.")],
    train: Annotated[bool, typer.Option("--train", help="First train the networks that are not yet trained.")] = False,
    only: Annotated[str, typer.Option(help="Train those alone whose name holds this, such as xception-raw.")] = "",
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Of the large networks; four show what a small budget gives.")
    ] = None,
    database: Annotated[Path, typer.Option(metavar="DB", help="To train on: kept-out tracks.")] = _DATABASES
    / "kept-out",
    judged: Annotated[Path, typer.Option(metavar="DB", help="To judge on: other tracks, same classifier.")] = _DATABASES
    / "gtsrb",
    wide: Annotated[
        Path | None, typer.Option(metavar="DB", help="Many attacks on the judged images, for those never shown.")
    ] = None,
    detector: Annotated[Path | None, typer.Option(help="Folder of the trained detector that is to be used.")] = None,
    runs: Annotated[Path, typer.Option(help="Folder of the trained networks.")] = _RUNS,
    threads: Annotated[int, typer.Option(min=1, help="Threads of torch.")] = 2,
) -> None:
    """Nguyen H. et al., image CNN, Table 6 and Fig. 2: ResNet-50, Xception and a small network.

    Fine-tuned networks begin with RUNS/start-NETWORK, see 'python -m benchmarks.papers start'. Networks that are not
    trained yet are named in the results. Stop it at any time; the same command goes on from the last finished epoch.
    """
    from benchmarks.papers.image_cnn import image_cnn as measure
    from benchmarks.papers.image_cnn import train_runs
    from firewall.lab.training.loop import CHECKPOINT

    if train:
        found = {name: runs / f"start-{name}" / CHECKPOINT for name in ("resnet50", "xception")}
        starts = {name: path for name, path in found.items() if path.exists()}
        train_runs(database, judged, runs, starts=starts, only=only, epochs=epochs, threads=threads)
    result = measure(database, judged, runs, json_file, detector=detector, wide=wide)
    typer.echo(json.dumps({table["title"]: len(table["rows"]) for table in result["tables"]}, indent=1))
