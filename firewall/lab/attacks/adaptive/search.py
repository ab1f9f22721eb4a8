"""Attacks without gradients: some that see what is released and no more, and one that sees suspicion and logits.

Both try a random change, keep it if it brings them nearer, and mix new ones into it (as Square and the evolution
strategies of decision-based attacks do). What "nearer" means is all that tells them apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from firewall.errors import UsageError
from firewall.lab.attacks.adaptive.ball import Ball
from firewall.lab.attacks.adaptive.blind import search_draws, walk_boundary
from firewall.lab.attacks.adaptive.gate import Attempt, Gate
from firewall.lab.attacks.adaptive.proposals import SUBSPACES, Change, changed, draw
from firewall.lab.attacks.adaptive.scored import ANY, search_scores
from firewall.lab.attacks.adaptive.whole import Found
from firewall.lab.datasets.obstructions import DRAWS

__all__ = ["BOUNDARY", "EVERY", "Search", "decide", "search"]

Pixels = npt.NDArray[np.uint8]
#: How near an attempt came; larger is nearer.
Nearness = Callable[[Attempt], float]

_FRESH, _PATIENCE = 0.35, 60

#: The walk along the border of what is released wrongly.
BOUNDARY = "boundary"
#: All of `scored.ANY`.
EVERY = "any"


@dataclass(frozen=True)
class Search:
    """How long an attack without gradients tries.

    Args:
        queries: How many images are shown to the firewall at most, 1 or more.
        subspace: One of `proposals.SUBSPACES`, or a family of draws, a key of
            firewall.lab.datasets.obstructions.DRAWS; for `decide` also BOUNDARY, for `search` also EVERY.

    Raises:
        UsageError: A parameter is out of its range.
    """

    queries: int = 1000
    subspace: str = "low-frequency"

    def __post_init__(self) -> None:
        if self.queries < 1 or self.subspace not in (*SUBSPACES, BOUNDARY, *DRAWS, EVERY):
            raise UsageError(
                f"queries {self.queries}, subspace {self.subspace}; allowed are queries >= 1 and the subspaces "
                f"{', '.join((*SUBSPACES, BOUNDARY, *DRAWS, EVERY))}"
            )

    @property
    def families(self) -> tuple[str, ...]:
        """The families of draws that are searched; none where random changes are."""
        return ANY if self.subspace == EVERY else (self.subspace,) if self.subspace in DRAWS else ()

    @property
    def methods(self) -> tuple[str, ...]:
        """Which methods the subspace is for; none: all of them."""
        if self.subspace == BOUNDARY:
            return ("decision",)
        return ("search",) if self.subspace == EVERY else ("search", "decision") if self.families else ()


def decide(
    gate: Gate, pixels: Pixels, ball: Ball, settings: Search, seed: Sequence[int], others: Iterator[Pixels]
) -> Found:
    """Attack by what is released alone: the right label, a wrong one, or nothing.

    A label that is withheld tells a little: the change does something. From there it goes on. Draws and the walk: see
    firewall.lab.attacks.adaptive.blind.

    Args:
        gate: The firewall, with the right label.
        pixels: Uint8 (h, w, 3).
        ball: What is allowed; a draw keeps to no norm.
        settings: How long to try.
        seed: What all random choices depend on.
        others: Pictures of other signs of the same shape, for the walk.

    Returns:
        The first success, or the candidate that came nearest.
    """
    if settings.subspace in DRAWS:
        return search_draws(gate, pixels, settings.subspace, settings.queries, seed)
    if settings.subspace == BOUNDARY:
        return walk_boundary(gate, pixels, ball, settings.queries, seed, others)
    return _climb(gate, pixels, ball, settings, seed, lambda found: 0.0 if found.verdict.released else 1.0, "decision")


def search(
    gate: Gate,
    pixels: Pixels,
    ball: Ball,
    settings: Search,
    seed: Sequence[int],
    behind: Callable[[Pixels], float],
    start: Found | None = None,
) -> Found:
    """Attack by the firewall's own suspicion and the classifier's logits, as one who has a copy of the bundle can.

    Args:
        gate: The firewall, with the right label; it has to be asked exhaustively for the suspicion to tell anything.
        pixels: Uint8 (h, w, 3).
        ball: What is allowed.
        settings: How long to try.
        seed: What all random choices depend on.
        behind: By how much the right label leads in the classifier's logits, below 0 if another one does.
        start: Where to start from, such as the best that gradients came to; not of draws.

    Returns:
        The first success, or the candidate that came nearest.
    """
    if settings.families:
        return search_scores(gate, pixels, settings.families, settings.queries, seed, behind)

    def nearness(found: Attempt) -> float:
        suspicion = found.verdict.suspicion
        alarm = 1e3 if suspicion is None else max(suspicion, 0.0)
        return -(max(behind(found.pixels) + 0.1, 0.0) + alarm)

    return _climb(gate, pixels, ball, settings, seed, nearness, "search", start)


def _climb(
    gate: Gate,
    pixels: Pixels,
    ball: Ball,
    settings: Search,
    seed: Sequence[int],
    nearness: Nearness,
    name: str,
    start: Found | None = None,
) -> Found:
    generator = np.random.default_rng([*seed, 7])
    subspace, until = settings.subspace, gate.queries + settings.queries
    change: Change = np.zeros(pixels.shape, np.float32)
    first = gate.ask(pixels) if start is None else start.attempt
    if start is not None:
        change = start.attempt.pixels.astype(np.float32) - pixels
    best, level, idle = first, nearness(first), 0
    while gate.queries < until and not best.wrong:
        fresh = draw(pixels, ball, subspace, generator)
        lost = idle >= _PATIENCE and start is None  # a dead end
        if lost or not change.any() or generator.random() < _FRESH:
            tried = fresh
        else:
            share = np.float32(2 ** generator.uniform(-4, 0.5))
            tried = change + share * fresh
            if generator.random() < 0.3:
                tried = tried * np.float32(generator.uniform(0.6, 1))
        found = gate.ask(changed(pixels, tried, ball))
        now = nearness(found)
        if found.wrong or now > level or (now == level and level > 0) or lost:
            idle = 0 if found.wrong or now > level or lost else idle + 1
            best, level, change = found, now, tried
        else:
            idle += 1
    return Found(best, name, None, 0)
