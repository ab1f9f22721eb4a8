"""Put golden frames into a bundle: `firewall lab golden`. A running guard judges them (firewall.service.golden).

What is expected of a picture is what the bundle says of it now. It has to say so again with each grey value changed by
up to one: else another device, which rounds in another way, might come to another verdict, and would be called broken.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from firewall.bundle import Bundle, GoldenFrame
from firewall.decision.golden import Outcome, outcome
from firewall.demo.source import ENCOUNTERS, FRAMES, DemoReader, truth
from firewall.engines import open_engine
from firewall.errors import DataError, UsageError
from firewall.frame import Frame, Pixels, Region
from firewall.lab.calibration.bundling import rewritten, without_golden
from firewall.regions import build
from firewall.screening import Firewall
from firewall.sources.folder import image_files
from firewall.sources.image import read_image
from firewall.sources.uri import printable

__all__ = ["Candidate", "candidates", "with_golden"]

_MOST, _LARGEST = 32, 4 << 20  # golden frames of a bundle, and bytes that they have together
_TRIES = 4  # with other noise, of one grey value
_NEAR = (8, 7, 6)  # steps of a drive at which a drawn sign is large, in the order in which they are tried


@dataclass(frozen=True)
class Candidate:
    """A picture that may become a golden frame.

    Attributes:
        name: For messages.
        pixels: (H, W, 3) uint8 RGB.
        regions: What is judged in it.
    """

    name: str
    pixels: Pixels
    regions: Literal["whole", "signs"] = "whole"


def candidates(paths: Sequence[Path]) -> Iterator[Candidate]:
    """The pictures of files and folders, each judged as a whole.

    Raises:
        DataError: A folder has no pictures.
        ImageError: One can't be read.
    """
    for path in paths:
        for file in image_files(path) if path.is_dir() else [path]:
            yield Candidate(printable(str(file)), read_image(file))


def with_golden(
    bundle: Bundle,
    out: Path,
    given: Iterable[Candidate],
    *,
    drawn: int = 0,
    version: int | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> Bundle:
    """Write a bundle with golden frames, in place of those that it has. All else stays as it is.

    Args:
        bundle: The bundle.
        out: Folder of the new bundle; may be the bundle's own.
        given: The pictures. Those whose verdict is not steady are left out.
        drawn: So many signs that the demo draws are added that are released, and as many attacked ones that are
            withheld; and a scene, if the bundle has a finder.
        version: Of the new bundle; None keeps it.
        tell: Gets a line for each picture.

    Raises:
        DataError: There are too few pictures, none that is released or none that is withheld, or they are too large.
        UsageError: The version is lower than the bundle's.
    """
    manifest = bundle.manifest
    if version is not None and version < manifest.version:
        raise UsageError(f"--version must be at least {manifest.version}, the bundle's own, got {version}")
    judge = _Judge(bundle)
    chosen: list[tuple[Candidate, Outcome]] = []
    for each in given:
        found = judge.steady(each)
        if found is None:
            tell(f"{each.name} is left out: its verdict is another if its grey values change by one")
        else:
            chosen.append((each, found))
        if len(chosen) > _MOST:
            raise DataError(f"a bundle has at most {_MOST} golden frames; name fewer pictures")
    chosen += judge.drawn(drawn)
    released, withheld = (sum(bool(found[part]) for _, found in chosen) for part in (0, 1))
    if not released or not withheld:
        raise DataError(
            f"golden frames need pictures that are released and ones that are withheld, got {released} and {withheld}; "
            "add some with --images or --demo"
        )
    files: dict[str, bytes] = {}
    frames = []
    for place, (each, (labels, reasons)) in enumerate(chosen):
        file = f"golden-{place:02d}.png"
        files[file] = _png(each.pixels)
        frames.append(GoldenFrame(file=file, regions=each.regions, released=labels, withheld=reasons))
        said = ", ".join([*(manifest.classifier.labels[label] for label in labels), *map(str, reasons)])
        tell(f"{file}, {each.pixels.shape[1]}x{each.pixels.shape[0]}, {each.name}: {said}")
    size = sum(map(len, files.values()))
    if len(files) > _MOST or size > _LARGEST:
        raise DataError(
            f"{len(files)} golden frames of {size} bytes together; {_MOST} and {_LARGEST} are allowed: name fewer or "
            "smaller pictures"
        )
    changed: dict[str, Any] = {} if version is None else {"version": version}
    plain = Bundle(bundle.path, manifest, without_golden(bundle), bundle.sha256)
    written = rewritten(plain, out, files, golden=tuple(frames), **changed)
    for frame in manifest.golden or ():
        if frame.file not in files:
            (out / frame.file).unlink(missing_ok=True)  # no part of the bundle any more
    return written


class _Judge:
    """A bundle, with which pictures are judged as a guard judges them."""

    def __init__(self, bundle: Bundle) -> None:
        self._guard = Firewall(bundle, open_engine(bundle, device="cpu", threads=0))
        self._finder = None if bundle.manifest.finder is None else build("signs", bundle=bundle)

    def steady(self, candidate: Candidate) -> Outcome | None:
        """What is said of a picture; None if that changes with noise of one grey value."""
        found = self._outcome(candidate, candidate.pixels)
        for seed in range(_TRIES):
            noise = np.random.default_rng(seed).integers(-1, 2, candidate.pixels.shape)
            noisy = np.clip(candidate.pixels + noise, 0, 255).astype(np.uint8)
            if self._outcome(candidate, noisy) != found:
                return None
        return found

    def drawn(self, count: int) -> list[tuple[Candidate, Outcome]]:
        """So many benign signs of the demo that are released, and attacked ones that are withheld."""
        chosen: list[tuple[Candidate, Outcome]] = []
        if count and self._finder is not None:
            scenes = (Candidate(f"demo {number}", pixels, "signs") for number, pixels in _demo(attacked=False))
            told = ((each, self.steady(each)) for each in scenes)
            chosen += islice(((each, found) for each, found in told if found is not None and found[0]), 1)
        for attacked in (False, True):
            got = 0
            for number, pixels in _demo(attacked=attacked) if count else ():
                x, y, width, height = self._sign(pixels, number)
                crop = np.ascontiguousarray(pixels[y : y + height, x : x + width])
                each = Candidate(f"sign of demo {number}", crop)
                found = self.steady(each)
                if found is not None and bool(found[0]) != attacked:
                    chosen.append((each, found))
                    got += 1
                if got == count:
                    break
        return chosen

    def _outcome(self, candidate: Candidate, pixels: Pixels) -> Outcome:
        find = candidate.regions == "signs" and self._finder is not None
        regions = self._finder.find(pixels) if find and self._finder is not None else None
        return outcome(self._guard.screen_frame(Frame(pixels, candidate.name, 0, time.monotonic()), regions))

    def _sign(self, pixels: Pixels, number: int) -> Region:
        """What the finder makes of the sign of a demo frame, or else where it is."""
        x, y, width, height = truth(number).box
        for region in [] if self._finder is None else self._finder.find(pixels):
            left, top, wide, high = region
            if max(abs(2 * left + wide - 2 * x - width), abs(2 * top + high - 2 * y - height)) < width / 2:
                return region
        return x, y, width, height


def _demo(*, attacked: bool) -> Iterator[tuple[int, Pixels]]:
    """(number, pixels) of demo frames in which a sign is near."""
    steps = FRAMES // len(ENCOUNTERS)
    for step in _NEAR:
        for place, drive in enumerate(ENCOUNTERS):
            if (drive.attack is not None) == attacked:
                number = place * steps + step
                yield number, next(DemoReader({"fps": "0", "loop": "0"}, start=number))[0]


def _png(pixels: Pixels) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG", optimize=True)
    return file.getvalue()
