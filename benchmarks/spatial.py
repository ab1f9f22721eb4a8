"""Spatial certificates and attacks on MNIST over the budget, for the two networks that come with the package.

    python benchmarks/spatial.py --data DIR [--out DIR] [--only pair,thesis,curve,soundness,cells]

Each point is written as soon as it is measured and not measured again: stop it at any time. `cells` says what the
semidefinite bound adds in cells of shifts, image by image.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from machine import machine

from firewall.lab.certification.dual import certify_pair
from firewall.lab.certification.image_certificate import Threat, certify
from firewall.lab.certification.journal import Journal
from firewall.lab.certification.spatial_attack import Attempt, Search, attempts, moved, thesis_attack
from firewall.lab.certification.two_layer import NETWORKS, open_two_layer
from firewall.lab.commands.spatial import random_target
from firewall.lab.datasets import open_dataset
from firewall.lab.measurement.metrics import rate_interval

#: (budget, shift, images): the images are the first of a fixed random order of the test set.
POINTS = [
    (3.5, 3.0, 100),
    (7.0, 0.0, 100),
    (14.0, 0.0, 100),
    (20.0, 0.0, 100),
    (7.0, 3.0, 60),
    (3.5, 0.0, 100),
    (28.0, 0.0, 100),
    (7.0, 1.0, 60),
    (5.0, 3.0, 60),
    (1.0, 3.0, 60),
]
#: Cells of shifts to look at for an image, fewer than the command does: the certified share is the lower for it.
CELLS = 300
SEARCH = Search(steps=60, restarts=3)
#: (budget, images, bounds) with shifts of up to 3 pixels.
IN_CELLS = [
    *((3.5, 100, True), (5.0, 60, True), (5.0, 100, True), (7.0, 60, True)),
    *((5.0, 60, False), (3.5, 100, False), (7.0, 60, False)),
]
left = 0


def main() -> None:
    """Measure what is missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/certification"))
    parser.add_argument("--only", default="pair,thesis,curve,soundness")
    parser.add_argument("--points", type=int, default=1000, help="Stop after so many.")
    parser.add_argument("--networks", default=",".join(NETWORKS))
    arguments = parser.parse_args()
    test = open_dataset("mnist", arguments.data, part="test")
    order = np.random.default_rng(0).permutation(len(test))
    images = np.stack([test.images[int(index)][..., 0] for index in order[:1000]]) / 255.0
    labels = test.labels[order[:1000]]
    global left  # noqa: PLW0603
    left = arguments.points
    arguments.out.mkdir(parents=True, exist_ok=True)
    for part in arguments.only.split(","):
        PARTS[part](arguments.out, images, labels, order[:1000], arguments.networks.split(","))


def curve(out: Path, images: Any, labels: Any, order: Any, names: list[str]) -> None:
    """Certified and attacked accuracy."""
    for budget, shift, count in POINTS:
        for name in names:
            network, threat = open_two_layer(name), Threat(budget, shift)
            key = {"network": name, "sha256": network.sha256[:12], "budget": budget, "shift": shift, "n": count}
            if measured(out / "spatial_curve.json", key):
                continue
            x, y = images[:count], labels[:count]
            clean = network.logits(x).argmax(1) == y
            started = time.process_time()
            proved = [certify(network, one, int(label), threat, most=CELLS) for one, label in zip(x, y, strict=True)]
            seconds = (time.process_time() - started) / count
            lost = np.array([attempt.success for attempt in attempts(network, x, y, threat, SEARCH, away=True)])
            aims = np.array([random_target(int(i), int(label)) for i, label in zip(order, y, strict=False)])
            towards = attempts(network, x, aims, threat, SEARCH)
            certified = np.array([one.certified for one in proved])
            row = {
                "clean": float(clean.mean()),
                "certified": float(certified.mean()),
                "attacked": float((clean & ~lost).mean()),
                "attack": f"search, {SEARCH.restarts} starts of {SEARCH.steps} steps, any wrong class",
                "target_reached": float(np.mean([attempt.success for attempt in towards])),
                "certified_and_attacked": int((certified & lost).sum()),
                "semidefinite": sum(one.method == "semidefinite" and one.certified for one in proved),
                "seconds_an_image": round(seconds, 3),
                "cells_an_image": float(np.mean([one.cells for one in proved])),
            }
            add(out / "spatial_curve.json", key, row)


