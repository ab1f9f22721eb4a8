"""How many traffic signs `--regions signs` finds, and how often it sees one where there is none.

    python benchmarks/regions_recall.py --data DIR [--bundle B] [--real] [--json FILE]

DIR holds the packs gtsdb_train.npz, gtsrb_train_orig.npz, gtsrb_train_extra32.npz and road_frames.npz and the video
solidWhiteRight.mp4. Real scenes: every fifth frame of GTSDB, the first among them, see gtsdb_frames.py. Pasted signs:
even GTSRB tracks, even road photos and the first half of the video are for tuning, the others for the figures. A sign
counts as found when one of the boxes overlaps it with an intersection over union of at least 0.5.

Pasted signs are whole GTSRB crops, margin included, put into road photos and video frames at random places. `plain`
blends their edges in; `matched` first makes the crop as bright as the scene around it, so that it isn't given away by a
bright or dark patch: the harder and more honest of the two. Their box is the whole crop, margin included: a finder that
boxes the sign alone overlaps a small one by less than a half and misses it here, so only like finders can be compared.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from gtsdb_frames import KINDS, finder_times, frame_recall, judged, network_times

from firewall.bundle import Bundle, load_bundle
from firewall.frame import Pixels, Region
from firewall.lab.datasets.packs import load_pack
from firewall.regions import build
from firewall.regions.boxes import Floats, overlaps

TUNE, REPORT = 0, 1
FOUND = 0.5
SIZES, SMALL, LARGE = (24, 120), (24, 48), (120, 270)
MOST_ENLARGED = 1.5  # larger, and a crop would be only a blur
GROUPS = {"24-31 px": 32, "32-63 px": 64, "64-119 px": 120, "120 px and more": 9999}
KIND_OF = {label: kind for kind, labels in KINDS.items() for label in labels}


@dataclass(frozen=True)
class Scene:
    """boxes: what is known to be in it; others may be there too."""

    pixels: Pixels
    boxes: list[tuple[str, Region]]
    place: str


class Material:
    """The data of one half."""

    def __init__(self, folder: Path, half: int) -> None:
        self.signs = _signs(folder / "gtsrb_train_orig.npz", half)
        images, columns = load_pack(folder / "road_frames.npz")
        self.photos = []
        for image, text in list(zip(images, columns["boxes"], strict=True))[half::2]:
            boxes = [(name, (x0, y0, x1 - x0, y1 - y0)) for name, x0, y0, x1, y1 in json.loads(str(text))]
            self.photos.append(Scene(image, [box for box in boxes if box[0] != "trafficlight"], "photo"))
        frames = _video(folder / "solidWhiteRight.mp4")
        # One frame is left out between the halves' ends: neighbours are nearly the same picture.
        self.frames = frames[: len(frames) // 2] if half == TUNE else frames[len(frames) // 2 + 1 :]

    def pasted(
        self,
        signs: dict[int, list[Pixels]],
        each: int,
        matched: bool,
        seed: int,
        sizes: tuple[int, int] = SIZES,
    ) -> Iterator[Scene]:
        """`each` scenes for each class, half of them photos, half frames of the video; one sign of `sizes` px in each.
        A class without an image that is large enough is left out."""
        rng = np.random.default_rng(seed)
        for label, images in sorted(signs.items()):
            fit = [image for image in images if max(image.shape[:2]) * MOST_ENLARGED >= sizes[0]]
            for turn in range(each if fit else 0):
                sign = fit[int(rng.integers(len(fit)))]
                if turn % 2:
                    photo = self.photos[int(rng.integers(len(self.photos)))]
                    ground, taken, place = photo.pixels, [box for _, box in photo.boxes], "photo"
                else:
                    ground, taken, place = self.frames[int(rng.integers(len(self.frames)))], [], "video"
                pixels, box = _paste(ground, sign, taken, matched, sizes, rng)
                yield Scene(pixels, [(KIND_OF[label], box)], place)


def _signs(file: Path, half: int | None) -> dict[int, list[Pixels]]:
    images, columns = load_pack(file)
    signs: dict[int, list[Pixels]] = defaultdict(list)
    for image, label, track in zip(images, columns["label"], columns["track"], strict=True):
        if half is None or int(track) % 2 == half:
            signs[int(label)].append(image)
    return signs


def _video(file: Path) -> list[Pixels]:
    video = cv2.VideoCapture(str(file))
    frames: list[Pixels] = []
    while (taken := video.read())[0]:
        frames.append(np.ascontiguousarray(taken[1][:, :, ::-1], np.uint8))
    if not frames:
        raise SystemExit(f"{file} is not there or not a video")
    return frames


def _paste(
    ground: Pixels,
    sign: Pixels,
    taken: list[Region],
    matched: bool,
    sizes: tuple[int, int],
    rng: np.random.Generator,
) -> tuple[Pixels, Region]:
    side = max(sign.shape[:2])
    smallest, largest = sizes[0], min(sizes[1], MOST_ENLARGED * side, *ground.shape[:2])
    size = round(np.exp(rng.uniform(np.log(smallest), np.log(largest))))  # evenly over the logarithm
    height, width = (max(1, round(length * size / side)) for length in sign.shape[:2])
    way = cv2.INTER_AREA if size < side else cv2.INTER_LINEAR
    patch = np.asarray(cv2.resize(sign, (width, height), interpolation=way), np.float64)
    for _ in range(50):
        x = int(rng.integers(ground.shape[1] - width + 1))
        y = int(rng.integers(ground.shape[0] - height + 1))
        box = (x, y, width, height)
        if not taken or overlaps(_floats([box]), _floats(taken)).max() == 0:
            break
    under = ground[y : y + height, x : x + width].astype(np.float64)
    rows, columns = np.mgrid[:height, :width] + 0.5
    inward = np.minimum(
        np.minimum(columns, width - columns) / width, np.minimum(rows, height - rows) / height
    )  # distance to the edge as a part of the side
    if matched:
        edge = inward < 0.08
        patch = np.clip(patch * np.clip((under[edge].mean() + 5) / (patch[edge].mean() + 5), 0.25, 6), 0, 255)
    solid = np.clip(inward / 0.06, 0, 1)[..., None]
    pixels = ground.copy()
    pixels[y : y + height, x : x + width] = np.rint(solid * patch + (1 - solid) * under)
    return pixels, box


def _floats(boxes: list[Any]) -> Floats:
    return np.array(boxes, np.float64).reshape(-1, 4)


def _with_margin(box: Region) -> tuple[float, ...]:
    """The box of a photo is tight; the proposals have a margin of a tenth, as GTSRB has."""
    x, y, width, height = box
    return x - 0.1 * width, y - 0.1 * height, 1.2 * width, 1.2 * height


def recall(find: Callable[[Pixels], list[Region]], scenes: Iterator[Scene]) -> dict[str, Any]:
    """Recall by kind of sign, by place and by size, with the number of signs, and the mean number of boxes."""
    hits: dict[str, list[bool]] = defaultdict(list)
    boxes: dict[str, list[int]] = defaultdict(list)
    for scene in scenes:
        found = find(scene.pixels)
        boxes[scene.place].append(len(found))
        for kind, box in scene.boxes:
            hit = bool(found) and bool(overlaps(_floats(found), _floats([box])).max() >= FOUND)
            size = next(name for name, above in GROUPS.items() if max(box[2:]) < above)
            for group in ("all", kind, f"on {scene.place}", size):
                hits[group].append(hit)
    groups = {group: {"recall": round(float(np.mean(v)), 4), "signs": len(v)} for group, v in sorted(hits.items())}
    return {"groups": groups, "boxes_per_frame": {place: round(float(np.mean(v)), 2) for place, v in boxes.items()}}


def photos(find: Callable[[Pixels], list[Region]], scenes: list[Scene]) -> dict[str, Any]:
    """Recall of the annotated signs, against the tight boxes and against boxes with the margin of GTSRB."""
    tight: dict[str, list[bool]] = defaultdict(list)
    wide: dict[str, list[bool]] = defaultdict(list)
    count = []
    for scene in scenes:
        found = _floats(find(scene.pixels))
        count.append(len(found))
        for kind, box in scene.boxes:
            for hits, wanted in ((tight, box), (wide, _with_margin(box))):
                hit = bool(len(found)) and bool(overlaps(found, _floats([wanted])).max() >= FOUND)
                hits[kind].append(hit)
                hits["all"].append(hit)
    return {
        "groups": {
            kind: {
                "recall_tight_box": round(float(np.mean(tight[kind])), 4),
                "recall_with_margin": round(float(np.mean(wide[kind])), 4),
                "signs": len(tight[kind]),
            }
            for kind in sorted(tight)
        },
        "photos": len(scenes),
        "boxes_per_photo": round(float(np.mean(count)), 2),
    }


def noise(find: Callable[[Pixels], list[Region]], scenes: Iterator[Scene], seed: int) -> dict[str, Any]:
    """Of the signs that are found, how many stay found with +-8 grey levels of random-sign noise inside the sign, and
    how far the box stays the same."""
    rng = np.random.default_rng(seed)
    kept, same = [], []
    for scene in scenes:
        x, y, width, height = scene.boxes[0][1]
        before = _floats(find(scene.pixels))
        over = overlaps(before, _floats([(x, y, width, height)]))[:, 0] if len(before) else np.zeros(1)
        if over.max() < FOUND:
            continue
        noisy = scene.pixels.astype(np.int16)
        noisy[y : y + height, x : x + width] += rng.choice((-8, 8), (height, width, 3)).astype(np.int16)
        after = _floats(find(np.clip(noisy, 0, 255).astype(np.uint8)))
        agree = overlaps(after, before[over.argmax()][None]).max() if len(after) else 0.0
        kept.append(bool(len(after)) and bool(overlaps(after, _floats([scene.boxes[0][1]])).max() >= FOUND))
        same.append(agree)
    return {
        "signs": len(kept),
        "still_found": round(float(np.mean(kept)), 4),
        "overlap_of_the_box_median": round(float(np.median(same)), 4),
        "overlap_of_the_box_p5": round(float(np.quantile(same, 0.05)), 4),
    }


def speed(find: Callable[[Pixels], list[Region]], frames: list[Pixels]) -> dict[str, Any]:
    """CPU time of one thread for each frame, in milliseconds."""
    cv2.setNumThreads(1)
    for frame in frames[:3]:
        find(frame)
    times = []
    for frame in frames:
        start = time.thread_time()
        find(frame)
        times.append(1e3 * (time.thread_time() - start))
    low, p50, p90, high = np.quantile(times, (0, 0.5, 0.9, 1))
    names = {"min": low, "p50": p50, "p90": p90, "max": high}
    facts = {
        "size": f"{frames[0].shape[1]}x{frames[0].shape[0]}",
        "frames": len(times),
        # Other work on the machine slows a thread down even in CPU time, since cores share caches.
        "load_average": round(os.getloadavg()[0], 1),
        "cores": os.cpu_count(),
    }
    return facts | {name: round(float(value), 2) for name, value in names.items()}


def real(folder: Path, bundle: Bundle) -> dict[str, Any]:
    """Figures on GTSDB's frames; only these with --real."""
    find, frames = build("signs", threads=1, bundle=bundle).find, judged(folder)
    pixels = [frame for frame, _, _ in frames]
    times = {"cpu_ms": speed(find, pixels), "finder_cpu_ms": finder_times(bundle, pixels[:20])}
    finder = bundle.manifest.finder
    about = None if finder is None else bundle.manifest.files[finder.file].sha256
    return {"finder_sha256": about, "gtsdb": {**frame_recall(find, frames), **times}}


