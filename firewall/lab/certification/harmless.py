"""The largest sticker that is harmless on a sign: wherever it is put and whatever it shows, no other label goes out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from firewall.bundle import load_bundle
from firewall.decision.dial import Dial
from firewall.decision.masking import masks_for
from firewall.errors import FirewallError, UsageError
from firewall.lab.certification.classifier import Subject, open_subject
from firewall.lab.datasets import open_dataset
from firewall.lab.datasets.classes import matched
from firewall.transforms import resize

__all__ = ["Harmless", "harmless_side", "largest_harmless"]

#: Signs on the page.
SIGNS = 10
_ALONG = 6
_SHOWN = 144  # side of a picture in pixels
Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Harmless:
    """A sign and the largest harmless sticker.

    Attributes:
        name: The sign's class.
        image: (height, width, 3) uint8, as the network for masks sees it.
        side: Of the sticker, in pixels of that image; 0 if none is harmless.
    """

    name: str
    image: Pixels
    side: int

    def card(self) -> dict[str, Any]:
        """Name, side, the image's size and the sticker's share of its area."""
        height, width = self.image.shape[:2]
        return {"name": self.name, "side": self.side, "of": [width, height], "area": self.side**2 / (width * height)}

    def picture(self) -> Pixels:
        """The sign with the sticker in its middle, as loud stripes; (n, n, 3) uint8."""
        height, width = self.image.shape[:2]
        shown = self.image.copy()
        top, left = (height - self.side) // 2, (width - self.side) // 2
        stripes = (np.add.outer(np.arange(self.side), np.arange(self.side)) // 2) % 2 == 0
        shown[top : top + self.side, left : left + self.side] = np.where(
            stripes[..., None], (255, 0, 200), (255, 230, 0)
        )
        scale = max(1, _SHOWN // max(height, width))
        return np.ascontiguousarray(shown.repeat(scale, axis=0).repeat(scale, axis=1))


def harmless_side(subject: Subject, image: Pixels, label: int, dial: Dial, along: int = _ALONG) -> int:
    """Side of the largest square that is certified on a sign; a smaller one lies within it.

    Args:
        subject: The classifiers.
        image: (height, width, 3) uint8, at the size of the input under masks.
        label: What the sign shows.
        dial: The rule.
        along: Masks along each side.

    Returns:
        In pixels of that input; 0 if not even a single pixel is certified.
    """
    height, width = image.shape[:2]
    for side in range(min(height, width) // 2, 0, -1):
        try:
            masks = masks_for(height, width, side * side / (height * width), along)
        except UsageError:  # too many masks for so few places
            continue
        if dial.shields(masks.logits(image, subject.under_masks.classify), label):
            return side
    return 0


def largest_harmless(bundle: str, data: Path | None, dial: Dial | None = None) -> list[Harmless]:
    """Ten signs of different classes and their largest harmless stickers.

    Args:
        bundle: `default` or a bundle's folder.
        data: Folder of the data sets.
        dial: The rule; None: the bundle's own, or the plain round.

    Returns:
        One of each of the first ten classes of the GTSRB test set that are met in a fixed draw; none where the data set
        isn't there or the bundle has other classes.
    """
    loaded = load_bundle(bundle)
    if dial is None:
        patches = loaded.manifest.patches
        dial = Dial() if patches is None else Dial.of(patches)
        if patches is not None and patches.finer:  # where all large masks are sure, finer ones add nothing to any rule
            dial = Dial("object", patches.tau)
    subject = open_subject(bundle)
    try:
        opened = open_dataset("gtsrb", data, part="test")
        if len(opened.class_names) != len(subject.labels):
            return []
        opened = matched(opened, subject.labels)
    except FirewallError:
        return []
    height, width = subject.size_under_masks
    found: dict[int, Harmless] = {}
    for index in np.random.default_rng(0).permutation(len(opened)).tolist():
        label, pixels = int(opened.labels[index]), opened.images[index]
        if label in found or pixels.shape[2] != 3:
            continue
        image = resize(pixels, width, height)
        found[label] = Harmless(subject.labels[label], image, harmless_side(subject, image, label, dial))
        if len(found) == SIGNS:
            break
    return sorted(found.values(), key=lambda each: -each.side)
