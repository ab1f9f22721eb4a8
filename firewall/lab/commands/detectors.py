"""`firewall lab train DETECTOR`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["train_statistics"]

Database = Annotated[Path, typer.Option(metavar="DB", help="Made by 'firewall lab attack' on the classifier.")]
Out = Annotated[Path, typer.Option(help="Folder of the trained detector.")]
Classifier = Annotated[str, typer.Option(help="The classifier that the database was made on.")]
Data = Annotated[Path | None, typer.Option(help="Folder of the data sets and classifiers.")]
Seed = Annotated[int, typer.Option(min=0, help="Initial weights and order.")]


def train_statistics(
    database: Database,
    out: Out,
    classifier: Classifier = "default",
    model: Annotated[str, typer.Option(help="svm, forest, lda or mlp.")] = "svm",
    feature: Annotated[str, typer.Option(help="counting or differences.")] = "differences",
    operations: Annotated[str, typer.Option(help="jpeg, scaling, blur, rotation, jpeg+scaling or all.")] = "all",
    table: Annotated[bool, typer.Option("--table", help="Also measure every combination, as the paper.")] = False,
    data: Data = None,
    seed: Seed = 0,
) -> None:
    """Train the statistics detector: labels under many operations (Nguyen H., Kuribayashi et al.).

    The copies are classified once and kept in the database's folder.
    """
    from firewall.lab.database import Database as Opened
    from firewall.lab.models import open_classifier
    from firewall.lab.training import statistics

    settings = statistics.Settings(model, feature, operations, seed, table)
    report = statistics.train(Opened(database), open_classifier(classifier, data), out, settings)
    typer.echo(json.dumps({key: report[key] for key in report if key not in ("parameters", "database")}, indent=1))
