"""Two reports side by side: what differs between the runs, and by how much the latencies do."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from firewall.bench.fields import least_samples
from firewall.bench.report import FullRate, Report
from firewall.bench.resampling import draw

__all__ = ["GATED", "Comparison", "Difference", "compare", "render"]

#: Figures that are compared, and which of them a limit is held against.
_FIGURES: dict[str, float] = {"median": 50, "p90": 90, "p99": 99}
GATED = ("median", "p99")
_SOFTWARE = ("system", "python", "firewall", "simd", "packages")
_MACHINE = ("label", "board", "architecture", "cpu", "cores", "usable_cores", "memory_mb", "governor")
_BOARD = ("jetpack", "power_mode", "power_mode_id", "jetson_clocks")
_DEVICE = ("device", "provider")
_BUNDLE = ("name", "version", "sha256")
_SETTINGS = (
    "pictures",
    "left_out",
    "regions",
    "exhaustive",
    "threads",
    "cores",
    "warm_up",
    "fps",
    "fps_frames",
    "deadline_ms",
)


@dataclass(frozen=True)
class Difference:
    """How one figure of one series differs between run A and run B, in milliseconds.

    Attributes:
        kind: Kind of pictures, `normal` or `adversarial`.
        series: `with firewall`, `without` or `added`.
        figure: `median`, `p90` or `p99`.
        a: The figure of run A.
        b: The figure of run B.
        change: b - a.
        interval: The 95 % interval of `change`.
        share: The change as a share of `a`; None for `added`, which may be 0.
        share_interval: The 95 % interval of `share`.
    """

    kind: str
    series: str
    figure: str
    a: float
    b: float
    change: float
    interval: tuple[float, float]
    share: float | None
    share_interval: tuple[float, float] | None

    @property
    def clear(self) -> bool:
        """The interval doesn't hold 0."""
        return self.interval[0] > 0 or self.interval[1] < 0


@dataclass(frozen=True)
class Comparison:
    """What differs between two runs.

    Attributes:
        differ: What is not the same, by group: machine, device, bundle, settings or software. If anything but the
            software differs, a difference of latencies is not the firewall's alone.
        doubts: What makes either run doubtful by itself.
        differences: Figures with intervals.
        not_compared: What could not be compared, and why.
        others: Figures without an interval, of A and of B; None where a run has none.
    """

    differ: dict[str, list[str]]
    doubts: list[str]
    differences: list[Difference]
    not_compared: list[str]
    others: dict[str, tuple[float | None, float | None]]

    @property
    def comparable(self) -> bool:
        """Only software differs, and both runs are complete."""
        return not {*self.differ} - {"software"} and not self.doubts

    def slower(self, limit: float) -> list[Difference]:
        """Figures that are clearly slower in B: median and p99 with the firewall.

        Args:
            limit: By more than this share of A's figure; 0.1 is 10 %.

        Returns:
            Those whose interval doesn't hold 0 either.
        """
        return [
            found
            for found in self.differences
            if found.series == "with firewall" and found.figure in GATED and found.share is not None
            if found.share > limit and found.interval[0] > 0
        ]

    def to_json(self) -> dict[str, Any]:
        """All of it as plain values."""
        return {"comparable": self.comparable, **asdict(self)}


def compare(a: Report, b: Report) -> Comparison:
    """Compare run B with run A, with intervals from resampling blocks of each run's samples.

    The intervals cover what varies within the two runs. A third run of the same may lie outside, so repeat what
    matters.

    Args:
        a: A report.
        b: Another, of the same format.

    Returns:
        The comparison.
    """
    differences, not_compared = [], []
    for kind in dict.fromkeys((*a.full_rate, *b.full_rate)):
        if kind not in a.full_rate or kind not in b.full_rate:
            not_compared.append(f"{kind} pictures were measured in {'A' if kind in a.full_rate else 'B'} alone")
            continue
        first, second = _series(a.full_rate[kind]), _series(b.full_rate[kind])
        for name in first:
            differences += _differences(kind, name, first[name], second[name], not_compared)
    one, other = _others(a), _others(b)
    others = {name: (one.get(name), other.get(name)) for name in dict.fromkeys((*one, *other))}
    return Comparison(_differ(a, b), [*_doubts("A", a), *_doubts("B", b)], differences, not_compared, others)


def _others(report: Report) -> dict[str, float]:
    """What a run tells besides its latencies at full rate."""
    found = {f"{kind} frames/s with firewall": rate.guarded.throughput for kind, rate in report.full_rate.items()}
    found |= {f"missed at {rate.fps:g} fps, %": 100 * rate.missed for rate in report.fixed_rate}
    if report.cold_start is not None:
        found["cold start, s"] = report.cold_start.total
    if report.memory.peak is not None:
        found["memory, MB"] = report.memory.peak
    if report.memory.gpu is not None:
        found["GPU memory, MB"] = report.memory.gpu
    for name, window in (report.energy or {}).items():
        if window.a_frame is not None:
            found[f"mJ a frame: {name}"] = 1e3 * window.a_frame
    return found


def _series(rate: FullRate) -> dict[str, npt.NDArray[np.float64]]:
    guarded, unguarded = np.asarray(rate.guarded.samples_ms), np.asarray(rate.unguarded.samples_ms)
    return {"with firewall": guarded, "without": unguarded, "added": guarded - unguarded}


