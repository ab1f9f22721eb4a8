"""Images to compare and calibrate on, read without anything of the lab: a device has no more than the edge."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from firewall.frame import Pixels
from firewall.sources.folder import FileImages, image_files

__all__ = ["read_images", "spread"]

Item = TypeVar("Item")


def read_images(path: Path, limit: int) -> Sequence[Pixels]:
    """At most `limit` images, spread evenly, of a folder and its sub-folders, or of a pack of the lab's; files are
    decoded when they are asked for.

    Raises:
        DataError: If there are none.
        ImageError: (when it is asked for) if one can't be read.
        ModuleNotFoundError: For a pack where the lab's packages are missing.
    """
    if path.suffix == ".npz":
        from firewall.lab.datasets.packs import open_pack

        return spread(open_pack(path)[0], limit)
    return FileImages(spread(image_files(path), limit))


def spread(items: Sequence[Item], limit: int) -> list[Item]:
    """At most `limit` items, from the first to the last at even distances."""
    count = min(limit, len(items))
    return [items[number * len(items) // count] for number in range(count)]
