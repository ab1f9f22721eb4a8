"""The firewall against what a user would pick instead, all in one run on one core of the processor.

    python -m benchmarks.alternatives --data DATA [--json FILE] [--work DIR] [--only abcd]

(a) the published code's way: 38 Pillow copies and 39 single classifications; (b) ART's feature squeezing, spatial
smoothing and JPEG compression around the classifier in ONNX Runtime, and what each way lets out of the same attacked
signs; (c) JPEG and rotations by torchvision and kornia; (d) YOLO11n and the classifier without any guard.

The other libraries run in a process of their own, in a virtual environment that is made in WORK the first time
(requirements.txt beside this file; some 6 GB). Outputs are compared before anything is timed. Both processes are bound
to one core and work in turns, item by item, so a busy machine slows both; ratios are those of processor time, which
other programs hardly lengthen, with the clock's beside them. The attacked signs are made once (half an hour; those of
`firewall lab evaluate attacks --work WORK` are the same). DATA: folder with gtsdb_train.npz.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

import cv2

from benchmarks.alternatives.copies import against_libraries
from benchmarks.alternatives.defences import Signs, against_art
from benchmarks.alternatives.frames import against_unguarded
from benchmarks.alternatives.loop import against_the_loop
from benchmarks.alternatives.peer import Peer, environment
from benchmarks.machine import machine
from firewall import Firewall
from firewall.bundle import load_bundle
from firewall.engines import open_engine
from firewall.lab.datasets.gtsdb import load_scenes

_LIBRARIES = ("adversarial-robustness-toolbox", "kornia", "torch", "torchvision", "ultralytics", "onnxruntime")


def main() -> None:
    """Compare, time, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("runs/alternatives"))
    parser.add_argument("--bundle", default="default")
    parser.add_argument("--only", default="abcd", help="some of the four parts")
    parser.add_argument("--images", type=int, default=200, help="signs that are timed")
    parser.add_argument("--attacked", type=int, default=192, help="signs that are attacked")
    parser.add_argument(
        "--benign", type=int, default=400, help="benign signs that are judged, and as many for thresholds"
    )
    parser.add_argument("--rounds", type=int, default=40, help="batches (c) and turns over the frames (d)")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    work = arguments.work.resolve()
    python = environment(work / "venv")
    bundle = load_bundle(arguments.bundle)
    scenes = load_scenes(arguments.data)
    signs = None
    if set("ab") & set(arguments.only):
        signs = Signs(bundle, arguments.data, work, arguments.attacked, arguments.benign)

    core = max(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {core})
    cv2.setNumThreads(1)
    guard = Firewall(bundle, open_engine(bundle, threads=1), threads=1)
    result: dict[str, Any] = {"machine": machine(), "bundle": {"name": bundle.manifest.name, "sha256": bundle.sha256}}
    result["load"] = {}
    with Peer(python, core) as peer:
        result["libraries"] = peer.ask("versions", of=list(_LIBRARIES))

        def keep(part: str, found: Any) -> None:
            """What was measured is written at once: a run that is stopped leaves its whole parts."""
            result[part] = found
            result["load"][part] = os.getloadavg()[0]
            if arguments.json is not None:
                arguments.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")

        if "a" in arguments.only and signs is not None:
            images = signs.resized(signs.benign.images[: arguments.images])
            keep("loop", against_the_loop(guard, bundle, list(images)))
        if "b" in arguments.only and signs is not None:
            keep("art", against_art(guard, bundle, peer, signs, work, arguments.images))
        if "c" in arguments.only:
            keep("copies", against_libraries(peer, arguments.rounds))
        if "d" in arguments.only:
            keep("guard", against_unguarded(guard, bundle, peer, scenes, work, 8, max(1, arguments.rounds // 8)))
    sys.stdout.write(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
