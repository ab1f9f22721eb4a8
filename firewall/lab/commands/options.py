"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "Attacks",
    "AttacksOn",
    "Bundle",
    "Classifier",
    "Data",
    "DetectorFolder",
    "Json",
    "Seed",
    "Split",
    "Threads",
    "Workers",
    "names_of",
]

Bundle = Annotated[str, typer.Option(help="'default' or the folder of a bundle.")]
Classifier = Annotated[str, typer.Option(help="The classifier that the database was made on.")]
AttacksOn = Annotated[Path, typer.Option(metavar="DB", help="Made by 'firewall lab attack' on the classifier.")]
Attacks = Annotated[str, typer.Option(help="Attacks of the database to learn from, with commas.  [default: all]")]
Data = Annotated[
    Path | None,
    typer.Option(help="Folder of the data sets and classifiers.  [default: $FIREWALL_DATA, data, ../shared/data]"),
]
DetectorFolder = Annotated[Path, typer.Option(help="Folder of the trained detector.")]
Json = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the result as JSON.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of all random choices.")]
Split = Annotated[str, typer.Option(help="Images to evaluate on: train, dev or eval, several with commas, or all.")]
Threads = Annotated[int, typer.Option(min=1, help="Threads of torch.")]
Workers = Annotated[int, typer.Option(min=0, help="Processes that prepare training images.")]


def names_of(text: str) -> tuple[str, ...]:
    """The names in "a,b, c"; none in an empty text."""
    return tuple(part.strip() for part in text.split(",") if part.strip())
