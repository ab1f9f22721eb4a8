"""Attacks by one who sees only which label is released, or that none is: what lies on the sign, and a walk of noise.

`search_draws` searches one family of shadows, bars, light ... at random, and about what it has found so far. A draw
that is withheld has done something: the label is gone, or it was noticed. One whose neighbours are withheld too has
done it more firmly. So half of the queries go to new draws, and half to neighbours of old ones, which are chosen as a
gambler chooses between machines (Thompson, Biometrika 25, 1933) by how often their neighbours were withheld.

`walk_boundary` is the walk of HopSkipJump (Chen et al. 2020, algorithm 2) in a given norm: from the picture of another
sign that is released, along the border of what is released wrongly, towards the image. Its random directions are of low
frequency in two cases of three, which such attacks do better with (Li et al., QEBA, CVPR 2020).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from firewall.lab.attacks.adaptive.ball import Ball
from firewall.lab.attacks.adaptive.gate import Attempt, Gate
from firewall.lab.attacks.adaptive.proposals import draw as change_of
from firewall.lab.attacks.adaptive.whole import Found
from firewall.lab.attacks.physical import drawn, family, tape_of
from firewall.lab.attacks.tape import Tape

__all__ = ["search_draws", "walk_boundary"]

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]

#: Share of the queries that go to new draws; how far neighbours lie, as powers of two.
_FRESH, _NEAR = 0.5, (-5.0, -3.0)
#: Pictures of other signs that are tried as a start, and how many of them are brought nearer before one is chosen.
_TRIES, _STARTS = 20, 3
#: Directions in the first round of the walk; halvings of a step and of the way back.
_DIRECTIONS, _HALVINGS = 20, 6


@dataclass
class _Place:
    """A draw that was withheld, how many of its neighbours were asked about, and how many of these were withheld."""

    tape: Tape
    asked: int = 0
    withheld: int = 0


def search_draws(gate: Gate, pixels: Pixels, name: str, queries: int, seed: Sequence[int]) -> Found:
    """Search one family of draws.

    Args:
        gate: The firewall, with the right label.
        pixels: Uint8 (h, w, 3).
        name: A key of firewall.lab.datasets.obstructions.DRAWS.
        queries: After so many it gives up.
        seed: What all random choices depend on.

    Returns:
        The first success, or the last draw that was withheld.
    """
    draw, generator, until = family(name), np.random.default_rng([*seed, 8]), gate.queries + queries
    best, number = gate.ask(pixels), 0
    places: list[_Place] = []
    while gate.queries < until and not best.wrong:
        parent = None
        if not places or generator.random() < _FRESH:
            tape, number = tape_of(tuple(seed), number), number + 1
        else:
            counts = np.array([(place.withheld, place.asked) for place in places])
            parent = places[int(generator.beta(1 + counts[:, 0], 1 + counts[:, 1] - counts[:, 0]).argmax())]
            tape = parent.tape.moved(2 ** generator.uniform(*_NEAR), generator)
        found = gate.ask(drawn(draw, pixels, tape))
        withheld = not found.verdict.released
        if parent is not None:
            parent.asked, parent.withheld = parent.asked + 1, parent.withheld + withheld
        if withheld:
            places.append(_Place(tape))
        if found.wrong or withheld:
            best = found
    return Found(best, "decision", None, 0)


def walk_boundary(
    gate: Gate, pixels: Pixels, ball: Ball, queries: int, seed: Sequence[int], others: Iterator[Pixels]
) -> Found:
    """Walk along the border of what is released wrongly, towards an image.

    Args:
        gate: The firewall, with the right label.
        pixels: Uint8 (h, w, 3).
        ball: A success is as near as this; its subspace is not asked.
        queries: After so many it gives up.
        seed: What all random choices depend on.
        others: Pictures of other signs, uint8 of the shape of `pixels`.

    Returns:
        The first wrong release within the ball; else the image itself, with how near the walk came.
    """
    walk = _Walk(gate, pixels, ball, gate.queries + queries, np.random.default_rng([*seed, 9]))
    first = gate.ask(pixels)
    if first.wrong:
        return Found(first, "decision", None, 0)
    walk.start(others)
    turn = 1
    while walk.going and walk.point is not None:
        walk.round(turn)
        turn += 1
    if walk.won is not None:
        return Found(walk.won, "decision", None, 0, walk.nearest)
    return Found(first, "decision", None, 0, None if walk.point is None else walk.nearest)


class _Walk:
    """Where the walk is. Distances are in units of 0..1, in the ball's norm."""

    def __init__(self, gate: Gate, pixels: Pixels, ball: Ball, until: int, generator: np.random.Generator) -> None:
        self.gate, self.pixels, self.ball, self.until, self.generator = gate, pixels, ball, until, generator
        self.centre: Floats = pixels.astype(np.float64)
        self.point: Floats | None = None
        self.nearest = np.inf
        self.won: Attempt | None = None

    @property
    def going(self) -> bool:
        """Whether another query is allowed and wanted."""
        return self.won is None and self.gate.queries < self.until

    def start(self, others: Iterator[Pixels]) -> None:
        """From the nearest of some pictures that are released under another label."""
        found = 0
        for _, other in zip(range(_TRIES), others, strict=False):
            if not self.going or found == _STARTS:
                return
            start = other.astype(np.float64)
            if self._wrong(start):
                found += 1
                nearer = self._nearer(start)
                if self.point is None or self._distance(nearer) < self._distance(self.point):
                    self.point = nearer

    def round(self, turn: int) -> None:
        """Estimate the border's normal, step along it, and return to the border."""
        point = self.point
        if point is None:
            return
        distance = self._distance(point)
        normal = self._normal(point, distance, round(_DIRECTIONS * turn**0.5))
        step = distance / turn**0.5
        for _ in range(_HALVINGS):
            tried = np.clip(point + 255 * step * normal, 0, 255)
            if not self.going or self._wrong(tried):
                break
            step /= 2
        else:
            return
        if self.going:
            self.point = self._nearer(tried)

    def _normal(self, point: Floats, distance: float, count: int) -> Floats:
        """The direction of more wrong releases, of length 1 in the norm."""
        scale = max(0.1 * distance, 1.5 / 255 if self.ball.norm == "linf" else 1.5 * point.size**0.5 / 255)
        unit = Ball(self.ball.norm, scale)
        directions, answers = [], []
        for _ in range(count):
            if not self.going:
                break
            kind = "low-frequency" if self.generator.random() < 2 / 3 else "pixels"
            directions.append(change_of(self.pixels, unit, kind, self.generator).astype(np.float64))
            answers.append(1.0 if self._wrong(np.clip(point + directions[-1], 0, 255)) else -1.0)
        weights = np.array(answers)
        if len(weights) == 0:
            return np.zeros_like(point)
        if abs(weights.mean()) < 1:  # unless all answers are the same, as in the paper
            weights = weights - weights.mean()
        total = np.einsum("k,khwc->hwc", weights, np.stack(directions))
        if self.ball.norm == "linf":
            return np.asarray(np.sign(total))
        return np.asarray(total / max(float(np.linalg.norm(total)), 1e-12))

    def _nearer(self, point: Floats) -> Floats:
        """The nearest point towards the image that is released wrongly, by halving."""
        low, high = 0.0, self._distance(point)
        best = point
        for _ in range(_HALVINGS + 2):
            if not self.going or high - low < 0.5 / 255:
                break
            middle = (low + high) / 2
            tried = self._at(point, middle)
            if self._wrong(tried):
                best, high = tried, middle
            else:
                low = middle
        return best

    def _at(self, point: Floats, distance: float) -> Floats:
        """What of the change is allowed at that distance."""
        change = point - self.centre
        if self.ball.norm == "linf":
            return np.asarray(self.centre + np.clip(change, -255 * distance, 255 * distance))
        return np.asarray(self.centre + change * min(1.0, distance / max(self._distance(point), 1e-12)))

    def _wrong(self, point: Floats) -> bool:
        image = np.rint(point).astype(np.uint8)
        found = self.gate.ask(image)
        if found.wrong:
            distance = self._distance(image.astype(np.float64))
            self.nearest = min(self.nearest, distance)
            if distance <= self.ball.eps + 1e-9:
                self.won = found
        return found.wrong

    def _distance(self, point: Floats) -> float:
        change = (point - self.centre) / 255
        return float(np.abs(change).max() if self.ball.norm == "linf" else np.linalg.norm(change))
