"""One region on its way to a verdict; its scores are in the frame's panel (firewall.decision.panel)."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from firewall.decision.masking import Kept
from firewall.detectors import Evidence
from firewall.errors import EngineError
from firewall.frame import Region
from firewall.verdict import Reason

__all__ = ["Case", "failure_of"]


@dataclass(slots=True)
class Case:
    """What is known of one region so far.

    Attributes:
        region: (x, y, width, height) in pixels of the frame.
        evidence: What the detectors look at, None until the region is classified.
        contradicted: Whether another region at the same place has another label.
        variants: Operation -> logits (classes,) of the transformed copies so far; `evidence` has the same dictionary.
        corrected: The corrected class, None if there is none.
        kept: Whether the label passes under masks; None if that was not examined.
        proved: Whether the label is proved for changes of every value; None if that was not examined.
        failure: Reason and detail that withhold the label, whatever else is known.
    """

    region: Region
    evidence: Evidence | None = None
    contradicted: bool = False
    variants: dict[str, npt.NDArray[np.float32]] = field(default_factory=dict)
    corrected: int | None = None
    kept: Kept | None = None
    proved: bool | None = None
    failure: tuple[Reason, str] | None = None

    @property
    def passes(self) -> bool | None:
        """Whether the label passes under masks; None if that isn't known."""
        return None if self.kept is None else self.kept.holds

    def certified(self, *, values: bool, masks: bool) -> bool | None:
        """Whether every promise that is asked for can be given.

        Args:
            values: Whether changes of every value are asked about.
            masks: Whether stickers are.

        Returns:
            True if all can; None if one isn't known and none is refused.
        """
        asked = [*([self.proved] if values else []), *([self.passes] if masks else [])]
        if False in asked:
            return False
        return None if None in asked else True

    @property
    def side(self) -> int:
        """The shorter side in the region's own pixels."""
        return min(self.region[2:])


def failure_of(error: Exception) -> tuple[Reason, str]:
    """Reason and detail of a failure. Closed by default: an unexpected one must not release either."""
    if isinstance(error, EngineError):
        return Reason.ENGINE_ERROR, str(error)
    return Reason.UNKNOWN, f"{type(error).__name__} while screening"
