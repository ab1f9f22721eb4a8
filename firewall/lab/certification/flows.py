"""Flow certificates of a convolutional network on a data set: `firewall lab certify flow`.

Each image is also attacked by flows (and noise) within the same threat. That gives the other side, as no more can be
certified than survives, and it tests the proof: a flow that gets below a proved bound ends the command with an error.

Flows of a budget are among those of every larger one, so a bound that was proved for a larger budget holds as well.
A curve over budgets is had from the largest downward, each run taking over what the one before has certified.
"""

from __future__ import annotations

import hashlib
import json
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import track

from firewall.errors import DataError, FirewallError, UsageError
from firewall.lab.attacks.criteria import margin
from firewall.lab.attacks.flow import deform
from firewall.lab.certification.deep import certify_deep
from firewall.lab.certification.flow_budget import Floats
from firewall.lab.certification.image_certificate import Threat
from firewall.lab.certification.journal import Journal
from firewall.lab.certification.layers import Affine, Convolution, Layers, open_layers
from firewall.lab.certification.spatial_attack import Search, strongest, within
from firewall.lab.datasets import open_dataset
from firewall.lab.measurement import metrics
from firewall.transforms import resize

__all__ = ["certify_flows"]


class _Run:
    """What is done to each image."""

    def __init__(self, network: Layers, threat: Threat, search: Search | None) -> None:
        self.network, self.threat, self.search = network, threat, search
        self.single = network.single()

    def row(self, pixels: Any, label: int) -> dict[str, Any]:
        """A row of the result, of uint8 (H, W, 3) of the network's size."""
        image = pixels[..., : self.network.input[0]].transpose(2, 0, 1).astype(np.float64) / 255
        started = time.perf_counter()
        predicted, bound = int(self.network.logits(torch.from_numpy(image)[None]).argmax()), None
        if predicted == label:
            bound = float(certify_deep(self.network, image, label, self.threat.budget, self.threat.noise).min())
        seconds = time.perf_counter() - started
        row = {
            "label": label,
            "predicted": predicted,
            "certified": bound is not None and bound > 0,
            "lower_bound": bound,
            "seconds": round(seconds, 3),
        }
        if self.search is None:
            return row
        return {**row, "attacked": None if bound is None else self._attacked(image, label, self.search)}

    def _attacked(self, image: Floats, label: int, search: Search) -> float:
        """The least margin of the label that the search reaches, in float64 and within the threat."""
        labels, pixels = torch.tensor([label]), torch.from_numpy(image).float()[None]
        flows, _, noises = strongest(self.single.logits, pixels, labels, self.threat, search, away=True)
        flow = torch.from_numpy(within(flows[0].double().numpy(), self.threat.budget))[None]
        # float32 may lie above the cap
        shown = deform(torch.from_numpy(image)[None], flow) + noises.double() * (1 - 1e-6)
        return -float(margin(self.network.logits(shown), labels)[0])


