"""Attacks that see only what is released: one query after the other, until a wrong label goes out."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from firewall.errors import UsageError
from firewall.frame import Pixels
from firewall.lab.attacks.physical import Draw, as_input, blocks, certainty, drawn, family, tape_of
from firewall.screening import Firewall

__all__ = [
    "QUERIES",
    "Outcome",
    "Proposals",
    "Released",
    "first_release",
    "near_withheld",
    "random_draws",
    "surest_first",
    "what_goes_out",
]

#: An image (h, w, 3) uint8 -> the label that is released, or None where it is withheld: all that such an attacker sees.
Released = Callable[[Pixels], "int | None"]
#: Images to ask about. Each `send` tells what was released for the last one: the label, or None.
Proposals = Generator[Pixels, "int | None", None]

#: After so many queries an attack gives up.
QUERIES = 1000


@dataclass(frozen=True)
class Outcome:
    """How an attack on one image went.

    Attributes:
        label: The right one.
        queries: How many images were asked about.
        released: The wrong label that was released for the last of them; None: none was.
        pixels: That image, uint8 (h, w, 3); None: there is none.
    """

    label: int
    queries: int
    released: int | None = None
    pixels: Pixels | None = None

    def to_json(self) -> dict[str, Any]:
        """What a result row has of it, ready for JSON."""
        return {
            "label": self.label,
            "released": self.released is not None,
            "released_label": self.released,
            "queries": self.queries,
        }


def what_goes_out(firewall: Firewall) -> Released:
    """A firewall as whoever receives its labels sees it: neither scores nor reasons nor times.

    Args:
        firewall: Asked about each image as a whole.
    """

    def ask(pixels: Pixels) -> int | None:
        return firewall.screen(pixels).label

    return ask


def first_release(ask: Released, label: int, proposals: Proposals, queries: int = QUERIES) -> Outcome:
    """Ask about one image after the other, up to the first wrong label that is released.

    Args:
        ask: What is attacked; each call is a query.
        label: The right label.
        proposals: The images, such as `random_draws` gives them. If they end early, so does the attack.
        queries: After so many it gives up, 1 or more.

    Returns:
        The outcome.

    Raises:
        UsageError: `queries` is below 1.
    """
    if queries < 1:
        raise UsageError(f"queries is {queries}; an attack needs 1 or more")
    image = next(proposals, None)
    for number in range(1, queries + 1):
        if image is None:
            return Outcome(label, number - 1)
        answer = ask(image)
        if answer is not None and answer != label:
            return Outcome(label, number, answer, image)
        if number < queries:
            image = _next(proposals, answer)
    return Outcome(label, queries)


def _next(proposals: Proposals, answer: int | None) -> Pixels | None:
    """What is asked about after that answer; None: nothing is left."""
    try:
        return proposals.send(answer)
    except StopIteration:
        return None


def random_draws(name: str, crop: Pixels, seed: tuple[int, ...]) -> Proposals:
    """Random draws of one family without an end, whatever was released.

    Args:
        name: A key of DRAWS.
        crop: Uint8 (h, w, 3).
        seed: What they depend on, 0 or more each. Where they are those of `Physical` and the crop's place, it chooses
            from the same draws.

    Raises:
        UsageError: There is no such family.
    """
    return _random(family(name), crop, seed)


def _random(draw: Draw, crop: Pixels, seed: tuple[int, ...]) -> Proposals:
    number = 0
    while True:
        yield drawn(draw, crop, tape_of(seed, number))
        number += 1


def near_withheld(
    name: str, crop: Pixels, seed: tuple[int, ...], *, tries: int = 8, deviation: float = 0.05
) -> Proposals:
    """Random draws of one family; where one is withheld, its neighbours are asked about before the next one.

    A draw that is withheld has often taken the label away already, and was only noticed; a neighbour may not be.

    Args:
        name: A key of DRAWS.
        crop: Uint8 (h, w, 3).
        seed: What they depend on, 0 or more each.
        tries: How many neighbours, 1 or more.
        deviation: How far they lie, as of `Tape.moved`.

    Raises:
        UsageError: There is no such family, or no neighbour is asked for.
    """
    if tries < 1 or not deviation > 0:
        raise UsageError(f"tries is {tries}, deviation {deviation}; allowed are tries >= 1 and deviation > 0")
    return _near(family(name), crop, seed, tries, deviation)


def _near(draw: Draw, crop: Pixels, seed: tuple[int, ...], tries: int, deviation: float) -> Proposals:
    number, generator = 0, np.random.default_rng([*seed, 2**31])
    while True:
        tape = tape_of(seed, number)
        answer = yield drawn(draw, crop, tape)
        number += 1
        for _ in range(tries if answer is None else 0):
            moved = tape.moved(deviation, generator)
            # From a neighbour that is withheld too the search goes on; one that gets the right label is left.
            if (yield drawn(draw, crop, moved)) is None:
                tape = moved


def surest_first(
    name: str, crop: Pixels, label: int, seed: tuple[int, ...], model: nn.Module, draws: int = QUERIES
) -> Proposals:
    """The draws of one family, those first that a network of the attacker's own is surest of to be something else.

    For an attacker who has the classifier, or one like it, and sees of the firewall only what it releases. Draws that
    don't fool that network are left out.

    Args:
        name: A key of DRAWS.
        crop: Uint8 (h, w, 3).
        label: The right label.
        seed: What the draws depend on, 0 or more each.
        model: The attacker's network, in evaluation mode: float (n, 3, h, w) in 0..1 -> logits, such as
            `Resized(load_torch("default"), 48, 48)`. Asking it costs no query.
        draws: How many there are, 1 or more.

    Raises:
        UsageError: There is no such family, or no draw.
    """
    if draws < 1:
        raise UsageError(f"draws is {draws}; an attack needs 1 or more")
    draw, chosen = family(name), []
    for numbers in blocks(range(draws)):
        versions = [drawn(draw, crop, tape_of(seed, number)) for number in numbers]
        with torch.no_grad():
            values = model(as_input(versions))
        labels = values.argmax(1).new_full((len(values),), label)
        sure, wrong = certainty(values, labels).tolist(), (values.argmax(1) != labels).tolist()
        chosen += [(-sure[place], number) for place, number in enumerate(numbers) if wrong[place]]
    return _listed(draw, crop, seed, [number for _, number in sorted(chosen)])


def _listed(draw: Draw, crop: Pixels, seed: tuple[int, ...], numbers: list[int]) -> Proposals:
    for number in numbers:
        yield drawn(draw, crop, tape_of(seed, number))
