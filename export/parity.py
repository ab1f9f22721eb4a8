"""Whether two programs that run one network say the same."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from firewall.bundle.onnx_bytes import Precision
from firewall.errors import EngineError

__all__ = ["RELATIVE", "Parity", "compare"]

#: Largest difference of a logit that is always taken for rounding; sums in another order stay far below.
_TOLERANCE = 1e-3

#: The same as a share of the largest logit, by what a network computes in. On ONNX Runtime the default classifier was
#: off by 0.0005 in fp16 and 0.06 in int8 (2,000 signs); kernels that add up in another order may take some of the rest.
RELATIVE: dict[Precision, float] = {"fp32": 1e-4, "fp16": 0.01, "int8": 0.15}


@dataclass(frozen=True)
class Parity:
    """Of n images: the largest and the mean absolute difference of a logit, the largest logit, and on how many images
    the class and the five likeliest classes (in order; all, where there are fewer) are the same.

    Attributes:
        images: Images that were compared.
        largest: The largest absolute difference of a logit.
        mean: The mean absolute difference of a logit.
        scale: The largest absolute logit.
        same_label: Images with the same class.
        same_top5: Images with the same five most likely classes, in order (all classes, if there are fewer).
        relative: The share of the largest logit that a difference may have.
    """

    images: int
    largest: float
    mean: float
    scale: float
    same_label: int
    same_top5: int
    relative: float

    @property
    def allowed(self) -> float:
        """The largest difference that is taken for rounding."""
        return max(_TOLERANCE, self.relative * self.scale)

    def check(self, what: str) -> None:
        """Check that the logits agree within the allowed difference and that the classes are the same.

        The order of the five most likely classes is reported, but not required: two logits that are closer than the
        allowed difference may change places.

        Args:
            what: What was compared, for the message.

        Raises:
            EngineError: If a logit or a class differs.
        """
        if not self.largest <= self.allowed:
            raise EngineError(f"{what}: a logit differs by {self.largest:.3g}, {self.allowed:.3g} is allowed")
        if self.same_label != self.images:
            raise EngineError(f"{what}: {self.images - self.same_label} of {self.images} images get another class")

    def to_json(self) -> dict[str, Any]:
        """All of it, with what was allowed."""
        return {**asdict(self), "allowed": self.allowed}


def compare(
    first: npt.NDArray[np.float32], second: npt.NDArray[np.float32], *, precision: Precision = "fp32"
) -> Parity:
    """Logits (N, classes) of the same N >= 1 images.

    Args:
        first: Logits (N, classes).
        second: Logits (N, classes).
        precision: What the second was computed in.

    Raises:
        EngineError: For other shapes or values not finite.
    """
    if first.shape != second.shape or first.ndim != 2 or len(first) == 0:
        raise EngineError(f"logits of shape {first.shape} and {second.shape} can't be compared")
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise EngineError("logits that are not finite numbers can't be compared")
    apart = np.abs(first.astype(np.float64) - second)
    likeliest = [np.argsort(-logits, axis=1, kind="stable")[:, :5] for logits in (first, second)]
    return Parity(
        images=len(first),
        largest=float(apart.max()),
        mean=float(apart.mean()),
        scale=float(np.abs(first).max()),
        same_label=int((likeliest[0][:, 0] == likeliest[1][:, 0]).sum()),
        same_top5=int((likeliest[0] == likeliest[1]).all(axis=1).sum()),
        relative=RELATIVE[precision],
    )