def report(folder: Path, half: int, bundle: Bundle) -> dict[str, Any]:
    """All figures of one half."""
    material, find = Material(folder, half), build("signs", threads=1, bundle=bundle).find
    counts = [len(find(frame)) for frame in material.frames]
    result: dict[str, Any] = {
        **real(folder, bundle),
        "half": "report" if half == REPORT else "tune",
        "pasted_plain": recall(find, material.pasted(material.signs, 24, False, 11 + half)),
        "pasted_matched": recall(find, material.pasted(material.signs, 24, True, 21 + half)),
    }
    result["pasted_matched_large"] = recall(find, material.pasted(material.signs, 8, True, 61 + half, LARGE))
    if half == REPORT:
        other = _signs(folder / "gtsrb_train_extra32.npz", None)
        result["pasted_plain_other_tracks"] = recall(find, material.pasted(other, 24, False, 31, SMALL))
        result["pasted_matched_other_tracks"] = recall(find, material.pasted(other, 24, True, 32, SMALL))
    result |= {
        "noise_8": noise(find, material.pasted(material.signs, 6, True, 41 + half), 51),
        "photos": photos(find, material.photos),
        "video": {"frames": len(counts), "boxes_per_frame": round(float(np.mean(counts)), 3), "most": max(counts)},
        "cpu_ms": speed(find, material.frames),
    }
    return result


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="Recall, false boxes and time of the sign proposals.")
    parser.add_argument("--data", type=Path, required=True, help="folder of the packs and the video")
    parser.add_argument("--bundle", default="default", help="'default' or the folder of a bundle")
    parser.add_argument("--real", action="store_true", help="only the frames of GTSDB")
    parser.add_argument("--against", type=Path, nargs="*", default=[], help="ONNX files of detectors to time beside it")
    parser.add_argument("--json", type=Path, help="write the figures of the report half to this file")
    parser.add_argument("--half", choices=("tune", "report"), default="report", help="which half to measure on")
    given = parser.parse_args()
    bundle = load_bundle(given.bundle)
    if given.real:
        result = real(given.data, bundle)
    else:
        result = report(given.data, REPORT if given.half == "report" else TUNE, bundle)
    if given.against:
        result["network_cpu_ms"] = network_times(bundle, given.against)
    result |= {"machine": platform.processor() or platform.machine(), "opencv": cv2.__version__, "commit": _commit()}
    _print(result)
    if given.json:
        given.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def _commit() -> str:
    asked = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],  # noqa: S607
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parent,
    )
    return asked.stdout.strip() or "none"


def _print(result: dict[str, Any]) -> None:
    for name, part in result.items():
        if isinstance(part, dict) and "groups" in part:
            facts = {key: value for key, value in part.items() if key not in ("groups", "classes")}
            sys.stdout.write(f"\n{name}  ({', '.join(f'{k} {v}' for k, v in facts.items())})\n")
            for group, row in part["groups"].items():
                sys.stdout.write(f"  {group:16}  {'  '.join(f'{k} {v}' for k, v in row.items())}\n")
        else:
            sys.stdout.write(f"\n{name}: {part}\n")


if __name__ == "__main__":
    main()
