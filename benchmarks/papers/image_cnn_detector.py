"""The detector to use, judged beside the paper's networks: by attack, after shifts, on attacks never shown to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.papers.image_cnn_runs import ATTACKS, Images, read_images
from benchmarks.papers.image_cnn_tables import RATE, attack_cells, cell, rate_cell, score
from firewall.engines import OnnxRuntimeNetwork
from firewall.errors import DataError
from firewall.lab.database import Database
from firewall.lab.datasets import shifts
from firewall.lab.datasets.shifts import SHIFTS, shifted
from firewall.lab.measurement import metrics
from firewall.lab.training.detector_folder import load_trained

__all__ = ["detector_tables"]

Pixels = npt.NDArray[np.uint8]


def detector_tables(
    folder: Path, database: Database, judged: Database, wide: Path | None, attacks: tuple[str, ...] = ATTACKS
) -> list[dict[str, Any]]:
    """Tables of a trained detector, used as the edge uses it.

    Args:
        folder: Of the detector.
        database: What it was trained on.
        judged: What it is measured on.
        wide: A database of many attacks on judged images.
        attacks: Names.

    Returns:
        Tables, as JSON has them.

    Raises:
        DataError: The folder holds another kind of detector.
    """
    trained = load_trained(folder)
    if trained.name != "image-cnn" or trained.network is None:
        raise DataError(f"{folder} holds a detector {trained.name}; name one of 'firewall lab train image-cnn'")
    network = OnnxRuntimeNetwork(trained.network, "image-cnn", threads=1)

    def scores(images: Pixels) -> npt.NDArray[np.float64]:
        parts = [images[start : start + 64].transpose(0, 3, 1, 2) for start in range(0, len(images), 64)]
        outputs = [network(np.ascontiguousarray(part, np.float32) / np.float32(255)) for part in parts]
        return score(np.concatenate([np.zeros((0, 2), np.float32), *outputs]))

    dev = read_images(database, "dev", ())
    sets = {"same": read_images(database, "eval", attacks), "honest": read_images(judged, None, attacks)}
    threshold = metrics.threshold_at(scores(dev.normal), RATE)
    mixed = np.concatenate([scores(dev.normal), *(scores(shifted(dev.normal, name)) for name in SHIFTS)])
    robust = metrics.threshold_at(mixed, RATE)
    parts = {
        name: (scores(images.normal), images.tracks, {a: (scores(p), t) for a, (p, t) in images.attacks.items()})
        for name, images in sets.items()
    }
    rows = []
    for attack in attacks:
        cells = {name: attack_cells(part, attack, threshold) for name, part in parts.items()}
        for name, part in parts.items():
            scored, origin = part[2][attack]
            cells[name]["withheld, threshold on shifted images too"] = rate_cell(scored > robust, origin)
        rows += [
            {
                "key": [attack, measure],
                "theirs": None,
                "same": cells["same"][measure],
                "honest": cells["honest"][measure],
            }
            for measure in cells["same"]
        ]
    tables = [
        {
            "title": "The detector to use: the high-pass network trained with shifted images, by attack",
            "note": "'same' is the eval split of the kept-out tracks here (tracks not in training), 'honest' the "
            "test images. Thresholds: 5 % of the normal images of the kept-out dev split, unchanged or also with each "
            "shift. Training chose nothing by either set.",
            "columns": ["attack", "measure"],
            "rows": rows,
        },
        _shift_table(scores, sets, threshold, robust),
    ]
    return tables + (
        [] if wide is None else [_unseen_table(scores, Database(wide), parts["honest"], threshold, robust)]
    )


def _shift_table(
    scores: Callable[[Pixels], npt.NDArray[np.float64]], sets: Mapping[str, Images], threshold: float, robust: float
) -> dict[str, Any]:
    rows = []
    for shift in ("none", "the sharpest tenth, unchanged", *shifts.SHIFTS):
        for name, limit in (("unchanged", threshold), ("shifted too", robust)):
            cells = {}
            for kind, images in sets.items():
                some = images.limited(300)
                where = _sharpest(some.normal) if shift.startswith("the") else np.ones(len(some.normal), bool)
                pixels = some.normal[where]
                if shift in shifts.SHIFTS:
                    pixels = shifts.shifted(pixels, shift)
                cells[kind] = rate_cell(scores(pixels) > limit, some.tracks[where])
            rows.append({"key": [shift, name], "theirs": None, **cells})
    return {
        "title": "Normal images withheld after a shift",
        "note": "Up to 300 normal images of each set, under the shifts that bundles are judged by: one strength each, "
        "and fog is not among those of training. Thresholds: 5 % of dev images unchanged, or also under its shifts.",
        "columns": ["shift", "threshold set on"],
        "rows": rows,
    }


def _sharpest(images: Pixels) -> npt.NDArray[np.bool_]:
    """The tenth of (N, H, W, 3) with the greatest differences of neighbours: signs near the camera, or noisy ones."""
    grey = images.astype(np.float64).mean(axis=3)
    steps = np.abs(np.diff(grey, 2, axis=1)).mean(axis=(1, 2)) + np.abs(np.diff(grey, 2, axis=2)).mean(axis=(1, 2))
    sharp: npt.NDArray[np.bool_] = steps >= np.quantile(steps, 0.9)
    return sharp


def _unseen_table(
    scores: Callable[[Pixels], npt.NDArray[np.float64]],
    database: Database,
    known: tuple[Any, Any, dict[str, Any]],
    threshold: float,
    robust: float,
) -> dict[str, Any]:
    rows = []
    groups = np.array([entry.group for entry in database.card.normal], np.int64)
    for attack in database.card.attacks:
        attacked = database.attacked(attack)
        if attack in ATTACKS or len(attacked.entries) < 5:
            continue
        found = scores(attacked.images)
        origin = groups[[entry.normal for entry in attacked.entries]]
        area = metrics.separate(known[0], found, rates=(), resamples=300).auroc
        rows += [
            {"key": [attack, measure], "theirs": None, "same": None, "honest": cell}
            for measure, cell in {
                "AUROC": cell(area.value, area.low, area.high, len(found)),
                "withheld": rate_cell(found > threshold, origin),
                "withheld, threshold on shifted images too": rate_cell(found > robust, origin),
            }.items()
        ]
    return {
        "title": "Attacks that the detector to use was never shown",
        "note": "At most 32 test images an attack; AUROC against the normal test images.",
        "columns": ["attack", "measure"],
        "rows": rows,
    }
