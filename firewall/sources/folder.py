"""The image files of a folder and of all folders in it, and a sequence that decodes them one at a time.

What the edge reads is what the lab calibrates on: the same suffixes, the same decoder, the same refusals.
"""

from __future__ import annotations

import os
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import overload

from firewall.errors import DataError
from firewall.frame import Pixels
from firewall.sources.image import read_image
from firewall.sources.uri import IMAGE_SUFFIXES, natural, printable

__all__ = ["FileImages", "LazyImages", "folders", "hidden", "image_files", "unread_pictures"]

#: Folders that systems and archives leave beside pictures: resource forks, thumbnails, what was thrown away.
_OF_SYSTEMS = frozenset({"__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found"})
#: Pictures of kinds that the edge doesn't read.
_UNREAD = frozenset(
    {".arw", ".avif", ".cr2", ".cr3", ".dng", ".exr", ".hdr", ".heic", ".heif", ".j2k", ".jfif", ".jp2", ".jxl"}
    | {".mpo", ".nef", ".orf", ".psd", ".raw", ".rw2", ".svg", ".tga"}
)


def hidden(name: str) -> bool:
    """Whether a file or folder of that name is none of the user's pictures, such as `._x.png` or `__MACOSX`."""
    return name.startswith(".") or name in _OF_SYSTEMS


def folders(root: Path) -> Iterator[tuple[Path, list[str]]]:
    """`root` and each folder in it that isn't hidden, with the names of its files; links are followed, and a folder
    that is reached twice counts once.

    Raises:
        DataError: If a folder is missing or can't be read: half of the images would be lost.
    """

    def refuse(error: OSError) -> None:
        name = printable(os.fsdecode(error.filename or root))
        raise DataError(f"can't read the folder {name}: {error.strerror}; name a folder that can be read") from error

    met: set[tuple[int, int]] = set()
    for place, inside, files in os.walk(root, followlinks=True, onerror=refuse):
        status = Path(place).stat()
        if (status.st_dev, status.st_ino) in met:
            inside.clear()
            continue
        met.add((status.st_dev, status.st_ino))
        inside[:] = sorted((name for name in inside if not hidden(name)), key=natural)
        yield Path(place), files


def image_files(root: Path) -> list[Path]:
    """The files under `root` with the suffix of an image, 2.png before 10.png; hidden ones are left out.

    Whatever else has such a suffix, say a link to nothing, is among them, so that reading it says what is wrong.

    Raises:
        DataError: If `root` is no folder, a folder in it can't be read, or there is no image.
    """
    found = [
        place / name
        for place, names in folders(root)
        for name in names
        if not hidden(name) and Path(name).suffix.lower() in IMAGE_SUFFIXES
    ]
    if not found:
        others = unread_pictures(root)
        instead = f", but {others}" if others else ""
        raise DataError(
            f"no images under {printable(str(root))}{instead}; looked for {', '.join(sorted(IMAGE_SUFFIXES))}"
        )
    return sorted(found, key=lambda file: natural(str(file)))


def unread_pictures(root: Path) -> str:
    """How many pictures of kinds that the edge doesn't read lie under `root`, such as "12 of .heic"; "" for none."""
    suffixes = (Path(name).suffix.lower() for _, names in folders(root) for name in names if not hidden(name))
    counts = Counter(suffix for suffix in suffixes if suffix in _UNREAD)
    return ", ".join(f"{count} of {suffix}" for suffix, count in sorted(counts.items()))


class LazyImages(Sequence[Pixels]):
    """Images, each (H, W, 3) uint8 RGB, that are decoded when they are asked for, and not kept."""

    @abstractmethod
    def name(self, index: int) -> str:
        """Of one image, for messages."""

    @abstractmethod
    def _decode(self, index: int) -> Pixels:
        """One image."""

    @overload
    def __getitem__(self, index: int) -> Pixels: ...
    @overload
    def __getitem__(self, index: slice) -> list[Pixels]: ...
    def __getitem__(self, index: int | slice) -> Pixels | list[Pixels]:
        if isinstance(index, slice):
            return [self._decode(number) for number in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        return self._decode(int(index) % len(self))

    def __iter__(self) -> Iterator[Pixels]:
        return (self._decode(index) for index in range(len(self)))


class FileImages(LazyImages):
    """Image files. A damaged one raises ImageError when it is asked for."""

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def name(self, index: int) -> str:
        """The file."""
        return printable(str(self.files[index]))

    def _decode(self, index: int) -> Pixels:
        return read_image(self.files[index])
