"""Flow certificates of a convolutional network on a data set: `firewall lab certify flow`."""

from __future__ import annotations

import hashlib
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import track

from firewall.errors import DataError, UsageError
from firewall.lab.certification.deep import certify_deep
from firewall.lab.certification.flow_budget import checked_budget
from firewall.lab.certification.layers import Convolution, open_layers
from firewall.lab.datasets import open_dataset
from firewall.lab.measurement import metrics
from firewall.transforms import resize

__all__ = ["certify_flows"]


def certify_flows(
    network: str,
    dataset: str,
    part: str,
    limit: int,
    budget: float,
    noise: float,
    *,
    seed: int = 0,
    data: Path | None = None,
) -> dict[str, Any]:
    """Certificates of some images of a data set; images of another size are first resized as the edge does.

    Args:
        network: As of `open_layers`.
        dataset: As of `open_dataset`.
        part: The data set's part.
        limit: How many images, 1 or more.
        budget: Cap on L_flow, in pixels, above 0.
        noise: Largest change of each value on top, 0..1, below 1.
        seed: What the choice of images depends on.
        data: Folder of the data sets; None: the usual places.

    Returns:
        What JSON holds: about, summary with clean and certified accuracy, and a row for each image.

    Raises:
        UsageError: A number is out of range.
        DataError: Bounds can't be taken through the network, or the data set has other classes.
    """
    budget = checked_budget(budget)
    if not (math.isfinite(noise) and 0 <= noise < 1):
        raise UsageError(f"--noise is {noise:g}; it must lie in 0..1, 1 excluded: pixels are in 0..1")
    if limit < 1:
        raise UsageError(f"--limit must be at least 1, got {limit}")
    layers, opened = open_layers(network), open_dataset(dataset, data, part=part)
    channels, height, width = layers.input
    if len(opened.class_names) != layers.classes:
        raise DataError(f"{dataset} has {len(opened.class_names)} classes, {layers.name} {layers.classes}")
    rows: list[dict[str, Any]] = []
    chosen = np.sort(np.random.default_rng(seed).permutation(len(opened))[:limit]).tolist()
    for index in track(chosen, "certifying", transient=True):
        pixels, label = opened.images[index], int(opened.labels[index])
        if channels == 1 and np.ptp(pixels, axis=2).any():
            raise DataError(f"{layers.name} takes grey images, {dataset} has colour")
        colour = pixels if pixels.shape[2] == 3 else np.repeat(pixels, 3, axis=2)
        image = resize(colour, width, height)[..., :channels].transpose(2, 0, 1).astype(np.float64) / 255
        started = time.perf_counter()
        predicted = int(layers.logits(torch.from_numpy(image)[None]).argmax())
        bound = float(certify_deep(layers, image, label, budget, noise).min()) if predicted == label else -math.inf
        rows.append(
            {
                "index": index,
                "label": label,
                "predicted": predicted,
                "certified": bound > 0,
                "lower_bound": bound if math.isfinite(bound) else None,
                "seconds": round(time.perf_counter() - started, 3),
            }
        )
    certified, right = sum(row["certified"] for row in rows), sum(row["predicted"] == row["label"] for row in rows)
    return {
        "about": {
            "network": layers.name,
            "layers": [type(layer).__name__ for layer in layers.layers],
            "weights_sha256": hashlib.sha256(
                b"".join(layer.weight.numpy().tobytes() for layer in layers.layers if isinstance(layer, Convolution))
            ).hexdigest(),
            "dataset": f"{dataset}/{part}",
            "images": len(rows),
            "seed": seed,
            "budget": budget,
            "noise": noise,
            "threat": "flows that are 0 outside the image with L_flow <= budget (docs/spatial_certificate.md), and "
            "noise of at most so much a value on top",
        },
        "summary": {
            "clean_accuracy": right / len(rows),
            "certified_accuracy": certified / len(rows),
            "ci95": list(metrics.rate_interval(certified, len(rows))),
            "median_seconds": float(np.median([row["seconds"] for row in rows])),
        },
        "rows": rows,
    }
