from __future__ import annotations

import pytest

from firewall.bundle import GoldenFrame
from firewall.decision.golden import difference, outcome
from firewall.verdict import Reason, Verdict


def released(label: int) -> Verdict:
    return Verdict("golden", 0, (0, 0, 9, 9), True, label, "x", Reason.BENIGN, suspected_label=label)


def withheld(reason: Reason, label: int | None = None) -> Verdict:
    return Verdict("golden", 0, (0, 0, 9, 9), reason=reason, suspected_label=label)


@pytest.mark.parametrize(
    ("verdicts", "words"),
    [
        ([released(14), released(2), withheld(Reason.SUSPICIOUS)], ""),
        ([withheld(Reason.SUSPICIOUS), released(2), released(14)], ""),
        ([released(14), released(3), withheld(Reason.SUSPICIOUS)], "gives class 3, class 14, 'suspicious'"),
        ([released(14), released(2), withheld(Reason.OBSTRUCTED)], "gives class 2, class 14, 'obstructed'"),
        ([released(14), released(14), withheld(Reason.SUSPICIOUS)], "gives class 14, class 14, 'suspicious'"),
        ([released(2), released(14)], "gives class 2, class 14"),
        ([withheld(Reason.ENGINE_ERROR)], "should give class 2, class 14, 'suspicious', and gives 'engine error'"),
        ([], "gives nothing"),
    ],
)
def test_another_verdict_is_named(verdicts: list[Verdict], words: str) -> None:
    """Classes and reasons in whatever order, each as often as it should; a withheld class says nothing."""
    frame = GoldenFrame(file="a.png", regions="signs", released=(2, 14), withheld=(Reason.SUSPICIOUS,))
    found = difference(frame, outcome(verdicts))
    assert found.endswith(words) and bool(found) == bool(words) and (not found or found.startswith("a.png should"))


def test_a_stricter_demand_of_the_user_is_no_fault() -> None:
    """`not certified` for the user's own --patches counts as the release that it would be, with its class; without that
    it is a fault."""
    frame = GoldenFrame(file="a.png", released=(14,))
    uncertified = [withheld(Reason.UNCERTIFIED, 14)]
    assert difference(frame, outcome(uncertified, stricter=True)) == ""
    assert difference(frame, outcome([withheld(Reason.UNCERTIFIED, 2)], stricter=True)).endswith("gives class 2")
    assert difference(frame, outcome(uncertified)).endswith("gives 'not certified'")
    assert difference(frame, outcome([withheld(Reason.SUSPICIOUS, 14)], stricter=True))
