"""What becomes of the attention detector when its mask comes from elsewhere: Grad-CAM, SmoothGrad, RISE, or none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from firewall.lab.database import Database
from firewall.lab.measurement import metrics
from firewall.lab.models import Protected
from firewall.lab.models.attention_network import AttentionNetwork
from firewall.lab.models.saliency import grad_cam, rise, smooth_grad

__all__ = ["answers", "mask_table"]

Pixels = npt.NDArray[np.uint8]
#: Images of each kind that masks are made for: RISE runs the classifier a hundred times for each.
_FEW = 60


def answers(
    network: AttentionNetwork, images: Pixels, attention: Callable[[Tensor], Tensor] | None = None
) -> npt.NDArray[np.float32]:
    """f2's logits under given masks.

    Args:
        network: g and f2.
        images: Uint8 (N, H, W, 3).
        attention: Masks instead of g's; 1 where a value matters.

    Returns:
        (N, classes).
    """
    parts = []
    with torch.no_grad():
        for start in range(0, len(images), 50):
            batch = torch.from_numpy(images[start : start + 50]).permute(0, 3, 1, 2).float().div(255)
            logits = network(batch)
            if attention is not None:
                asked = [batch, batch.flip(3)] if network.mirrored else [batch]
                logits = torch.stack([network.read(each, 1 - attention(each)) for each in asked]).mean(0)
            parts.append(logits.numpy())
    result: npt.NDArray[np.float32] = np.concatenate(parts)
    return result


def mask_table(
    network: AttentionNetwork, name: str, classifier: Protected, database: Database, attacks: Sequence[str]
) -> dict[str, Any]:
    """By mask and attack, on images of the eval split: whether f2 and f1 agree on normal and disagree on attacked ones.

    f2 was trained under g's masks alone, so another mask is strange to it where g's are unlike.
    """
    model = classifier.network
    masks: dict[str, Callable[[Tensor], Tensor] | None] = {
        "g (on the edge)": None,
        "none: the whole image": lambda image: torch.ones_like(image[:, :1]),
        "Grad-CAM": lambda image: grad_cam(model, image),
        "SmoothGrad, 8 copies": lambda image: smooth_grad(model, image),
        "RISE, 100 masks": lambda image: rise(model, image, samples=100),
    }
    parts = {"normal": database.normal[database.where("eval")][:_FEW]}
    for attack in attacks:
        attacked = database.attacked(attack)
        here = np.array([database.split_of(entry) == "eval" for entry in attacked.entries], bool)
        parts[attack] = attacked.images[here][:_FEW]
    own = {kind: classifier.logits(images).argmax(1) for kind, images in parts.items()}
    rows = []
    for mask, attention in masks.items():
        for kind, images in parts.items():
            differ = answers(network, images, attention).argmax(1) != own[kind]
            hits = ~differ if kind == "normal" else differ
            low, high = metrics.rate_interval(int(hits.sum()), len(hits))
            rate = {"value": float(hits.mean()), "low": low, "high": high, "n": len(hits)}
            rows.append({"key": [mask, kind], "theirs": None, "same": rate, "honest": None})
    return {
        "title": f"Other masks for the f2 of '{name}': normal images agreed on, attacked ones disagreed on",
        "note": "f2's class against f1's; the eval split. f2 was trained under g's masks and not again for the others.",
        "columns": ["mask", "images"],
        "rows": rows,
    }
