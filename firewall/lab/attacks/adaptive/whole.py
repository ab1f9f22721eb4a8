"""The gradient attack on one image: heats of candidates, until the real firewall releases a wrong label.

A candidate is a wrong label and a point to start from. Of those that the firewall's demands put nearest, some go down a
few steps together; the better half goes on for twice as long, and so on (successive halving, Jamieson and Talwalkar
2016). The next heats try the other ways from the best points that were found, and random starts. What is done next
depends on what was found, but never on how large the budget is, so a longer attack begins with all that a shorter one
does.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from firewall.errors import UsageError
from firewall.lab.attacks.adaptive.aims import Aims, aims_of
from firewall.lab.attacks.adaptive.ball import Ball
from firewall.lab.attacks.adaptive.descent import WAYS, Descent, Turn
from firewall.lab.attacks.adaptive.gate import Attempt, Gate
from firewall.lab.attacks.adaptive.picture import Picture

__all__ = ["Found", "Walk", "walk"]

Pixels = npt.NDArray[np.uint8]
#: Labels, int64 (N,), and a point for each to start from, float (N, 3, h, w).
Candidates = tuple[Tensor, Tensor]

#: A candidate is shown to the real firewall if its largest demand is below this, in a detector's unit: where the
#: demands are the edge's, and where copies are a sample, or something has no gradient.
_EXACT, _WORTH_ASKING = 0.05, 0.5
#: Candidates of the first heat for each target that is left at its end. Those that miss so many times as much as the
#: best one are left out sooner.
_FIELD, _NEAR = 6, 2.0
#: Turns after each of which half of the candidates go on. A heat ends where a rung of so many turns or more has not
#: brought the best one nearer than to this share of what it missed before, or where it misses so many times as much as
#: the best one of all heats.
_RUNGS, _LONG, _STALE, _HOPELESS = (4, 8, 16, 16, 16, 16), 16, 0.95, 3.0


@dataclass(frozen=True)
class Walk:
    """Budget of the gradient attack.

    Args:
        ways: Methods, some of `descent.WAYS`; the first heat is of the first one.
        steps: For each way, target and start, 1 or more: together so many steps by gradient are taken at most.
        restarts: Starts for each target, 1 or more: the image itself and a point away from its label, and then random
            ones.
        targets: How many wrong labels are aimed at to the end of a heat, 1 or more; six times as many at its beginning.
        most: Copies of an image for each detector and step, drawn at random; 0: all.

    Raises:
        UsageError: A parameter is out of its range.
    """

    ways: tuple[str, ...] = WAYS
    steps: int = 60
    restarts: int = 2
    targets: int = 3
    most: int = 5

    def __post_init__(self) -> None:
        unknown = [way for way in self.ways if way not in WAYS]
        if unknown or not self.ways or min(self.steps, self.restarts, self.targets) < 1 or self.most < 0:
            raise UsageError(
                f"ways {', '.join(self.ways)}, steps {self.steps}, restarts {self.restarts}, targets {self.targets}, "
                f"most {self.most}; allowed are ways among {', '.join(WAYS)}, numbers of 1 or more, most 0 or more"
            )

    @property
    def budget(self) -> int:
        """Steps by gradient, all candidates together."""
        return self.steps * self.restarts * self.targets * len(self.ways)


@dataclass(frozen=True, eq=False)
class Found:
    """What an attack has come to.

    Args:
        attempt: The image that came nearest, or a success.
        way: How it was found.
        target: The class that was aimed at; None: none.
        steps: Steps by gradient, all candidates together.
        nearest: Of a walk: how near a wrong release came in the ball's norm, in units of 0..1; None: there was none.
    """

    attempt: Attempt
    way: str
    target: int | None
    steps: int
    nearest: float | None = None


def walk(picture: Picture, gate: Gate, pixels: Pixels, ball: Ball, settings: Walk, seed: Sequence[int]) -> Found:
    """Attack one image by gradient.

    Args:
        picture: The bundle in torch.
        gate: The same bundle as it runs on the edge, with the right label.
        pixels: Uint8 (h, w, 3), the region's own pixels.
        ball: What is allowed.
        settings: How hard to try.
        seed: What all random choices depend on.

    Returns:
        The first success, or the candidate that came nearest.
    """
    race = _Race(picture, gate, pixels, ball, settings, torch.Generator().manual_seed(_number(seed)))
    race.run()
    return race.found


class _Race:
    """Heats of candidates, until one has won or the budget is used up."""

    def __init__(
        self, picture: Picture, gate: Gate, pixels: Pixels, ball: Ball, settings: Walk, generator: torch.Generator
    ) -> None:
        self.picture, self.gate, self.pixels, self.ball, self.settings = picture, gate, pixels, ball, settings
        self.generator = generator
        self.centre = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float().div(255)
        self.taken, self.lowest, self.over = 0, math.inf, False
        self.worth = _EXACT if picture.exact(settings.most) and ball.norm == "linf" else _WORTH_ASKING
        first = gate.ask(pixels)
        self._best = Found(first, "none", None, 0)
        #: Label -> what its best point missed so far, and that point.
        self.ranked: dict[int, tuple[float, Tensor]] = {}

    @property
    def found(self) -> Found:
        """The success, or the candidate that came nearest."""
        best = self._best
        return Found(best.attempt, best.way, best.target, self.taken)

    def run(self) -> None:
        """Heat after heat, until one has won or the budget is used up."""
        if self._best.attempt.wrong:  # without any change
            return
        aims = aims_of(
            self.picture, self.centre, self.gate.label, self.ball, most=self.settings.most, generator=self.generator
        )
        if len(aims.labels) == 0:  # no label but the right one can be released
            return
        for way, (labels, starts), longer in self._heats(aims):
            self._heat(way, labels, starts, longer)
            if self.over:
                return

    def _heats(self, aims: Aims) -> Iterator[tuple[str, Candidates, int]]:
        """Way, candidates, and how many times as long as at first, without end.

        The first way with the nearest labels; then again and again the first way with labels that have not been tried,
        or from random starts, and one of the other ways from the best points.
        """
        first, *others = self.settings.ways
        yield first, self._field(aims), 1
        for turn in count():
            longer = 2 ** (turn // max(1, len(others)))
            yield first, self._untried(aims) or self._again(), longer
            if others:
                yield others[turn % len(others)], self._nearest(), longer

    def _heat(self, way: str, labels: Tensor, starts: Tensor, longer: int) -> None:
        descent = Descent(
            self.picture, way, self.ball, self.centre, labels, starts, most=self.settings.most, generator=self.generator
        )
        before = math.inf
        for turns in _RUNGS:
            for _ in range(longer * turns):
                if self.taken + len(descent.aims) > self.settings.budget:
                    self.over = True
                else:
                    self.taken += len(descent.aims)
                    self.over = self._shown(way, descent.aims, descent.turn())
                if self.over:
                    return
            for label, missed, point in zip(descent.aims.tolist(), descent.least.tolist(), descent.best, strict=True):
                if label not in self.ranked or missed < self.ranked[label][0]:
                    self.ranked[label] = (missed, point)
            least = float(descent.least.min())
            known = min(missed for missed, _ in self.ranked.values())
            if least > _HOPELESS * known or (turns >= _LONG and least > _STALE * before):
                return
            before, order = least, descent.least.argsort()
            near = int((descent.least <= _NEAR * least).sum())
            descent.keep(order[: max(1, min(near, max(self.settings.targets, len(order) // 2)))])

    def _field(self, aims: Aims) -> Candidates:
        """The nearest labels, and random starts for the nearest of them."""
        targets = self.settings.targets
        near = max(2 * targets, int((aims.missed <= _NEAR * aims.missed.min()).sum()))
        labels, points = aims.labels[: min(near, _FIELD * targets)], aims.points[: min(near, _FIELD * targets)]
        more = list(dict.fromkeys(labels.tolist()))[:targets] * (self.settings.restarts - 1)
        return torch.cat([labels, torch.tensor(more, dtype=torch.int64)]), torch.cat([points, self._random(more)])

    def _untried(self, aims: Aims) -> Candidates | None:
        """The nearest of the labels that have not been tried; None: all have been."""
        places: dict[int, int] = {}
        for place, label in enumerate(aims.labels.tolist()):
            if label not in self.ranked:
                places.setdefault(label, place)
        chosen = list(places.values())[: _FIELD * self.settings.targets]
        return (aims.labels[chosen], aims.points[chosen]) if chosen else None

    def _again(self) -> Candidates:
        """The nearest labels so far, from random starts."""
        labels = [label for label, _ in self._order()[: 2 * self.settings.targets]] * self.settings.restarts
        return torch.tensor(labels), self._random(labels)

    def _nearest(self) -> Candidates:
        """The nearest labels so far, each from its best point."""
        best = self._order()[: self.settings.targets]
        return torch.tensor([label for label, _ in best]), torch.stack([point for _, (_, point) in best])

    def _order(self) -> list[tuple[int, tuple[float, Tensor]]]:
        return sorted(self.ranked.items(), key=lambda item: item[1][0])

    def _random(self, labels: Sequence[int]) -> Tensor:
        return self.ball.start(self.centre, len(labels), self.generator)

    def _shown(self, way: str, aims: Tensor, now: Turn) -> bool:
        """Show the real firewall what may pass, and what came nearer than all before; whether one has won."""
        for place in torch.where(now.fooled, now.alarm, torch.inf).argsort().tolist():
            alarm = float(now.alarm[place])
            if not bool(now.fooled[place]) or (alarm > self.worth and alarm >= self.lowest):
                return False
            self.lowest = min(self.lowest, alarm)
            attempt = self.gate.ask(self.ball.rounded(now.points[place], self.pixels))
            if self._best.way == "none" or attempt.rank > self._best.attempt.rank:
                self._best = Found(attempt, way, int(aims[place]), self.taken)
            if attempt.wrong:
                return True
        return False


def _number(seed: Sequence[int]) -> int:
    return int(np.random.SeedSequence(list(seed)).generate_state(1, np.uint64)[0] >> 1)
