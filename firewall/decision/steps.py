"""Masks in two steps: within a mask that is unsure of a label, finer masks are asked. Proof: docs/certificates.md.

The large masks are `masking.Masks`, and what a mask says is `dial`'s. Within a large mask that doesn't name the label
surely, finer masks hide every square of `side` pixels that this large mask hides. *Asked* are all large masks, and the
finer ones within those that are unsure. Two conditions come from it, each the mirror of the other as in one step:

* *unopposed*: no mask that is asked objects to the label;
* *assured*: each large mask names the label surely, or doesn't object to it and all finer ones within it are sure.

Rule `object` releases what is unopposed and calls certified what is assured; rule `agree` releases what is assured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from firewall.decision.dial import Dial, against, named
from firewall.decision.masking import Classify, Kept, Masks, starts

__all__ = ["Levels", "assured", "finer_masks", "kept_in_steps", "unopposed"]

Pixels = npt.NDArray[np.uint8]
_Floats = npt.NDArray[np.float64]
_Flags = npt.NDArray[np.bool_]


class Levels(NamedTuple):
    """What the masks say of one label, as of dial.named and dial.against.

    Attributes:
        named: (..., masks), of each large mask.
        against: (..., masks), of each large mask.
        finer_named: (..., masks), the least of the finer masks within each.
        finer_against: (..., masks), the most of the finer masks within each.
    """

    named: _Floats
    against: _Floats
    finer_named: _Floats
    finer_against: _Floats


def unopposed(dial: Dial, levels: Levels) -> _Flags:
    """Where no mask that is asked objects: (...)."""
    within = dial.sure(levels.named) | ~dial.objects(levels.finer_against)
    return np.asarray((~dial.objects(levels.against) & within).all(axis=-1))


def assured(dial: Dial, levels: Levels) -> _Flags:
    """Where each large mask names the label surely, or leaves that to its finer ones, which do: (...)."""
    within = ~dial.objects(levels.against) & dial.sure(levels.finer_named)
    return np.asarray((dial.sure(levels.named) | within).all(axis=-1))


def finer_masks(masks: Masks, within: Iterable[int], along: int) -> Masks:
    """The finer masks within some large ones, each once.

    Args:
        masks: The large masks.
        within: Numbers of large masks, 0-based.
        along: The most finer masks along each side of a large one.

    Returns:
        Masks: every square of `side` pixels that lies within one of those large masks lies within one of these.
    """
    boxes = dict[tuple[int, int, int, int], None]()
    for number in within:
        top, left, height, width = masks.boxes[number]
        tall, tops = starts(height, masks.side, along)
        wide, lefts = starts(width, masks.side, along)
        boxes |= dict.fromkeys((top + down, left + right, tall, wide) for down in tops for right in lefts)
    return replace(masks, boxes=tuple(boxes))


def kept_in_steps(
    masks: Masks,
    along: int,
    image: Pixels,
    label: int,
    classify: Classify,
    dial: Dial,
    expired: Callable[[], bool] = lambda: False,
) -> Kept:
    """Whether a label passes in two steps. Stops at the first batch in which it doesn't.

    Args:
        masks: The large masks.
        along: Finer masks along each side of an unsure one.
        image: (H, W, 3) uint8.
        label: The class of the image without masks.
        classify: Gives the logits of a batch.
        dial: What a mask has to say of the label.
        expired: Asked after each batch whether the time is up.

    Returns:
        Whether the label passes.

    Raises:
        EngineError: A logit is not finite.
    """
    seen, unsure = 0, list[int]()
    for logits in masks.each(image, classify):
        if dial.objects(against(logits, label)).any():
            return Kept(False, False, seen + len(logits))
        unsure += (seen + np.flatnonzero(~dial.sure(named(logits, label)))).tolist()
        seen += len(logits)
        if expired():
            return Kept(None, False, seen)
    sure = True
    for logits in finer_masks(masks, unsure, along).each(image, classify):
        seen += len(logits)
        sure = sure and bool(dial.sure(named(logits, label)).all())
        if dial.objects(against(logits, label)).any() or not (sure or dial.rule == "object"):
            return Kept(False, False, seen)
        if expired():
            return Kept(None, False, seen)
    return Kept(True, sure, seen)
