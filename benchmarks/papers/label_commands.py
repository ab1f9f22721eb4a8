"""`python -m benchmarks.papers agreement | statistics`: the papers on the classifier's answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["paper_agreement", "paper_statistics"]

Json = Annotated[Path, typer.Option("--json", metavar="FILE", help="Where the result goes.")]
Data = Annotated[Path | None, typer.Option(help="Folder of the data sets and classifiers.")]
Fitting = Annotated[
    Path, typer.Option(metavar="DB", help="Attacks on the default classifier, to fit on (train) and choose on (dev).")
]
Judging = Annotated[Path, typer.Option(metavar="DB", help="Attacks on it of other tracks, to judge on.")]
Wide = Annotated[
    Path | None, typer.Option(metavar="DB", help="A few images of many attacks: those that nothing was fitted to.")
]


def paper_agreement(
    database: Fitting,
    judge: Judging,
    photos: Annotated[
        list[Path], typer.Option(metavar="DB", help="Attacks on a network of ImageNet's classes; may be repeated.")
    ],
    json_file: Json = Path("benchmarks/results/papers/agreement.json"),
    photos_classifier: Annotated[str, typer.Option(help="What --photos attack.")] = "mobilenet_v1_0.25_128",
    wide: Wide = None,
    data: Data = None,
) -> None:
    """Higashi, Kuribayashi et al.: table 1 and figure 3, and the stability detector beside them."""
    from benchmarks.papers.agreement import Signs, agreement
    from firewall.lab.database import Database
    from firewall.lab.models import open_classifier

    signs = Signs(
        Database(database), Database(judge), None if wide is None else Database(wide), open_classifier("default")
    )
    network = open_classifier(photos_classifier, data)
    result = agreement(signs, [Database(folder) for folder in photos], network)
    _write(result, json_file)


def paper_statistics(
    database: Fitting,
    judge: Judging,
    json_file: Json = Path("benchmarks/results/papers/statistics.json"),
    wide: Wide = None,
) -> None:
    """Nguyen H., Kuribayashi et al., section 3: tables 3, 4 and 5, and what goes beyond them."""
    from benchmarks.papers.statistics import statistics
    from firewall.lab.database import Database
    from firewall.lab.models import open_classifier

    result = statistics(
        Database(database), Database(judge), None if wide is None else Database(wide), open_classifier("default")
    )
    _write(result, json_file)


def _write(result: dict[str, object], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    typer.echo(f"wrote {path}")
