from __future__ import annotations

import io
import json
import math
import os
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from firewall.errors import FirewallError
from firewall.frame import Frame
from firewall.host.output import _Output
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


def labels(path: Path) -> list[int | None]:
    return [json.loads(line)["label"] for line in path.read_text().splitlines()]


def test_a_file_is_rotated_by_moving_it(tmp_path: Path) -> None:
    """After `reopen` the next line goes into a new file of the old name, which a tick makes if no line comes; before
    it the lines follow the file to its new name, so that none is lost."""
    path, away = tmp_path / "verdicts.jsonl", tmp_path / "verdicts.1"
    sink = JsonLines.append(path)
    sink.report(report(RELEASED))
    path.rename(away)
    sink.report(report(WITHHELD))
    assert labels(away) == [14, None] and not path.exists()
    sink.reopen()
    assert not path.exists()
    sink.tick()
    assert path.exists()
    sink.tick()  # nothing more is asked for
    sink.report(report(WITHHELD))
    sink.close()
    assert labels(path) == [None] and labels(away) == [14, None]


def test_a_file_is_rotated_by_copying_and_deleting_it(tmp_path: Path) -> None:
    """Moving to another file system is both: between the deletion and the signal a line waits, and none is lost."""
    path = tmp_path / "verdicts.jsonl"
    sink = JsonLines.append(path)
    sink.report(report(RELEASED))
    path.unlink()
    signal = threading.Timer(0.3, sink.reopen)
    signal.start()
    sink.report(report(WITHHELD))
    signal.join()
    sink.close()
    assert labels(path) == [None]


def test_a_deleted_file_that_nobody_rotates_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The line is waited with, then the service ends: it would write into a file that no name leads to."""
    monkeypatch.setattr("firewall.sinks.json_lines._ROTATION", 0.2)
    sink = JsonLines.append(tmp_path / "verdicts.jsonl")
    (tmp_path / "verdicts.jsonl").unlink()
    with pytest.raises(FirewallError, match=r"verdicts\.jsonl was deleted while .* move it and send SIGHUP"):
        sink.report(report(RELEASED))
    sink.close()  # told once


def test_a_deleted_file_that_is_being_rotated_is_none_at_the_end(tmp_path: Path) -> None:
    """The signal has come and no line since: all that was written is where it was moved to."""
    sink = JsonLines.append(tmp_path / "verdicts.jsonl")
    (tmp_path / "verdicts.jsonl").unlink()
    sink.reopen()
    sink.close()


def test_a_file_that_can_not_be_reopened_is_an_error(tmp_path: Path) -> None:
    """The folder went away with it: one line that names the file."""
    (tmp_path / "logs").mkdir()
    sink = JsonLines.append(tmp_path / "logs" / "verdicts.jsonl")
    (tmp_path / "logs").rename(tmp_path / "old")
    sink.reopen()
    with pytest.raises(FirewallError, match=r"can't reopen .*logs/verdicts.jsonl for verdict lines: No such file"):
        sink.report(report(RELEASED))
    sink.close()


def test_what_is_no_file_is_not_reopened(tmp_path: Path) -> None:
    """Standard output, or a pipe: SIGHUP changes nothing. A link more or less to a pipe is no deletion."""
    reading, writing = os.pipe()
    sink = JsonLines(os.fdopen(writing, "w"))
    sink.reopen()
    sink.report(report(RELEASED))
    sink.close()
    with os.fdopen(reading) as pipe:
        assert json.loads(pipe.read())["label"] == 14


def test_a_failure_of_standard_output_is_told_once_and_leaves_it_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """It isn't ours to close, also after a failure."""
    with Path("/dev/full").open("w", encoding="utf-8") as stream:
        monkeypatch.setattr("sys.stdout", stream)
        sink = JsonLines(stream)
        with pytest.raises(FirewallError, match="No space left"):
            sink.report(report(RELEASED))
        sink.close()
        assert not stream.closed
        with suppress(OSError):
            stream.close()


