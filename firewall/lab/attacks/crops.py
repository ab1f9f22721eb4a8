"""Attack crops at their own size, as an attacker in front of the camera would."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from firewall.errors import DataError
from firewall.lab.attacks.attack import Attack
from firewall.lab.attacks.bounded import Bounded
from firewall.lab.attacks.channelled import Channelled
from firewall.lab.attacks.channels import parse_channel, sent
from firewall.lab.attacks.registry import named
from firewall.lab.attacks.resampling import Resized, resized
from firewall.lab.attacks.rounding import quantise, to_input
from firewall.lab.models.sign_classifier import INPUT_SIZE
from firewall.transforms import resize

__all__ = ["attack_crops", "send_crops"]

Pixels = npt.NDArray[np.uint8]


def attack_crops(
    attack_name: str,
    model: nn.Module,
    crops: Sequence[Pixels],
    labels: Sequence[int] | npt.NDArray[np.int64],
    seed: int,
    *,
    size: tuple[int, int] = (INPUT_SIZE, INPUT_SIZE),
) -> list[Pixels]:
    """Crops after an attack on the classifier, each at its own size, as they are stored and given to `Firewall.screen`.

    The attack changes the crop's own pixels, a channel is applied to these, and the classifier sees them through the
    edge's resize. With `@input` in its name the crop is brought to the network's size first. Crops of equal size
    are attacked together, so a crop's random numbers depend on the crops of its size before it: to resume, cut the
    list into the same parts.

    Args:
        attack_name: As `by_name` takes it, channels included.
        model: The classifier: float (N, 3, height, width) in 0..1 -> logits; such as `load_torch("default")`.
        crops: Uint8 (h, w, 3) each, of any size.
        labels: The classes to move away from, as the network counts them, one for each crop.
        seed: What every random choice depends on.
        size: Width and height of the network's input, in pixels.

    Returns:
        Uint8 (h, w, 3) each, in the order of `crops`, of the same sizes; with `@input` of the network's. After the
        channel, where there is one. The attack need not succeed on every crop.

    Raises:
        UsageError: There is no such attack.
        DataError: A crop or label doesn't fit.
        MissingExtraError: The codec of a channel is not installed.
        EngineError: The network gives no usable logits or gradients.
    """
    wanted = named(attack_name)
    attack = wanted.attack
    labels = np.asarray(labels)
    if labels.shape != (len(crops),) or (len(crops) and labels.dtype.kind not in "iu"):
        raise DataError(f"{len(crops)} crops need as many labels, whole numbers; got {labels.dtype} {labels.shape}")
    _check(crops)
    if wanted.at_input:
        crops = [resize(crop, *size) for crop in crops]
    Resized(model, *size)  # whether the size makes sense
    groups: dict[tuple[int, ...], list[int]] = {}
    for number, crop in enumerate(crops):
        groups.setdefault(crop.shape, []).append(number)
    parts = [
        _Part(numbers[start : start + attack.chunk], _seed(seed, shape, start))
        for shape, numbers in groups.items()
        for start in range(0, len(numbers), attack.chunk)
    ]
    found: dict[int, Pixels] = {}
    for some in _together(parts, attack.chunk) if _in_parts(attack) else [[part] for part in parts]:
        images = [to_input(np.stack([crops[number] for number in part.numbers])) for part in some]
        aims = torch.from_numpy(labels[[number for part in some for number in part.numbers]].astype(np.int64))
        results = _attacked(attack, model, images, aims, [part.seed for part in some], size)
        for part, result in zip(some, results, strict=True):
            found.update(zip(part.numbers, quantise(result), strict=True))
    return [found[number] for number in range(len(crops))]


def send_crops(channel_name: str, crops: Sequence[Pixels], seed: int) -> list[Pixels]:
    """Crops after a channel alone: what benign ones have to go through as well before the two are compared.

    Args:
        channel_name: As `parse_channel` takes it, such as `jpeg-75` or `blur+h264-23`.
        crops: Uint8 (h, w, 3) each, of any size.
        seed: What random choices depend on, with the crop's place.

    Returns:
        Uint8 (h, w, 3) each, in the order and of the sizes of `crops`.

    Raises:
        UsageError: There is no such channel.
        DataError: A crop doesn't fit.
        MissingExtraError: The codec is not installed.
    """
    channel = parse_channel(channel_name)
    _check(crops)
    return [sent(channel, crop[np.newaxis], _seed(seed, crop.shape, number))[0] for number, crop in enumerate(crops)]


@dataclass(frozen=True)
class _Part:
    """Crops of one size, by their numbers, and the seed of their attack."""

    numbers: list[int]
    seed: int


def _in_parts(attack: Attack) -> bool:
    """Whether crops of several sizes can be attacked together."""
    return isinstance(attack, Bounded) or (isinstance(attack, Channelled) and attack.blind and _in_parts(attack.attack))


def _together(parts: list[_Part], most: int) -> Iterator[list[_Part]]:
    """Parts of no more than that many crops in all, in order."""
    some: list[_Part] = []
    for part in parts:
        if some and sum(len(each.numbers) for each in some) + len(part.numbers) > most:
            yield some
            some = []
        some.append(part)
    if some:
        yield some


def _attacked(
    attack: Attack, model: nn.Module, images: list[Tensor], labels: Tensor, seeds: list[int], size: tuple[int, int]
) -> list[Tensor]:
    if isinstance(attack, Channelled) and attack.blind and _in_parts(attack):
        before = _attacked(attack.attack, model, images, labels, seeds, size)
        return [attack.after(part, seed) for part, seed in zip(before, seeds, strict=True)]
    if isinstance(attack, Bounded):
        return attack.run_parts(model, images, labels, seeds, lambda part: resized(part, *size))
    return [attack.run(Resized(model, *size), images[0], labels, seeds[0])]


def _check(crops: Sequence[Pixels]) -> None:
    for number, crop in enumerate(crops):
        if crop.dtype != np.uint8 or crop.ndim != 3 or crop.shape[2] != 3 or 0 in crop.shape:
            raise DataError(f"crop {number} is {crop.dtype} {crop.shape}; a crop is uint8 (h, w, 3), not empty")


def _seed(seed: int, shape: tuple[int, ...], start: int) -> int:
    """A seed of each chunk's own."""
    digest = hashlib.sha256(f"{seed}:{shape}:{start}".encode()).digest()
    return int.from_bytes(digest[:4], "big")
