"""The embedded demo: a fixed list of drives past signs, some of them attacked. Source text `demo`.

Scenes are rendered as they are read. The attacked signs are patches, pixels that the lab has computed for exactly
these scenes, stored losslessly in `assets/demo.zip` (`EE_SS.png` for encounter EE and step SS, `index.json`). A line at
the bottom of every frame tells the viewer what is true; the firewall doesn't know it.
"""

from __future__ import annotations

import io
import json
import threading
import time
import zipfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from firewall.demo.scene import BAND, HEIGHT, WIDTH, Encounter, render
from firewall.demo.signs import NAMES
from firewall.errors import SourceError, SourceUriError
from firewall.frame import Pixels, Region

__all__ = ["ASSET", "ENCOUNTERS", "FRAMES", "DemoReader", "Patch", "Truth", "read_patches", "truth", "write_patches"]

ASSET = Path(__file__).parent.parent / "assets" / "demo.zip"
_FORMAT = 1
_NEXT_STEP = "make it with 'firewall lab demo'"


def _drive(
    number: int,
    label: int,
    side: Literal["left", "right"],
    light: Literal["day", "dusk", "overcast"],
    attack: str | None = None,
) -> Encounter:
    return Encounter(label, seed=500 + number, side=side, light=light, steps=10, attack=attack)


#: What is met, in this order. A change here needs new patches.
ENCOUNTERS: tuple[Encounter, ...] = (
    _drive(0, 14, "right", "day"),
    _drive(1, 2, "right", "overcast"),
    _drive(2, 14, "right", "day", "DeepFool"),
    _drive(3, 12, "right", "dusk"),
    _drive(4, 38, "left", "day"),
    _drive(5, 2, "right", "day", "DeepFool"),
    _drive(6, 13, "right", "overcast"),
    _drive(7, 1, "left", "day"),
    _drive(8, 12, "right", "overcast", "DeepFool"),
    _drive(9, 33, "right", "day"),
    _drive(10, 7, "right", "dusk"),
    _drive(11, 38, "left", "overcast", "DeepFool"),
    _drive(12, 17, "right", "day"),
    _drive(13, 18, "right", "overcast"),
    _drive(14, 13, "right", "dusk", "DeepFool"),
    _drive(15, 35, "right", "dusk"),
    _drive(16, 5, "left", "day"),
    _drive(17, 4, "right", "day", "DeepFool"),
)
_PLAN = tuple((number, step) for number, entry in enumerate(ENCOUNTERS) for step in range(entry.steps))
#: Frames until the list starts again.
FRAMES = len(_PLAN)


@dataclass(frozen=True)
class Truth:
    """What a frame really shows: the class, the name of the attack or None, and the box of the sign."""

    label: int
    attack: str | None
    box: Region


@dataclass(frozen=True, eq=False)
class Patch:
    """An attacked sign: `pixels` (h, w, 3) uint8 RGB replace those of the scene from column `x` and row `y`."""

    encounter: int
    step: int
    x: int
    y: int
    attack: str
    pixels: Pixels


@lru_cache(maxsize=FRAMES)
def _truth(index: int) -> Truth:
    number, step = _PLAN[index]
    entry = ENCOUNTERS[number]
    return Truth(entry.label, entry.attack, render(entry, step)[1])


def truth(sequence: int) -> Truth:
    """What frame `sequence` (0, 1, ... as the reader counts, also beyond one round) shows; for tests and summaries."""
    return _truth(sequence % FRAMES)


class DemoReader:
    """Iterates (pixels (400, 640, 3) uint8 RGB, time.monotonic() when it was taken)."""

    def __init__(self, options: dict[str, str], *, start: int = 0, asset: Path = ASSET) -> None:
        """Open the demo.

        Args:
            options: `fps`, frames a second (default 10; 0: as fast as it is read), and `loop`, 1 (default) without end
                or 0 once.
            start: Number of the first frame.
            asset: File of the attacked signs.

        Raises:
            SourceUriError: If an option is unknown or out of range.
            SourceError: If the attacked signs are missing or don't fit the list of encounters.
        """
        for name in options:
            if name not in ("fps", "loop"):
                raise SourceUriError(f"unknown option {name!r} of source demo; allowed: fps, loop")
        rate = _rate(options.get("fps", "10"))
        loop = options.get("loop", "1")
        if loop not in ("0", "1"):
            raise SourceUriError(f"loop={loop!r} of source demo must be 1 (for ever) or 0 (once)")
        self._period = 1 / rate if rate else 0.0
        self._loop = loop == "1"
        self._patches = {(patch.encounter, patch.step): patch for patch in read_patches(asset)}
        self._sequence = start
        self._due = time.monotonic()
        self._closed = threading.Event()

    def __iter__(self) -> DemoReader:
        return self

    def __next__(self) -> tuple[Pixels, float]:
        """The next frame when it is due; StopIteration at the end and after `close`."""
        if self._closed.is_set() or (self._sequence >= FRAMES and not self._loop):
            raise StopIteration
        pixels = self._frame(self._sequence % FRAMES)
        self._sequence += 1
        if self._period:
            now = time.monotonic()
            if self._closed.wait(max(self._due - now, 0)):
                raise StopIteration
            # Counted from now if late, not from when it was due: a reader that waited gets no burst.
            self._due = max(self._due, now) + self._period
        return pixels, time.monotonic()

    def close(self) -> None:
        """End the iteration, also from another thread while it waits."""
        self._closed.set()

    def _frame(self, index: int) -> Pixels:
        number, step = _PLAN[index]
        entry = ENCOUNTERS[number]
        pixels, _ = render(entry, step)
        patch = self._patches.get((number, step))
        if patch is not None:
            height, width = patch.pixels.shape[:2]
            pixels[patch.y : patch.y + height, patch.x : patch.x + width] = patch.pixels
        state = f"ATTACKED ({entry.attack})" if entry.attack else "benign"
        pixels[HEIGHT - BAND :] = _caption(f"demo {index:03d}   {NAMES[entry.label]}   {state}", pixels[-1, 0])
        return pixels


