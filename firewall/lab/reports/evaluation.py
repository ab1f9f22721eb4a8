"""The page of `firewall lab evaluate --html`: tables, ROC curves and score histograms, all in one file."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from jinja2 import Environment, StrictUndefined
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from firewall.lab.database.shards import write_file
from firewall.lab.evaluation.bundle_on_database import Evaluation, Scores
from firewall.lab.measurement.metrics import FEW
from firewall.lab.reports.pictures import data_uri, pixels_uri

__all__ = ["histogram", "ranked", "roc", "write"]

_COLOURS = mpl.colormaps["tab10"]


def write(assessment: Evaluation, out: Path) -> None:
    """Write the page of an evaluation to the HTML file `out`."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    source = resources.files("firewall.lab.reports").joinpath("evaluation.html.j2").read_text(encoding="utf-8")
    summary = assessment.summary
    pictures = {
        name: {"roc": data_uri(roc(scores)), "histogram": data_uri(histogram(scores))}
        for name, scores in assessment.scores.items()
    }
    page = environment.from_string(source).render(
        summary=summary,
        detectors=list(assessment.scores),
        pictures=pictures,
        ranked=(attacks := ranked(summary["bundle"])),
        wrong=[
            (attack, [(pixels_uri(each.image), each.label, each.released) for each in assessment.wrong[attack]])
            for attack, _ in attacks
            if assessment.wrong[attack]
        ],
        rates=list(attacks[0][1]["wrong_release_at"]),
        about=summary["about"],
        few=FEW,
    )
    write_file(out, page.encode())


def ranked(attacks: dict[str, dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    """Sort what an evaluation says of the bundle: the highest wrong-release rate first, too few images last.

    Args:
        attacks: Attack -> entry, as in the summary's "bundle".
    """
    return sorted(
        attacks.items(), key=lambda item: ("few" in item[1], -item[1]["wrong_release"]["rate"], item[1]["withheld"])
    )


def roc(scores: Scores) -> Figure:
    """ROC curves by attack."""
    figure = Figure(figsize=(5.2 if len(scores.attacks) <= 8 else 6.6, 4.2), layout="constrained")
    axes = figure.subplots()
    for number, (attack, values) in enumerate(scores.attacks.items()):
        limits = np.unique(np.concatenate([scores.normal, values]))[::-1]
        limits = np.concatenate([[np.inf], limits, [-np.inf]])
        false = (scores.normal[np.newaxis] > limits[:, np.newaxis]).mean(axis=1)
        true = (values[np.newaxis] > limits[:, np.newaxis]).mean(axis=1)
        axes.plot(false, true, label=f"{attack} ({len(values)})", **_line(number), linewidth=1.2)
    axes.plot([0, 1], [0, 1], color="grey", linewidth=0.6, linestyle=":")
    axes.set(xlabel="false-positive rate", ylabel="true-positive rate", xlim=(0, 1), ylim=(0, 1.005))
    _legend(axes, len(scores.attacks))
    return figure


def histogram(scores: Scores) -> Figure:
    """Densities of the scores of benign images and of each attack."""
    figure = Figure(figsize=(5.2 if len(scores.attacks) <= 8 else 6.6, 4.2), layout="constrained")
    axes = figure.subplots()
    everything = np.concatenate([scores.normal, *scores.attacks.values()])
    low, high = np.quantile(everything, [0.005, 0.995])
    bins = np.linspace(low, max(high, low + 1e-9), 41).tolist()
    axes.hist(_within(scores.normal, bins), bins, density=True, color="0.75", label=f"benign ({len(scores.normal)})")
    for number, (attack, values) in enumerate(scores.attacks.items()):
        axes.hist(_within(values, bins), bins, density=True, histtype="step", **_line(number), label=attack)
    axes.set(xlabel="score (higher = more suspicious; the outer bins also count what lies outside)", ylabel="density")
    _legend(axes, len(scores.attacks))
    return figure


def _line(number: int) -> dict[str, Any]:
    """Ten colours, and a line of another kind for each further ten."""
    return {"color": _COLOURS(number % 10), "linestyle": ("-", "--", ":", "-.")[number // 10 % 4]}


def _legend(axes: Axes, attacks: int) -> None:
    """Beside the picture where it would cover too much of it."""
    if attacks > 8:
        axes.legend(fontsize="x-small", loc="upper left", bbox_to_anchor=(1.01, 1), ncols=1 + attacks // 24)
    else:
        axes.legend(fontsize="x-small")


def _within(values: npt.NDArray[np.float64], bins: list[float]) -> npt.NDArray[np.float64]:
    return np.clip(values, bins[0], bins[-1])
