"""What `--within` gains and costs: signs found and released, and processor time, by the part that is looked at.

    python benchmarks/within.py --data DATA --json RAW.json

DATA: the folder with gtsdb_train.npz. Parts are chosen by `firewall lab within` on the four fifths of the frames that
the finder was trained on, for several shares of their signs, and measured on every fifth frame. Whole frames and each
part take turns at each frame. What is counted is the thread's processor time; run it with OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.append(str(Path(__file__).resolve().parent))

from where_time_goes import resampled, spread

from firewall import Firewall
from firewall.bundle import load_bundle
from firewall.engines import open_engine
from firewall.frame import Frame
from firewall.lab.datasets.scenes import open_scenes
from firewall.lab.evaluation.scenes.figures import FrameOutcome, figures
from firewall.lab.evaluation.scenes.matching import judged_signs
from firewall.lab.evaluation.scenes.parts import Proposal, proposed, signs_within
from firewall.lab.evaluation.scenes.rows import looked_at
from firewall.regions import build, looking_within

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
    result = {"machine": machine(), "frames": len(judged), "signs": summary["signs"], "parts": rows}
    arguments.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
