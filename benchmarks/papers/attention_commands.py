"""`python -m benchmarks.papers attention`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from firewall.errors import UsageError

__all__ = ["attention_paper"]


def attention_paper(
    database: Annotated[Path, typer.Option(metavar="DB", help="FGSM, JSMA and C&W on the classifier.")],
    detectors: Annotated[
        str, typer.Option(help="NAME=FOLDER with commas between, of 'lab train attention'; the thesis' form first.")
    ],
    json_file: Annotated[Path, typer.Option("--json", metavar="FILE", help="Write tables and figures.")],
    classifier: Annotated[str, typer.Option(help="The classifier that the database was made on.")] = "alexnet",
    transfer: Annotated[
        Path | None, typer.Option(metavar="DB", help="The same attacks on another classifier, for Table 3.")
    ] = None,
    transfer_classifier: Annotated[str, typer.Option(help="The classifier of that database.")] = "vgg",
    fresh: Annotated[int, typer.Option(min=20, help="Test images of neither database, for thresholds.")] = 1500,
    data: Annotated[Path | None, typer.Option(help="Folder of the data sets and classifiers.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads of torch.")] = 2,
) -> None:
    """Nguyen C., thesis, chapter 3: masks, detection, transfer, and better masks than the thesis'."""
    import torch

    from benchmarks.papers.attention import attention
    from firewall.lab.database import Database
    from firewall.lab.models import open_classifier

    torch.set_num_threads(threads)
    named = [part.partition("=") for part in detectors.split(",") if part]
    if not named or not all(name and folder for name, _, folder in named):
        raise UsageError(f"--detectors must be NAME=FOLDER with commas between, got {detectors!r}")
    result = attention(
        Database(database),
        open_classifier(classifier, data),
        {name: Path(folder) for name, _, folder in named},
        json_file,
        transfer=None if transfer is None else (Database(transfer), open_classifier(transfer_classifier, data)),
        data=data,
        fresh=fresh,
    )
    typer.echo("\n".join(result["differences"][-1 - len(named) :]))