def thesis(out: Path, images: Any, labels: Any, order: Any, names: list[str]) -> None:
    """The thesis's attack on random test images, random targets, 250 at a time; files as `lab attack` writes them."""
    for name in names:
        network = open_two_layer(name)
        path = out / f"spatial_thesis_{name}.json"
        for start in range(0, len(images), 250):
            part = slice(start, start + 250)
            saved: dict[str, Any] = {
                "network": name,
                "network_sha256": network.sha256,
                "dataset": "mnist/test",
                "method": "thesis",
                "threat": {"budget": 7.0, "shift": 0.0, "noise": 0.0},
                "rows": [],
            }
            before = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
            if before.get("network_sha256") == network.sha256:
                saved = before
            if len(saved["rows"]) > start:
                continue
            aims = np.array([random_target(int(i), int(y)) for i, y in zip(order[part], labels[part], strict=True)])
            found = thesis_attack(network, images[part], aims, 7.0)
            if start == 0:
                keep(out / f"spatial_examples_{name}.npz", images[part], labels[part], aims, found)
            for index, label, aim, attempt in zip(order[part], labels[part], aims, found, strict=True):
                saved["rows"].append(
                    {
                        "index": int(index),
                        "label": int(label),
                        "target": int(aim),
                        "success": attempt.success,
                        "total_variation": attempt.total_variation,
                        "farthest": float(np.abs(attempt.flow).max()),
                        "flow_file": None,
                    }
                )
            saved["images"] = len(saved["rows"])
            saved["successes"] = sum(row["success"] for row in saved["rows"])
            path.write_text(json.dumps(saved, indent=1) + "\n", encoding="utf-8")
            told({key: value for key, value in saved.items() if key != "rows"})


def keep(path: Path, images: Any, labels: Any, aims: Any, found: list[Attempt]) -> None:
    """A few attacked digits with their flows, for the report."""
    won = [number for number, attempt in enumerate(found) if attempt.success][:8]
    if won:
        np.savez_compressed(
            path,
            image=np.round(images[won] * 255).astype(np.uint8),
            attacked=np.stack([np.round(moved(images[i], found[i].flow) * 255).astype(np.uint8) for i in won]),
            flow=np.stack([found[i].flow.astype(np.float16) for i in won]),
            label=labels[won].astype(np.uint8),
            target=aims[won].astype(np.uint8),
            total_variation=np.array([found[i].total_variation for i in won], dtype=np.float32),
        )


def soundness(out: Path, images: Any, labels: Any, _order: Any, names: list[str]) -> None:
    """Attacks on proved bounds: every flow that the search shows the network is a try; no margin may fall below."""
    for name in names:
        network = open_two_layer(name)
        for budget, shift, noise, count in (
            (7.0, 0.0, 0.0, 60),
            (3.5, 3.0, 0.0, 15),
            (5.0, 3.0, 0.0, 20),
            (14.0, 0.0, 0.0, 40),
            (7.0, 0.0, 0.01, 40),
            (1.0, 1.0, 0.01, 20),
        ):
            key = {"network": name, "sha256": network.sha256[:12], "budget": budget, "shift": shift}
            key |= {"noise": noise} if noise else {}
            if measured(out / "spatial_soundness.json", key):
                continue
            search, threat = Search(steps=50, restarts=4, seed=1), Threat(budget, shift, noise)
            x, y = images[:count], labels[:count]
            proved = [certify(network, one, int(label), threat, most=60) for one, label in zip(x, y, strict=True)]
            found = attempts(network, x, y, threat, search, away=True)
            above = [-attempt.gap - one.lower_bound for attempt, one in zip(found, proved, strict=True)]
            row = {
                "tries": count * search.restarts * search.steps,
                "beaten": int(np.sum(np.array(above) < 0)),
                "least_margin_above_the_bound": min(above),
                "median_margin_above_the_bound": float(np.median(above)),
                "certified": sum(one.certified for one in proved),
                "images": count,
            }
            add(out / "spatial_soundness.json", key, row)


