"""The gradient attack on one image: each method in turn, until the real firewall releases a wrong label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from firewall.errors import UsageError
from firewall.lab.attacks.adaptive.ball import Ball
from firewall.lab.attacks.adaptive.descent import WAYS, descend
from firewall.lab.attacks.adaptive.fooling import fool
from firewall.lab.attacks.adaptive.gate import Attempt, Gate
from firewall.lab.attacks.adaptive.picture import Picture

__all__ = ["Found", "Walk", "walk"]

Pixels = npt.NDArray[np.uint8]

#: Candidates are shown to the real firewall if their largest demand is below this: the copies that a step looks at are
#: a sample, and what has no gradient is not in the picture at all.
_WORTH_ASKING = 0.5
#: At the last step of a way everything that fools the classifier is shown.
_MOST_AT_LAST = 4


@dataclass(frozen=True)
class Walk:
    """Budget of the gradient attack.

    Args:
        ways: Methods, some of `descent.WAYS`, in the order in which they are tried.
        steps: Steps of each method, 1 or more.
        restarts: Starts for each target, 1 or more: an image that fools the classifier alone, the image itself, and
            then random ones.
        targets: How many of the most likely wrong classes are aimed at, 1 or more.
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


@dataclass(frozen=True, eq=False)
class Found:
    """What an attack has come to.

    Args:
        attempt: The image that came nearest, or a success.
        way: How it was found.
        target: The class that was aimed at; None: none.
        steps: Steps by gradient, all ways together.
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
    centre = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float().div(255)
    fooled = fool(picture, centre, gate.label, ball, settings.targets)
    best, taken = Found(gate.ask(pixels), "none", None, 0), 0
    if not fooled.any:  # no label but the right one can be released
        return best
    aims, plain = fooled.aims.repeat(settings.restarts), centre.expand(len(fooled.aims), -1, -1, -1)
    for number, way in enumerate(settings.ways):
        generator = torch.Generator().manual_seed(_number([*seed, number]))
        random = ball.start(centre, max(0, settings.restarts - 2) * len(plain), generator)
        starts = torch.cat([fooled.points, plain, random])[: len(aims)]
        turns = descend(picture, way, ball, centre, aims, starts, most=settings.most, generator=generator)
        for turn, now in zip(range(settings.steps + 1), turns, strict=False):
            taken += turn > 0
            last = turn == settings.steps
            order = torch.where(now.fooled, now.alarm, torch.inf).argsort()
            for place in order[: _MOST_AT_LAST if last else len(order)].tolist():
                if not bool(now.fooled[place]) or (not last and float(now.alarm[place]) > _WORTH_ASKING):
                    continue
                found = Found(gate.ask(ball.rounded(now.points[place], pixels)), way, int(aims[place]), taken)
                if found.attempt.wrong:
                    return found
                if best.way == "none" or found.attempt.rank > best.attempt.rank:
                    best = found
    return Found(best.attempt, best.way, best.target, taken)


def _number(seed: Sequence[int]) -> int:
    return int(np.random.SeedSequence(list(seed)).generate_state(1, np.uint64)[0] >> 1)
