"""What a bundle of docs/own_classifier.md withholds: a user's classifier, calibrated on benign images alone.

    python benchmarks/own_classifier.py --bundle B --held DIR --database DB --data TEXT [--json FILE]

held: images (a folder or a pack) that nothing was trained or calibrated on. database: attacks on the bundle's
classifier, made of such images by 'firewall lab attack'. Every detector is asked of every image and judged at the
threshold that the bundle has; "any" is the bundle's own verdict. data: what the images are, for the record.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from machine import machine

from firewall import Firewall
from firewall.frame import Pixels
from firewall.lab.database import Database
from firewall.lab.datasets.packs import load_images
from firewall.lab.measurement.metrics import rate_interval
from firewall.verdict import Verdict


def main() -> None:
    """Judge, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--held", type=Path, required=True)
    parser.add_argument("--database", type=Path, required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--limit", type=int, default=700, help="held-out images")
    parser.add_argument("--json", type=Path, help="added to what is there, under the bundle's name")
    arguments = parser.parse_args()
    guard = Firewall.load(arguments.bundle, threads=1, exhaustive=True)
    guard.correction = None
    thresholds = {spec.name: spec.threshold for spec in guard.bundle.manifest.detectors}
    database, manifest = Database(arguments.database), guard.bundle.manifest
    held = load_images(arguments.held)[: arguments.limit]
    verdicts = {"held-out benign": judged(guard, held)}
    for attack in database.card.attacks:
        verdicts[attack] = judged(guard, list(database.attacked(attack).images))
    normal = {name: scores(verdicts["held-out benign"], name) for name in thresholds}
    result: dict[str, Any] = {
        "machine": machine(),
        "data": arguments.data,
        "classifier": manifest.classifier.model_dump(mode="json", include={"file", "input"}),
        "detectors": sorted(thresholds),
        "calibration": manifest.calibration.model_dump(mode="json", include={"images", "false_positive_rate", "rates"}),
        "withheld": {
            what: {
                "n": len(found),
                "any": share([not verdict.released for verdict in found]),
                **{name: share((scores(found, name) > threshold).tolist()) for name, threshold in thresholds.items()},
            }
            for what, found in verdicts.items()
        },
        "auroc": {
            what: {name: area(normal[name], scores(found, name)) for name in thresholds}
            for what, found in verdicts.items()
            if what != "held-out benign"
        },
    }
    sys.stdout.write(json.dumps(result, indent=1) + "\n")
    if arguments.json is not None:
        known = json.loads(arguments.json.read_text(encoding="utf-8")) if arguments.json.is_file() else {}
        known[manifest.name] = result
        arguments.json.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")


def judged(guard: Firewall, images: list[Pixels]) -> list[Verdict]:
    """A verdict of each, with every detector's score."""
    return [guard.screen(image) for image in images]


def scores(verdicts: list[Verdict], name: str) -> np.ndarray:
    """Of one detector."""
    return np.array([verdict.scores[name] for verdict in verdicts])


def share(withheld: list[bool]) -> dict[str, Any]:
    """With the 95 % interval of Clopper and Pearson."""
    low, high = rate_interval(sum(withheld), len(withheld))
    return {"rate": round(sum(withheld) / len(withheld), 4), "ci95": [round(low, 4), round(high, 4)]}


def area(normal: np.ndarray, attacked: np.ndarray) -> float:
    """Area under the ROC curve: how often an attacked image scores higher than a benign one."""
    above = (attacked[:, None] > normal[None]).mean() + 0.5 * (attacked[:, None] == normal[None]).mean()
    return round(float(above), 4)


if __name__ == "__main__":
    main()
