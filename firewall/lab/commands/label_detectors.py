"""`firewall lab train agreement | stability | correction`: what looks at the classifier's answers to copies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["train_agreement", "train_correction", "train_stability"]

Database = Annotated[Path, typer.Option(metavar="DB", help="Made by 'firewall lab attack' on the classifier.")]
Out = Annotated[Path, typer.Option(help="Folder of the result.")]
Classifier = Annotated[str, typer.Option(help="The classifier that the database was made on.")]
Data = Annotated[Path | None, typer.Option(help="Folder of the data sets and classifiers.")]
Attacks = Annotated[str, typer.Option(help="Comma-separated attacks of the database.  [default: all]")]


def train_agreement(
    database: Database,
    out: Out,
    classifier: Classifier = "default",
    sweep: Annotated[int, typer.Option(help="Number of JPEG qualities: 16, or 76 as the paper.")] = 76,
    sides: Annotated[str, typer.Option(help="one (the paper), two, or auto: the better one on the dev split.")] = "one",
    attacks: Attacks = "",
    limit: Annotated[int, typer.Option(min=1, help="Images of each attack to look at.")] = 250,
    data: Data = None,
) -> None:
    """Set up the agreement detector: copies with the same label (Higashi, Kuribayashi et al.).

    It learns the threshold T, and for two sides the usual counts, from normal images of the train split, and reports
    the paper's T = 10, 15 and 20 beside it.
    """
    from firewall.lab.database import Database as Opened
    from firewall.lab.models import open_classifier
    from firewall.lab.training.detectors import agreement

    settings = agreement.Settings(sweep, sides, _names(attacks), limit)
    report = agreement.train(Opened(database), open_classifier(classifier, data), out, settings)
    _print(report, ("thresholds", "paper_thresholds", "train_normals", "attacks"))


def train_stability(
    database: Database, out: Out, classifier: Classifier = "default", attacks: Attacks = "", data: Data = None
) -> None:
    """Fit the stability detector: how far the classifier's probabilities move under operations.

    What is usual comes from normal images of the train split; operations and temperatures are chosen on the dev split.
    """
    from firewall.lab.database import Database as Opened
    from firewall.lab.models import open_classifier
    from firewall.lab.training.detectors import stability

    report = stability.train(Opened(database), open_classifier(classifier, data), out, _names(attacks))
    _print(report, ("chosen", "parameters", "eval"))


def train_correction(
    database: Database,
    out: Out,
    classifier: Classifier = "default",
    attacks: Attacks = "",
    precision: Annotated[
        float, typer.Option(help="Share of the labels given to attacked images of the dev split that has to be right.")
    ] = 0.9,
    data: Data = None,
) -> None:
    """Learn the weights with which transformed copies vote for a corrected label."""
    from firewall.lab.database import Database as Opened
    from firewall.lab.models import open_classifier
    from firewall.lab.training.detectors import correction

    report = correction.train(Opened(database), open_classifier(classifier, data), out, _names(attacks), precision)
    _print(report, ("chosen", "eval"))


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _print(report: dict[str, object], keys: tuple[str, ...]) -> None:
    typer.echo(json.dumps({key: report[key] for key in keys}, indent=1))
