from __future__ import annotations

import json
import math

from firewall.verdict import Reason, Verdict


def test_a_bare_verdict_withholds() -> None:
    """The zero value of a verdict is closed: nothing released, no label, a reason."""
    line = Verdict("s", 0, (0, 0, 1, 1)).line()

    assert line["decision"] == "withhold"
    assert line["label"] is None and line["label_name"] is None
    assert line["reason"] == "unknown"


def test_a_withheld_line_never_carries_a_label() -> None:
    """Even a verdict that was filled in carelessly tells no label unless it is released."""
    line = Verdict("s", 0, (0, 0, 1, 1), released=False, label=14, label_name="stop").line()

    assert line["label"] is None and line["label_name"] is None


def test_scores_are_for_the_operator_alone() -> None:
    """The public line has exactly the contract's keys; the operator's line adds six."""
    verdict = Verdict("s", 3, (1, 2, 3, 4), True, 14, "stop", Reason.BENIGN, scores={"agreement": 0.1}, suspicion=-0.2)

    public = {"source", "sequence", "region", "decision", "label", "label_name", "reason", "latency_ms"}
    assert set(verdict.line()) == public
    assert set(verdict.line(operator=True)) - public == {
        "suspicion",
        "scores",
        "evidence",
        "suspected_label",
        "corrected_label",
        "classified",
    }


def test_lines_are_strict_json() -> None:
    """A score that is not a number becomes null, never NaN, which is not JSON."""
    verdict = Verdict("s", 0, (0, 0, 1, 1), scores={"agreement": math.nan}, suspicion=math.inf)

    text = json.dumps(verdict.line(operator=True), allow_nan=False)

    assert json.loads(text)["scores"] == {"agreement": None}
