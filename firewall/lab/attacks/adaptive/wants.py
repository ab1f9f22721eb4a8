"""What an attacked image still misses for a wrong release, as one number."""

from __future__ import annotations

from torch import Tensor

from firewall.lab.attacks.adaptive.picture import Seen
from firewall.lab.attacks.criteria import margin

__all__ = ["missed_of"]

#: By how much classifier and detectors are to be satisfied, in logits and in the demands' own units.
LEAD, SLACK = 0.3, 0.05
#: What one unit of a demand counts for, where a logit of the classifier counts 1.
WEIGHT = 1.5


def missed_of(seen: Seen, aims: Tensor) -> Tensor:
    """All that is missed for a release under the target's name, added up: 0 where all is satisfied.

    Args:
        seen: What the firewall makes of N images.
        aims: Int64 (N,), target classes.

    Returns:
        (N,), 0 or more.
    """
    rest = (seen.demands + SLACK).clamp_min(0).sum(1)
    missed: Tensor = (margin(seen.logits, aims) + LEAD).clamp_min(0) + WEIGHT * rest
    return missed
