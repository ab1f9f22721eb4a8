"""What every engine does around its network: pixels become numbers, and logits are checked."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from firewall.bundle import InputSpec
from firewall.errors import EngineError

__all__ = ["check_images", "finite", "scale_and_shift"]

Floats = npt.NDArray[np.float32]


def scale_and_shift(spec: InputSpec) -> tuple[Floats, Floats]:
    """(value / 255 - mean) / std as value * scale + shift.

    Args:
        spec: Mean and standard deviation of each channel, in units of 0..1.

    Returns:
        Scale 1 / (255 std) and shift -mean / std, float32 (3, 1, 1), computed in float64 and rounded once.
    """
    mean, std = np.array(spec.mean), np.array(spec.std)
    scale, shift = (1.0 / (255.0 * std)).astype(np.float32), (-mean / std).astype(np.float32)
    return scale[:, None, None], shift[:, None, None]


def check_images(images: npt.NDArray[np.uint8], spec: InputSpec) -> None:
    """Raise EngineError unless the images are uint8 (N, H, W, 3) of the network's input size."""
    if images.dtype != np.uint8 or images.shape[1:] != (spec.height, spec.width, 3):
        raise EngineError(f"the classifier takes uint8 (N, H, W, 3) of its size, got {images.dtype} {images.shape}")


def finite(logits: Floats) -> Floats:
    """The logits themselves. Raises EngineError if a value is NaN or infinite."""
    if not np.isfinite(logits).all():
        raise EngineError("the classifier gave values that are not finite float32 numbers")
    return logits