def _differences(
    kind: str, name: str, a: npt.NDArray[np.float64], b: npt.NDArray[np.float64], not_compared: list[str]
) -> list[Difference]:
    figures = {}
    for figure, percentile in _FIGURES.items():
        least = 1 if figure == "median" else least_samples(percentile)
        if min(len(a), len(b)) >= least:
            figures[figure] = percentile
        else:
            told = f"{figure} of {kind} pictures needs {least} samples, there are {len(a)} and {len(b)}"
            if told not in not_compared:  # the series of a kind have the same number
                not_compared.append(told)
    levels = list(figures.values())
    # Seeds of their own: the same blocks of both would hide what varies.
    drawn_a, drawn_b = draw(a, levels, seed=1), draw(b, levels, seed=2)
    found = []
    for place, (figure, percentile) in enumerate(figures.items()):
        before, after = float(np.percentile(a, percentile)), float(np.percentile(b, percentile))
        is_latency = name != "added" and before > 0
        shares = drawn_b[:, place] / drawn_a[:, place] - 1 if is_latency else None
        found.append(
            Difference(
                kind=kind,
                series=name,
                figure=figure,
                a=before,
                b=after,
                change=after - before,
                interval=_ends(drawn_b[:, place] - drawn_a[:, place]),
                share=after / before - 1 if is_latency else None,
                share_interval=None if shares is None else _ends(shares),
            )
        )
    return found


def _ends(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.percentile(values, (2.5, 97.5))
    return float(low), float(high)


def _differ(a: Report, b: Report) -> dict[str, list[str]]:
    groups = {
        "machine": [*_unlike(a.machine, b.machine, _MACHINE), *_unlike(a.jetson or {}, b.jetson or {}, _BOARD)],
        "device": _unlike(a.bundle, b.bundle, _DEVICE),
        "bundle": _unlike(a.bundle, b.bundle, _BUNDLE),
        "settings": _unlike(
            {**a.settings, "threads": a.threads}, {**b.settings, "threads": b.threads}, _SETTINGS
        ),
        "software": _unlike(a.machine, b.machine, _SOFTWARE),
    }  # fmt: skip
    return {group: found for group, found in groups.items() if found}


def _unlike(a: dict[str, Any], b: dict[str, Any], names: tuple[str, ...]) -> list[str]:
    return [f"{name}: {a.get(name)} | {b.get(name)}" for name in names if a.get(name) != b.get(name)]


def _doubts(name: str, report: Report) -> list[str]:
    found = [] if report.complete else [f"{name} is incomplete: it was stopped during {report.stopped}"]
    return found + [f"{name}: {event}" for event in report.jetson_events]


def render(comparison: Comparison, console: Console) -> None:
    """Print a comparison.

    Args:
        comparison: What is printed.
        console: Where.
    """
    for doubt in comparison.doubts:
        _say(console, doubt, "bold red")
    if {*comparison.differ} - {"software"}:
        _say(console, "NOT COMPARABLE as they stand: more than the firewall's software differs (A | B)", "bold red")
    for group, lines in comparison.differ.items():
        for line in lines:
            _say(console, f"  {group} {line}")
    for kind in dict.fromkeys(found.kind for found in comparison.differences):
        console.print(_table(kind, [found for found in comparison.differences if found.kind == kind]))
    for found in comparison.differences:
        if (found.series, found.figure) == ("without", "median") and found.clear and found.share is not None:
            _say(
                console,
                f"{found.kind} pictures take {found.share:+.1%} without the firewall too: the machine was not "
                "as free, or the classifier is another",
            )
    console.print(_plain(comparison.others))
    for line in comparison.not_compared:
        _say(console, f"not compared: {line}")
    _say(
        console,
        "The intervals hold what varies within the two runs (block bootstrap); runs of the same may differ by more: "
        "repeat what matters.",
    )


def _table(kind: str, differences: list[Difference]) -> Table:
    table = Table(
        title=f"\n{kind} pictures, ms",
        title_justify="left",
        title_style="bold",
        box=None,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for number, column in enumerate(("firewall", "", "A", "B", "B - A", "95 % interval", "share", "")):
        table.add_column(column, justify="right" if number > 1 else "left", no_wrap=True)
    for found in differences:
        low, high = found.interval
        table.add_row(
            found.series.removesuffix(" firewall"),
            found.figure,
            f"{found.a:.2f}",
            f"{found.b:.2f}",
            f"{found.change:+.2f}",
            f"{low:+.2f} to {high:+.2f}",
            "" if found.share is None else f"{found.share:+.1%}",
            ("slower" if found.change > 0 else "faster") if found.clear else "unclear",
        )
    return table


def _plain(others: dict[str, tuple[float | None, float | None]]) -> Table:
    table = Table(
        title="\nwithout an interval",
        title_justify="left",
        title_style="bold",
        box=None,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for number, column in enumerate(("", "A", "B")):
        table.add_column(column, justify="right" if number else "left", no_wrap=True)
    for name, values in others.items():
        table.add_row(name, *("-" if value is None else f"{value:.2f}" for value in values))
    return table


def _say(console: Console, text: str, style: str | None = None) -> None:
    console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)
