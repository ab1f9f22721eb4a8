"""A trained detector of pixels on databases that it never saw: by attack, and on benign images that were shifted.

Thresholds are set on benign images of the dev split of the database that it was trained on (and of its reserve), never
on what is measured. Nothing is classified, so this takes seconds where `firewall lab evaluate` sweeps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from firewall.engines import OnnxRuntimeNetwork
from firewall.errors import UsageError
from firewall.lab.database import Database
from firewall.lab.database.card import NormalImage
from firewall.lab.database.seen import unseen
from firewall.lab.datasets import open_dataset
from firewall.lab.datasets.shifts import SHIFTS, shifted
from firewall.lab.measurement import metrics
from firewall.lab.training.detector_folder import Trained
from firewall.lab.training.detectors.pixel_images import Settings, as_input, rgb
from firewall.transforms import resize

__all__ = ["RATES", "evaluate", "scorer"]

#: False-positive rates that thresholds are set for.
RATES = (0.01, 0.05)

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]


def scorer(trained: Trained) -> Callable[[Pixels], Floats]:
    """The detector as a function of images, with the scores that the edge would give.

    Args:
        trained: An image-cnn or residual detector.

    Returns:
        Images, uint8 (N, H, W, 3) -> scores (N,), higher = more suspicious.

    Raises:
        UsageError: It is another detector.
    """
    if trained.name not in ("image-cnn", "residual") or not trained.network:
        raise UsageError(f"{trained.name} is no detector of pixels; there are image-cnn and residual")
    own = trained.parameters
    settings = Settings(detector=trained.name)
    if trained.name == "residual":
        also = tuple(float(rate) for rate in own.get("also", ()))
        settings = Settings(rate=float(own["rate"]), reading=str(own.get("reading", "removed")), also=also)
    network = OnnxRuntimeNetwork(trained.network, trained.name, threads=1)

    def score(images: Pixels) -> Floats:
        parts = [images[start : start + 64] for start in range(0, len(images), 64)]
        outputs = np.concatenate([network(as_input(part, settings)) for part in parts])
        found: Floats = (outputs[:, 1] - outputs[:, 0]).astype(np.float64)
        return found

    return score


def evaluate(
    trained: Trained,
    home: Database,
    others: Sequence[Database],
    *,
    data: Path | None = None,
    originals: bool = True,
    only: Sequence[str] = (),
) -> dict[str, Any]:
    """Measure the detector on the home database's eval split, and on all images of others that it was not fitted to.

    Args:
        trained: The detector.
        home: The database that it was trained on.
        others: Databases of the same classifier.
        data: Folder of the data sets.
        originals: Shift the images also before they are resized, as a camera would deliver them, where the data set is
            at hand.
        only: These attacks, and no shifts; empty: all, and the shifts.

    Returns:
        What JSON holds.
    """
    score = scorer(trained)
    held = [home.normal[_where(home.card.normal, "dev")], home.reserve[_where(home.reserve_entries, "dev")]]
    calibration = score(rgb(np.concatenate(held)))
    thresholds = {rate: metrics.threshold_at(calibration, rate) for rate in RATES}
    result: dict[str, Any] = {"thresholds": {"images": len(calibration), **{str(k): v for k, v in thresholds.items()}}}
    for database in (home, *others):
        keep = unseen(database.card.normal, [] if trained.fitted is None else [trained.fitted], database.card.dataset)
        if database is home:
            keep &= database.where("eval")
        name = f"{database.card.dataset.spec} {database.card.dataset.part}, {len(database.card.normal)} images"
        result[name] = _on_database(
            score, trained, database, keep, calibration, thresholds, only or database.card.attacks
        )
        if not only:
            result[name]["shifts"] = _shifts(score, database, keep, thresholds, data if originals else None, originals)
    return result


def _on_database(
    score: Callable[[Pixels], Floats],
    trained: Trained,
    database: Database,
    keep: npt.NDArray[np.bool_],
    calibration: Floats,
    thresholds: dict[float, float],
    attacks: Iterable[str],
) -> dict[str, Any]:
    groups = np.array([entry.group for entry in database.card.normal])
    normal = score(rgb(database.normal[keep]))
    known = trained.report.get("trained_with")
    result: dict[str, Any] = {"normal": {"n": len(normal), "fpr": _rates(normal, thresholds)}, "attacks": {}}
    for attack in (name for name in attacks if name in database.card.attacks):
        attacked = database.attacked(attack)
        origins = np.array([entry.normal for entry in attacked.entries], np.int64)
        here = keep[origins]
        if not here.any():
            continue
        found = score(rgb(attacked.images[here]))
        separation = metrics.separate(
            normal,
            found,
            calibration=calibration,
            rates=RATES,
            normal_tracks=groups[keep],
            adversarial_tracks=groups[origins[here]],
            resamples=300,
        )
        first, second = (point.true_positives for point in separation.calibrated)
        result["attacks"][attack] = {
            "n": len(found),
            "auroc": separation.auroc.value,
            "eer": separation.eer.value,
            "tpr_at_1fpr": first.value,
            "tpr_at_5fpr": second.value,
            "ci95": {
                "auroc": [separation.auroc.low, separation.auroc.high],
                "tpr_at_1fpr": [first.low, first.high],
                "tpr_at_5fpr": [second.low, second.high],
            },
            "seen": None if known is None else attack in known,
        }
    return result


def _shifts(
    score: Callable[[Pixels], Floats],
    database: Database,
    keep: npt.NDArray[np.bool_],
    thresholds: dict[float, float],
    data: Path | None,
    originals: bool,
) -> dict[str, Any]:
    """False positives by shift: after the resize, and of the original images before it."""
    images = rgb(database.normal[keep])
    result = {name: {"after_resize": _rates(score(shifted(images, name)), thresholds)} for name in SHIFTS}
    spec = database.card.dataset.spec
    if originals and ":" not in spec:
        source = open_dataset(spec, data, part=database.card.dataset.part).images
        raw = [source[entry.index] for entry, chosen in zip(database.card.normal, keep, strict=True) if chosen]
        height, width = images.shape[1:3]
        for name in SHIFTS:
            seen = (shifted(rgb(image[None]), name, number)[0] for number, image in enumerate(raw))
            parts = [resize(image, width, height) for image in seen]
            result[name]["before_resize"] = _rates(score(np.stack(parts)), thresholds)
    return result


def _where(entries: Sequence[NormalImage], split: str) -> npt.NDArray[np.int64]:
    return np.array([place for place, entry in enumerate(entries) if entry.split == split], np.int64)


def _rates(scores: Floats, thresholds: dict[float, float]) -> dict[str, Any]:
    result = {}
    for rate, threshold in thresholds.items():
        hits = int((scores > threshold).sum())
        low, high = metrics.rate_interval(hits, len(scores))
        result[str(rate)] = {"value": hits / len(scores), "low": low, "high": high, "n": len(scores)}
    return result
