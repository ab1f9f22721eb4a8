"""Physical attacks: of many random shadows, lights, stickers or poses, the one with the most confident wrong label."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from firewall.errors import UsageError
from firewall.frame import Pixels
from firewall.lab.attacks.attack import ScoreBased, under_attack
from firewall.lab.attacks.criteria import TOP_1, Criterion
from firewall.lab.attacks.rounding import quantise, to_input
from firewall.lab.attacks.tape import Tape
from firewall.lab.datasets.obstructions import DRAWS, Draw

__all__ = ["Draw", "Physical", "as_input", "blocks", "certainty", "drawn", "family", "tape_of"]

Scores = npt.NDArray[np.float64]

#: Standard deviation of the moves of a draw's random numbers while it is refined: the first and the smallest.
_MOVES = (0.1, 0.01)
#: Draws that go through the network together.
_BLOCK = 50
#: Neighbours that are tried together while a draw is refined.
_NEIGHBOURS = 20


@dataclass(frozen=True)
class Physical(ScoreBased):
    """The most confident of many random draws of one family. Black box by scores.

    Of the draws that meet the criterion, the result is the one whose first wrong class has the highest probability; if
    none does, the one that comes nearest. The first n draws are the same whatever `draws` is, so more draws never hurt
    the attacker. With shadows this is the random search with which Zhong et al., "Shadows can be dangerous", 2022,
    start their particle swarm.

    Args:
        family: A key of `firewall.lab.datasets.obstructions.DRAWS`.
        draws: How many random draws there are, 1 or more.
        refined: How many neighbours of the best draw are tried afterwards, 0 or more: a local search over the random
            numbers behind it, with falling step size.
        criterion: What counts as success.
        name: The kind of attack, as cards have it.

    Raises:
        UsageError: A parameter is out of its range.
    """

    family: str
    draws: int = 300
    refined: int = 0
    criterion: Criterion = TOP_1
    name: str = "physical"

    def __post_init__(self) -> None:
        family(self.family)
        if self.draws < 1 or self.refined < 0:
            raise UsageError(
                f"physical: draws {self.draws}, refined {self.refined}; allowed are draws >= 1 and refined >= 0"
            )

    def run(self, model: nn.Module, images: Tensor, labels: Tensor, seed: int) -> Tensor:
        """See Attack.run. The draws depend on the seed and on the image's place in the batch."""
        with under_attack(model, images, labels, gradients=False) as logits:
            if len(images) == 0:
                return images.detach().clone()
            grey = images.shape[1] == 1
            found = []
            for place, image in enumerate(quantise(images)):
                crop, label = np.repeat(image, 3, axis=2) if grey else image, labels[place : place + 1]

                def scores(versions: Sequence[Pixels], label: Tensor = label) -> Scores:
                    values = logits(as_input(versions, grey=grey).to(images)).double()
                    own = label.expand(len(values))
                    met = self.criterion.met(values, own)
                    rank = torch.where(met, certainty(values, own), self.criterion.gap(values, own))
                    return np.asarray(torch.stack([met.double(), rank], dim=1).cpu().numpy(), np.float64)

                found.append(self._best(crop, scores, (seed, place)))
            return torch.cat([as_input([image], grey=grey) for image in found]).to(images)

    def _best(self, crop: Pixels, scores: Callable[[Sequence[Pixels]], Scores], seed: tuple[int, int]) -> Pixels:
        """The crop's best version. scores: versions (n) -> (n, 2), success and rank."""
        draw = family(self.family)
        best, highest, kept = crop, (-1.0, -np.inf), Tape(np.random.default_rng(0))

        def tried(tapes: Sequence[Tape]) -> bool:
            """Whether one of them gives a better version."""
            nonlocal best, highest, kept
            versions = [drawn(draw, crop, tape) for tape in tapes]
            values = scores(versions)
            place = int(np.lexsort((values[:, 1], values[:, 0]))[-1])
            if (now := (float(values[place, 0]), float(values[place, 1]))) <= highest:
                return False
            best, highest, kept = versions[place], now, tapes[place]
            return True

        for numbers in blocks(range(self.draws)):
            tried([tape_of(seed, number) for number in numbers])
        generator, deviation = np.random.default_rng([*seed, self.draws, 1]), _MOVES[0]
        for numbers in blocks(range(self.refined), _NEIGHBOURS):
            if not tried([kept.moved(deviation, generator) for _ in numbers]):
                deviation = max(deviation / 2, _MOVES[1])
        return best


def family(name: str) -> Draw:
    """The random draw of that name.

    Raises:
        UsageError: There is none; the message lists the names.
    """
    try:
        return DRAWS[name]
    except KeyError:
        raise UsageError(f"no family of draws is named {name!r}; there are {', '.join(DRAWS)}") from None


def certainty(logits: Tensor, labels: Tensor) -> Tensor:
    """The log odds of the first wrong class against all other classes, the label among them; rises with its
    probability, and does not saturate as that does.

    Args:
        logits: (N, K), K 2 or more.
        labels: Int64 (N,).

    Returns:
        (N,).
    """
    others = logits.scatter(1, labels[:, None], -torch.inf)
    first = others.argmax(1, keepdim=True)
    return logits.gather(1, first)[:, 0] - logits.scatter(1, first, -torch.inf).logsumexp(1)


def tape_of(seed: tuple[int, ...], number: int) -> Tape:
    """What the draw of that number is drawn with.

    Args:
        seed: Numbers that it depends on, 0 or more each.
        number: 0 or more.
    """
    return Tape(np.random.default_rng([*seed, number]))


def drawn(draw: Draw, pixels: Pixels, tape: Tape) -> Pixels:
    """One random version of an image, by the numbers of a tape.

    Args:
        draw: One of DRAWS.
        pixels: Uint8 (h, w, 3).
        tape: It holds afterwards what was asked of it.

    Returns:
        Uint8 (h, w, 3).
    """
    return draw(pixels, cast("np.random.Generator", tape))


def blocks(numbers: range, most: int = _BLOCK) -> Iterator[range]:
    """A range in parts of that length, the last one perhaps shorter: as many versions as are made together."""
    for start in range(0, len(numbers), most):
        yield numbers[start : start + most]


def as_input(images: Sequence[Pixels], *, grey: bool = False) -> Tensor:
    """Versions of one image as a network's input.

    Args:
        images: Uint8 (h, w, 3) each, all of one size.
        grey: The network takes one channel.

    Returns:
        Float32 (n, 3 or 1, h, w) in 0..1.
    """
    if grey:
        return to_input(np.stack([cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., np.newaxis] for image in images]))
    return to_input(np.stack(images))
