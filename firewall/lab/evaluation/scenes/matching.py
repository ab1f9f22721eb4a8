"""Which region shows which sign, and what became of each sign.

A sign is found if a region fits it: intersection over union (IoU) of FOUND and more, regions and signs matched one to
one. What goes out on a region counts for the sign that it lies at, whether it fits or not: the one it is matched to,
else the one it overlaps most, with an IoU of TOUCHING and more. A label on a region that lies at no sign is a phantom.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from firewall.frame import Region
from firewall.lab.datasets.scenes import Sign
from firewall.lab.evaluation.scenes.rows import Looked
from firewall.regions import overlaps
from firewall.regions.boxes import Floats

__all__ = ["FOUND", "TOUCHING", "Matched", "Outcome", "judged_signs"]

FOUND, TOUCHING = 0.5, 0.1


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a sign in one frame.

    Attributes:
        sign: The sign.
        found: Whether a region fits it.
        regions: Those that lie at it, the nearest first.
    """

    sign: Sign
    found: bool
    regions: tuple[Looked, ...]

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

    @property
    def missed(self) -> bool:
        """It wasn't found, and no label went out."""
        return not self.found and not self.released


@dataclass(frozen=True, slots=True)
class Matched:
    """What became of a frame.

    Attributes:
        signs: An outcome for each annotated sign, in order.
        apart: Regions that lie at no annotated sign.
        loose: Regions that lie at a sign but fit none, on which a label went out.
    """

    signs: tuple[Outcome, ...]
    apart: tuple[Looked, ...]
    loose: tuple[Looked, ...]

    @property
    def phantoms(self) -> tuple[Looked, ...]:
        """Regions at no annotated sign on which a label went out."""
        return tuple(each for each in self.apart if each.released is not None)


def judged_signs(signs: Sequence[Sign], looked: Sequence[Looked]) -> Matched:
    """What became of the signs of one frame.

    Args:
        signs: All annotated ones, other signs too; with positive sides.
        looked: The regions of the frame and their verdicts.
    """
    shared = np.zeros((len(looked), len(signs)))
    if signs and looked:
        shared = overlaps(_boxes([each.region for each in looked]), _boxes([sign.region for sign in signs]))
    fitting = _one_to_one(shared)
    at: list[int | None] = [
        fitting.get(number, int(row.argmax()) if row.max(initial=0.0) >= TOUCHING else None)
        for number, row in enumerate(shared)
    ]
    found = set(fitting.values())
    outcomes = []
    for place, sign in enumerate(signs):
        mine = [number for number, other in enumerate(at) if other == place]
        mine.sort(key=shared[:, place].__getitem__, reverse=True)
        outcomes.append(Outcome(sign, place in found, tuple(looked[number] for number in mine)))
    loose = [
        each
        for each, place, row in zip(looked, at, shared, strict=True)
        if each.released is not None and place is not None and row.max() < FOUND
    ]
    apart = [each for each, place in zip(looked, at, strict=True) if place is None]
    return Matched(tuple(outcomes), tuple(apart), tuple(loose))


def _one_to_one(shared: Floats) -> dict[int, int]:
    """Region -> sign: as many pairs as can be with an IoU of at least FOUND, and of such the most overlap in all."""
    fits = shared >= FOUND
    rows, columns = linear_sum_assignment(np.where(fits, -1 - shared / 1e3, 0.0))
    pairs = zip(rows.tolist(), columns.tolist(), strict=True)
    return {row: column for row, column in pairs if fits[row, column]}


def _boxes(regions: Sequence[Region]) -> Floats:
    return np.array(regions, np.float64)
