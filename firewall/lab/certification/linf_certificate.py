"""Certificates against changes of every value by eps, on a data set: `firewall lab certify linf`.

Each image is also attacked by PGD within the same eps. That gives the other side (no more can be certified than
survives), and it tests the proof: an image that is certified and fooled ends the command with an error.

What a guard may promise that asks such a network f beside its own classifier. It releases a label y for what it sees,
x', only if the margins of y over all images within eps of x' are above 0, by these bounds. Let x be the clean sign
and |x' - x| <= eps. Then x is one of the images within eps of x', so f(x) = y: *whatever is done to the sign within
eps, no label but f(x) is released.* Nothing is asked of x. And it isn't withheld either if x is certified at 2 eps:
all images within eps of x' are within 2 eps of x, and interval bounds over a smaller box are nowhere wider.
`as_guard` counts both on clean images.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import track
from torch import Tensor, nn

from firewall.errors import DataError, FirewallError, UsageError
from firewall.lab.attacks.pgd import Pgd
from firewall.lab.certification.classifier import Subject, classified, open_subject
from firewall.lab.certification.journal import Journal
from firewall.lab.certification.layers import Layers, open_layers
from firewall.lab.certification.linf import margins
from firewall.lab.measurement import metrics

__all__ = ["Attacked", "certify_linf"]


@dataclass(frozen=True)
class Attacked:
    """How each image is attacked.

    Args:
        steps: Of PGD; 0: not at all.
        restarts: From how many random points.
    """

    steps: int = 40
    restarts: int = 2

    def beats(self, network: nn.Module, image: Tensor, label: int, eps: float, seed: int) -> bool:
        """Whether any restart finds an image within eps that the network gives another label.

        Args:
            network: Float32 (N, C, H, W) in 0..1 -> logits.
            image: Float64 (C, H, W) in 0..1.
            label: The class.
            eps: Largest change of a value.
            seed: Of the starts.
        """
        if not self.steps:
            return False
        images = image.float().expand(self.restarts, *image.shape).contiguous()
        labels = torch.full((self.restarts,), label)
        found = Pgd(eps, self.steps, step=4 * eps / self.steps).run(network, images, labels, seed)
        # Within eps as float64 numbers, which is what was certified.
        within = torch.minimum(torch.maximum(found.double(), image - eps), image + eps).clamp(0, 1)
        return bool((network(within.float()).argmax(1) != label).any())


class _Module(nn.Module):
    """A network of layers as a module, in float32."""

    def __init__(self, network: Layers) -> None:
        super().__init__()
        self.network = network.single()

    def forward(self, images: Tensor) -> Tensor:
        """Float32 (N, C, H, W) -> (N, classes)."""
        return self.network.logits(images)


class _Run:
    """What is done to each image."""

    def __init__(self, network: Layers, eps: float, attack: Attacked, *, tighten: bool) -> None:
        self.network, self.eps, self.attack, self.tighten = network, eps, attack, tighten
        self.single = _Module(network).eval()

    def row(self, index: int, pixels: Any, own: int | None, label: int) -> dict[str, Any]:
        """A row of the result."""
        image = torch.from_numpy(pixels.transpose(2, 0, 1).astype(np.float64) / 255)
        started = time.perf_counter()
        predicted = int(self.network.logits(image[None]).argmax())
        margin = float(margins(self.network, image, predicted, self.eps, tighten=self.tighten).min())
        seconds = time.perf_counter() - started
        fooled = self.attack.beats(self.single, image, label, self.eps, index) if predicted == label else True
        if margin > 0 and predicted == label and fooled:
            raise FirewallError(
                f"image {index} is certified within {self.eps:g}, and PGD fools the network there: a bound is not "
                "sound; nothing was written, report it with the network"
            )
        return {
            "label": label,
            "predicted": predicted,
            "certified": margin > 0 and predicted == label,
            "named_for_sure": margin > 0,
            "margin": margin,
            "survives": not fooled,
            **({} if own is None else {"guarded": own}),
            "seconds": round(seconds, 4),
        }


def certify_linf(
    network: str,
    dataset: str,
    part: str,
    limit: int,
    eps: float,
    *,
    attack: Attacked | None = None,
    tighten: bool = True,
    beside: str | None = None,
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
        eps: Largest change of a value, above 0, at most 1.
        attack: How each image is attacked as well.
        tighten: Whether inner bounds are tightened by lines where an image isn't certified without.
        beside: A classifier whose labels are released only if the network is sure of them, as of `open_subject`; None:
            that isn't counted.
        seed: What the choice of images depends on.
        data: Folder of the data sets; None: the usual places.
        result: File that the result will be written to; rows are kept beside it. None: nothing is kept.

    Returns:
        What JSON holds: about, summary with clean, surviving and certified accuracy, and a row for each image; and the
        journal, to be closed once the result is written.

    Raises:
        UsageError: A number is out of range.
        DataError: Bounds can't be taken through the network, or the data set has other classes.
        FirewallError: An attack beat a certificate.
    """
    if not 0 < eps <= 1:
        raise UsageError(f"--eps must be above 0 and at most 1, such as 2/255, got {eps:g}")
    attack = attack or Attacked()
    if attack.steps < 0 or attack.restarts < 1:
        raise UsageError(
            f"--attack needs 0 steps or more and 1 restart or more, got {attack.steps} and {attack.restarts}"
        )
    layers, subject = open_layers(network), open_subject(network)
    about, images = classified(subject, dataset, part, limit, seed, data)
    other = None if beside is None else open_subject(beside)
    own = {} if other is None else _labels(other, dataset, part, limit, seed, data)
    _compare(layers, subject)
    run = _Run(layers, eps, attack, tighten=tighten)
    known = {**subject.about, "eps": eps, "tighten": tighten, "attack": [attack.steps, attack.restarts]}
    known |= {key: about[key] for key in ("dataset", "part", "of", "seed")}
    known["beside"] = None if other is None else other.about["classifier_sha256"]
    journal = Journal(result, known)
    rows = [
        journal.row(index, partial(run.row, index, pixels, own.get(index), label))
        for index, pixels, label in track(images, "certifying", about["images"], transient=True)
    ]
    return {
        "about": {
            **subject.about,
            "layers": [type(layer).__name__ for layer in layers.layers],
            "input": list(layers.input),
            **about,
            "eps": eps,
            "attack": f"PGD, {attack.steps} steps, {attack.restarts} restarts" if attack.steps else None,
            "beside": None if other is None else other.about,
            "threat": "changes of every value of the network's input by at most eps, values in 0..1",
        },
        "summary": _summary(rows),
        "rows": rows,
    }, journal


