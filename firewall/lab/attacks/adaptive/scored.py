"""Shadows, bars, dirt, drops ... searched for with the firewall's own scores, by one who has a copy of the bundle.

An evolution strategy over the random numbers behind a draw (see `firewall.lab.attacks.tape`). Some queries go to new
draws. The others go to neighbours of the best ones so far: each of these has a step size of its own, which falls where
neighbours are no better, and a draw whose step has become too short makes room for the next. What a query is spent on
doesn't depend on how many there will be, so a longer search begins as a shorter one does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from firewall.lab.attacks.adaptive.gate import Attempt, Gate
from firewall.lab.attacks.adaptive.whole import Found
from firewall.lab.attacks.physical import drawn, family, tape_of
from firewall.lab.attacks.tape import Tape

__all__ = ["ANY", "search_scores"]

Pixels = npt.NDArray[np.uint8]

#: All families that `any` stands for.
ANY = ("shadow", "two-bars", "dirt", "drops")

#: Random draws of each family at first, and later the share of queries that goes to new ones.
_FIRST, _FRESH = 40, 0.3
#: Draws that are refined side by side, and neighbours of one that are looked at in a row.
_KEPT, _ROW = 4, 8
#: Step of a draw's random numbers: at first, least, and what it is multiplied with after a row that brought nothing.
_STEP, _LEAST, _SHORTER = 0.1, 0.006, 0.6
#: A label that is not fooled is farther away than any suspicion.
_FAR = 1e3


@dataclass
class _Place:
    """A draw, how near it came (smaller is nearer), and how far its next neighbours lie."""

    name: str
    tape: Tape
    missed: float
    step: float = _STEP


def search_scores(
    gate: Gate,
    pixels: Pixels,
    names: Sequence[str],
    queries: int,
    seed: Sequence[int],
    lead: Callable[[Pixels], float],
) -> Found:
    """Search families of draws for one that is released wrongly.

    Args:
        gate: The firewall, with the right label; it has to be asked exhaustively for the suspicion to tell anything.
        pixels: Uint8 (h, w, 3).
        names: Keys of firewall.lab.datasets.obstructions.DRAWS, one at least.
        queries: After so many images it gives up. One that doesn't fool the classifier counts too, though nothing but
            the classifier looks at it.
        seed: What all random choices depend on.
        lead: By how much the right label leads in the classifier's logits, below 0 if another one does.

    Returns:
        The first success, or the draw that came nearest.
    """
    generator, until, numbers = np.random.default_rng([*seed, 11]), gate.queries + queries, dict.fromkeys(names, 0)
    best = Found(gate.ask(pixels), "search", None, 0)
    nearest, places = np.inf, list[_Place]()

    def look(name: str, tape: Tape) -> float:
        """How near a draw comes."""
        nonlocal best, nearest
        image = drawn(family(name), pixels, tape)
        ahead = lead(image)
        if ahead > 0:
            gate.queries += 1
            return _FAR + ahead
        attempt = gate.ask(image)
        missed = _missed(attempt)
        if attempt.wrong or missed < nearest:
            best, nearest = Found(attempt, "search", None, 0), missed
        return missed

    def fresh(name: str) -> None:
        tape = tape_of((*seed, names.index(name)), numbers[name])
        numbers[name] += 1
        places.append(_Place(name, tape, look(name, tape)))

    def going() -> bool:
        return gate.queries < until and not best.attempt.wrong

    while going():
        if min(numbers.values()) < _FIRST or generator.random() < _FRESH:
            fresh(min(numbers, key=numbers.__getitem__))
            continue
        places = _alive(places)
        place, better = places[int(generator.integers(min(_KEPT, len(places))))], False
        for _ in range(_ROW):
            if not going():
                break
            tape = place.tape.moved(place.step * 2 ** generator.uniform(-2, 0.5), generator)
            if (missed := look(place.name, tape)) < place.missed:
                place.tape, place.missed, better = tape, missed, True
        if not better:
            place.step *= _SHORTER
    return best


def _alive(places: Sequence[_Place]) -> list[_Place]:
    """The best that still have a step to go; if none is left, the best begins again with its first step."""
    ordered = sorted(places, key=lambda place: place.missed)
    alive = [place for place in ordered if place.step >= _LEAST][: 4 * _KEPT]
    if not alive:
        ordered[0].step = _STEP
        return ordered[:1]
    return alive


def _missed(attempt: Attempt) -> float:
    suspicion = attempt.verdict.suspicion
    return -1.0 if attempt.wrong else _FAR if suspicion is None else suspicion
