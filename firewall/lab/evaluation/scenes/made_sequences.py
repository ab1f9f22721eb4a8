"""Sequences that are made of single frames: a window that comes closer, judged with tracks as a video is.

They are no drives. Nothing in them turns, nothing is hidden by another thing, and far and near things grow alike. What
they have of a drive: a sign that grows and moves, a finder whose box trembles, noise and compression of each frame.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from firewall.errors import DataError
from firewall.frame import Pixels, Region
from firewall.lab.attacks.channels import parse_channel
from firewall.lab.datasets.scenes import RoadScenes, Sign
from firewall.lab.evaluation.scenes.figures import a_unit, rate
from firewall.lab.evaluation.scenes.guard import Guard
from firewall.lab.evaluation.scenes.matching import judged_signs
from firewall.lab.evaluation.scenes.pictures import Shown, around
from firewall.lab.evaluation.scenes.released_labels import ReleasedLabels
from firewall.lab.evaluation.scenes.rows import kept, looked_at

__all__ = ["FRAMES", "made_frames", "made_sequences"]

#: Frames of a sequence, and how much larger the last is than the first.
FRAMES, CLOSER = 20, 1.5
#: Each window is off by up to so many pixels, as a camera shakes.
_SHAKE = 1.5
_CHANNEL = "noise-2+jpeg-90"


@dataclass(frozen=True, slots=True)
class _Window:
    """What is seen of a frame: from `left`, `top` on, `scale` times as large."""

    left: float
    top: float
    scale: float

    def region(self, region: Region) -> Region:
        """Where a region of the frame is seen."""
        x, y, width, height = region
        left, top = (x - self.left) * self.scale, (y - self.top) * self.scale
        right, bottom = left + width * self.scale, top + height * self.scale
        return round(left), round(top), round(right) - round(left), round(bottom) - round(top)


def made_frames(frame: Pixels, signs: Sequence[Sign], near: int, seed: int) -> Iterator[tuple[Pixels, list[Sign]]]:
    """The frames of one sequence.

    Args:
        frame: Uint8 (H, W, 3).
        signs: All annotated signs of it.
        near: The one that stays in sight.
        seed: Of the place that is moved towards, and of shake and noise.

    Yields:
        Uint8 (H, W, 3), and the signs with their regions in it; one that is cut off by the edge keeps what is left, and
        one that is outside has an empty region.
    """
    height, width = frame.shape[:2]
    generator, channel = np.random.default_rng(seed), parse_channel(_CHANNEL)
    x, y, wide, high = signs[near].region
    ends = []
    for size, start, length in ((width, x, wide), (height, y, high)):
        seen, room = size / CLOSER, 4 * _SHAKE
        goal = (size - seen) * float(generator.uniform(0.35, 0.65))
        low, high_end = start + length + room - seen, start - room  # the sign is in the last window
        goal = min(max(goal, low), high_end)
        ends.append(min(max(goal, 0.0), size - seen))
    for number in range(FRAMES):
        share = number / (FRAMES - 1)
        scale = CLOSER**share
        # The window's corner moves so that it is inside of the frame at each scale.
        corner = [end * (1 - 1 / scale) / (1 - 1 / CLOSER) for end in ends]
        limits = [size - size / scale for size in (width, height)]
        shake = generator.uniform(-_SHAKE, _SHAKE, 2)
        left, top = (
            min(max(place + float(off), 0.0), limit) for place, off, limit in zip(corner, shake, limits, strict=True)
        )
        window = _Window(left, top, scale)
        matrix = np.array([[scale, 0, -left * scale], [0, scale, -top * scale]], np.float64)
        # Pixels have their middle at a half.
        matrix[:, 2] += (scale - 1) / 2
        seen_frame = cv2.warpAffine(
            frame, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        pixels = channel.through(np.asarray(seen_frame, np.uint8), generator)
        yield (
            pixels,
            [Sign(_inside(window.region(sign.region), width, height), sign.label, sign.name) for sign in signs],
        )


def made_sequences(
    guard: Guard, scenes: RoadScenes, count: int, seed: int, work: Path, *, pictures: bool = False
) -> tuple[dict[str, Any], list[Shown]]:
    """Make sequences and judge them with tracks on.

    Args:
        guard: Judges.
        scenes: The frames; each sequence is made of one that has a sign with a label.
        count: Sequences, fewer if there are fewer such frames.
        seed: Which frames, and how they move.
        work: Rows are kept here.
        pictures: Whether phantoms are shown.

    Returns:
        The figures, ready for JSON, and the pictures.

    Raises:
        DataError: No frame has a sign with a label, or there is no room.
        EngineError: A network can't be run.
    """
    usable = [place for place, signs in enumerate(scenes.signs) if any(sign.label is not None for sign in signs)]
    if not usable:
        raise DataError("none of these frames has a sign that the bundle has a label for; name other --scenes")
    order = np.random.default_rng(seed).permutation(len(usable))[:count].tolist()
    chosen = [usable[place] for place in order]
    shown: list[Shown] = []

    def row(place: int) -> dict[str, Any]:
        found = chosen[place]
        return _judged(guard, scenes.frames[found], scenes.signs[found], _near(scenes.signs[found]), seed + found)

    keys = [f"{scenes.digest(place)} {scenes.signs[place]} {FRAMES} {CLOSER} {_CHANNEL} {seed}" for place in chosen]
    rows = kept(work / "scenes" / guard.key / "made-sequences.jsonl", keys, row, "made sequences")
    signs = [sign for found in rows for sign in found["signs"]]
    groups = [place for place, found in enumerate(rows) for _ in found["signs"]]
    phantoms = [phantom for found in rows for phantom in found["phantoms"]]
    if pictures:
        for place, found in zip(chosen, rows, strict=True):
            shown += _pictured(guard, scenes, place, found["phantoms"], seed)
    return {
        "sequences": len(rows),
        "frames_a_sequence": FRAMES,
        "signs": len(signs),
        "released_right": rate([set(sign["released"]) == {sign["label"]} for sign in signs], groups),
        "released_wrong": rate([bool(set(sign["released"]) - {sign["label"]}) for sign in signs], groups),
        "found_in_a_frame": rate([sign["found"] > 0 for sign in signs], groups),
        "phantoms": len(phantoms),
        "phantoms_a_sequence": a_unit(len(phantoms), len(rows)),
        "sequences_with_a_phantom": rate([bool(found["phantoms"]) for found in rows]),
        "frames_until_right": _median([sign["first"] for sign in signs if sign["first"] is not None]),
        "what": f"made: a window moves over single real frames, from all of the frame to 1/{CLOSER:g} of its sides in "
        f"{FRAMES} frames, shaking, each with noise and JPEG 90; signs that are in sight in the last frame, by any "
        "label that was released in any frame; tracks on",
    }, shown


def _judged(guard: Guard, frame: Pixels, signs: Sequence[Sign], near: int, seed: int) -> dict[str, Any]:
    tracks, events = guard.tracks(), ReleasedLabels()
    released: list[set[int]] = [set() for _ in signs]
    found, first = [0] * len(signs), [-1] * len(signs)
    phantoms: list[dict[str, Any]] = []
    last: list[Sign] = []
    for number, (pixels, places) in enumerate(made_frames(frame, signs, near, seed)):
        verdicts = tracks.judge(guard.look(pixels, number)[0])
        seen = [place for place, sign in enumerate(places) if sign.side > 0]
        matched = judged_signs([places[place] for place in seen], looked_at(verdicts))
        for place, outcome in zip(seen, matched.signs, strict=True):
            found[place] += outcome.found
            released[place].update(outcome.released)
            if outcome.right and first[place] < 0:
                first[place] = number
        gone = [(each.region, each.released) for each in matched.phantoms if each.released is not None]
        begun = events.add(number, gone)
        phantoms += [{"frame": number, "region": list(event.region), "label": event.label} for event in begun]
        last = places
    kept_signs = [
        {
            "label": sign.label,
            "side": sign.side,
            "found": found[place],
            "released": sorted(released[place]),
            "first": None if first[place] < 0 else first[place],
        }
        for place, sign in enumerate(last)
        if sign.side > 0 and sign.label is not None
    ]
    return {"signs": kept_signs, "phantoms": phantoms}


def _pictured(guard: Guard, scenes: RoadScenes, place: int, phantoms: list[dict[str, Any]], seed: int) -> list[Shown]:
    if not phantoms:
        return []
    signs = scenes.signs[place]
    frames = [pixels for pixels, _ in made_frames(scenes.frames[place], signs, _near(signs), seed + place)]
    return [
        Shown(
            "phantoms in made sequences, tracks on",
            f"{scenes.names[place]}, frame {each['frame']}",
            f"released as {guard.labels[each['label']]}",
            around(frames[each["frame"]], (*each["region"],)),
        )
        for each in phantoms
    ]


def _near(signs: Sequence[Sign]) -> int:
    """The largest sign with a label."""
    return max(range(len(signs)), key=lambda place: (signs[place].label is not None, signs[place].side))


def _inside(region: Region, width: int, height: int) -> Region:
    x, y, wide, high = region
    left, top, right, bottom = max(0, x), max(0, y), min(width, x + wide), min(height, y + high)
    return left, top, max(0, right - left), max(0, bottom - top)


def _median(values: Sequence[int]) -> float | None:
    return float(np.median(values)) if values else None
