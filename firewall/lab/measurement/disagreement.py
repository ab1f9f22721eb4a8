"""The attention detector on databases: by the thesis' own decision, and with thresholds set on benign images.

The thesis (Nguyen C., chapter 3) takes an image for attacked if its second network names another class.
"""

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

__all__ = ["disagreement", "judge", "measured", "measured_elsewhere"]

Pixels = npt.NDArray[np.uint8]


@torch.no_grad()
def disagreement(network: nn.Module, images: Pixels, own: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """The attention detector's scores, as on the edge.

    Args:
        network: The detector's, (N, 3, H, W) in 0 to 1 -> logits.
        images: uint8 (N, H, W, 3).
        own: The classes that the protected classifier gives them, int64 (N,).

    Returns:
        float64 (N,), the largest logit of another class less that of the given one.
    """
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
    """On the eval split: the thesis' decision, and how well the scores separate whatever the threshold.

    Args:
        network: The detector's.
        classifier: The protected one.
        database: Made on it.

    Raises:
        DataError: The split has no benign images.
    """
    inside = database.where("eval")
    if not inside.any():
        raise DataError(f"{database.folder} has no benign images in its split 'eval'; attack more images")
    return judge(network, classifier, database, inside, None)


def judge(
    network: nn.Module,
    classifier: Protected,
    database: Database,
    inside: npt.NDArray[np.bool_],
    calibration: npt.NDArray[np.float64] | None,
    rates: Sequence[float] = (0.01, 0.05),
) -> dict[str, Any]:
    """Measure the detector on some benign images and on everything that attacks made of them.

    Args:
        network: The detector's.
        classifier: The protected one.
        database: Made on it.
        inside: Which of its benign images, bool (N,).
        calibration: Scores of other benign images, on which thresholds are set; None: the thesis' decision alone.
        rates: False-positive rates to set thresholds for.

    Returns:
        Ready for JSON; intervals treat a track as one draw.
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
    """Measure the detector on all images of further databases that it was not fitted to.

    Thresholds are set on the dev split of its own database, without images that it was fitted to; no image is measured
    on that they were set on.

    Args:
        network: The detector's.
        classifier: The protected one.
        database: What the detector was trained with.
        others: Further databases of the same classifier.
        fitted: What the detector was fitted to.

    Returns:
        Folder's name -> as of `judge`.

    Raises:
        DataError: A database is of another classifier.
    """
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
