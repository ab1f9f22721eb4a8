"""Splits for training, for setting thresholds and for measuring; no group is in two of them."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

from firewall.errors import UsageError
from firewall.lab.datasets.dataset import Dataset

__all__ = ["PARTS", "split"]

#: What the numbers that `split` returns mean.
PARTS = ("train", "dev", "eval")


def split(
    data: Dataset, shares: tuple[float, float, float] = (0.70, 0.15, 0.15), seed: int = 0
) -> npt.NDArray[np.int8]:
    """The part of each image.

    A group's part follows only from a hash of the seed and the first of its sources, so images that are added later
    move none of the others. Therefore a class has its shares only on average. Where that matters most, it is corrected:
    a part without any group of a class that has three or more gets the group whose hash comes nearest to that part.

    Args:
        data: The data set.
        shares: Of train, dev and eval, each >= 0, with the sum 1.
        seed: What the split depends on.

    Returns:
        Int8 (N,), indices into PARTS.

    Raises:
        UsageError: The shares are not allowed.
    """
    if any(share < 0 for share in shares) or len(shares) != len(PARTS) or abs(sum(shares) - 1) > 1e-9:
        raise UsageError(f"the shares of {', '.join(PARTS)} must be >= 0 and add up to 1, got {shares}")
    bounds = np.concatenate([[0.0], np.cumsum(shares)])
    names: dict[int, str] = {}
    classes: dict[int, int] = {}
    for group, source, label in zip(data.groups.tolist(), data.sources, data.labels.tolist(), strict=True):
        if group not in names or source < names[group]:
            names[group], classes[group] = source, label
    places = {group: _place(seed, name) for group, name in names.items()}
    chosen = {group: _part(place, bounds) for group, place in places.items()}
    by_class: dict[int, list[int]] = {}
    for group, label in classes.items():
        by_class.setdefault(label, []).append(group)
    for groups in by_class.values():
        if len(groups) >= len(PARTS):
            _fill(sorted(groups, key=places.__getitem__), places, chosen, bounds)
    return np.array([chosen[group] for group in data.groups.tolist()], np.int8)


def _fill(groups: list[int], places: dict[int, float], chosen: dict[int, int], bounds: npt.NDArray[np.float64]) -> None:
    for part in range(len(PARTS)):
        low, high = float(bounds[part]), float(bounds[part + 1])
        if high - low <= 0 or any(chosen[group] == part for group in groups):
            continue
        counts = [sum(chosen[group] == other for group in groups) for other in range(len(PARTS))]
        spare = [group for group in groups if counts[chosen[group]] > 1]
        chosen[min(spare, key=lambda group: max(low - places[group], places[group] - high))] = part


def _place(seed: int, name: str) -> float:
    """A number in [0, 1) that is uniformly distributed over names."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:6], "big") / 2**48


def _part(place: float, bounds: npt.NDArray[np.float64]) -> int:
    # Empty parts share a bound with their neighbour; the last part takes what rounding leaves above the last bound.
    part = int(np.searchsorted(bounds, place, side="right")) - 1
    return min(part, max(index for index in range(len(PARTS)) if bounds[index + 1] > bounds[index]))
