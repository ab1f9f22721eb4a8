"""Double masking: labels that no sticker of a given size can have changed.

After Xiang, Mahloujifar, Mittal, PatchCleanser (USENIX Security 2022). A set of square masks is *covering* for a patch
if, wherever the patch lies, one mask hides all of it; an image under that mask is the clean image under that mask. So:

* *One round.* A label that the classifier gives under every single mask is the label that it gives to the clean image
  under the mask that hides the patch. If the clean image has one label under all masks, no patch can make another label
  pass this test: it is released as it is, or withheld.
* *Two rounds.* An image that keeps its label under every two masks is *certified*: with any patch on it, the defence
  `recovered` still gives that label (their theorem 1).

What is certified: any change at all of the pixels within one square of `side` pixels of the network's input, parallel
to its axes, anywhere; so every sticker that such a square contains, of any shape. Not a longer and thinner one of the
same area, not two stickers, not glare or dirt over the whole sign. In the camera's image the square is smaller, since
resizing spreads a pixel over its neighbours: (side - 2) / input side of the region's width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from firewall.bundle import PatchSpec
from firewall.errors import UsageError

__all__ = ["BATCH", "Classify", "Masks", "masks_for", "starts", "stricter"]

#: Images for which memory is taken at a time.
BATCH = 64

Pixels = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]
#: Logits (N, classes) of images (N, H, W, 3) uint8.
Classify = Callable[[Pixels], npt.NDArray[np.float32]]


def starts(length: int, side: int, count: int) -> tuple[int, list[int]]:
    """How long `count` masks are on an axis of `length` pixels, and where each begins, so that every run of `side`
    pixels lies within one of them (their section 3.4)."""
    stride = math.ceil((length - side + 1) / count)
    mask = side + stride - 1
    places = sorted({min(index * stride, length - mask) for index in range(count)})
    return mask, places


@dataclass(frozen=True)
class Masks:
    """A covering set. side: of the patch. boxes: (top, left, height, width), pixels. fill: grey value under a mask."""

    side: int
    boxes: tuple[tuple[int, int, int, int], ...]
    fill: int

    def __len__(self) -> int:
        return len(self.boxes)

    def covered(self, image: Pixels, first: int, second: int) -> Pixels:
        """A copy of `image` (H, W, 3) under two masks, which may be the same."""
        copy: Pixels = image.copy()
        for index in (first, second):
            top, left, height, width = self.boxes[index]
            copy[top : top + height, left : left + width] = self.fill
        return copy

    def singles(self, image: Pixels, classify: Classify) -> Labels:
        """The label under each mask, (masks,)."""
        return self._labels(image, [(index, index) for index in range(len(self))], classify)

    def pairs(self, image: Pixels, classify: Classify) -> npt.NDArray[np.int64]:
        """The label under each two masks, (masks, masks), symmetric; single masks on the diagonal."""
        rows, columns = np.triu_indices(len(self))
        labels = np.empty((len(self), len(self)), np.int64)
        labels[rows, columns] = self._labels(image, list(zip(rows.tolist(), columns.tolist(), strict=True)), classify)
        labels[columns, rows] = labels[rows, columns]
        return labels

    def kept(
        self,
        image: Pixels,
        label: int,
        classify: Classify,
        rounds: int,
        expired: Callable[[], bool] = lambda: False,
    ) -> tuple[bool | None, int]:
        """Whether `label` is given under every mask (1 round), or under every two (2 rounds), and how many images were
        classified for it. Stops at the first batch that says no, and with None once `expired`. Two masks that cost the
        label most by themselves come first, so that a no comes early."""
        wanted = [(index, index) for index in range(len(self))]
        seen, margins = 0, list[npt.NDArray[np.float32]]()
        for number in range(rounds):
            if number:
                wanted = self._hardest_first(np.concatenate(margins))
            for logits in self._batches(image, wanted, classify):
                seen += len(logits)
                if (logits.argmax(axis=1) != label).any():
                    return False, seen
                if expired():
                    return None, seen
                if number == 0 and rounds == 2:
                    others = np.delete(logits, label, axis=1)
                    margins.append(logits[:, label] - others.max(axis=1, initial=-np.inf))
        return True, seen

    def _hardest_first(self, margins: npt.NDArray[np.float32]) -> list[tuple[int, int]]:
        """Every two masks. margins: of the label under each single one."""
        ones, twos = np.triu_indices(len(self), 1)
        order = (margins[ones] + margins[twos]).argsort(kind="stable")
        return list(zip(ones[order].tolist(), twos[order].tolist(), strict=True))

    def recovered(self, image: Pixels, classify: Classify, pairs: npt.NDArray[np.int64] | None = None) -> int:
        """The label that double masking gives (their algorithm 1). pairs: the labels under each two masks, if known."""
        singles = self.singles(image, classify) if pairs is None else np.diag(pairs)
        names, counts = np.unique(singles, return_counts=True)
        majority = int(names[counts.argmax()])
        for place in np.flatnonzero(singles != majority).tolist():
            if pairs is None:
                second = self._labels(image, [(place, other) for other in range(len(self))], classify)
            else:
                second = pairs[place]
            if (second == singles[place]).all():
                return int(singles[place])
        return majority

    def _labels(self, image: Pixels, chosen: list[tuple[int, int]], classify: Classify) -> Labels:
        return np.concatenate([one.argmax(axis=1) for one in self._batches(image, chosen, classify)]).astype(np.int64)

    def _batches(
        self, image: Pixels, chosen: list[tuple[int, int]], classify: Classify
    ) -> Iterator[npt.NDArray[np.float32]]:
        """Logits (N, classes) of up to BATCH copies each."""
        for start in range(0, len(chosen), BATCH):
            copies = [self.covered(image, one, two) for one, two in chosen[start : start + BATCH]]
            yield classify(np.stack(copies))


def masks_for(height: int, width: int, area: float, count: int = 6, fill: int = 128) -> Masks:
    """A covering set for square patches of up to `area` (0..1) of an image's area, `count` masks along each side.

    Raises UsageError for an area out of range or one whose masks would cover all of the image, and for fewer than two
    masks a side.
    """
    if not 0 < area < 1:
        raise UsageError(f"a patch's area must lie between 0 and 1 of the image's, got {area:g}; 0.02 is 2 %")
    if not 2 <= count <= 16:
        raise UsageError(f"masks along a side must be 2 to 16, got {count}")
    side = math.ceil(math.sqrt(area * height * width) - 1e-9)
    if side > min(height, width) // 2:
        raise UsageError(
            f"a patch of {area:g} of the area is {side} pixels wide; at most half of the image's {min(height, width)} "
            "can be told from the rest"
        )
    tall, tops = starts(height, side, count)
    wide, lefts = starts(width, side, count)
    return Masks(side, tuple((top, left, tall, wide) for top in tops for left in lefts), fill)


def stricter(first: PatchSpec | None, second: PatchSpec | None) -> PatchSpec | None:
    """What is certified if both have to be: the larger sticker, and two rounds if one of them asks for two. Masks are
    those of the second, a setting of whoever runs the firewall."""
    if first is None or second is None:
        return first or second
    return second.model_copy(update={"area": max(first.area, second.area), "rounds": max(first.rounds, second.rounds)})