def test_a_program_whose_output_nobody_takes_says_so_once() -> None:
    """A process's own standard output raises our error itself; it reaches the user as it is, and closing is quiet."""
    output = _Output(os.open("/dev/full", os.O_WRONLY), "wb")
    stream = io.TextIOWrapper(io.BufferedWriter(output), encoding="utf-8")
    sink = JsonLines(stream)
    with pytest.raises(FirewallError, match=r"^can't write to standard output: No space left on device$"):
        sink.report(report(RELEASED))
    sink.close()
    assert stream.closed


def test_a_file_that_is_full_makes_room_for_a_new_one(tmp_path: Path) -> None:
    """Rotation by size: no line is cut or lost, no file is larger than asked, and only so many are kept."""
    path = tmp_path / "v.jsonl"
    sink = JsonLines.append(path, size=4096, keep=2)
    for _ in range(30):
        sink.report(report(RELEASED, WITHHELD))
    sink.close()
    files = [path, tmp_path / "v.1.jsonl", tmp_path / "v.2.jsonl"]
    assert sorted(tmp_path.iterdir()) == sorted(files)
    for file in files:
        assert file.stat().st_size <= 4096 and set(labels(file)) == {14, None}
    whole = JsonLines.append(tmp_path / "all.jsonl", size=4096, keep=100)
    for number in range(30):
        whole.report(report(Verdict("cam", number, (1, 2, 3, 4))))
    whole.close()
    older = sorted(tmp_path.glob("all.*.jsonl"), key=lambda file: -int(file.name.split(".")[1]))
    told = [
        json.loads(line)["sequence"]
        for file in [*older, tmp_path / "all.jsonl"]
        for line in file.read_text().splitlines()
    ]
    assert told == list(range(30)) and len(older) > 1


def test_a_report_larger_than_a_file_may_be_stands_alone(tmp_path: Path) -> None:
    """It is written all the same: a line is never cut. A device is never rotated."""
    sink = JsonLines.append(tmp_path / "v.jsonl", size=4096, keep=2)
    sink.report(report(*[WITHHELD] * 40))
    sink.report(report(RELEASED))
    sink.close()
    assert labels(tmp_path / "v.jsonl") == [14] and len(labels(tmp_path / "v.1.jsonl")) == 40
    null = JsonLines.append(Path("/dev/null"), size=4096)
    for _ in range(9):
        null.report(report(RELEASED, WITHHELD))
    null.close()


def test_a_reader_that_takes_nothing_can_be_left() -> None:
    """A pipe that is full: the write waits, until it is abandoned; what the reader finds later are whole lines and the
    beginning of one."""
    reading, writing = os.pipe()
    sink = JsonLines(os.fdopen(writing, "w"))
    many = report(*[WITHHELD] * 400)  # more than a pipe holds
    threading.Timer(0.3, sink.abandon).start()
    with pytest.raises(FirewallError, match="nobody reads the verdict lines"):
        sink.report(many)
    sink.close()
    with os.fdopen(reading) as pipe:
        *whole, _ = pipe.read().split("\n")
    assert len(whole) > 50 and all(json.loads(line)["source"] == "c\xe4m" for line in whole)


def test_a_slow_reader_gets_all(tmp_path: Path) -> None:
    """Written in parts that a pipe takes at once, in order and none twice."""
    reading, writing = os.pipe()
    sink = JsonLines(os.fdopen(writing, "w"))
    got: list[str] = []

    def read() -> None:
        with os.fdopen(reading) as pipe:
            time.sleep(0.2)
            got.extend(pipe)

    reader = threading.Thread(target=read)
    reader.start()
    sink.report(report(*[Verdict("cam", number, (1, 2, 3, 4)) for number in range(400)]))
    sink.close()
    reader.join()
    assert [json.loads(line)["sequence"] for line in got] == list(range(400))
