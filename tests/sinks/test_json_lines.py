from __future__ import annotations

import json
import math
import os
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from firewall.errors import FirewallError
from firewall.frame import Frame
from firewall.sinks import FrameReport, JsonLines
from firewall.verdict import Reason, Verdict

RELEASED = Verdict("cam", 3, (1, 2, 30, 40), released=True, label=14, label_name="stop", reason=Reason.BENIGN)
WITHHELD = Verdict(
    "cäm",
    3,
    (5, 6, 7, 8),
    reason=Reason.SUSPICIOUS,
    suspicion=math.inf,
    scores={"agreement": math.nan},
    suspected_label=2,
)


def report(*verdicts: Verdict) -> FrameReport:
    return FrameReport(Frame(np.zeros((8, 8, 3), np.uint8), "cam", 3, time.monotonic()), verdicts)


def test_a_line_for_each_verdict_is_on_disk_at_once(tmp_path: Path) -> None:
    """Lines can be read while the file is still open: a killed process loses none."""
    sink = JsonLines((tmp_path / "verdicts.jsonl").open("a", encoding="utf-8"))

    sink.report(report(RELEASED, WITHHELD))

    first, second = map(json.loads, (tmp_path / "verdicts.jsonl").read_text().splitlines())
    assert (first["decision"], first["label"], first["label_name"]) == ("release", 14, "stop")
    assert (second["decision"], second["label"], second["source"]) == ("withhold", None, "cäm")
    sink.close()


def test_scores_are_for_the_operator_alone_and_always_json(tmp_path: Path) -> None:
    """Without `operator` no score leaves; with it, what is no finite number becomes null instead of invalid JSON."""
    for operator in (False, True):
        path = tmp_path / f"{operator}.jsonl"
        sink = JsonLines(path.open("w", encoding="utf-8"), operator=operator)
        sink.report(report(WITHHELD))
        sink.close()
        assert "NaN" not in path.read_text() and "Infinity" not in path.read_text()
        line = json.loads(path.read_text())
        assert ("scores" in line) == ("suspected_label" in line) == operator
        assert not operator or (line["scores"] == {"agreement": None} and line["suspicion"] is None)


def test_a_full_disk_is_an_error() -> None:
    """A verdict that can't be written stops the service instead of getting lost."""
    stream = Path("/dev/full").open("w", encoding="utf-8")  # noqa: SIM115

    with pytest.raises(FirewallError, match=r"/dev/full.*No space left"):
        JsonLines(stream).report(report(RELEASED))
    with suppress(OSError):  # closing tries to write once more
        stream.close()


def test_standard_output_is_left_open() -> None:
    """Only what is ours is closed."""
    with os.fdopen(os.dup(1), "w") as ours:
        JsonLines(ours).close()
        assert ours.closed
    stdout = os.fdopen(1, "w", closefd=False)
    JsonLines(stdout).close()
    assert not stdout.closed
