"""Groups of images that are nearly the same picture, where no track tells."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from firewall.lab.datasets.dataset import Pixels

__all__ = ["near_duplicates"]

_SIDE = 16


def near_duplicates(
    images: Sequence[Pixels], labels: npt.NDArray[np.int64], threshold: float = 0.95
) -> npt.NDArray[np.int64]:
    """A group for each image, int64 (N,): two images of one class are in the same group if their small colour versions
    have a correlation of at least `threshold`, and so on from each to the next."""
    features = np.stack([_feature(image) for image in images])
    groups = np.zeros(len(labels), np.int64)
    count = 0
    for label in np.unique(labels):
        index = np.flatnonzero(labels == label)
        alike = csr_matrix(features[index] @ features[index].T >= threshold)
        number, members = connected_components(alike, directed=False)
        groups[index] = members + count
        count += number
    return groups


def _feature(pixels: Pixels) -> npt.NDArray[np.float32]:
    small = cv2.resize(pixels.astype(np.float32), (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    centred = small - small.mean()
    feature: npt.NDArray[np.float32] = (centred / (np.linalg.norm(centred) + 1e-6)).ravel().astype(np.float32)
    return feature
