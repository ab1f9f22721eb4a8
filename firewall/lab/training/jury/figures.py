"""Figures of a juror: rates with their intervals, and how it stands up to PGD on itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from firewall.frame import Pixels
from firewall.lab.attacks.pgd import Pgd
from firewall.lab.measurement.intervals import rate_interval
from firewall.transforms import resize

__all__ = ["STEPS", "rate", "robust"]

#: Steps of the projected gradient descent of `robust`.
STEPS = 20
_BATCH = 64


def rate(hits: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """A share with its 95 % interval (Clopper and Pearson, independent images), ready for JSON.

    Args:
        hits: Bool (N,), N >= 1.
    """
    low, high = rate_interval(int(hits.sum()), len(hits))
    return {"rate": round(float(hits.mean()), 4), "n": len(hits), "ci95": [round(low, 4), round(high, 4)]}


def robust(
    network: nn.Module, images: Sequence[Pixels], size: int, labels: npt.NDArray[np.int64], levels: Sequence[int]
) -> Mapping[str, npt.NDArray[np.bool_]]:
    """Whether a juror still gives each image its label after PGD on the juror itself, at its own input size.

    The attacker knows the juror and moves away from the label. Values are not rounded to 8 bits.

    Args:
        network: The juror, in evaluation mode; on any device.
        images: Uint8 (H, W, 3) each, of any size.
        size: Width and height of its input in pixels.
        labels: Int64 (N,).
        levels: Radii, L-infinity, in units of 1/255.

    Returns:
        "4/255" and so on -> bool (N,).
    """
    place = next(network.parameters()).device
    held: dict[str, list[npt.NDArray[np.bool_]]] = {f"{level}/255": [] for level in levels}
    for start in range(0, len(images), _BATCH):
        stack = np.stack([resize(image, size, size) for image in images[start : start + _BATCH]])
        batch = torch.from_numpy(stack).permute(0, 3, 1, 2).float().div(255).to(place)
        aims = torch.from_numpy(labels[start : start + _BATCH]).to(place)
        for level in levels:
            attacked = Pgd(eps=level / 255, steps=STEPS).run(network, batch, aims, seed=start)
            with torch.no_grad():
                kept = network(attacked).argmax(1) == aims
            held[f"{level}/255"].append(kept.cpu().numpy())
    return {level: np.concatenate(parts) for level, parts in held.items()}