def certify_flows(
    network: str,
    dataset: str,
    part: str,
    limit: int,
    budget: float,
    noise: float,
    *,
    attack: Search | None = None,
    proved: Path | None = None,
    seed: int = 0,
    data: Path | None = None,
    result: Path | None = None,
) -> tuple[dict[str, Any], Journal]:
    """Certificates of some images of a data set; images of another size are first resized as the edge does.

    Args:
        network: As of `open_layers`.
        dataset: As of `open_dataset`.
        part: The data set's part.
        limit: How many images, 1 or more.
        budget: Cap on L_flow, in pixels, above 0.
        noise: Largest change of each value on top, 0..1, below 1.
        attack: How each image is attacked as well; None: not at all.
        proved: A result for a larger budget: what it certified is taken over, and neither bounded nor attacked again.
        seed: What the choice of images depends on.
        data: Folder of the data sets; None: the usual places.
        result: File that the result will be written to; rows are kept beside it. None: nothing is kept.

    Returns:
        What JSON holds: about, summary with clean, surviving and certified accuracy, and a row for each image; and the
        journal, to be closed once the result is written.

    Raises:
        UsageError: A number is out of range.
        DataError: Bounds can't be taken through the network, the data set has other classes, or `proved` is of anything
            else than a budget at least as large.
        FirewallError: An attack beat a certificate.
    """
    threat = Threat(budget, noise=noise)
    if limit < 1:
        raise UsageError(f"--limit must be at least 1, got {limit}")
    layers, opened = open_layers(network), open_dataset(dataset, data, part=part)
    channels, height, width = layers.input
    if len(opened.class_names) != layers.classes:
        raise DataError(f"{dataset} has {len(opened.class_names)} classes, {layers.name} {layers.classes}")
    weighted = [layer for layer in layers.layers if isinstance(layer, (Convolution, Affine))]
    weights = b"".join(part.numpy().tobytes() for layer in weighted for part in (layer.weight, layer.bias))
    about: dict[str, Any] = {
        "network": layers.name,
        "layers": [type(layer).__name__ for layer in layers.layers],
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
        "dataset": f"{dataset}/{part}",
        "budget": threat.budget,
        "noise": threat.noise,
        "attack": attack and f"search, {attack.restarts} starts of {attack.steps} steps, any wrong class",
    }
    # Of a larger limit, and of another seed, are the same rows.
    known = {} if proved is None else _taken(proved, about)
    journal, run = Journal(result, {**about, "of": len(opened)}), _Run(layers, threat, attack)
    rows: list[dict[str, Any]] = []
    chosen = np.sort(np.random.default_rng(seed).permutation(len(opened))[:limit]).tolist()
    for index in track(chosen, "certifying", transient=True):
        pixels, label = opened.images[index], int(opened.labels[index])
        if channels == 1 and np.ptp(pixels, axis=2).any():
            raise DataError(f"{layers.name} takes grey images, {dataset} has colour")
        if index in known:
            rows.append(known[index])
            continue
        colour = pixels if pixels.shape[2] == 3 else np.repeat(pixels, 3, axis=2)
        row = journal.row(index, partial(run.row, resize(colour, width, height), label))
        if row.get("attacked") is not None and not row["attacked"] >= row["lower_bound"]:
            raise FirewallError(
                f"image {index}: a flow of L_flow {budget:g} brings the margin to {row['attacked']:.6g}, below its "
                f"bound of {row['lower_bound']:.6g}, which is not sound; nothing was written, report the network"
            )
        rows.append(row)
    return {
        "about": {
            **about,
            "images": len(rows),
            "seed": seed,
            "threat": "flows that are 0 outside the image with L_flow <= budget (docs/spatial_certificate.md), and "
            "noise of at most so much a value on top",
        },
        "summary": _summary(rows),
        "rows": rows,
    }, journal


def _summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Shares, with the 95 % interval for independent images of what is certified and of what survives."""
    certified, right = sum(row["certified"] for row in rows), sum(row["predicted"] == row["label"] for row in rows)
    found: dict[str, Any] = {
        "clean_accuracy": right / len(rows),
        "certified_accuracy": certified / len(rows),
        "ci95": list(metrics.rate_interval(certified, len(rows))),
    }
    if any("attacked" in row for row in rows):
        survive = sum(row["certified"] or (row.get("attacked") or 0) > 0 for row in rows)
        found |= {
            "surviving_attack": survive / len(rows),
            "surviving_ci95": list(metrics.rate_interval(survive, len(rows))),
        }
    seconds = [row["seconds"] for row in rows if row["lower_bound"] is not None and "seconds" in row]
    return {**found, "median_seconds": float(np.median(seconds)) if seconds else 0.0}


def _taken(path: Path, about: dict[str, Any]) -> dict[int, dict[str, Any]]:
    """The certified rows of a result for a larger budget, by index.

    Raises:
        DataError: It is a result of anything else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        other, rows = content["about"], content["rows"]
        same = all(other[key] == about[key] for key in ("weights_sha256", "layers", "dataset"))
        larger = other["budget"] >= about["budget"] and other["noise"] >= about["noise"]
        kept = ("index", "label", "predicted", "certified", "lower_bound")
        found = {row["index"]: {key: row[key] for key in kept} for row in rows if row["certified"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is no result of 'lab certify flow' with its rows ({error})") from error
    if not (same and larger):
        raise DataError(
            f"{path} is of budget {other['budget']:g}, noise {other['noise']:g}, {other['dataset']}, weights "
            f"{other['weights_sha256'][:12]}; what it proved holds for no larger ones, and for those data and weights: "
            f"here {about['budget']:g}, {about['noise']:g}, {about['dataset']}, {about['weights_sha256'][:12]}"
        )
    return {index: {**row, "proved_for": other.get("budget")} for index, row in found.items()}
