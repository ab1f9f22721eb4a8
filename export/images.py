"""Images to compare and calibrate on, read without anything of the lab: a device has no more than the edge."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from firewall.errors import DataError
from firewall.frame import Pixels
from firewall.sources import read_image
from firewall.sources.uri import IMAGE_SUFFIXES

__all__ = ["read_images", "spread"]

Item = TypeVar("Item")


def read_images(path: Path, limit: int) -> list[Pixels]:
    """At most `limit` images, spread evenly, of a folder and its sub-folders, or of a pack of the lab's.

    Raises DataError if there are none, ImageError if one can't be read, ModuleNotFoundError for a pack where the lab's
    packages are missing.
    """
    if path.suffix == ".npz":
        from firewall.lab.datasets.packs import load_pack

        return spread(load_pack(path)[0], limit)
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES)
    if not files:
        raise DataError(f"no images under {path}; looked for {', '.join(sorted(IMAGE_SUFFIXES))}")
    return [read_image(file) for file in spread(files, limit)]


def spread(items: Sequence[Item], limit: int) -> list[Item]:
    """At most `limit` items, from the first to the last at even distances."""
    count = min(limit, len(items))
    return [items[number * len(items) // count] for number in range(count)]
