"""Tracks as an attacker makes them: each frame attacked, or one thing that stays on the sign in all of them.

    NAME[@input][@CHANNEL...][@aimed]    each frame attacked by itself, see firewall.lab.attacks.registry
    DRAW                                 a random shadow, bar, beam ..., the same in all frames: the most confident of N

With `aimed` all frames of a track are to be named with one wrong class, since a label that changes from frame to frame
is never confirmed: the class that most of them get by the same attack without an aim. A draw is drawn in shares of the
image's sides, so that it stays at its place of the sign; of N the one is taken that fools the classifier to one wrong
class in the most frames, and of these the most confident one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn

from firewall.errors import UsageError
from firewall.lab.attacks import attack_crops, by_name
from firewall.lab.attacks.physical import drawn, family, tape_of
from firewall.lab.attacks.rounding import to_input
from firewall.lab.datasets.obstructions import DRAWS
from firewall.lab.evaluation.crops.attacked import kept
from firewall.lab.evaluation.crops.track_images import FrameTracks
from firewall.lab.models import Protected
from firewall.transforms import resize

__all__ = ["attacked_tracks", "check_tracks"]

Pixels = npt.NDArray[np.uint8]

_AIMED = "@aimed"
#: Draws whose frames go through the network together.
_TOGETHER = 20


class _Toward(nn.Module):
    """A network as one with two classes: the aim is the second, and whatever else comes first is the first.

    To leave the first of these two is to reach the aim, so every attack can be aimed.

    Args:
        network: Images -> logits (N, classes).
        aim: The class.
    """

    def __init__(self, network: nn.Module, aim: int) -> None:
        super().__init__()
        self.network, self.aim = network, aim

    def forward(self, images: Tensor) -> Tensor:
        """(N, 2)."""
        logits = self.network(images)
        others = torch.cat([logits[:, : self.aim], logits[:, self.aim + 1 :]], 1)
        return torch.stack([others.amax(1), logits[:, self.aim]], 1)


def check_tracks(names: Sequence[str], classifier: Protected) -> None:
    """Look at the names before hours of work begin.

    Args:
        names: Of attacks on tracks.
        classifier: To be attacked.

    Raises:
        UsageError: There is none, one is unknown or named twice, or needs gradients that the classifier doesn't give.
    """
    if not names or len(set(names)) < len(names):
        raise UsageError(f"--attacks takes one name or more, each once, with commas; got {', '.join(names) or 'none'}")
    for name in names:
        if not _fixed(name) and by_name(name.removesuffix(_AIMED)).needs_gradient and not classifier.differentiable:
            raise UsageError(
                f"the classifier {classifier.name} gives no gradients, which {name} needs; choose draws such as "
                f"{', '.join(list(DRAWS)[:4])}"
            )


def attacked_tracks(
    name: str, classifier: Protected, tracks: FrameTracks, folder: Path, seed: int, draws: int
) -> FrameTracks:
    """The tracks as an attack makes them; those that `folder` holds are not made again.

    Args:
        name: Of the attack, see the module.
        classifier: To be attacked.
        tracks: Tracks whose frames it names right.
        folder: Each track is a pack there, named by the SHA-256 of what it was made of.
        seed: Of the attack's random numbers.
        draws: N of "the most confident of N".

    Returns:
        The same tracks, attacked.

    Raises:
        UsageError: There is no such attack.
        DataError: There is no room.
        EngineError: The classifier gives no usable outputs.
    """
    plain = None
    if name.endswith(_AIMED):
        base = name.removesuffix(_AIMED)
        plain = attacked_tracks(base, classifier, tracks, folder.parent / base, seed, draws).crops.images
    images: list[Pixels] = []
    for number in track(range(len(tracks)), f"attacking: {name}", transient=True, console=Console(stderr=True)):
        frames = tracks.take([number]).crops
        label, where = int(frames.labels[0]), slice(number * tracks.length, (number + 1) * tracks.length)
        make: Callable[[int], list[Pixels]]
        if _fixed(name):
            # Not the seed of the images to be stored: the first draws are the same, however many there are.
            own, first = f"{name} of {draws}", (seed, int(frames.groups[0]))
            make = partial(_most_confident, name, classifier, frames.images, label, first, draws)
        else:
            own = name
            make = partial(_each, name, classifier, frames.images, label, None if plain is None else plain[where])
        images += kept(own, classifier, frames, folder, seed, make)
    return tracks.changed(images)


def _fixed(name: str) -> bool:
    return name in DRAWS


def _each(
    name: str, classifier: Protected, frames: list[Pixels], label: int, plain: list[Pixels] | None, seed: int
) -> list[Pixels]:
    size, labels = (classifier.width, classifier.height), [label] * len(frames)
    network: nn.Module = classifier.network
    if plain is not None:
        network, labels = _Toward(network, _aim(classifier, plain, label)), [0] * len(frames)
    return attack_crops(name.removesuffix(_AIMED), network.eval(), frames, labels, seed, size=size)


def _aim(classifier: Protected, images: list[Pixels], label: int) -> int:
    """The wrong class that most images get; of those that as many get, and if none gets one, the most likely one."""
    logits = torch.from_numpy(classifier.logits(np.stack([classifier.prepare(image) for image in images])))
    own = logits.double().log_softmax(1).mean(0)
    return _commonest(logits.argmax(1), own, label)[0]


def _commonest(named: Tensor, own: Tensor, label: int) -> tuple[int, float]:
    """The wrong class that comes first in the most frames, and of these the most probable one; how many these are."""
    counts = torch.bincount(named, minlength=own.shape[0]).double()
    counts[label] = -1.0
    most = counts.max()
    return int(torch.where(counts == most, own, -torch.inf).argmax()), float(most)


def _most_confident(
    name: str,
    classifier: Protected,
    frames: list[Pixels],
    label: int,
    first: tuple[int, ...],
    draws: int,
    _seed: int,
) -> list[Pixels]:
    draw, best, most = family(name), frames, (-1.0, -np.inf)
    for start in range(0, draws, _TOGETHER):
        numbers = range(start, min(start + _TOGETHER, draws))
        # A tape gives each frame the same numbers, as shares of its own sides.
        made = [[drawn(draw, frame, tape_of(first, number)) for frame in frames] for number in numbers]
        seen = np.stack([resize(image, classifier.width, classifier.height) for images in made for image in images])
        with torch.no_grad():
            logits = classifier.network(to_input(seen)).double()
        values = logits.log_softmax(1).reshape(len(made), len(frames), -1)
        named = values.argmax(2)
        for images, own, seen_as in zip(made, values.mean(1), named, strict=True):
            aim, count = _commonest(seen_as, own, label)
            if (worth := (count, float(own[aim]))) > most:
                best, most = images, worth
    return best
