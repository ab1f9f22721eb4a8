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


def test_lines_are_utf8_whatever_the_stream(tmp_path: Path) -> None:
    r"""A stream of latin-1, and a name with bytes that are no UTF-8: these stand there as \xNN."""
    path = tmp_path / "verdicts.jsonl"
    sink = JsonLines(path.open("w", encoding="latin-1"))
    sink.report(report(Verdict(os.fsdecode(b"c\xc3\xa4m \xff"), 3, (1, 2, 3, 4), detail="\udcfe \u4ea4")))
    sink.close()
    line = json.loads(path.read_bytes().decode("utf-8"))
    assert line["source"] == "c\xe4m \\xff" and line["reason"].endswith("\\xfe \u4ea4")


@pytest.mark.parametrize(("before", "after"), [("", ""), ("{}\n", "{}\n"), ('{"cut o', '{"cut o\n')])
def test_a_line_that_was_cut_off_stays_alone(tmp_path: Path, before: str, after: str) -> None:
    """What a full disk or a kill left behind isn't joined with the first line of the next run."""
    path = tmp_path / "verdicts.jsonl"
    path.write_text(before)
    sink = JsonLines.append(path)
    sink.report(report(RELEASED))
    sink.close()
    written = path.read_text()
    assert written.startswith(after) and json.loads(written.removeprefix(after))["label"] == 14


def test_a_file_that_was_deleted_before_the_end_is_an_error(tmp_path: Path) -> None:
    """Its lines are gone; a file that was only moved away is none."""
    for name, away in (("moved", Path.rename), ("deleted", lambda path, _: path.unlink())):
        sink = JsonLines.append(tmp_path / name)
        sink.report(report(RELEASED))
        away(tmp_path / name, tmp_path / "away")
        if name == "moved":
            sink.close()
        else:
            with pytest.raises(FirewallError, match="deleted was deleted"):
                sink.close()


def test_a_failure_is_told_once() -> None:
    """Closing after it neither fails again nor closes a stream that isn't ours."""
    sink = JsonLines.append(Path("/dev/full"))
    with pytest.raises(FirewallError, match=r"/dev/full.*No space left"):
        sink.report(report(RELEASED))
    sink.close()
