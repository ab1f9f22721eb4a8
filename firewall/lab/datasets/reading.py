"""Images at the size that a network reads, each resized while it is read: large photographs are never kept."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from rich.console import Console
from rich.progress import track

from firewall.errors import DataError, ImageError
from firewall.frame import Pixels
from firewall.sources.folder import LazyImages
from firewall.transforms import resize

__all__ = ["at_most", "at_size", "repeated"]

#: Bad files that are named; of more only the number is given.
_NAMED = 8


def at_size(
    images: Sequence[Pixels] | Pixels, width: int, height: int, *, label: str = "reading", progress: bool = True
) -> Pixels:
    """Images at one size, resized as the edge does.

    Args:
        images: Uint8 (H, W, 3) RGB each; an array that has the size already is returned as it is.
        width: In pixels.
        height: In pixels.
        label: Of the progress bar.
        progress: Whether there is one.

    Returns:
        Uint8 (N, height, width, 3).

    Raises:
        DataError: Some images can't be read; it names them, once all have been read: no image is left out silently.
    """
    if isinstance(images, np.ndarray) and images.shape[1:] == (height, width, 3):
        return images
    found = np.empty((len(images), height, width, 3), np.uint8)
    bad: list[tuple[str, str]] = []
    console = Console(stderr=True)
    for index in track(range(len(images)), label, disable=not progress, transient=True, console=console):
        image = _read(images, index)
        if isinstance(image, str):
            bad.append((images.name(index) if isinstance(images, LazyImages) else f"image {index}", image))
        else:
            found[index] = resize(image, width, height)
    if bad:
        raise DataError(_told(bad, len(images)))
    return found


def at_most(image: Pixels, largest: int) -> Pixels:
    """An image whose longer side is at most `largest` pixels, resized as the edge does where it is longer.

    Args:
        image: Uint8 (H, W, 3).
        largest: In pixels, 1 or more.

    Returns:
        Uint8 (h, w, 3), the image itself where it is small enough.
    """
    height, width = image.shape[:2]
    share = largest / max(height, width)
    if share >= 1:
        return image
    return resize(image, max(1, round(width * share)), max(1, round(height * share)))


def repeated(images: Pixels) -> int:
    """How many images have exactly the pixels of an earlier one.

    Args:
        images: Uint8 (N, H, W, 3).

    Returns:
        0 or more.
    """
    return len(images) - len({hashlib.sha256(image.tobytes()).digest() for image in images})


def _read(images: Sequence[Pixels] | Pixels, index: int) -> Pixels | str:
    """One image, or why it can't be read."""
    try:
        return np.asarray(images[index])
    except (ImageError, DataError) as error:
        return str(error)


def _told(bad: Sequence[tuple[str, str]], count: int) -> str:
    first = bad[0][1]
    if len(bad) == 1:
        return f"{first}; mend or remove it: what the edge refuses can't be calibrated on"
    others = ", ".join(name for name, _ in bad[1:_NAMED])
    more = f" and {len(bad) - _NAMED} more" if len(bad) > _NAMED else ""
    return (
        f"{len(bad)} of {count} images can't be read: {first}; the others: {others}{more}; mend or remove them: what "
        "the edge refuses can't be calibrated on"
    )