def write_patches(path: Path, patches: list[Patch]) -> None:
    """Store the attacked signs of the demo; the same patches give the same bytes, and a reader sees all or nothing.

    Raises:
        SourceError: If they don't cover every step of every attacked encounter, once each, or can't be written.
    """
    patches = sorted(patches, key=lambda patch: (patch.encounter, patch.step))
    _check(patches)
    keys = ("encounter", "step", "x", "y", "attack")
    index = {"format": _FORMAT, "patches": [{key: getattr(patch, key) for key in keys} for patch in patches]}
    partial = path.with_name(path.name + ".partial")
    try:
        with zipfile.ZipFile(partial, "w") as archive:
            archive.writestr(_member("index.json"), json.dumps(index, indent=1) + "\n")
            for patch in patches:
                file = io.BytesIO()
                Image.fromarray(patch.pixels).save(file, format="PNG", optimize=True)
                archive.writestr(_member(_name(patch.encounter, patch.step)), file.getvalue())
        partial.replace(path)
    except OSError as error:
        raise SourceError(f"can't write {path} ({error.strerror or error}); name another place") from error
    finally:
        partial.unlink(missing_ok=True)


def read_patches(path: Path) -> list[Patch]:
    """The attacked signs in `path`, checked against `ENCOUNTERS`.

    Raises:
        SourceError: If anything doesn't fit.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            index = json.loads(archive.read("index.json"))
            if index["format"] != _FORMAT:
                raise SourceError(f"{path} has format {index['format']!r}, not {_FORMAT}; {_NEXT_STEP}")
            patches = [_read(archive, entry) for entry in index["patches"]]
    except FileNotFoundError as error:
        raise SourceError(f"the demo's attacked signs are missing ({path}); {_NEXT_STEP}") from error
    except SourceError:
        raise
    except Exception as error:  # zip, JSON and PNG name damage by many kinds of exception
        raise SourceError(f"{path} can't be read ({type(error).__name__}: {error}); {_NEXT_STEP}") from error
    _check(patches)
    return patches


def _read(archive: zipfile.ZipFile, entry: dict[str, Any]) -> Patch:
    numbers = [entry[key] for key in ("encounter", "step", "x", "y")]
    if not all(type(number) is int for number in numbers) or not isinstance(entry["attack"], str):
        raise ValueError(f"entry {entry} of index.json")
    encounter, step, x, y = numbers
    with archive.open(_name(encounter, step)) as file, Image.open(file, formats=("PNG",)) as image:
        if image.mode != "RGB" or image.width > WIDTH or image.height > HEIGHT:
            raise ValueError(f"{_name(encounter, step)} is {image.mode} {image.width}x{image.height}")
        return Patch(encounter, step, x, y, entry["attack"], np.array(image))


def _check(patches: list[Patch]) -> None:
    wanted = {(number, step) for number, step in _PLAN if ENCOUNTERS[number].attack}
    seen: set[tuple[int, int]] = set()
    for patch in patches:
        place = (patch.encounter, patch.step)
        name = f"patch {_name(*place)}"
        if place not in wanted or place in seen:
            raise SourceError(f"{name} is no step of an attacked encounter, or is there twice; {_NEXT_STEP}")
        seen.add(place)
        if patch.attack != ENCOUNTERS[patch.encounter].attack:
            allowed = ENCOUNTERS[patch.encounter].attack
            raise SourceError(f"{name} is of attack {patch.attack!r}, the demo shows {allowed!r}; {_NEXT_STEP}")
        if patch.pixels.dtype != np.uint8 or patch.pixels.ndim != 3 or patch.pixels.shape[2] != 3:
            raise SourceError(f"{name} must be uint8 (h, w, 3), got {patch.pixels.dtype} {patch.pixels.shape}")
        height, width = patch.pixels.shape[:2]
        inside = min(patch.x, patch.y) >= 0 and patch.x + width <= WIDTH and patch.y + height <= HEIGHT - BAND
        if not inside:
            raise SourceError(f"{name} at ({patch.x}, {patch.y}), {width}x{height}, leaves the scene; {_NEXT_STEP}")
    if wanted != seen:
        lacking = ", ".join(_name(*place) for place in sorted(wanted - seen)[:3])
        raise SourceError(f"{len(wanted - seen)} of {len(wanted)} patches are missing ({lacking}, ...); {_NEXT_STEP}")


def _name(encounter: int, step: int) -> str:
    return f"{encounter:02d}_{step:02d}.png"


def _member(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)  # dated 1980, always
    info.external_attr = 0o644 << 16
    info.create_system = 3
    return info


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = -1.0
    if not 0 <= rate <= 500:
        raise SourceUriError(f"fps={text!r} of source demo must be 0 (as fast as it is read) to 500 frames a second")
    return rate


@lru_cache(maxsize=1)
def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=11)


def _caption(text: str, ground: Pixels) -> Pixels:
    """The line of text on the band, (BAND, WIDTH, 3)."""
    band = Image.new("RGB", (WIDTH, BAND), tuple(int(value) for value in ground))
    ImageDraw.Draw(band).text((12, BAND / 2), text, (226, 226, 224), font=_font(), anchor="lm")
    return np.asarray(band)
