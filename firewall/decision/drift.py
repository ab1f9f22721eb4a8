"""Drift: does live traffic still look like the calibration set? Only a report; it decides nothing.

For each sign that was seen, a few properties are watched: the fused suspicion, the detectors' scores, the label. Each
*track* gives one value. (Frames of one track are nearly the same picture; a test that treated them as independent would
raise an alarm at the first parked car.) The rank of a value among all values so far, from calibration and stream, gives
a smoothed conformal p-value. If calibration tracks and live tracks are exchangeable, these p-values are independent and
uniform, whatever the distribution and however few calibration tracks there were (Vovk, Gammerman, Shafer, Algorithmic
Learning in a Random World, 2005). A fixed reference would not work: estimated from 115 tracks it is a few per cent off,
and a test that never ends would find that difference too.

Against uniformity the monitor keeps a set of bets, each a function of p with mean 1, and for each bet the
Shiryaev-Roberts sum S <- (1 + S) * bet(p). The expectation of S after t values is t. So the probability that the mean
over a property's bets has exceeded c by the Nth value is at most N / c: an e-detector (Shin, Ramdas, Rinaldo, New
England Journal of Statistics in Data Science 2(2), 2024; on conformal p-values: Vovk et al., Retrain or not retrain,
COPA 2021). With k properties the alarm is raised at c = k * `run_length`, so the probability of a false alarm by the
Nth value is at most N / `run_length`. A shift is found about as fast after a year as on the first day.

Limits: labels come in runs, since a motorway has other signs than a town. Then the alarm is correct but harmless, so
the report names the property. A shift that is slower than the ranks adapt is not found.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from firewall.bundle.strict import Strict
from firewall.verdict import Verdict

__all__ = ["LABEL", "SUSPICION", "ChannelSpec", "Drift", "DriftSpec", "DriftState"]

#: Names of the properties that are not a detector's score.
SUSPICION, LABEL = "suspicion", "label"

#: Suspicions above the limit count as this value: how far above depends on which detectors were still asked.
SETTLED = 1e-3
_FAILED = 1e6  # a value that is missing or not finite ranks above all others
_JITTER = 1e-6  # breaks ties at random, so that a rank is uniform also where many values are equal
_CEILING = 1e12  # of a sum: a lasting shift must not overflow
_LOWEST = 1e-3  # p-value of a failure that has no rank
_LEAST = 1e-9  # p-value: a bet on 0 would win without end

_STRENGTHS = np.array([-0.9, -0.6, -0.3, 0.3, 0.6, 0.9])
_POWERS = np.array([0.3, 0.6])
_ROOTS = _POWERS - 1.0
_NUMBER_OF_BETS = 2 * len(_STRENGTHS) + len(_POWERS)


class ChannelSpec(Strict):
    """The calibration values of one property, as a histogram of ranks.

    Attributes:
        name: `suspicion`, or a detector.
        edges: Some of the values, ascending.
        masses: How many gaps between neighbouring values each of the len(edges) + 1 bins holds; n values have n + 1
            gaps.
    """

    name: str
    edges: tuple[float, ...] = Field(min_length=1, max_length=1024)
    masses: tuple[int, ...]

    @model_validator(mode="after")
    def _fits(self) -> ChannelSpec:
        if len(self.masses) != len(self.edges) + 1 or min(self.masses) < 0 or sum(self.masses) < 2:
            raise ValueError(f"{self.name}: {len(self.edges)} edges need {len(self.edges) + 1} masses, each 0 or more")
        if list(self.edges) != sorted(self.edges):
            raise ValueError(f"{self.name}: the edges must ascend")
        return self


class DriftSpec(Strict):
    """What the monitor watches.

    Attributes:
        channels: The properties that are numbers.
        labels: How many calibration tracks each class has, in the classifier's order. Empty: labels are not watched.
        run_length: Average number of values before a false alarm, at least.
        tracks: Calibration tracks.
    """

    channels: tuple[ChannelSpec, ...]
    labels: tuple[int, ...] = Field((), max_length=100_000)
    run_length: float = Field(10_000.0, ge=10)
    tracks: int = Field(ge=1)

    @model_validator(mode="after")
    def _watches_something(self) -> DriftSpec:
        if not self.channels and not self.labels:
            raise ValueError("a drift specification watches at least one channel or the labels")
        return self


@dataclass(frozen=True, slots=True)
class DriftState:
    """What the monitor has found so far.

    Attributes:
        spoken: Whether an alarm has been raised: traffic differs from the calibration set, or did at some time.
        since: Number of the value at which that was found, counted from 1.
        property: What differed most then.
        values: Values seen so far.
        failures: How many of these had a property that was missing or not finite.
    """

    spoken: bool = False
    since: int | None = None
    property: str = ""
    values: int = 0
    failures: int = 0

    def line(self) -> str:
        """One line for people; it holds no score."""
        if not self.spoken:
            return f"{self.values} signs seen, no drift found"
        return f"since sign {self.since} the {self.property} differs from the calibration set ({self.values} seen)"


@dataclass(slots=True)
class _Bets:
    """Shiryaev-Roberts sums of the bets on one property's p-values."""

    sums: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(_NUMBER_OF_BETS))

    def add(self, p: float) -> float:
        """The mean of the sums after this p-value."""
        self.sums = np.minimum((1.0 + self.sums) * _bets(p), _CEILING)
        return float(self.sums.mean())


