"""Which region shows which sign, and what became of each sign."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from firewall.frame import Region
from firewall.lab.datasets.scenes import Sign
from firewall.lab.evaluation.scenes.rows import Looked
from firewall.regions import overlaps

__all__ = ["FOUND", "TOUCHING", "Outcome", "Phantom", "judged_signs", "shown_by"]

#: From this intersection over union (IoU) on, a region shows a sign.
FOUND = 0.5
#: From this IoU on a phantom lies at a sign: its box is off, but it isn't on nothing.
TOUCHING = 0.1


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a sign in one frame.

    Attributes:
        sign: The sign.
        regions: Those that show it, the one that is matched to it first; none: it wasn't found.
    """

    sign: Sign
    regions: tuple[Looked, ...]

    @property
    def found(self) -> bool:
        """Whether a region shows it."""
        return bool(self.regions)

    @property
    def released(self) -> tuple[int, ...]:
        """The labels that went out on its regions."""
        return tuple(each.released for each in self.regions if each.released is not None)

    @property
    def wrong(self) -> bool:
        """A label went out that isn't its own; of another sign, any label."""
        return any(label != self.sign.label for label in self.released)

    @property
    def right(self) -> bool:
        """Its label went out, and no other."""
        return bool(self.released) and not self.wrong

    @property
    def withheld(self) -> bool:
        """It was found, and no label went out."""
        return self.found and not self.released


@dataclass(frozen=True, slots=True)
class Phantom:
    """A label that went out on a region that shows no annotated sign.

    Attributes:
        looked: The region.
        touching: The region lies at a sign all the same, with an IoU of at least TOUCHING.
    """

    looked: Looked
    touching: bool


def shown_by(signs: Sequence[Region], regions: Sequence[Region], least: float = FOUND) -> list[int | None]:
    """Which sign each region shows.

    First signs and regions are matched one to one, as many as can be with an IoU of at least `least`, and of such
    matchings the one with the most overlap in all. A region that is left over, as of a sign that was boxed twice, shows
    the sign that it overlaps most, if the IoU is at least `least`.

    Args:
        signs: (x, y, width, height) in pixels each, with positive sides.
        regions: The same.
        least: Above 0, at most 1.

    Returns:
        For each region the place of its sign, or None. A sign that a region shows is matched to one.
    """
    if not signs or not regions:
        return [None] * len(regions)
    shared = overlaps(np.array(regions, np.float64), np.array(signs, np.float64))
    fits = shared >= least
    rows, columns = linear_sum_assignment(np.where(fits, -1 - shared / 1e3, 0.0))
    shown: list[int | None] = [int(row.argmax()) if row.max() >= least else None for row in shared]
    for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
        if fits[row, column]:
            shown[row] = column
    return shown


def judged_signs(signs: Sequence[Sign], looked: Sequence[Looked]) -> tuple[list[Outcome], list[Phantom], int]:
    """What became of the signs of one frame.

    Args:
        signs: All annotated ones, other signs too.
        looked: The regions of the frame and their verdicts.

    Returns:
        An outcome for each sign, in order; the phantoms; and how many regions show no annotated sign.
    """
    places, regions = [sign.region for sign in signs], [each.region for each in looked]
    shown = shown_by(places, regions)
    outcomes = []
    for number, sign in enumerate(signs):
        mine = [each for each, place in zip(looked, shown, strict=True) if place == number]
        mine.sort(key=lambda each, at=sign.region: -_overlap(each.region, at))  # type: ignore[misc]
        outcomes.append(Outcome(sign, tuple(mine)))
    apart = [each for each, place in zip(looked, shown, strict=True) if place is None]
    phantoms = [
        Phantom(each, any(_overlap(each.region, place) >= TOUCHING for place in places))
        for each in apart
        if each.released is not None
    ]
    return outcomes, phantoms, len(apart)


def _overlap(one: Region, other: Region) -> float:
    return float(overlaps(np.array([one], np.float64), np.array([other], np.float64))[0, 0])
