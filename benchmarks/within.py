"""What `--within` gains and costs: signs found and released, and processor time, by the part that is looked at.

    python benchmarks/within.py --data DATA --json RAW.json

DATA: the folder with gtsdb_train.npz. Parts are chosen by `firewall lab within` on the four fifths of the frames that
the finder was trained on, for several shares of their signs, and measured on every fifth frame. Whole frames and each
part take turns at each frame. What is counted is the thread's processor time; run it with OMP_NUM_THREADS=1.
Then the edge of a part is laid through each sign of the choosing frames: what goes out of a sign that is cut?
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

sys.path.append(str(Path(__file__).resolve().parent))

from where_time_goes import resampled, spread

from firewall import Firewall
from firewall.bundle import load_bundle
from firewall.engines import open_engine
from firewall.frame import Frame, Region
from firewall.lab.datasets.scenes import RoadScenes, open_scenes
from firewall.lab.evaluation.scenes.figures import FrameOutcome, figures
from firewall.lab.evaluation.scenes.matching import TOUCHING, judged_signs
from firewall.lab.evaluation.scenes.parts import STEP, Proposal, proposed, signs_within
from firewall.lab.evaluation.scenes.rows import looked_at
from firewall.regions import build, looking_within, overlaps

SHARES = (1.0, 0.995, 0.99, 0.97, 0.95, 0.9)
JUDGED = "5:0"
_KEPT = ("released_right", "released_wrong", "missed", "phantom_frames", "regions_on_nothing_a_frame")


def main() -> None:
    """Measure, write."""
    from machine import machine

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--limit", type=int, help="the first so many frames")
    arguments = parser.parse_args()
    bundle = load_bundle()
    labels = bundle.manifest.classifier.labels
    scenes = open_scenes(arguments.data / "gtsdb_train.npz", labels)
    choosing, judged = scenes.without(JUDGED), scenes.chosen(JUDGED, arguments.limit)
    parts: dict[str, Proposal | None] = {"": None}
    for share in SHARES:
        found = proposed(choosing, share)
        parts.setdefault(str(found.part), found)
    guard = Firewall(bundle, open_engine(bundle, threads=1), threads=1)
    finders = {
        name: looking_within(build("signs", threads=1, bundle=bundle), None if found is None else found.part, "signs")
        for name, found in parts.items()
    }
    outcomes: dict[str, list[FrameOutcome]] = {name: [] for name in parts}
    for place in range(-3, len(judged)):  # the first three warm up
        pixels, names = np.ascontiguousarray(judged.frames[max(place, 0)]), list(parts)
        for name in names if place % 2 else names[::-1]:
            started = time.thread_time()
            regions = finders[name].find(pixels)
            between = time.thread_time()
            verdicts = guard.screen_frame(Frame(pixels, "scene", place, time.monotonic()), regions)
            ended = time.thread_time()
            ms = {"regions": between - started, "judging": ended - between, "frame": ended - started}
            if place >= 0:
                some = looked_at(verdicts)
                matched = judged_signs(judged.signs[place], some)
                outcomes[name].append(FrameOutcome(matched, len(some), {key: 1e3 * each for key, each in ms.items()}))
    rows = []
    for name, proposal in parts.items():
        row: dict[str, Any] = {"within": name or "off"}
        if proposal is not None:
            row |= {"chosen_by": proposal.to_json(), "judged": signs_within(judged, finders[name])}
        summary = figures(outcomes[name], labels)
        row |= {"found": summary["found"]["all"], **{key: summary[key] for key in _KEPT}}
        for stage in ("regions", "frame"):
            row[f"{stage}_ms"] = spread([one.ms[stage] for one in outcomes[name]])
            pairs = zip(outcomes[""], outcomes[name], strict=True)
            row[f"{stage}_ms_less"] = resampled([one.ms[stage] - other.ms[stage] for one, other in pairs])
        signs = [
            (one.right, other.right)
            for before, after in zip(outcomes[""], outcomes[name], strict=True)
            for one, other in zip(before.matched.signs, after.matched.signs, strict=True)
            if one.sign.label is not None
        ]
        row["right_no_longer"] = sum(one and not other for one, other in signs)
        row["right_only_now"] = sum(other and not one for one, other in signs)
        rows.append(row)
    cuts = cut_signs(guard, finders[""], choosing, arguments.limit)
    result = {"machine": machine(), "frames": len(judged), "signs": summary["signs"], "parts": rows, "cuts": cuts}
    arguments.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def cut_signs(guard: Firewall, finder: Any, scenes: RoadScenes, limit: int | None) -> dict[str, Any]:
    """What becomes of signs of 20 pixels and more that the upper or lower edge of a part cuts: as it is, and if the
    region were cut off at the edge too. Edges are the rows that are multiples of 32, as parts have them."""
    found: dict[str, Counter[str]] = {"as it is": Counter(), "region cut off": Counter()}
    for place in range(min(len(scenes), limit or len(scenes))):
        signs = [sign for sign in scenes.signs[place] if sign.side >= 20 and sign.label is not None]
        pixels = np.ascontiguousarray(scenes.frames[place]) if signs else np.empty((0, 0, 3), np.uint8)
        height, width = pixels.shape[:2]
        for sign in signs:
            _, top, _, high = sign.region
            for edge in range(-(-top // STEP) * STEP, top + high, STEP):
                for part in ((0, 0, width, edge), (0, edge, width, height - edge)):
                    if not 0.05 <= (edge - top) / high <= 0.95 or part[3] < STEP:
                        continue
                    regions = [each for each in finder.find_in(pixels, part) if at(each, sign.region)]
                    cut = [each for region in regions if (each := shared(region, part))]
                    for name, some in zip(found, (regions, cut), strict=True):
                        verdicts = guard.screen_frame(Frame(pixels, "cut", 0, time.monotonic()), some) if some else []
                        found[name][said({each.label for each in verdicts if each.released}, some, sign.label)] += 1
    return {name: {"cuts": sum(counts.values()), **dict(counts.most_common())} for name, counts in found.items()}


def at(region: Region, sign: Region) -> bool:
    """A region lies at a sign, as `firewall lab evaluate scenes` has it."""
    boxes = np.array([region, sign], np.float64)
    return bool(overlaps(boxes[:1], boxes[1:])[0, 0] >= TOUCHING)


def shared(region: Region, part: Region) -> Region | None:
    """What of a region lies in a part."""
    top, bottom = max(region[1], part[1]), min(region[1] + region[3], part[1] + part[3])
    return (region[0], top, region[2], bottom - top) if bottom > top else None


def said(labels: set[int | None], regions: list[Region], right: int | None) -> str:
    """What became of a sign."""
    if not regions:
        return "nothing found"
    return "withheld" if not labels else "right" if labels == {right} else "wrong"


if __name__ == "__main__":
    main()
