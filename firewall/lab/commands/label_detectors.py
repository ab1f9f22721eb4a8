"""`firewall lab train agreement | stability | correction`: they look at the classifier's answers to copies."""

from __future__ import annotations

from typing import Annotated

import typer

from firewall.lab.commands.options import Attacks, AttacksOn, Classifier, Data, DetectorFolder, names_of
from firewall.lab.commands.output import write_json

__all__ = ["train_agreement", "train_correction", "train_stability"]


def train_agreement(
    database: AttacksOn,
    out: DetectorFolder,
    classifier: Classifier = "default",
    sweep: Annotated[int, typer.Option(help="Number of JPEG qualities: 16, or 76 as in the paper.")] = 76,
    sides: Annotated[
        str, typer.Option(help="one (as in the paper), two, or auto: whichever does better on the dev split.")
    ] = "one",
    attacks: Attacks = "",
    limit: Annotated[int, typer.Option(min=1, help="Up to how many images of each attack are used.")] = 250,
    data: Data = None,
) -> None:
    """Fit the agreement detector, which counts JPEG copies with the image's label (Higashi, Kuribayashi et al.).

    It learns the threshold T, and for two sides the usual counts, from benign images of the train split. The paper's
    thresholds T = 10, 15 and 20 are reported beside it.
    """
    from firewall.lab.database import Database as Opened
    from firewall.lab.models import open_classifier
    from firewall.lab.training.detectors import agreement

    settings = agreement.Settings(sweep, sides, names_of(attacks), limit)
    report = agreement.train(Opened(database), open_classifier(classifier, data), out, settings)
    _print(report, ("thresholds", "paper_thresholds", "train_normals", "attacks"))


def train_stability(
    database: AttacksOn,
    out: DetectorFolder,
    classifier: Classifier = "default",
    attacks: Attacks = "",
    data: Data = None,
) -> None:
    """Fit the stability detector, which measures how far the classifier's probabilities move under operations.

    How far they usually move comes from benign images of the train split. Operations and temperatures are chosen on
    the dev split.
    """
    from firewall.lab.database import Database as Opened
    from firewall.lab.models import open_classifier
    from firewall.lab.training.detectors import stability

    report = stability.train(Opened(database), open_classifier(classifier, data), out, names_of(attacks))
    _print(report, ("chosen", "parameters", "eval"))


def train_correction(
    database: AttacksOn,
    out: DetectorFolder,
    classifier: Classifier = "default",
    attacks: Attacks = "",
    precision: Annotated[
        float,
        typer.Option(help="Share of the corrected labels that has to be right on attacked images of the dev split."),
    ] = 0.9,
    data: Data = None,
) -> None:
    """Learn the weights with which transformed copies vote for a corrected label (Nguyen H., Kuribayashi et al.)."""
    from firewall.lab.database import Database as Opened
    from firewall.lab.models import open_classifier
    from firewall.lab.training.detectors import correction

    report = correction.train(Opened(database), open_classifier(classifier, data), out, names_of(attacks), precision)
    _print(report, ("chosen", "eval"))


def _print(report: dict[str, object], keys: tuple[str, ...]) -> None:
    write_json({key: report[key] for key in keys}, None)
