"""Figures of the page of all certificates."""

from __future__ import annotations

import itertools
import math
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

__all__ = ["bars", "curves", "dials", "radii", "stickers", "widest"]

_COLOURS = {"plain": "#c2410c", "certified": "#1d4ed8"}


def bars(shown: list[dict[str, Any]]) -> Figure:
    """The thesis's successful attacks, and ours. shown: what `collect` gives as fig6."""
    figure = Figure(figsize=(8, 0.6 + 0.45 * len(shown)), layout="constrained")
    axes = figure.subplots()
    for place, bar in enumerate(shown):
        value = bar["hits"] / bar["total"]
        colour = "#9ca3af" if bar["whose"] == "thesis" else _COLOURS.get(bar["network"], _COLOURS["certified"])
        axes.barh(place, value, color=colour)
        axes.plot(bar["ci95"], [place, place], color="black", linewidth=1)
    names = [f"{bar['whose']}: {bar['network']} ({bar['attack']}, n = {bar['total']})" for bar in shown]
    axes.set_yticks(range(len(shown)), names)
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xlabel("share of images that the attack succeeds on")
    return figure


def curves(rows: list[dict[str, Any]]) -> Figure:
    """Certified and attacked accuracy over the budget. rows: what `collect` gives as curve."""
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    names, shifts = sorted({str(row["network"]) for row in rows}), sorted({float(row["shift"]) for row in rows})
    others = itertools.cycle(("#15803d", "#7c3aed", "#0e7490"))
    colours = {name: _COLOURS.get(name) or next(others) for name in names}
    for network, (marker, shift) in itertools.product(names, zip(itertools.cycle("os^D"), shifts, strict=False)):
        own = [row for row in rows if row["network"] == network and row["shift"] == shift]
        own.sort(key=lambda row: float(row["budget"]))
        name = network if shift == 0 else f"{network}, shift <= {shift:g}"
        for key, style, what in (("certified", "-", "proved"), ("attacked", "--", "under attack")):
            known = [(float(row["budget"]), float(row[key])) for row in own if row[key] is not None]
            if known:
                look: dict[str, Any] = {"linestyle": style, "marker": marker, "color": colours[network]}
                axes.plot(*zip(*known, strict=True), **look, label=f"{name}: {what}")
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("budget: largest L_flow (equation 6)")
    axes.set_ylabel("accuracy")
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
    return figure


def widest(results: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The result of the most images, of those that count by class; of several the one of the largest sticker."""

    def size(result: dict[str, Any]) -> tuple[int, float]:
        return int(result["summary"]["certified"]["total"]), float(result["about"]["area"])

    return max((result for result in results if result["summary"].get("by_class")), key=size, default=None)


def stickers(result: dict[str, Any]) -> Figure:
    """Shares of a sticker's result by class."""
    classes = result["summary"]["by_class"]
    figure = Figure(figsize=(8, 0.8 + 0.2 * len(classes)), layout="constrained")
    axes = figure.subplots()
    for key, colour, name in (
        ("one_round_right", "#93c5fd", "one round releases"),
        ("certified", "#1d4ed8", "certified"),
    ):
        axes.barh(range(len(classes)), [one[key] / one["images"] for one in classes.values()], color=colour, label=name)
    axes.set_yticks(range(len(classes)), [f"{name} ({one['images']})" for name, one in classes.items()], fontsize=7)
    axes.set_ylim(len(classes) - 0.4, -0.6)
    axes.set_xlim(0, 1)
    axes.set_xlabel("share of the images")
    axes.legend(fontsize=8, loc="lower left")
    return figure


def radii(results: list[dict[str, Any]]) -> Figure:
    """Certified accuracy over the l2 radius, a line for each file: several networks may have the same sigma."""
    figure = Figure(figsize=(7, 3.5), layout="constrained")
    axes = figure.subplots()
    for result in results:
        curve = result["summary"]["curve"]
        values = [[point[key] for point in curve] for key in ("radius", "certified_accuracy")]
        axes.step(values[0], values[1], where="post", label=f"{result['file']}, sigma {result['about']['sigma']:g}")
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("l2 radius, values in 0..1")
    axes.set_ylabel("certified accuracy")
    axes.legend(fontsize="small")
    axes.grid(alpha=0.3)
    return figure


def dials(results: list[dict[str, Any]]) -> Figure:
    """What masks release and certify of clean signs at each setting of the dial. results: with a curve over tau."""
    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = figure.subplots()
    marked: list[tuple[int, str, tuple[float, float], str]] = []
    for result, colour in zip(results, itertools.cycle(("#1d4ed8", "#c2410c", "#15803d", "#7c3aed")), strict=False):
        about, points, images = (
            result["about"],
            result["summary"]["curve"],
            result["summary"]["clean_accuracy"]["total"],
        )

        def place(point: dict[str, Any]) -> float:
            tau = point["tau"] or 0.0
            return -tau if point["rule"] == "object" else tau

        line = sorted(points, key=place)
        spots = [(100 * point["released_right"] / images, 100 * point["certified"] / images) for point in line]
        name = f"{about['side']} of {about['input'][0]} pixels, {about['masks']} masks"
        name += f", {about['finer']} x {about['finer']} finer ones" if about.get("finer") else ""
        axes.plot(*zip(*spots, strict=True), marker="o", markersize=4, color=colour, label=name)
        said = ["no tau" if point["tau"] is None else f"{point['rule']} {point['tau']:g}" for point in line]
        ends = (said[0], said[-1])  # what lies between can be guessed from them
        ranks = [0 if text == "no tau" else 1 if text in ends else 2 for text in said]
        marked += [(rank, text, spot, colour) for rank, text, spot in zip(ranks, said, spots, strict=True)]
    axes.set_xlabel("clean signs whose right label is released, %")
    axes.set_ylabel("clean signs on which no sticker gets another label released, %")
    # The lines end near 100 on either axis; nothing is gained by showing where none of them is.
    least = min((min(spot) for _, _, spot, _ in marked), default=0.0)
    axes.set_xlim(10 * math.floor(least / 10), 108)  # room for texts
    axes.set_xticks(range(10 * math.floor(least / 10), 101, 10))
    axes.set_ylim(10 * math.floor(least / 10), 102)
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
    figure.draw_without_rendering()  # else texts have no places yet
    _mark(axes, marked)
    return figure


def _mark(axes: Axes, marked: list[tuple[int, str, tuple[float, float], str]]) -> None:
    """Write texts beside their points, but for those that would lie on another. marked: rank, text, point, colour."""
    taken: list[Bbox] = []
    for _, text, spot, colour in sorted(marked, key=lambda mark: mark[0]):
        label = axes.annotate(text, spot, textcoords="offset points", xytext=(4, 3), fontsize=6, color=colour)
        room = label.get_window_extent().padded(2)
        if any(room.overlaps(other) for other in taken):
            label.remove()
        else:
            taken.append(room)
