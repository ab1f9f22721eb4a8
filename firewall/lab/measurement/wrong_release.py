"""The wrong-release rate: the share of attacked images for which a wrong label is released.

It is given at the bundle's own threshold, and at those that withhold the same shares of benign images in every bundle:
only so two bundles can be compared.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from firewall.errors import DataError
from firewall.lab.measurement.metrics import threshold_at

__all__ = ["SHARES", "WronglyReleased", "finite", "limits_at"]

Floats = npt.NDArray[np.float64]

#: Shares of benign images withheld at which bundles are compared.
SHARES = (0.01, 0.02, 0.05)


@dataclass(frozen=True, eq=False)
class WronglyReleased:
    """An attacked image for which a wrong label goes out.

    Attributes:
        image: Uint8 (h, w, 3) RGB.
        label: The true class's name.
        released: The released one's.
    """

    image: npt.NDArray[np.uint8]
    label: str
    released: str


def limits_at(benign: Floats) -> dict[str, float]:
    """The suspicions above which an image is withheld, so that SHARES of benign images are.

    Args:
        benign: Suspicion of benign images that are not judged, float64 (N,); inf where no threshold releases the image.

    Returns:
        Per cent of benign images withheld, such as "1" -> suspicion.

    Raises:
        DataError: No suspicion is finite.
    """
    if not np.isfinite(benign).any():
        raise DataError(f"none of the {len(benign)} benign images got a score from every detector; check the bundle")
    values = finite(benign)
    return {f"{100 * share:g}": threshold_at(values, share) for share in SHARES}


def finite(suspicion: Floats, other: Floats | None = None) -> Floats:
    """The same with a number above all others in place of inf.

    Args:
        suspicion: Float64 (N,).
        other: What it is compared with: the number also lies above these.
    """
    every = suspicion if other is None else np.concatenate([suspicion, other])
    known = every[np.isfinite(every)]
    top = known.max() + 1 if len(known) else 1.0
    return np.where(np.isfinite(suspicion), suspicion, top)
