"""What a flow field of limited total variation can do: how far it takes a pixel, and all pixels together.

The threat model, with proofs in docs/spatial_certificate.md: a flow r gives each pixel i of the image a vector r_i in
pixels, r = 0 outside the image, and L_flow(r) <= B, where L_flow is equation 6 of the thesis (Nguyen C. 2018): the sum
over pixels and their four neighbours, those outside the image among them, so that every pair counts twice. Hence
sum over pairs |r_i - r_j| <= C = B / 2, and

* |r_i| <= C / 4 = B / 8 for every pixel, and even (sum over i of |r_i|^2)^(1/2) <= C / 4 (isoperimetry of the grid);
* sum over i of w_i |r_i| <= C * largest |q_e|, for weights w_i >= 0 and any flow q along the pairs that brings at least
  w_i to each pixel from outside the image (duality);
* |r_i| <= lambda_i C with lambda of the thesis's proposition 2.2: true, and 2 to 3 times weaker than the first.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from firewall.errors import DataError, UsageError

__all__ = ["FEW", "Grid", "checked_budget", "excess", "flow_variation", "grid_of", "reach"]

Floats = npt.NDArray[np.float64]

#: At most so many pixels are moved farther than `reach(budget) / (FEW + 1) ** 0.5`, `reach` being the length of all.
FEW = 12


def checked_budget(budget: float, name: str = "--budget") -> float:
    """The budget B as a float.

    Args:
        budget: Cap on L_flow, in pixels.
        name: How errors call it.

    Returns:
        The budget.

    Raises:
        UsageError: It is not a number above 0.
    """
    if not (math.isfinite(budget) and budget > 0):
        raise UsageError(
            f"{name} is {budget:g}; it is a cap on the flow's total variation in pixels and must be larger than 0, "
            "7.0 in the thesis"
        )
    return float(budget)


def reach(budget: float) -> float:
    """The farthest that a flow takes any pixel, which is also the length of all vectors together.

    Args:
        budget: Cap on L_flow, in pixels.

    Returns:
        Pixels.
    """
    return budget / 8


def flow_variation(flow: Floats) -> float:
    """L_flow of a flow: equation 6 with r = 0 around the image.

    Args:
        flow: (2, H, W), in pixels.

    Returns:
        Pixels.

    Raises:
        DataError: Another shape, or numbers that are not finite.
    """
    if flow.ndim != 3 or flow.shape[0] != 2 or not np.isfinite(flow).all():
        raise DataError(f"a flow must be finite numbers (2, H, W), got {flow.shape}")
    field = np.pad(flow.astype(np.float64), ((0, 0), (1, 1), (1, 1)))
    down = np.linalg.norm(np.diff(field, axis=1)[:, :, 1:-1], axis=0).sum()
    right = np.linalg.norm(np.diff(field, axis=2)[:, 1:-1], axis=0).sum()
    return float(2 * (down + right))


@dataclass(frozen=True)
class Grid:
    """The pixels of an image and the pairs of neighbours; pixels of the edge are paired with the outside too.

    Args:
        height: In pixels.
        width: In pixels.
    """

    height: int
    width: int

    @cached_property
    def differences(self) -> Floats:
        """The matrix N, (pairs, pixels): (N p) is the difference of each pair, p being 0 outside."""
        index = np.full((self.height + 2, self.width + 2), -1)
        index[1:-1, 1:-1] = np.arange(self.height * self.width).reshape(self.height, self.width)
        pairs = np.concatenate(
            [
                np.stack([index[:-1, 1:-1].ravel(), index[1:, 1:-1].ravel()], axis=1),
                np.stack([index[1:-1, :-1].ravel(), index[1:-1, 1:].ravel()], axis=1),
            ]
        )
        matrix = np.zeros((len(pairs), self.height * self.width + 1))
        rows = np.arange(len(pairs))
        matrix[rows, pairs[:, 0]] = -1.0
        matrix[rows, pairs[:, 1]] = 1.0
        return matrix[:, :-1]  # the last column is the outside, index -1

    @cached_property
    def sparse(self) -> csr_array:
        """N^T, (pixels, pairs), without its zeros."""
        return csr_array(self.differences.T)

    @cached_property
    def covariance(self) -> Floats:
        """(N^T N)^(-1), (pixels, pixels). N^T N is regular because the outside is held at 0."""
        inverse = np.linalg.inv(self.differences.T @ self.differences)
        return np.asarray((inverse + inverse.T) / 2)

    @cached_property
    def routing(self) -> Floats:
        """Brings weights w to the pixels by the flow q = routing @ w of least squares, (pairs, pixels)."""
        return np.asarray(self.differences @ self.covariance)

    @cached_property
    def lambdas(self) -> Floats:
        """The thesis's lambda_i, the roots of the diagonal of (N^T N)^(-1): (pixels,)."""
        return np.asarray(np.sqrt(np.diag(self.covariance)))

    @staticmethod
    def spread(near: Floats, far: Floats, few: int) -> Floats:
        """Upper bounds on the largest sum w_i |r_i| / C, by the length of w over 4 (Cauchy and Schwarz).

        Args:
            near: (R, pixels), weights w_i >= 0.
            far: (R, pixels), larger weights of pixels that are moved far.
            few: How many pixels are moved far at most; they are taken where they cost most.

        Returns:
            (R,).
        """
        return np.asarray(np.sqrt(np.square(near).sum(axis=1) + excess(far**2 - near**2, few)) / 4 * (1 + 1e-12))

    def capacity(self, near: Floats, far: Floats, few: int) -> Floats:
        """As `spread`, or by the largest |q_e| of the least-squares routing of `near` where that is less.

        What floating point leaves of the routing, near - N^T q, is paid for by |r_i| <= C / 4.

        Args:
            near: As of `spread`.
            far: As of `spread`.
            few: As of `spread`.

        Returns:
            (R,).
        """
        flows = near @ self.routing.T
        missing = np.maximum(near - (self.sparse @ flows.T).T, 0).sum(axis=1)
        more = np.sqrt(excess((far - near) ** 2, few))
        routed = (np.abs(flows).max(axis=1) + (missing + more) / 4) * (1 + 1e-12)
        return np.asarray(np.minimum(routed, self.spread(near, far, few)))


def excess(values: Floats, few: int) -> Floats:
    """The sum of the largest values of each row; values below 0 count as 0.

    Args:
        values: (R, n).
        few: How many.

    Returns:
        (R,).
    """
    used = values[:, (values > 0).any(axis=0)]
    if used.shape[1] > few:
        used = np.partition(used, used.shape[1] - few, axis=1)[:, used.shape[1] - few :] if few else used[:, :0]
    return np.asarray(np.maximum(used, 0).sum(axis=1))


@lru_cache(maxsize=4)
def grid_of(height: int, width: int) -> Grid:
    """The grid of a size; its matrices are computed once.

    Args:
        height: In pixels.
        width: In pixels.

    Returns:
        The grid.
    """
    return Grid(height, width)
