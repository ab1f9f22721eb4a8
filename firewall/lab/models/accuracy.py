"""How often a classifier is right on images that it was not trained on."""

from __future__ import annotations

from typing import Any

import numpy as np

from firewall.errors import DataError
from firewall.lab.datasets import Dataset
from firewall.lab.metrics import rate_interval
from firewall.lab.models.protected import Protected

__all__ = ["measure_accuracy"]

_BATCH = 250


def measure_accuracy(classifier: Protected, data: Dataset) -> dict[str, Any]:
    """Accuracy of stored pixels brought to the input size as the edge does: images, top-1 with its 95 % interval,
    top-5. Raises DataError if the classes are not the classifier's."""
    if len(data.class_names) + classifier.offset > len(classifier.labels):
        raise DataError(
            f"the classifier {classifier.name} knows {len(classifier.labels)} classes, {data.name} has "
            f"{len(data.class_names)}; measure it on the data it was made for"
        )
    first = within = 0
    for start in range(0, len(data), _BATCH):
        images = np.stack([classifier.prepare(image) for image in data.images[start : start + _BATCH]])
        best = np.argsort(-classifier.logits(images), axis=1, kind="stable")[:, :5]
        hits = best == (data.labels[start : start + _BATCH] + classifier.offset)[:, None]
        first, within = first + int(hits[:, 0].sum()), within + int(hits.any(axis=1).sum())
    low, high = rate_interval(first, len(data))
    return {
        "data": data.name,
        "images": len(data),
        "accuracy": round(first / len(data), 4),
        "interval": [round(low, 4), round(high, 4)],
        "top5": round(within / len(data), 4),
        "notes": data.notes,
    }
