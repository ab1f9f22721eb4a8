"""The latencies of a report as a picture (SVG): how often each came, and how many frames took longer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape

import numpy as np

from firewall.bench.fields import PERCENTILES, least_samples
from firewall.bench.report import Report
from firewall.errors import UsageError

__all__ = ["draw"]

_WIDTH, _LEFT, _RIGHT = 900, 70, 30
#: Top and bottom of the two panels, in pixels from the top.
_TOP, _BOTTOM = (96, 300), (346, 590)
_HEIGHT = 640
_BINS = 70
#: Of Okabe and Ito: told apart by people who are colour-blind. Without the firewall they are dashed.
_COLOURS = {"normal": "#0072B2", "adversarial": "#D55E00"}
_GREY, _INK = "#8a8a8a", "#1a1a1a"


@dataclass(frozen=True)
class _Curve:
    name: str
    colour: str
    dashed: bool
    values: np.ndarray[tuple[int], np.dtype[np.float64]]


def draw(report: Report) -> str:
    """Draw the distribution of a report's latencies.

    Args:
        report: With latencies at full rate.

    Returns:
        The text of an SVG file, 900x640.

    Raises:
        UsageError: If the report has no latencies.
    """
    curves = _curves(report)
    if not curves:
        raise UsageError("nothing was measured at full rate, so there is nothing to draw")
    low = min(float(curve.values.min()) for curve in curves) / 1.1
    high = max(float(curve.values.max()) for curve in curves) * 1.1
    axis = _Axis(low, high)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" '
        f'height="{_HEIGHT}" font-family="sans-serif" font-size="12" fill="{_INK}">'
    )
    parts = [
        head,
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#ffffff"/>',
        *_head(report, curves),
        *_ticks(axis, report),
        *_frequencies(axis, curves),
        *_slower(axis, curves),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


class _Axis:
    """Milliseconds to pixels from the left, logarithmic."""

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high
        self._log, self._span = math.log(low), math.log(high) - math.log(low)

    def place(self, milliseconds: float) -> float:
        share = (math.log(milliseconds) - self._log) / self._span
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    def ticks(self) -> list[float]:
        """1, 2 and 5 times the powers of ten; more where the range is short."""
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        steps = (1, 2, 5) if self.high / self.low > 8 else (1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9)
        ticks = [step * 10.0**power for power in powers for step in steps]
        return [tick for tick in ticks if self.low <= tick <= self.high]


def _curves(report: Report) -> list[_Curve]:
    curves = []
    for kind, rate in report.full_rate.items():
        for series, name, dashed in ((rate.guarded, "with", False), (rate.unguarded, "without", True)):
            values = np.sort(np.asarray(series.samples_ms, np.float64).clip(1e-4))
            curves.append(_Curve(f"{kind}, {name} firewall", _COLOURS.get(kind, _INK), dashed, values))
    return curves


def _text(x: float, y: float, text: str, *, anchor: str = "start", colour: str = _INK, weight: str = "") -> str:
    bold = f' font-weight="{weight}"' if weight else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}"{bold}>{escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, dashes: str = "") -> str:
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"{dashed}/>'


def _path(points: list[tuple[float, float]], curve: _Curve) -> str:
    way = "M" + " L".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dashed = ' stroke-dasharray="5 4"' if curve.dashed else ""
    return f'<path d="{way}" fill="none" stroke="{curve.colour}" stroke-width="1.8"{dashed}/>'


def _head(report: Report, curves: list[_Curve]) -> list[str]:
    state = "" if report.complete else f" (INCOMPLETE: stopped during {report.stopped})"
    where = f"{report.machine['label']}, {report.machine['cpu']}, {report.threads} threads, {report.bundle['provider']}"
    parts = [
        _text(_LEFT, 24, f"Latency of a frame, bundle {report.bundle['name']}{state}", weight="bold"),
        _text(_LEFT, 42, f"{where}; {report.samples} frames of each kind", colour="#555555"),
    ]
    x = float(_LEFT)
    for curve in curves:
        parts.append(_path([(x, 62), (x + 26, 62)], curve))
        parts.append(_text(x + 32, 66, curve.name))
        x += 46 + 6.4 * len(curve.name)
    return parts


def _ticks(axis: _Axis, report: Report) -> list[str]:
    parts = []
    for top, bottom in (_TOP, _BOTTOM):
        parts.append(_line(_LEFT, bottom, _WIDTH - _RIGHT, bottom, _INK))
        for tick in axis.ticks():
            parts.append(_line(axis.place(tick), top, axis.place(tick), bottom, "#e6e6e6"))
            parts.append(_text(axis.place(tick), bottom + 16, f"{tick:g}", anchor="middle"))
        for fps in report.settings["fps"]:
            period = 1e3 / fps
            if axis.low < period < axis.high:
                parts.append(_line(axis.place(period), top, axis.place(period), bottom, _GREY, "2 3"))
                parts.append(_text(axis.place(period) + 3, top + 10, f"{fps:g} fps", colour=_GREY))
    parts.append(_text((_LEFT + _WIDTH - _RIGHT) / 2, _BOTTOM[1] + 36, "milliseconds", anchor="middle"))
    return parts


def _frequencies(axis: _Axis, curves: list[_Curve]) -> list[str]:
    edges = np.geomspace(axis.low, axis.high, _BINS + 1)
    shares = [np.histogram(curve.values, edges)[0] / len(curve.values) for curve in curves]
    top, bottom = _TOP
    highest = max(float(share.max()) for share in shares)
    parts = [_text(_LEFT, top - 8, f"how often (share of the frames in each of {_BINS} steps)", weight="bold")]
    for level in (0.5, 1.0):
        y = bottom - (bottom - top - 14) * level
        parts.append(_text(_LEFT - 6, y + 4, f"{highest * level:.0%}", anchor="end"))
    for curve, share in zip(curves, shares, strict=True):
        points = []
        for left, right, value in zip(edges[:-1], edges[1:], share, strict=True):
            y = bottom - (bottom - top - 14) * float(value) / highest
            points += [(axis.place(float(left)), y), (axis.place(float(right)), y)]
        parts.append(_path(points, curve))
    return parts


def _slower(axis: _Axis, curves: list[_Curve]) -> list[str]:
    top, bottom = _BOTTOM
    most = max(len(curve.values) for curve in curves)
    depth = math.log10(most)

    def place(share: float) -> float:
        return top + 14 + (bottom - top - 14) * min(1.0, -math.log10(share) / depth)

    parts = [_text(_LEFT, top - 8, "share of the frames that took longer", weight="bold")]
    for percentile in (50, *PERCENTILES):
        share = 1 - percentile / 100
        # A line is drawn only for what the samples carry.
        if most >= (2 if percentile == 50 else least_samples(percentile)):
            parts.append(_line(_LEFT, place(share), _WIDTH - _RIGHT, place(share), "#cccccc", "6 3"))
            parts.append(_text(_LEFT - 6, place(share) + 4, f"{share:.3g}", anchor="end"))
            parts.append(_text(_WIDTH - _RIGHT, place(share) - 3, f"p{percentile:g}", anchor="end", colour=_GREY))
    for curve in curves:
        count = len(curve.values)
        points = [(axis.place(float(curve.values[0])), place(1.0))]
        for number, value in enumerate(curve.values):
            points.append((axis.place(float(value)), points[-1][1]))
            if number < count - 1:  # none took longer than the slowest, and there is no place for 0
                points.append((points[-1][0], place((count - number - 1) / count)))
        parts.append(_path(_thinned(points), curve))
    return parts


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Without points that lie within a quarter of a pixel of the one before."""
    kept = points[:1]
    for point in points[1:-1]:
        if abs(point[0] - kept[-1][0]) + abs(point[1] - kept[-1][1]) > 0.25:
            kept.append(point)
    return [*kept, points[-1]]
