"""Golden frames: pictures whose verdicts are known. Another verdict says that a device doesn't compute as it should."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from firewall.bundle import GoldenFrame
from firewall.verdict import Reason, Verdict

__all__ = ["GoldenState", "Outcome", "difference", "outcome"]

#: The classes that were released and the reasons of the other verdicts, both in order.
Outcome = tuple[tuple[int, ...], tuple[Reason, ...]]


@dataclass(frozen=True)
class GoldenState:
    """What the golden frames say.

    Attributes:
        frames: How many there are.
        rounds: How often all of them were judged.
        failures: How often one of them had another verdict than it should.
        fault: What is wrong, one line; empty if nothing is.
        checked_at: Unix time in seconds at which the last round ended; 0 before that.
        median_ms: Milliseconds that a golden frame took in the last round, of those that are looked at as live ones
            are: by the finder if the guard has one and a golden frame needs it, else by themselves.
        slowest_ms: The most that one of these took.
    """

    frames: int
    rounds: int = 0
    failures: int = 0
    fault: str = ""
    checked_at: float = 0.0
    median_ms: float = 0.0
    slowest_ms: float = 0.0


def outcome(verdicts: Sequence[Verdict], *, stricter: bool = False) -> Outcome:
    """What verdicts come to.

    Args:
        verdicts: All verdicts on one picture.
        stricter: The user asks for more than the bundle: `not certified` counts as the release that it would be.
    """
    released, withheld = [], []
    for verdict in verdicts:
        label = verdict.suspected_label if stricter and verdict.reason is Reason.UNCERTIFIED else verdict.label
        if label is None:
            withheld.append(verdict.reason)
        else:
            released.append(label)
    return tuple(sorted(released)), tuple(sorted(withheld))


def difference(frame: GoldenFrame, found: Outcome) -> str:
    """How an outcome differs from what a golden frame wants, in one line; empty if it doesn't."""
    wanted = (frame.released, frame.withheld)
    if all(Counter(one) == Counter(other) for one, other in zip(wanted, found, strict=True)):
        return ""
    return f"{frame.file} should give {_said(wanted)}, and gives {_said(found)}"


def _said(told: Outcome) -> str:
    return ", ".join([*(f"class {label}" for label in told[0]), *map(repr, map(str, told[1]))]) or "nothing"