def pair(out: Path, _images: Any, _labels: Any, _order: Any, names: list[str]) -> None:
    """One certificate of one pair of classes, 500 hidden units, that holds for every image: time and gap."""
    for name in names:
        network = open_two_layer(name)
        key = {"network": name, "sha256": network.sha256[:12], "what": "pair 3-5, any image, slopes 0..1, B = 7"}

        if measured(out / "spatial_pair.json", key):
            continue
        seconds = []
        for _ in range(5):
            started = time.process_time()
            v, any_image = network.second[3] - network.second[5], (np.zeros(500), np.ones(500))
            bound, dual = certify_pair(network, v, np.full(784, 2**0.5), 7.0, any_image)
            seconds.append(time.process_time() - started)
        gap = dual.upper / dual.primal - 1
        row = {"bound": bound, "size": dual.size, "steps": dual.steps, "gap": gap, "cpu_seconds": sorted(seconds)}
        add(out / "spatial_pair.json", key, row)


def cells(out: Path, images: Any, labels: Any, order: Any, names: list[str]) -> None:
    """Certified with shifts, by the linear bound alone and with the semidefinite bound where that fails."""
    for budget, count, semidefinite in IN_CELLS:
        for name in names:
            network = open_two_layer(name)
            both = "linear and semidefinite" if semidefinite else "linear"
            key = {"network": name, "sha256": network.sha256[:12], "budget": budget, "shift": 3.0, "bounds": both}
            if measured(out / "spatial_cells.json", key | {"n": count}):
                continue
            journal = Journal(out / f"spatial_cells_{name}_{budget:g}_{both.rsplit(maxsplit=1)[-1]}", key)
            rows = [
                journal.row(
                    int(index), partial(in_cells, network, image, int(label), Threat(budget, 3.0), semidefinite)
                )
                for index, image, label in zip(order[:count], images[:count], labels[:count], strict=True)
            ]
            certified, seconds = sum(row["certified"] for row in rows), [row["seconds"] for row in rows]
            values = {
                "n": count,
                "certified": certified,
                "ci95": list(rate_interval(certified, count)),
                "semidefinite": sum(row["certified"] and row["method"] == "semidefinite" for row in rows),
                "seconds_an_image": {
                    "mean": round(float(np.mean(seconds)), 2),
                    "median": round(float(np.median(seconds)), 2),
                    "p95": round(float(np.quantile(seconds, 0.95)), 2),
                },
                "cells_an_image": float(np.mean([row["cells"] for row in rows])),
            }
            add(out / "spatial_cells.json", key, values)


def in_cells(network: Any, image: Any, label: int, threat: Threat, semidefinite: bool) -> dict[str, Any]:
    """One image's certificate, in seconds of the processor."""
    started = time.process_time()
    found = certify(network, image, label, threat, most=CELLS, semidefinite=semidefinite)
    seconds = time.process_time() - started
    return {"certified": found.certified, "method": found.method, "cells": found.cells, "seconds": seconds}


PARTS = {"cells": cells, "curve": curve, "thesis": thesis, "soundness": soundness, "pair": pair}


def _saved(path: Path) -> dict[str, Any]:
    saved: dict[str, Any] = {"machine": machine(), "rows": []}
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else saved


def measured(path: Path, key: dict[str, Any]) -> bool:
    """Whether a file has a row of this key."""
    return any(all(row.get(name) == value for name, value in key.items()) for row in _saved(path)["rows"])


def add(path: Path, key: dict[str, Any], values: dict[str, Any]) -> None:
    """Write a row to a file that others may have written to meanwhile."""
    saved = _saved(path)
    saved["rows"].append({**key, **values})
    path.write_text(json.dumps(saved, indent=1) + "\n", encoding="utf-8")
    told(saved["rows"][-1])


def told(row: dict[str, Any]) -> None:
    """Say what was measured; stop if it was enough."""
    sys.stderr.write(json.dumps(row) + "\n")
    global left  # noqa: PLW0603
    left -= 1
    if left == 0:
        sys.exit()


if __name__ == "__main__":
    main()