class Drift:
    """The monitor. Memory is a few counts a property, however long it runs. Use it from one thread."""

    def __init__(self, spec: DriftSpec, *, seed: int = 0) -> None:
        """Begin with the calibration's ranks.

        Args:
            spec: What is watched.
            seed: Seed of the random numbers that break ties.
        """
        self.spec = spec
        self._random = np.random.default_rng(seed)
        self._edges = {channel.name: np.array(channel.edges) for channel in spec.channels}
        self._masses = {channel.name: np.array(channel.masses) for channel in spec.channels}
        self._labels = np.array(spec.labels)
        self._bets = {name: _Bets() for name in [*self._edges, LABEL]}
        self.state = DriftState()

    def add(self, verdict: Verdict) -> DriftState:
        """Add one verdict.

        Args:
            verdict: The verdict on one frame of a track. Which frame must not depend on the verdict.

        Returns:
            The new state.
        """
        values = {
            channel.name: verdict.suspicion if channel.name == SUSPICION else verdict.scores.get(channel.name)
            for channel in self.spec.channels
        }
        return self.add_values(values, verdict.suspected_label)

    def add_values(self, values: Mapping[str, float | None], label: int | None) -> DriftState:
        """Add the properties of one sign.

        Args:
            values: Property -> value. None and NaN are failures and rank above any number.
            label: The class, 0-based; None is a failure.

        Returns:
            The new state.
        """
        failed = False
        levels = {}
        for name in self._edges:
            value = values.get(name)
            # A detector is not asked if others have settled the verdict; that is not a failure.
            failed |= value is None if name == SUSPICION else value is not None and not math.isfinite(value)
            failed |= value is not None and not math.isfinite(value)
            levels[name] = self._bets[name].add(self._rank(name, watched(name, value)))
        if len(self._labels):
            known = label is not None and 0 <= label < len(self._labels)
            failed |= not known
            levels[LABEL] = self._bets[LABEL].add(self._rarity(label) if known and label is not None else _LOWEST)
        before = self.state
        count = before.values + 1
        most = max(levels, key=levels.__getitem__)
        if not before.spoken and levels[most] >= self.spec.run_length * len(levels):
            self.state = DriftState(True, count, most, count, before.failures + failed)
        else:
            self.state = DriftState(before.spoken, before.since, before.property, count, before.failures + failed)
        return self.state

    def _rank(self, name: str, value: float) -> float:
        """The smoothed conformal p-value of a number: small where it is high. The value joins the ranks."""
        masses = self._masses[name]
        position = value + _JITTER * self._random.random()
        place = int(np.searchsorted(self._edges[name], position))
        # A new value falls between two of the n old ones, each of the n + 1 gaps being as likely as any other.
        p = (masses[place + 1 :].sum() + self._random.random() * masses[place]) / masses.sum()
        masses[place] += 1
        return max(float(p), _LEAST)

    def _rarity(self, label: int) -> float:
        """The same of a class: small where it is rare among all signs so far, this one included."""
        counts = self._labels
        counts[label] += 1
        rarer = counts[counts < counts[label]].sum()
        same = counts[counts == counts[label]].sum()
        return max(float((rarer + self._random.random() * same) / counts.sum()), _LEAST)


def watched(name: str, value: float | None) -> float:
    """The number whose rank is taken.

    Args:
        name: The property.
        value: Its value.

    Returns:
        The value, bounded; above all others if it is missing or not finite.
    """
    if value is None or not math.isfinite(value):
        return _FAILED
    return min(max(value, -_FAILED / 2), SETTLED if name == SUSPICION else _FAILED / 2)


def channel_spec(name: str, values: Iterable[float | None], bins: int = 64, *, seed: int = 0) -> ChannelSpec:
    """The channel of one property, from calibration.

    Args:
        name: `suspicion`, or a detector.
        values: One for each calibration track, at least 2.
        bins: The most edges that are kept.
        seed: Seed of the random numbers that break ties.

    Returns:
        The channel.
    """
    random = np.random.default_rng(seed)
    ordered = sorted(watched(name, value) + _JITTER * float(random.random()) for value in values)
    count = len(ordered)
    ranks = np.unique(np.linspace(1, count, min(bins, count)).round().astype(np.int64))
    masses = np.diff([0, *ranks.tolist(), count + 1])
    return ChannelSpec(
        name=name, edges=tuple(ordered[rank - 1] for rank in ranks), masses=tuple(int(mass) for mass in masses)
    )


def _bets(p: float) -> npt.NDArray[np.float64]:
    """Functions of p that are 0 or more and have mean 1 over 0..1: slopes for a move up or down, waves for a wider or
    narrower spread, powers for a few values far out."""
    return np.concatenate(
        [1.0 + _STRENGTHS * math.cos(math.pi * p), 1.0 + _STRENGTHS * math.cos(2 * math.pi * p), _POWERS * p**_ROOTS]
    )
