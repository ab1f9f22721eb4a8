"""Double masking: labels that no sticker of a given size can have changed.

After Xiang, Mahloujifar, Mittal, PatchCleanser (USENIX Security 2022). A set of square masks is *covering* for a patch
if, wherever the patch lies, one mask hides all of it. Under that mask the attacked image equals the benign image under
the same mask. So:

* *One round.* A label that the classifier gives under every single mask is also the label of the benign image under the
  mask that hides the patch. If the benign image has one label under all masks, no patch can make another label pass
  this test.
* *Two rounds.* An image that keeps its label under every pair of masks is *certified*: with any patch on it, the
  defence `recovered` still gives that label (their theorem 1).

What is certified: any change of the pixels within one square of `side` pixels of the network's input, parallel to its
axes, anywhere. So every sticker that fits into such a square is covered, of any shape. Not covered are a longer and
thinner sticker of the same area, two stickers, and glare or dirt over the whole sign. In the camera's image the square
is smaller, since resizing spreads a pixel over its neighbours: see `largest_sticker`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations, combinations_with_replacement
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from firewall.decision.dial import Dial, named
from firewall.errors import UsageError

__all__ = ["BATCH", "Classify", "Kept", "Masks", "largest_sticker", "masks_for", "starts"]

#: Images that are made and classified at a time.
BATCH = 64

Pixels = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]
#: Logits (N, classes) of images (N, H, W, 3) uint8.
Classify = Callable[[Pixels], npt.NDArray[np.float32]]
_PLAIN = Dial()


def starts(length: int, side: int, count: int) -> tuple[int, list[int]]:
    """Masks along one axis, so that every run of `side` pixels lies within one of them (their section 3.4).

    Args:
        length: Length of the axis in pixels.
        side: Side of the patch in pixels.
        count: The most masks.

    Returns:
        Length of a mask in pixels, and where each begins.
    """
    stride = math.ceil((length - side + 1) / count)
    mask = side + stride - 1
    places = sorted({min(index * stride, length - mask) for index in range(count)})
    return mask, places


def largest_sticker(side: int, length: int, region: int) -> int:
    """The widest box in a region's own pixels that changes no more than one square of the network's input.

    A pixel of the input is made of those within max(1, region / length) pixels of its centre (transforms.resize).

    Args:
        side: Side of the square in pixels of the input.
        length: Length of the input along this axis, in pixels.
        region: Length of the region along this axis, in pixels.

    Returns:
        Width of the box in pixels; 0 if a single pixel spreads further.
    """
    if region == length:
        return side
    scale = region / length
    return max(0, math.floor(side * scale + 1 - 2 * max(1.0, scale) + 1e-9))


class Kept(NamedTuple):
    """Whether a label may be released as far as masks are concerned.

    Attributes:
        holds: Whether the rule releases it; None if the time was up first.
        certified: Whether every mask names it surely (in two steps: steps.assured): so it is what the classifier surely
            names with one mask over the sticker, whatever and wherever that is. False: released, it was only not
            objected to.
        seen: How many images were classified.
    """

    holds: bool | None
    certified: bool
    seen: int


@dataclass(frozen=True)
class Masks:
    """A covering set of masks.

    Attributes:
        side: Side of the largest square patch, in pixels.
        boxes: (top, left, height, width) of each mask, in pixels.
        fill: Grey value under a mask, 0..255.
    """

    side: int
    boxes: tuple[tuple[int, int, int, int], ...]
    fill: int

    def __len__(self) -> int:
        return len(self.boxes)

    def covered(self, image: Pixels, first: int, second: int) -> Pixels:
        """A copy of an image under two masks.

        Args:
            image: (H, W, 3) uint8.
            first: Number of a mask, 0-based.
            second: Number of another mask, or of the same.

        Returns:
            (H, W, 3) uint8.
        """
        copy: Pixels = image.copy()
        for index in (first, second):
            top, left, height, width = self.boxes[index]
            copy[top : top + height, left : left + width] = self.fill
        return copy

    def singles(self, image: Pixels, classify: Classify) -> Labels:
        """The labels under single masks.

        Args:
            image: (H, W, 3) uint8.
            classify: Gives the logits of a batch.

        Returns:
            (masks,), the class under each mask.
        """
        return self._labels(image, self._singles(), classify)

    def pairs(self, image: Pixels, classify: Classify) -> npt.NDArray[np.int64]:
        """The labels under pairs of masks.

        Args:
            image: (H, W, 3) uint8.
            classify: Gives the logits of a batch.

        Returns:
            (masks, masks), symmetric; the diagonal holds the classes under single masks.
        """
        chosen = list(combinations_with_replacement(range(len(self)), 2))
        rows, columns = np.transpose(chosen)
        labels = np.empty((len(self), len(self)), np.int64)
        labels[rows, columns] = self._labels(image, chosen, classify)
        labels[columns, rows] = labels[rows, columns]
        return labels

    def logits(self, image: Pixels, classify: Classify) -> npt.NDArray[np.float32]:
        """What `kept` looks at in one round, so that many rules can be asked of it.

        Args:
            image: (H, W, 3) uint8.
            classify: Gives the logits of a batch.

        Returns:
            (masks, classes), the logits under each mask.
        """
        return np.concatenate(list(self.each(image, classify)))

    def each(self, image: Pixels, classify: Classify) -> Iterator[npt.NDArray[np.float32]]:
        """`logits`, batch by batch, so that one can stop between them.

        Args:
            image: (H, W, 3) uint8.
            classify: Gives the logits of a batch.

        Yields:
            (up to BATCH, classes), the logits under the next masks.
        """
        yield from self._batches(image, self._singles(), classify)

    def kept(
        self,
        image: Pixels,
        label: int,
        classify: Classify,
        rounds: int,
        expired: Callable[[], bool] = lambda: False,
        dial: Dial = _PLAIN,
    ) -> Kept:
        """Whether a label passes under all masks. Stops at the first batch in which it doesn't.

        Pairs of the masks that lower the label's margin most come first, so that a failure is found early.

        Args:
            image: (H, W, 3) uint8.
            label: The class of the image without masks.
            classify: Gives the logits of a batch.
            rounds: 1: under every mask. 2: under every pair of masks too.
            expired: Asked after each batch whether the time is up.
            dial: What a mask has to say of the label.

        Returns:
            Whether the label passes.

        Raises:
            EngineError: A logit is not finite.
        """
        wanted, sure = self._singles(), True
        seen, margins = 0, list[npt.NDArray[np.float32]]()
        for number in range(rounds):
            if number:
                wanted = self._hardest_first(np.concatenate(margins))
            for logits in self._batches(image, wanted, classify):
                seen += len(logits)
                if not dial.permits(logits, label).all():
                    return Kept(False, False, seen)
                if expired():
                    return Kept(None, False, seen)
                sure = sure and bool(dial.sure(named(logits, label)).all())
                if number == 0 and rounds == 2:
                    others = np.delete(logits, label, axis=1)
                    margins.append(logits[:, label] - others.max(axis=1, initial=-np.inf))
        return Kept(True, sure, seen)

    def _singles(self) -> list[tuple[int, int]]:
        return [(index, index) for index in range(len(self))]

    def _hardest_first(self, margins: npt.NDArray[np.float32]) -> list[tuple[int, int]]:
        """Every pair of masks. margins: those of the label under each single mask, (masks,)."""
        pairs = combinations(range(len(self)), 2)
        return sorted(pairs, key=lambda pair: margins[pair[0]] + margins[pair[1]])

    def recovered(self, image: Pixels, classify: Classify, pairs: npt.NDArray[np.int64] | None = None) -> int:
        """The label that double masking gives (their algorithm 1).

        Args:
            image: (H, W, 3) uint8.
            classify: Gives the logits of a batch.
            pairs: What `pairs` returned for this image, if that is known.

        Returns:
            The class, 0-based.
        """
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
    """A covering set of masks for square patches.

    Args:
        height: Height of the network's input in pixels.
        width: Width of the network's input in pixels.
        area: Area of the largest patch, as a share (0..1) of the image's area.
        count: Masks along each side, 2 to 16.
        fill: Grey value under a mask, 0..255.

    Returns:
        The masks.

    Raises:
        UsageError: If the area or the count is out of range, or the masks would cover the whole image.
    """
    if not 0 < area < 1:
        raise UsageError(f"a patch's area must lie between 0 and 1 of the image's, got {area:g}; 0.02 is 2 %")
    if not 2 <= count <= 16:
        raise UsageError(f"masks along a side must be 2 to 16, got {count}")
    side = math.ceil(math.sqrt(area * height * width) - 1e-9)
    if 2 * side > min(height, width):
        raise UsageError(
            f"a patch of {area:g} of the area is {side} pixels wide; at most half of the image's {min(height, width)} "
            "can be covered if the classifier is to see the rest"
        )
    tall, tops = starts(height, side, count)
    wide, lefts = starts(width, side, count)
    return Masks(side, tuple((top, left, tall, wide) for top in tops for left in lefts), fill)
