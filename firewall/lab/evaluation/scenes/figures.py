"""From outcomes to figures, each rate with its number and its 95 % interval."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from firewall.lab.evaluation.scenes.matching import Matched, Outcome
from firewall.lab.measurement.intervals import count_interval, rate_of

__all__ = ["INTERVALS", "SIDES", "FrameOutcome", "a_unit", "figures", "rate", "times"]

#: Sizes from which on signs are counted together, and bounds between groups of sizes: the shorter side in pixels.
SIDES, GROUPS = (16, 24, 32), (16, 24, 32, 48, 96)
#: What a reader has to know of the intervals.
INTERVALS = (
    "95 %; rates of signs: Clopper and Pearson, signs of one frame as a cluster (Korn and Graubard 1998); rates of "
    "frames: Clopper and Pearson; counts: Poisson"
)
_MEASURES: dict[str, Callable[[Outcome], bool]] = {
    "found": lambda one: one.found,
    "released_right": lambda one: one.right,
    "released_wrong": lambda one: one.wrong,
    "withheld": lambda one: one.withheld,
    "missed": lambda one: one.missed,
}


@dataclass(frozen=True, eq=False)
class FrameOutcome:
    """What became of one frame.

    Attributes:
        matched: Its signs and phantoms.
        regions: How many regions there were.
        ms: Milliseconds by stage.
    """

    matched: Matched
    regions: int
    ms: dict[str, float]


def rate(hits: Sequence[bool], groups: Sequence[int] | None = None) -> dict[str, Any]:
    """rate, n and ci95; of nothing, rate is None.

    Args:
        hits: One for each draw.
        groups: The frame of each, or None for independent draws.
    """
    if not hits:
        return {"rate": None, "n": 0, "ci95": [0.0, 1.0]}
    found = rate_of(np.array(hits, bool), groups)
    return {"rate": found.value, "n": found.total, "ci95": [found.low, found.high]}


def a_unit(count: int, units: float) -> dict[str, Any]:
    """A count of events for each unit (a sequence, an hour): rate, n (units), count, ci95."""
    low, high = count_interval(count)
    n = int(units) if float(units).is_integer() else units
    return {"rate": count / units, "n": n, "count": count, "ci95": [low / units, high / units]}


def times(ms: Sequence[float]) -> dict[str, float]:
    """Mean, percentiles and largest of milliseconds."""
    values: npt.NDArray[np.float64] = np.array(ms, np.float64)
    p50, p90, p99 = np.percentile(values, (50, 90, 99)).tolist()
    found = {"mean": float(values.mean()), "p50": p50, "p90": p90, "p99": p99, "max": float(values.max())}
    return {name: round(value, 2) for name, value in found.items()}


def figures(frames: Sequence[FrameOutcome], labels: Sequence[str]) -> dict[str, Any]:
    """Everything that is said of unattacked frames.

    Args:
        frames: One or more.
        labels: The bundle's.

    Returns:
        Ready for JSON. Each sign that the bundle has a label for is released right, released wrong, withheld or missed;
        other signs stand apart.
    """
    every = [(number, one) for number, frame in enumerate(frames) for one in frame.matched.signs]
    known = [(number, one) for number, one in every if one.sign.label is not None]
    others = [(number, one) for number, one in every if one.sign.label is None]
    phantoms = [phantom for frame in frames for phantom in frame.matched.phantoms]
    loose = [each for frame in frames for each in frame.matched.loose]
    found = {"all": _measure(known, "found")}
    found |= {f"{side}px": _measure(_from(known, side), "found") for side in SIDES}
    return {
        "frames": len(frames),
        "signs": len(known),
        "found": found,
        **{name: _measure(known, name) for name in _MEASURES if name != "found"},
        "released_right_24px": _measure(_from(known, 24), "released_right"),
        "phantoms": len(phantoms),
        "phantom_frames": rate([bool(frame.matched.phantoms) for frame in frames]),
        "phantom_labels": _counted(labels[each.released or 0] for each in phantoms),
        "loose_releases": len(loose),
        "frames_with_an_unfitting_release": rate(
            [bool(frame.matched.phantoms or frame.matched.loose) for frame in frames]
        ),
        "regions_a_frame": round(sum(frame.regions for frame in frames) / len(frames), 3),
        "regions_on_nothing_a_frame": round(sum(len(frame.matched.apart) for frame in frames) / len(frames), 3),
        "withheld_because": _counted(one.regions[0].reason for _, one in known if one.withheld),
        "on_nothing_because": _counted(
            each.reason for frame in frames for each in frame.matched.apart if each.released is None
        ),
        "other_signs": {
            "signs": len(others),
            "found": _measure(others, "found"),
            "released": _measure(others, "released_wrong"),
            "classes": _counted(one.sign.name for _, one in others),
        },
        "latency_ms": {
            **times([frame.ms["frame"] for frame in frames]),
            "regions_p50": times([frame.ms["regions"] for frame in frames])["p50"],
            "judging_p50": times([frame.ms["judging"] for frame in frames])["p50"],
            "n": len(frames),
        },
        "by_size": {name: _all(some) for name, some in _sizes(known)},
        "by_class": {
            labels[label]: _all(some)
            for label in range(len(labels))
            if (some := [pair for pair in known if pair[1].sign.label == label])
        },
    }


Numbered = Sequence[tuple[int, Outcome]]


def _measure(signs: Numbered, name: str) -> dict[str, Any]:
    return rate([_MEASURES[name](one) for _, one in signs], [number for number, _ in signs])


def _all(signs: Numbered) -> dict[str, Any]:
    return {"signs": len(signs), **{name: _measure(signs, name) for name in _MEASURES if name != "missed"}}


def _from(signs: Numbered, side: int) -> list[tuple[int, Outcome]]:
    return [pair for pair in signs if pair[1].sign.side >= side]


def _sizes(signs: Numbered) -> list[tuple[str, list[tuple[int, Outcome]]]]:
    found = []
    for low, high in zip((0, *GROUPS), (*GROUPS, None), strict=True):
        name = f"{low}px and more" if high is None else f"below {high}px" if low == 0 else f"{low}-{high - 1}px"
        some = [pair for pair in signs if pair[1].sign.side >= low and (high is None or pair[1].sign.side < high)]
        if some:
            found.append((name, some))
    return found


def _counted(names: Any) -> dict[str, int]:
    return dict(Counter(names).most_common())
