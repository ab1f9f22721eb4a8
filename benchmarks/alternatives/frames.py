"""(d) A detector and a classifier in ONNX Runtime without any guard: what the whole guard adds to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.alternatives.loop import LIGHTER, lighter
from benchmarks.alternatives.peer import Peer
from benchmarks.alternatives.turns import Spent, here, in_turns, middle
from firewall import Firewall
from firewall.bench.subjects import Guarded, Subject, Unguarded
from firewall.bundle import Bundle
from firewall.config import RegionDetectorSettings
from firewall.frame import Pixels, Region
from firewall.lab.datasets.gtsdb import Scenes, cut
from firewall.regions import RegionFinder, build

__all__ = ["COUNTS", "Placed", "against_unguarded", "frames_with"]

#: Signs in a frame.
COUNTS = (1, 3, 8)
YOLO_SIZE = 640
_EDGE = 20  # pixels between pasted signs


class Placed:
    """Asks a finder and takes what is known instead of what it says: its time is real, and the signs are as many as
    are asked for. The network's weights may then be random."""

    def __init__(self, finder: RegionFinder, regions: Sequence[Region]) -> None:
        self._finder, self.regions, self.found = finder, list(regions), 0
        self.networks: Mapping[str, str] = finder.networks

    def find(self, pixels: Pixels) -> list[Region]:
        """The known regions."""
        self.found = len(self._finder.find(pixels))
        return self.regions


def frames_with(scenes: Scenes, count: int, frames: int, seed: int = 0) -> list[tuple[Pixels, list[Region]]]:
    """Road scenes into which `count` signs of other scenes are pasted side by side at their own size, and where.

    Args:
        scenes: Of GTSDB.
        count: Signs a frame.
        frames: How many.
        seed: Of what is drawn.
    """
    random = np.random.default_rng(seed)
    crops = [
        cut(scenes.frames[place], box, "a frame")
        for place in random.permutation(len(scenes))[: 8 * max(COUNTS)].tolist()
        for box in scenes.boxes[place]
        if box.side >= 24
    ]
    empty = [place for place, boxes in enumerate(scenes.boxes) if not boxes]
    made = []
    for place in random.choice(empty, frames).tolist():
        pixels, regions = scenes.frames[place].copy(), []
        height, width = pixels.shape[:2]
        x, y, row = _EDGE, height // 4, 0
        for number in random.permutation(len(crops))[:count].tolist():
            crop = crops[number]
            high, wide = crop.shape[:2]
            if x + wide + _EDGE > width:
                x, y, row = _EDGE, y + row + _EDGE, 0
            pixels[y : y + high, x : x + wide] = crop
            regions.append((x, y, wide, high))
            x, row = x + wide + _EDGE, max(row, high)
        made.append((pixels, regions))
    return made


def against_unguarded(
    guard: Firewall, bundle: Bundle, peer: Peer, scenes: Scenes, folder: Path, frames: int, rounds: int
) -> dict[str, Any]:
    """Time frames with the guard and without it in turns, behind YOLO11n and behind the bundle's own finder; with
    lighter guards too, which says what of it costs what.

    Args:
        guard: The whole guard.
        bundle: Its bundle.
        peer: With ultralytics, which writes the network.
        scenes: Of GTSDB.
        folder: Where the network's file is kept.
        frames: Different ones of each kind.
        rounds: How often each is timed.
    """
    file = folder / "yolo11n.onnx"
    peer.make("ultralytics", "yolo", file=str(file), size=YOLO_SIZE)
    detector = RegionDetectorSettings(file=file)
    finders = {
        f"YOLO11n at {YOLO_SIZE}": build("detector", detector, threads=1),
        "our finder": build("signs", bundle=bundle, threads=1),
    }
    guards = {"whole guard": guard} | {way: lighter(bundle, kept) for way, kept in LIGHTER.items()}
    rows = []
    for count in COUNTS:
        made = frames_with(scenes, count, frames)
        peer.load("frames", np.stack([pixels for pixels, _ in made]))
        for name, finder in finders.items():
            placed = [Placed(finder, regions) for _, regions in made]
            guarded = {way: [Guarded(each, one) for one in placed] for way, each in guards.items()}
            ways: dict[str, Sequence[Subject]] = {"without": [Unguarded(guard, one) for one in placed], **guarded}
            works = {
                way: here(lambda item, subjects=subjects, made=made: subjects[item].run(made[item][0]))
                for way, subjects in ways.items()
            }
            if name.startswith("YOLO"):
                works["ultralytics"] = peer.work("ultralytics", "frames")
            taken = in_turns(works, len(made), rounds)
            row = {"finder": name, "signs": count, "found_by_itself": float(np.mean([one.found for one in placed]))}
            row["released"] = share_released(guarded["whole guard"])
            row["processor_ms"] = {way: middle(spent)["processor_ms"] for way, spent in taken.items()}
            row["added"] = {way: added(taken["without"], taken[way]) for way in guards}
            rows.append(row)
    return {"frame": list(made[0][0].shape[:2]), "rows": rows}


def added(without: Sequence[Spent], guarded: Sequence[Spent], seed: int = 0) -> dict[str, Any]:
    """What the guard adds, as a share of the time without it: median processor time of the differences over that of
    the frames without, with its 95 % interval; by the clock too."""
    pairs = np.array([without, guarded]).transpose(1, 0, 2)
    drawn = np.random.default_rng(seed).integers(0, len(pairs), (400, len(pairs)))
    shares = [_share(pairs[rows, :, 1]) for rows in drawn]
    low, high = np.quantile(shares, (0.025, 0.975))
    return {
        "share": _share(pairs[:, :, 1]),
        "ci95": [float(low), float(high)],
        "by_the_clock": _share(pairs[:, :, 0]),
        "ms_a_frame": 1e3 * float(np.median(pairs[:, 1, 1] - pairs[:, 0, 1])),
        "n": len(pairs),
    }


def _share(pairs: npt.NDArray[np.float64]) -> float:
    return float(np.median(pairs[:, 1] - pairs[:, 0]) / np.median(pairs[:, 0]))


def share_released(subjects: Sequence[Guarded]) -> float:
    """Of all verdicts."""
    released = sum(found for one in subjects for said, found in one.decisions.items() if said.startswith("release"))
    return released / sum(one.verdicts for one in subjects)
