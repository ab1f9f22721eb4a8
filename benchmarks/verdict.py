"""What a verdict on a normal image costs, against a loop over 38 Pillow copies and 39 classifications of one image.

    python benchmarks/verdict.py --database DB [--bundle default] [--json FILE] [--images N]

The loop is what the statistics paper's published way comes to: every copy by Pillow, every copy classified alone. Its
labels are compared first with those that the firewall's own sweep and batch give for the same 39 images. Then each
normal image is judged by the firewall (which stops as soon as it is sure) and by the loop, one after the other, so that
a busy machine slows both. Both classify by ONNX Runtime with the same number of threads. The firewall decides more than
the loop does, whose labels would still have to be judged: that is not timed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from machine import machine
from operations import by_pillow

from firewall import Firewall
from firewall.bundle.certificate import judges
from firewall.lab.database import Database
from firewall.transforms import OPERATIONS_38, apply_operations


def main() -> None:
    """Compare, time, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", type=Path, required=True, help="its normal images are judged")
    parser.add_argument("--bundle", default="default")
    parser.add_argument("--images", type=int, default=700, help="p99 needs 662")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    guard = Firewall.load(arguments.bundle, threads=arguments.threads)
    images = Database(arguments.database).normal[: arguments.images]
    equal = sum(np.array_equal(loop(guard, image), sweep(guard, image)) for image in images[:50])
    if equal < min(50, len(images)):
        raise SystemExit(f"only {equal} of the first 50 images get the same 39 labels by the loop and the sweep")
    for image in images[:50]:
        guard.screen(image)
    ours, theirs, classified, released = [], [], [], 0
    for image in images:
        started = time.perf_counter()
        verdict = guard.screen(image)
        middle = time.perf_counter()
        loop(guard, image)
        ended = time.perf_counter()
        ours.append(1e3 * (middle - started))
        theirs.append(1e3 * (ended - middle))
        classified.append(verdict.classified)
        released += verdict.released
    result: dict[str, Any] = {
        "machine": machine(),
        "bundle": {"name": guard.bundle.manifest.name, "sha256": guard.bundle.sha256},
        "judges": judges(guard.bundle.manifest),
        "database": arguments.database.name,
        "images": len(images),
        "released": released,
        "labels_equal_on": equal,
        "mean_classified": statistics.mean(classified),
        "classified_once": sum(count == 1 for count in classified) / len(classified),
        "firewall_ms": spread(ours),
        "loop_ms": spread(theirs),
        "ratio_of_means": statistics.mean(theirs) / statistics.mean(ours),
        "ratio_of_medians": statistics.median(theirs) / statistics.median(ours),
    }
    sys.stdout.write(json.dumps(result, indent=1) + "\n")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def loop(guard: Firewall, image: np.ndarray) -> np.ndarray:
    """Labels of the image and its 38 copies, one at a time."""
    copies = np.empty((len(OPERATIONS_38), *image.shape), np.uint8)
    by_pillow(image, OPERATIONS_38, copies)
    return np.array([int(guard.engine.classify(each[np.newaxis])[0].argmax()) for each in (image, *copies)])


def sweep(guard: Firewall, image: np.ndarray) -> np.ndarray:
    """The same, all copies at once."""
    batch = np.concatenate([image[np.newaxis], apply_operations(image, OPERATIONS_38)])
    return guard.engine.classify(batch).argmax(axis=1)


def spread(values: list[float]) -> dict[str, float]:
    """Of times in ms."""
    found = {f"p{level}": float(np.percentile(values, level)) for level in (50, 90, 99)}
    return {"mean": statistics.mean(values), **found, "max": max(values)}


if __name__ == "__main__":
    main()
