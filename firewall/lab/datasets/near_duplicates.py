"""Groups of images that are nearly the same picture, where tracks are not known."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import pdist

from firewall.lab.datasets.dataset import Pixels

__all__ = ["near_duplicates"]

_SIDE = 8
#: What is added to a value in 0..1 before its logarithm is taken, so that the noise of dark pixels counts little.
_DARK = 0.03
_DISTANCE = 7.0


def near_duplicates(images: Sequence[Pixels], labels: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """A group for each image, int64 (N,); images of one group have the same label.

    Two images are as far apart as the logarithms of their 8x8 colour versions (light is a factor, so it becomes a
    shift), and groups are joined while the mean distance between their images is small (average linkage).

    How well that finds tracks, on 12,569 GTSRB training images of 419 tracks at 32x32, where the truth is known: 73 %
    of the pairs of one track fall into one group, 29 % of the pairs in one group are of one track, 44 % of the tracks
    are whole; 516 groups. Split 70/15/15, 13 % of the pairs of one track are parted (46 % without groups), and 41 % of
    the images for evaluation have another frame of their track in training (all of them without groups). So it makes
    such a split better, not right: where tracks are known, use them. Thresholds of correlation on normalised
    grey images did worse (24 % of the pairs where 17 % are right): all signs of a class are alike.
    """
    features = np.stack([_feature(image) for image in images])
    groups = np.zeros(len(labels), np.int64)
    count = 0
    for label in np.unique(labels):
        index = np.flatnonzero(labels == label)
        if len(index) > 1:
            tree = linkage(pdist(features[index]), "average")
            groups[index] = count + fcluster(tree, _DISTANCE, "distance") - 1
        else:
            groups[index] = count
        count = int(groups[index].max()) + 1
    return groups


def _feature(pixels: Pixels) -> npt.NDArray[np.float64]:
    small = cv2.resize(pixels.astype(np.float32) / 255, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    feature: npt.NDArray[np.float64] = np.log(small + _DARK).ravel().astype(np.float64)
    return feature
