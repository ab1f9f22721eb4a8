"""The verdict of the real firewall on each crop, kept as a line of JSON, so that a run goes on where it was killed."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import track

import firewall
from firewall import Firewall, native
from firewall.errors import DataError
from firewall.lab.evaluation.crops.images import Crops
from firewall.verdict import Verdict

__all__ = ["EDGE", "Row", "digest", "judge_key", "suspicions", "verdicts"]

Pixels = npt.NDArray[np.uint8]

#: The rooms of the edge whose code decides what is released.
EDGE = ("screening.py", "verdict.py", "decision", "detectors", "engines", "sweep", "transforms")


@dataclass(frozen=True, slots=True)
class Row:
    """What was made of one crop.

    Attributes:
        index: Its place among the crops.
        source: Its name.
        group: Its group.
        label: The true class.
        side: Its shorter side, pixels.
        sha256: Of its pixels, see `digest`: these were judged and no others.
        named: The class that the bare classifier gives it; None if it could not be classified.
        released: Whether a label went out.
        released_label: Which; None if none did.
        reason: Why it went out or not.
        suspicion: How far all scores together lie above what is released; None if a detector gave no finite score, then
            no threshold releases it.
        scores: By detector.
    """

    index: int
    source: str
    group: int
    label: int
    side: int
    sha256: str
    named: int | None
    released: bool
    released_label: int | None
    reason: str
    suspicion: float | None
    scores: dict[str, float | None]


def digest(pixels: Pixels) -> str:
    """SHA-256 of an image's shape and bytes."""
    return hashlib.sha256(f"{pixels.shape}".encode() + np.ascontiguousarray(pixels).tobytes()).hexdigest()


def judge_key(guard: Firewall, rooms: tuple[str, ...] = EDGE) -> str:
    """Names a bundle and the very code that judges with it: other code's verdicts are not taken for its own.

    Args:
        guard: With the bundle.
        rooms: Of the edge whose code takes part.
    """
    return hashlib.sha256(f"{guard.bundle.sha256} {_code(rooms)}".encode()).hexdigest()[:16]


@cache
def _code(rooms: tuple[str, ...]) -> str:
    root = Path(firewall.__file__).parent
    places = [root / name for name in rooms]
    files = sorted(file for place in places for file in ([place] if place.is_file() else place.rglob("*.py")))
    found = hashlib.sha256()
    for file in [*files, Path(str(native.load().__file__))]:
        found.update(hashlib.sha256(file.read_bytes()).digest())
    return found.hexdigest()


def verdicts(guard: Firewall, crops: Crops, file: Path, what: str) -> list[Row]:
    """Judge crops one by one with `Firewall.screen`; those with a line in `file` are not judged again.

    Args:
        guard: With all detectors asked (`exhaustive`).
        crops: What is judged.
        file: Where each verdict is written as soon as it is known. Lines of other pixels, and half a line, are cut off.
        what: Names the crops for the progress bar.

    Returns:
        A row for each crop, in their order.

    Raises:
        DataError: The file can't be read or written.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        rows = list(_kept(file, crops))
        if len(rows) == len(crops):  # of a longer run, perhaps: what is there stays
            return rows
        with file.open("r+b" if file.exists() else "w+b") as out:
            out.truncate(sum(len(_line(row)) for row in rows))
            out.seek(0, 2)
            places = range(len(rows), len(crops))
            for place in track(places, what, transient=True, console=Console(stderr=True)):
                rows.append(_judged(guard, crops, place))
                out.write(_line(rows[-1]))
                out.flush()
    except OSError as error:
        raise DataError(f"can't write {file}: {error.strerror}; make room or name another --work") from error
    return rows


def suspicions(rows: list[Row]) -> npt.NDArray[np.float64]:
    """Float64 (N,), inf where no threshold releases."""
    return np.array([math.inf if row.suspicion is None else row.suspicion for row in rows], np.float64)


def _kept(file: Path, crops: Crops) -> Iterator[Row]:
    """The rows of a file as far as they are whole and of these crops."""
    if not file.exists():
        return
    lines = file.read_bytes().split(b"\n")[:-1]
    for place, line in enumerate(lines[: len(crops)]):
        try:
            row = Row(**json.loads(line))
        except (ValueError, TypeError):
            return
        if (row.index, row.source, row.label) != _names(crops, place):
            return
        if row.sha256 != digest(crops.images[place]) or _line(row) != line + b"\n":
            return
        yield row


def _names(crops: Crops, place: int) -> tuple[int, str, int]:
    return place, crops.sources[place], int(crops.labels[place])


def _line(row: Row) -> bytes:
    return json.dumps(asdict(row), allow_nan=False).encode() + b"\n"


def _judged(guard: Firewall, crops: Crops, place: int) -> Row:
    image = crops.images[place]
    verdict = guard.screen(image)
    index, source, label = _names(crops, place)
    return Row(
        index=index,
        source=source,
        group=int(crops.groups[place]),
        label=label,
        side=min(image.shape[:2]),
        sha256=digest(image),
        named=verdict.suspected_label,
        released=verdict.released,
        released_label=verdict.label,
        reason=str(verdict.reason),
        suspicion=_suspicion(guard, verdict, min(image.shape[:2])),
        scores={name: score if math.isfinite(score) else None for name, score in verdict.scores.items()},
    )


def _suspicion(guard: Firewall, verdict: Verdict, side: int) -> float | None:
    """Of all detectors together. A verdict's own may rest on fewer: those that settled it."""
    scores: dict[str, Any] = verdict.scores
    if len(scores) < len(guard.detectors) or not all(math.isfinite(score) for score in scores.values()):
        return None
    excess = guard.rules.policy(side).excess(scores)
    return excess if math.isfinite(excess) else None
