"""What is odd about a detector's answers, said once each: a wrong setting must not look like an empty road."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from firewall.errors import EngineError
from firewall.regions.boxes import Floats
from firewall.regions.layouts import Candidates
from firewall.regions.suppression import MOST_COMPARED

__all__ = ["Oddities"]

#: Frames in a row without a box after which that is reported.
SILENT_FRAMES = 100


class Oddities:
    """Checks of one detector. What makes an answer worthless is an EngineError each time, and a line once; what only
    makes it odd is the line."""

    def __init__(self, what: str, tell: Callable[[str], None]) -> None:
        """Begin with nothing reported.

        Args:
            what: Name of the detector, for messages.
            tell: Takes a line for the operator.
        """
        self._what, self._tell = what, tell
        self._told: set[str] = set()
        self._silent = 0
        self._best = 0.0

    def once(self, kind: str, text: str) -> None:
        """Report a line, unless one of this kind was reported before."""
        if kind not in self._told:
            self._told.add(kind)
            self._tell(f"{self._what}: {text}")

    def refuse(self, kind: str, text: str) -> EngineError:
        """The error to raise; its line is reported once."""
        self.once(kind, f"{text}; frames like this one are withheld")
        return EngineError(f"{self._what}: {text}")

    def failed(self, kind: str, error: EngineError) -> EngineError:
        """The same error; its line is reported once."""
        if kind not in self._told:
            self._told.add(kind)
            self._tell(f"{error}; frames like this one are withheld")
        return error

    def check_scores(self, found: Candidates) -> None:
        """Refuse scores that are not scores.

        Raises:
            EngineError: If scores are not finite, or not confidences of 0..1.
        """
        scores = found.scores
        if not np.isfinite(scores).all():
            raise self.refuse("finite", f"{int((~np.isfinite(scores)).sum())} of {len(scores)} scores are not finite")
        if len(scores) and not (scores.min() >= -1e-3 and scores.max() <= 1.001):
            raise self.refuse(
                "range",
                f"scores from {scores.min():.3g} to {scores.max():.3g}, allowed is 0 to 1; set "
                "region_detector.activation to sigmoid or softmax, or region_detector.layout if they are no scores",
            )

    def check_boxes(self, found: Candidates) -> None:
        """Refuse boxes that are not boxes.

        Raises:
            EngineError: If a box that is to be looked at is not finite. Thousands of boxes are only reported.
        """
        if not np.isfinite(found.boxes).all():
            raise self.refuse("boxes", "boxes above the threshold are not finite")
        if len(found) > MOST_COMPARED:
            self.once(
                "many",
                f"{len(found)} boxes above the threshold in one frame, only the best {MOST_COMPARED} are compared; is "
                "region_detector.threshold too low, or the layout another?",
            )

    def usable(self, corners: Floats, high: int, wide: int, read_as: str) -> npt.NDArray[np.bool_]:
        """Which of the boxes (N, 4) in pixels of a frame of high x wide can be looked at, a mask (N,).

        Raises:
            EngineError: If there are some and none can: then they are read in the wrong way.
        """
        flat = ~(corners[:, 2:] - corners[:, :2] > 0).all(axis=1)
        away = (corners[:, 2:] <= 0).any(axis=1) | (corners[:, :2] >= np.array([wide, high])).any(axis=1)
        usable = ~(flat | away)
        if len(corners) and not usable.any():
            raise self.refuse(
                "unusable",
                f"all {len(corners)} boxes above the threshold are inside out or outside the frame (the first: "
                f"{', '.join(f'{side:.4g}' for side in corners[0])} in pixels), read as {read_as}; set "
                "region_detector.format, .coordinates or .layout",
            )
        if flat.any():
            self.once("flat", f"boxes inside out or without area are left out ({int(flat.sum())} in this frame)")
        if (away & ~flat).any():
            self.once("away", f"boxes outside the frame are left out ({int((away & ~flat).sum())} in this frame)")
        return np.asarray(usable, bool)

    def heard(self, scores: Floats, above: int, hint: Callable[[], str]) -> None:
        """Count frames in which no box reached the threshold.

        Args:
            scores: (N,), scores of the frame.
            above: How many of them reached the threshold.
            hint: Says what might be wrong; called when that is reported.
        """
        if above:
            self._silent = -(10**9)  # it works
            return
        self._silent += 1
        self._best = max(self._best, float(scores.max(initial=0.0)))
        if self._silent == SILENT_FRAMES:
            self.once(
                "silent", f"no box in the first {SILENT_FRAMES} frames; the best score was {self._best:.3g}. {hint()}"
            )
