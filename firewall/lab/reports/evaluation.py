"""The page of `firewall lab evaluate --html`: tables, ROC curves and score histograms, all in one file."""

from __future__ import annotations

import base64
import io
from importlib import resources
from pathlib import Path

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from jinja2 import Environment, StrictUndefined
from matplotlib.figure import Figure

from firewall.lab.assessment import Assessment, Scores
from firewall.lab.database.shards import write_file

__all__ = ["write"]

_COLOURS = mpl.colormaps["tab10"]


def write(assessment: Assessment, out: Path) -> None:
    """Write the page to `out`."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    source = resources.files("firewall.lab.reports").joinpath("evaluation.html.j2").read_text(encoding="utf-8")
    summary = assessment.summary
    pictures = {
        name: {"roc": _picture(_roc(scores)), "histogram": _picture(_histogram(scores))}
        for name, scores in assessment.scores.items()
    }
    worst = {name: min(summary[name], key=lambda attack: summary[name][attack]["auroc"]) for name in assessment.scores}
    page = environment.from_string(source).render(
        summary=summary, detectors=list(assessment.scores), pictures=pictures, worst=worst, about=summary["about"]
    )
    write_file(out, page.encode())


def _roc(scores: Scores) -> Figure:
    figure = Figure(figsize=(5.2, 4.2), layout="constrained")
    axes = figure.subplots()
    for number, (attack, values) in enumerate(scores.attacks.items()):
        limits = np.unique(np.concatenate([scores.normal, values]))[::-1]
        limits = np.concatenate([[np.inf], limits, [-np.inf]])
        false = (scores.normal[np.newaxis] > limits[:, np.newaxis]).mean(axis=1)
        true = (values[np.newaxis] > limits[:, np.newaxis]).mean(axis=1)
        axes.plot(false, true, label=f"{attack} ({len(values)})", color=_COLOURS(number % 10), linewidth=1.2)
    axes.plot([0, 1], [0, 1], color="grey", linewidth=0.6, linestyle=":")
    axes.set(xlabel="false-positive rate", ylabel="true-positive rate", xlim=(0, 1), ylim=(0, 1.005))
    axes.legend(fontsize="x-small", loc="lower right")
    return figure


def _histogram(scores: Scores) -> Figure:
    figure = Figure(figsize=(5.2, 4.2), layout="constrained")
    axes = figure.subplots()
    everything = np.concatenate([scores.normal, *scores.attacks.values()])
    low, high = np.quantile(everything, [0.005, 0.995])
    bins = np.linspace(low, max(high, low + 1e-9), 41).tolist()
    axes.hist(_within(scores.normal, bins), bins, density=True, color="0.75", label=f"normal ({len(scores.normal)})")
    for number, (attack, values) in enumerate(scores.attacks.items()):
        axes.hist(_within(values, bins), bins, density=True, histtype="step", color=_COLOURS(number % 10), label=attack)
    axes.set(xlabel="score (higher = more suspicious; ends hold what lies beyond)", ylabel="density")
    axes.legend(fontsize="x-small")
    return figure


def _within(values: npt.NDArray[np.float64], bins: list[float]) -> npt.NDArray[np.float64]:
    return np.clip(values, bins[0], bins[-1])


def _picture(figure: Figure) -> str:
    file = io.BytesIO()
    # No date and no version in it: the same figures give the same page.
    figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    return "data:image/svg+xml;base64," + base64.b64encode(file.getvalue()).decode()
