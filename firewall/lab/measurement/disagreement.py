"""What the attention detector's scores come to on databases: the thesis' decision, and thresholds on normal images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from firewall.bundle import Seen
from firewall.detectors.attention import DISAGREEMENT
from firewall.errors import DataError
from firewall.lab.database import Database
from firewall.lab.database.seen import record, unseen
from firewall.lab.measurement import metrics
from firewall.lab.models import Protected

__all__ = ["Pixels", "disagreement", "judge", "measured", "measured_elsewhere"]

Pixels = npt.NDArray[np.uint8]


@torch.no_grad()
def disagreement(network: nn.Module, images: Pixels, own: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """The edge's score for images (N, H, W, 3) uint8 that the classifier gives the classes `own` (N,): (N,)."""
    network.eval()
    scores = [np.zeros(0)]
    for start in range(0, len(images), 128):
        batch = torch.from_numpy(images[start : start + 128]).permute(0, 3, 1, 2).float().div(255)
        logits = network(batch)
        label = torch.from_numpy(own[start : start + 128])[:, None]
        others = logits.scatter(1, label, -torch.inf).max(1).values
        scores.append((others - logits.gather(1, label)[:, 0]).double().numpy())
    return np.concatenate(scores)


def measured(network: nn.Module, classifier: Protected, database: Database) -> dict[str, Any]:
    """On the eval split: the thesis' decision, and how well the score parts the two whatever the threshold."""
    inside = database.where("eval")
    if not inside.any():
        raise DataError(f"{database.folder} has no normal images in its split 'eval'; attack more images")
    return judge(network, classifier, database, inside, None)


def judge(
    network: nn.Module,
    classifier: Protected,
    database: Database,
    inside: npt.NDArray[np.bool_],
    calibration: npt.NDArray[np.float64] | None,
    rates: Sequence[float] = (0.01, 0.05),
) -> dict[str, Any]:
    """What the detector says of the normal images at which `inside` is true and of all that was made of them.

    inside: bool (N,), N normal images. calibration: scores of normal images that are not among them, on which
    thresholds for the false-positive `rates` are set; None: the thesis' decision alone. Intervals count tracks once.
    """
    images = database.normal[inside]
    normal = disagreement(network, images, classifier.logits(images).argmax(1))
    groups = np.array([entry.group for entry in database.card.normal])
    agreed = int((normal <= DISAGREEMENT).sum())
    result: dict[str, Any] = {
        "normal": {
            "n": len(normal),
            "true_negative_rate": agreed / len(normal),
            "ci95": metrics.rate_interval(agreed, len(normal)),
        },
        "attacks": {},
    }
    for name in database.card.attacks:
        attacked = database.attacked(name)
        origins = np.array([entry.normal for entry in attacked.entries], np.int64)
        here = inside[origins]
        if not here.any():
            continue
        pixels = attacked.images[here]
        scores = disagreement(network, pixels, classifier.logits(pixels).argmax(1))
        found = metrics.separate(
            normal,
            scores,
            calibration=calibration,
            rates=rates,
            normal_tracks=groups[inside],
            adversarial_tracks=groups[origins[here]],
            resamples=200,
        )
        hits = metrics.operating_point(
            normal,
            scores,
            DISAGREEMENT,
            normal_tracks=groups[inside],
            adversarial_tracks=groups[origins[here]],
        ).true_positives
        result["attacks"][name] = {
            "n": len(scores),
            "attempted": attacked.attempted,
            "true_positive_rate": hits.value,
            "ci95": [hits.low, hits.high],
            "auroc": found.auroc.value,
            "auroc_ci95": [found.auroc.low, found.auroc.high],
            "eer": found.eer.value,
            **({} if calibration is None else {"calibrated": [point.to_json() for point in found.calibrated]}),
        }
    return result


def measured_elsewhere(
    network: nn.Module, classifier: Protected, database: Database, others: Sequence[Database], fitted: Seen
) -> dict[str, Any]:
    """Further databases of the same classifier, all images that were not fitted to; thresholds set on the dev split of
    the database that was trained with, as far as it was not fitted to. No image is judged that they were set on."""
    entries = database.card.normal
    where = database.where("dev") & unseen(entries, [fitted], database.card.dataset)
    calibrated = record(database.card, [entry for entry, here in zip(entries, where, strict=True) if here])
    images = database.normal[where]
    calibration = disagreement(network, images, classifier.logits(images).argmax(1))
    result: dict[str, Any] = {}
    for other in others:
        if other.card.classifier.sha256 != classifier.sha256:
            raise DataError(f"{other.folder} was made on another classifier than {database.folder}; leave it out")
        inside = unseen(other.card.normal, [fitted, calibrated], other.card.dataset)
        if inside.any():
            result[other.folder.name] = {
                "calibrated_on": {"database": database.folder.name, "split": "dev", "normals": len(calibration)},
                **judge(network, classifier, other, inside, calibration),
            }
    return result
