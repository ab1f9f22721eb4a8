"""The question whether a label passes under masks, as one guard asks it of one network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from firewall.bundle import ClassifierSpec, PatchSpec
from firewall.decision.dial import Dial, check_logits
from firewall.decision.masking import Classify, Kept, masks_for
from firewall.decision.steps import kept_in_steps
from firewall.detectors import Evidence

__all__ = ["Stickers"]


class Stickers:
    """Masks on the input of the classifier that is asked under them, whose size may be its own.

    Args:
        spec: What is asked, with a tau if its rule is "object".
        classifier: The classifier that is asked.

    Raises:
        UsageError: The input is too small for such stickers.
    """

    def __init__(self, spec: PatchSpec, classifier: ClassifierSpec) -> None:
        self.spec, self.classifier, self.dial = spec, classifier, Dial.of(spec)
        size = classifier.input
        self.masks = masks_for(size.height, size.width, spec.area, spec.masks, spec.fill)

    def check(self, classify: Classify, bundle: Path) -> None:
        """Refuse a classifier whose outputs can't bear the dial.

        Args:
            classify: Gives the logits of a batch.
            bundle: For the message.

        Raises:
            EngineError: It gives probabilities, and there is a tau.
        """
        if self.spec.tau is not None:
            size = self.classifier.input
            check_logits(classify, size.height, size.width, f"{self.classifier.file} of bundle {bundle}")

    def kept(self, evidence: Evidence, classify: Classify, expired: Callable[[], bool]) -> Kept:
        """Whether the label of a region passes, see Masks.kept and kept_in_steps.

        Args:
            evidence: The region. Masks are laid on its own pixels at the input's size.
            classify: Gives the logits of a batch.
            expired: Asked after each batch whether the time is up.
        """
        size = self.classifier.input
        image, label = evidence.resized(size.width, size.height), int(evidence.logits.argmax())
        if self.spec.finer:
            return kept_in_steps(self.masks, self.spec.finer, image, label, classify, self.dial, expired)
        return self.masks.kept(image, label, classify, self.spec.rounds, expired, self.dial)