def _compare(network: Layers, subject: Subject) -> None:
    """The engine must give the logits whose bounds are taken: pixels prepared in another way are other values.

    Raises:
        DataError: It doesn't.
    """
    pixels = np.random.default_rng(1).integers(0, 256, (4, *network.input[1:], 3), dtype=np.uint8)
    if (subject.height, subject.width, 3) != (*network.input[1:], network.input[0]):
        raise DataError(f"{network.name} takes images of {network.input}; certified are networks of colour images")
    ours = network.logits(torch.from_numpy(pixels.transpose(0, 3, 1, 2).astype(np.float64) / 255)).numpy()
    if not np.abs(subject.engine.classify(pixels) - ours).max() <= 1e-3 * (1 + np.abs(ours).max()):
        raise DataError(
            f"{network.name} is given its pixels in another way than as value / 255, so eps would mean something else; "
            "certified are networks that take 0..1"
        )


def _labels(subject: Subject, dataset: str, part: str, limit: int, seed: int, data: Path | None) -> dict[int, int]:
    """The labels that another classifier gives the same images, by index."""
    _, images = classified(subject, dataset, part, limit, seed, data)
    return {index: int(subject.engine.classify(pixels[None]).argmax()) for index, pixels, _ in images}


def _summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Shares with the 95 % interval for independent images."""

    def share(hits: int) -> dict[str, Any]:
        return {"value": hits / len(rows), "ci95": list(metrics.rate_interval(hits, len(rows)))}

    found = {
        "clean_accuracy": share(sum(row["predicted"] == row["label"] for row in rows)),
        "surviving_attack": share(sum(row["survives"] for row in rows)),
        "certified_accuracy": share(sum(row["certified"] for row in rows)),
        "median_seconds": float(np.median([row["seconds"] for row in rows])),
    }
    if "guarded" in rows[0]:
        released = [row for row in rows if row["named_for_sure"] and row["predicted"] == row["guarded"]]
        found["as_guard"] = {
            "released": share(len(released)),
            "released_wrong": share(sum(row["predicted"] != row["label"] for row in released)),
        }
    return found
