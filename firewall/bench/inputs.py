"""The pictures that are judged: of the embedded demo or of the user's own folders, normal and attacked ones apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from firewall.errors import UsageError
from firewall.frame import Pixels
from firewall.sources import parse, read_image

__all__ = ["DEMO", "Inputs", "of_demo", "of_files"]

_T = TypeVar("_T")

#: What the demo's pictures are called in a report.
DEMO = "the embedded demo"
#: Pictures of a kind that are held in memory and judged in turn.
_MOST_OF_DEMO = 40
_MOST_OF_FOLDER = 200
_MOST_PIXELS = 128 << 20


@dataclass(frozen=True)
class Inputs:
    """The pictures of a benchmark.

    Attributes:
        name: What they are, for people.
        kinds: `normal`, `adversarial` -> pictures, each (H, W, 3) uint8 RGB. A kind without pictures is not there.
        why_not: Kind that is not there -> what to do about it.
        left_out: Kind -> number of pictures of a folder that were not taken because there were too many.
    """

    name: str
    kinds: dict[str, list[Pixels]]
    why_not: dict[str, str]
    left_out: dict[str, int]


def of_demo() -> Inputs:
    """Frames of the embedded demo, 640x400: those with a benign sign and those with an attacked one, evenly taken.

    The attacked signs were computed against the default bundle's classifier; to another they are just pictures.
    """
    from firewall.demo.source import ENCOUNTERS, DemoReader

    attacks = [entry.attack for entry in ENCOUNTERS for _ in range(entry.steps)]
    places: dict[str, list[int]] = {"normal": [], "adversarial": []}
    for number, attack in enumerate(attacks):
        places["normal" if attack is None else "adversarial"].append(number)
    wanted = {place: kind for kind in places for place in _evenly(places[kind], _MOST_OF_DEMO)}
    kinds: dict[str, list[Pixels]] = {"normal": [], "adversarial": []}
    for number, (pixels, _) in enumerate(DemoReader({"fps": "0", "loop": "0"})):
        if number in wanted:
            kinds[wanted[number]].append(pixels)
    return Inputs(DEMO, kinds, {}, {})


def of_files(normal: Path, adversarial: Path | None = None) -> Inputs:
    """Read pictures from files.

    Args:
        normal: Folder of benign pictures, or one picture.
        adversarial: Folder of attacked pictures, or one; None if there are none.

    Returns:
        The pictures, at most 200 of each kind, evenly taken.

    Raises:
        SourceUriError: If a folder holds no pictures.
        SourceError: If a path can't be read.
        UsageError: If a path is anything but files of pictures.
        ImageError: If a picture can't be read or judged.
    """
    kinds, left_out, why_not = {}, {}, {}
    for kind, path in (("normal", normal), ("adversarial", adversarial)):
        if path is None:
            why_not[kind] = "no attacked pictures were given; name a folder of them with --adversarial"
            continue
        kinds[kind], left = _read(path)
        if left:
            left_out[kind] = left
    names = [str(path) for path in (normal, adversarial) if path is not None]
    return Inputs(" and ".join(names), kinds, why_not, left_out)


def _read(path: Path) -> tuple[list[Pixels], int]:
    # A folder may be called `demo` or `0`.
    spec = parse(str(path) if path.is_absolute() else f"./{path}")
    if spec.kind != "images":
        raise UsageError(f"{path} is not a folder of pictures or a picture; a benchmark needs pictures that stay")
    pictures: list[Pixels] = []
    held = 0
    for file in _evenly(spec.files, _MOST_OF_FOLDER):
        pictures.append(read_image(file))
        held += pictures[-1].nbytes
        if held >= _MOST_PIXELS:
            break
    return pictures, len(spec.files) - len(pictures)


def _evenly(items: Sequence[_T], most: int) -> list[_T]:
    if len(items) <= most:
        return list(items)
    return [items[int(place)] for place in np.linspace(0, len(items) - 1, most).round()]
