"""How many signs of real road scenes a finder finds, by size and class, what else it boxes, and how long it takes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from firewall.bundle import Bundle
from firewall.engines.sessions import open_session
from firewall.frame import Pixels, Region
from firewall.lab.datasets.gtsdb import scenes_of_pack
from firewall.lab.datasets.gtsrb import CLASS_NAMES
from firewall.lab.measurement.intervals import rate_of
from firewall.regions.boxes import Floats, overlaps
from firewall.regions.sign_finder import SignFinder

FOUND = 0.5
SIZES = (16, 24, 32)
KINDS = {
    "red ring": (0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 15, 16),
    "triangle": (11, *range(18, 32)),
    "blue disc": tuple(range(33, 41)),
    "grey disc": (6, 32, 41, 42),
    "diamond": (12,),
    "yield": (13,),
    "octagon": (14,),
    "no entry": (17,),
}

Find = Callable[[Pixels], list[Region]]
Frames = list[tuple[Pixels, Floats, list[int]]]


def judged(folder: Path) -> Frames:
    """Every fifth frame of GTSDB, the first among them: none is trained, tuned or chosen on. With boxes (x, y, width,
    height) and classes."""
    scenes = scenes_of_pack(folder / "gtsdb_train.npz")
    frames = []
    for index in range(0, len(scenes), 5):
        boxes = scenes.boxes[index]
        rows = [(box.left, box.top, box.right - box.left, box.bottom - box.top) for box in boxes]
        frames.append((scenes.frames[index], _floats(rows), [box.label for box in boxes]))
    return frames


def frame_recall(find: Find, frames: Frames) -> dict[str, Any]:
    """Share of the signs that a box overlaps by FOUND; a box finds one sign, each further one on it is a nested one."""
    hits: dict[str, list[bool]] = {}
    nothing, nested, boxes = [], 0, 0
    for pixels, signs, labels in frames:
        found = _floats(find(pixels))
        table = overlaps(found, signs) if len(found) and len(signs) else np.zeros((len(found), len(signs)))
        hit = table.max(axis=0, initial=0) >= FOUND
        on = (table >= FOUND).sum(axis=0)
        nested += int(np.maximum(on - 1, 0).sum())
        nothing.append(int((table.max(axis=1, initial=0) < FOUND).sum()))
        boxes += len(found)
        for sign, label, there in zip(signs, labels, hit.tolist(), strict=True):
            kind = next(kind for kind, members in KINDS.items() if label in members)
            side = min(sign[2:])
            groups = ["all", *(f"{size}px" for size in SIZES if side >= size), kind, CLASS_NAMES[label]]
            for group in groups:
                hits.setdefault(group, []).append(there)
    shares = {}
    for group, seen in hits.items():
        rate = rate_of(np.array(seen, bool))
        shares[group] = {
            "signs": rate.total,
            "found": rate.hits,
            "recall": round(rate.value, 4),
            "interval": [round(rate.low, 4), round(rate.high, 4)],
        }
    first = ["all", *(f"{size}px" for size in SIZES), *KINDS]
    return {
        "frames": len(frames),
        "groups": {group: shares[group] for group in first if group in shares},
        "classes": {group: shares[group] for group in sorted(set(shares) - set(first))},
        "boxes_on_nothing_a_frame": round(float(np.mean(nothing)), 4),
        "frames_with_a_box_on_nothing": round(float(np.mean(np.array(nothing) > 0)), 4),
        "boxes_a_frame": round(boxes / len(frames), 4),
        "second_boxes_on_a_sign": nested,
    }


def finder_times(bundle: Bundle, frames: Sequence[Pixels], repeats: int = 3) -> dict[str, Any]:
    """CPU time of one thread for each frame in milliseconds: all of the finder, its network, and the rest."""
    finder = SignFinder.of(bundle, threads=1)
    run, spent = finder._network.run, [0.0]

    def timed() -> Any:
        started = time.thread_time()
        answer = run()
        spent[0] += time.thread_time() - started
        return answer

    finder._network.run = timed  # type: ignore[method-assign]
    cv2.setNumThreads(1)
    whole, network = [], []
    for number, frame in enumerate([*frames[:3], *list(frames) * repeats]):
        spent[0], started = 0.0, time.thread_time()
        finder.find(frame)
        if number >= 3:
            whole.append(1e3 * (time.thread_time() - started))
            network.append(1e3 * spent[0])
    rest = np.subtract(whole, network)
    return {
        "size": f"{frames[0].shape[1]}x{frames[0].shape[0]}",
        "frames": len(whole),
        "load_average": round(os.getloadavg()[0], 1),
        "cores": os.cpu_count(),
        **{
            name: {key: round(float(np.quantile(values, q)), 2) for key, q in (("min", 0), ("p50", 0.5), ("p90", 0.9))}
            for name, values in (("whole", whole), ("network", network), ("preparation_and_decoding", rest))
        },
    }


def network_times(bundle: Bundle, others: Sequence[Path], repeats: int = 40) -> dict[str, dict[str, float]]:
    """CPU time of one thread in milliseconds for the bundle's finder on a frame of 1360x800 and for other networks at
    the size that their files name, in turns."""
    spec = bundle.manifest.finder
    if spec is None:
        raise SystemExit("the bundle has no finder to compare")
    networks = {"finder": open_session(bundle.files[spec.file], spec.file, threads=1)}
    networks |= {path.stem: open_session(path.read_bytes(), str(path), threads=1) for path in others}
    shapes = {name: session.get_inputs()[0].shape for name, session in networks.items()}
    shapes["finder"] = [1, 3, 800, 1376]
    times: dict[str, list[float]] = {name: [] for name in networks}
    for number in range(repeats + 3):
        for name, session in networks.items():
            values = np.random.default_rng(number).random(shapes[name], np.float32)
            started = time.thread_time()
            session.run(None, {session.get_inputs()[0].name: values})
            if number >= 3:
                times[name].append(1e3 * (time.thread_time() - started))
    return {
        name: {"min": round(min(spent), 1), "p50": round(float(np.median(spent)), 1)} for name, spent in times.items()
    }


def _floats(boxes: Sequence[Any]) -> Floats:
    return np.array(boxes, np.float64).reshape(-1, 4)
