"""An audit log as a guard writes it, and every way to falsify it that its files allow."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from firewall.bundle.signature import PublicKey, generate, read_private, read_public
from firewall.cli import app, run
from firewall.errors import FirewallError, UsageError
from firewall.sinks import Event, FrameReport, Outlet, Outlets, open_outputs, outlet
from firewall.sinks.audit_check import check_audit
from firewall.sinks.audit_log import AuditLog, audit_files
from tests.sinks.making import report, until


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A private key; its public half lies beside it."""
    path = tmp_path_factory.mktemp("keys") / "audit.key"
    generate(path)
    return path


@pytest.fixture
def trusted(key: Path) -> tuple[PublicKey, ...]:
    return read_public(key.with_name("audit.key.pub"))


def write(folder: Path, key: Path | None, reports: int = 12, *, close: bool = True) -> AuditLog:
    """Three files or so, the last of them open or ended."""
    log = AuditLog(folder, size=4096, key=None if key is None else read_private(key))
    for number in range(reports):
        log.report(report(number))
    log.tick()
    if close:
        log.close()
    return log


def test_a_log_that_nobody_touched_is_in_order(tmp_path: Path, key: Path, trusted: tuple[PublicKey, ...]) -> None:
    """Over several files and runs: each verdict is there once, in order, signatures vouch for all, and openssl finds
    them right too."""
    folder = tmp_path / "log"
    for _ in range(2):
        write(folder, key)
    found = check_audit(folder, trusted)
    assert (found.faults, found.notes) == ([], []) and found.files == len(audit_files(folder)) > 4
    assert found.vouched == found.records
    records = [json.loads(line) for number in sorted(audit_files(folder)) for line in _lines(folder, number)]
    told = [record["verdict"]["sequence"] for record in records if record["event"] == "verdict"]
    assert told == [number for _ in range(2) for number in range(12) for _ in range(2)]
    assert records[0]["event"] == "start" and records[-1]["event"] == "stop" and records[-1]["hash"] == found.last
    assert all(record["time"].endswith("Z") for record in records if record["event"] != "verdict")
    assert folder.stat().st_mode & 0o077 == 0 == next(iter(audit_files(folder).values())).stat().st_mode & 0o077
    if shutil.which("openssl"):
        file = audit_files(folder)[1]
        public = ["-verify", "-pubin", "-inkey", f"{key}.pub", "-rawin", "-in", file, "-sigfile", f"{file}.sig"]
        assert subprocess.run(["openssl", "pkeyutl", *public], capture_output=True, check=False).returncode == 0


def _lines(folder: Path, number: int) -> list[str]:
    return audit_files(folder)[number].read_text().splitlines()


def _changed(number: int, change: Callable[[list[str]], list[str]]) -> Callable[[Path], None]:
    def falsify(folder: Path) -> None:
        lines = change(_lines(folder, number))
        audit_files(folder)[number].write_text("".join(line + "\n" for line in lines))

    return falsify


def _word(place: int) -> Callable[[list[str]], list[str]]:
    def change(lines: list[str]) -> list[str]:
        lines[place] = lines[place].replace('"firewall', '"fjrewall').replace('"event":"stop"', '"event":"stqp"')
        return lines

    return change


def _recomputed(lines: list[str]) -> list[str]:
    """Somebody who knows how hashes are made changes a line and seals it again."""
    from firewall.sinks.audit_log import seal

    record = json.loads(lines[3])
    del record["hash"]
    record["verdict"]["label"] = 33
    return [*lines[:3], seal(record)[0].decode(), *lines[4:]]


@pytest.mark.parametrize(
    ("falsify", "words"),
    [
        (_changed(2, _word(0)), "audit-00000002.jsonl, line 1: it was changed"),
        (_changed(2, _word(3)), "audit-00000002.jsonl, line 4: it was changed"),
        (_changed(3, _word(-1)), "audit-00000003.jsonl, line .*: it was changed"),
        (_changed(2, lambda lines: lines[:2] + lines[3:]), "line 3: it does not follow what is before it"),
        (_changed(2, lambda lines: lines[1:]), "line 1: it does not follow"),
        (_changed(2, lambda lines: lines[:-1]), "audit-00000003.jsonl, line 1: it does not follow"),
        (_changed(2, lambda lines: [lines[0], lines[2], lines[1], *lines[3:]]), "line 2: it is record 3; lines are"),
        (_changed(2, lambda lines: [*lines[:2], lines[1], *lines[2:]]), "line 3: it does not follow"),
        (_changed(2, lambda lines: [*lines[:2], "{}", *lines[2:]]), "line 3: it was changed"),
        (_changed(2, _recomputed), "line 5: it does not follow"),
        (lambda folder: audit_files(folder)[2].unlink(), "audit-00000003.jsonl: the file before it is missing"),
        (
            lambda folder: audit_files(folder)[2].write_bytes(audit_files(folder)[1].read_bytes()),
            "audit-00000002.jsonl, line 1: it does not follow",
        ),
    ],
)
@pytest.mark.parametrize("signed", [True, False])
def test_a_log_that_was_changed_is_found(
    tmp_path: Path,
    key: Path,
    trusted: tuple[PublicKey, ...],
    falsify: Callable[[Path], None],
    words: str,
    signed: bool,
) -> None:
    """A line, or a file, that was changed, left out, moved or doubled: found with and without signatures."""
    folder = tmp_path / "log"
    write(folder, key if signed else None)
    falsify(folder)
    found = check_audit(folder, trusted if signed else ())
    assert any(re.search(words, fault) for fault in found.faults), found.faults


def test_what_only_a_signature_shows(tmp_path: Path, key: Path, trusted: tuple[PublicKey, ...]) -> None:
    """The whole log written again, or its end cut off: chained well, and signed by nobody who is trusted."""
    folder, again = tmp_path / "log", tmp_path / "again"
    write(folder, key)
    write(again, None)
    for number, file in audit_files(again).items():
        file.replace(audit_files(folder)[number])
    assert check_audit(folder).faults == []
    assert "its signature is not that of a trusted key" in check_audit(folder, trusted).faults[0]
    for signature in folder.glob("*.sig"):
        signature.unlink()
    found = check_audit(folder, trusted)
    assert found.vouched == 0 < found.records


def test_older_files_are_deleted_and_that_is_said(tmp_path: Path, key: Path, trusted: tuple[PublicKey, ...]) -> None:
    """Bounded: so many files and no more, with their signatures; what is left can be checked."""
    folder = tmp_path / "log"
    log = AuditLog(folder, size=4096, keep=3, key=read_private(key))
    for number in range(40):
        log.report(report(number))
    log.close()
    assert len(audit_files(folder)) == 3 and len(list(folder.iterdir())) == 6
    found = check_audit(folder, trusted)
    assert found.faults == [] and "are not there; they were deleted" in found.notes[0]


def test_a_log_that_is_still_written_or_was_cut_off(tmp_path: Path, key: Path, trusted: tuple[PublicKey, ...]) -> None:
    """kill -9: the last line may be cut, nothing else is lost; the next run goes on in a new file that vouches for the
    old one as it is; a second guard is refused the folder meanwhile."""
    folder = tmp_path / "log"
    log = write(folder, key, 2, close=False)
    assert "the guard runs, or a crash" in check_audit(folder, trusted).notes[0]
    with pytest.raises(FirewallError, match="another guard writes its audit log to"):
        AuditLog(folder)
    (file,) = audit_files(folder).values()
    os.write(log._file, b'{"number":6,"prev')
    log._release()  # what the kernel does for a process that is killed
    write(folder, key, 1)
    found = check_audit(folder, trusted)
    assert found.faults == [] and found.notes == [f"{file.name} ends in the middle of a line: a crash, or a full disk"]
    assert found.vouched == found.records == 5 + 4
    file.write_bytes(file.read_bytes()[:-3])
    assert "line 1: it does not follow" in check_audit(folder, trusted).faults[0]
    whole = folder / "audit-00000003.jsonl"
    whole.write_bytes(b"")
    assert "audit-00000003.jsonl ends without saying so" in check_audit(folder).notes[-1]


def test_a_killed_guard_loses_at_most_the_last_line(tmp_path: Path) -> None:
    """A real process, kill -9 in the middle of writing: its log is in order, and holds what it said it had written."""
    code = (
        "import sys; from pathlib import Path; from firewall.sinks.audit_log import AuditLog\n"
        "from tests.sinks.making import report\n"
        f"log = AuditLog(Path({str(tmp_path / 'log')!r}), size=1 << 16)\n"
        "for number in range(10**9):\n    log.report(report(number)); print(number, flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) == 300:
                break
        process.kill()
        said = [300, *(int(line) for line in process.stdout if line.endswith("\n"))][-1]
    found = check_audit(tmp_path / "log")
    assert found.faults == []
    told = [
        json.loads(line)["verdict"]["sequence"]
        for number in sorted(audit_files(tmp_path / "log"))
        for line in audit_files(tmp_path / "log")[number].read_bytes().split(b"\n")[:-1]
        if b'"event":"verdict"' in line
    ]
    assert told[: 2 * (said + 1)] == [number for number in range(said + 1) for _ in range(2)]


def test_a_full_disk_stops_neither_the_guard_nor_the_chain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No file may grow over a limit for a while: the log fails, leaves no trail of empty files, and goes on in a new
    file when there is room; what is on the disk is in order."""
    monkeypatch.setattr(outlet, "_FIRST_DELAY", 0.05)
    monkeypatch.setattr(outlet, "_LONGEST_DELAY", 0.05)
    folder, said = tmp_path / "log", list[str]()
    queue = Outlet("audit", lambda: AuditLog(folder), say=said.append)
    queue.report(report(0))
    until(lambda: queue.health().taken == 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        queue.report(report(1))
        until(lambda: queue.health().failures > 3)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    until(lambda: queue._output is not None)
    queue.report(report(2))
    queue.close()
    assert sorted(audit_files(folder)) == [1, 2] and check_audit(folder).faults == []
    assert "can't write the audit log" in said[0] and queue.health().healthy


def test_a_folder_that_can_not_be_written_is_one_line(tmp_path: Path) -> None:
    """At the start, while the log is rotated, and at the end."""
    with pytest.raises(FirewallError, match=r"can't write the audit log .*: No such file"):
        AuditLog(tmp_path / "no" / "log")
    (tmp_path / "file").write_text("")
    with pytest.raises(FirewallError, match="File exists"):
        AuditLog(tmp_path / "file")
    log = AuditLog(tmp_path / "log", size=4096)
    shutil.rmtree(tmp_path / "log")
    with pytest.raises(FirewallError, match=r"can't write the audit log .*No such file"):
        log.report(report(0, *report(0).verdicts * 9))
    log.close()  # nothing is open any more
    log = AuditLog(tmp_path / "other")
    os.close(log._file)
    with pytest.raises(FirewallError, match=r"can't write the audit log .*Bad file descriptor"):
        log.close()


def test_the_command_says_what_was_found(tmp_path: Path, key: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`firewall audit verify`: 0 and the last hash, 1 and the faults, 2 where there is no log; from `--output audit:`
    with a key to the end."""
    folder = tmp_path / "log"
    outlets = open_outputs([f"audit:{folder}?size=8K&key={key}"], camera="front", operator=True)
    outlets.report(report(1))
    outlets.close()
    public = f"{key}.pub"
    assert run(app, ["audit", "verify", str(folder), "--trust", public], "firewall") == 0
    out = capsys.readouterr().out
    assert out.startswith("4 records in 1 files; signatures vouch for the first 4; the last hash is ")
    assert '"scores"' in (folder / "audit-00000001.jsonl").read_text()
    _changed(1, _word(0))(folder)
    assert run(app, ["audit", "verify", str(folder)], "firewall") == 1
    out, err = capsys.readouterr()
    assert "fault: audit-00000001.jsonl, line 1: it was changed" in out and "no key was given" in out
    assert "is not as it was written: 1 faults" in err
    for nothing in (tmp_path / "nowhere", tmp_path):
        assert run(app, ["audit", "verify", str(nothing)], "firewall") == 2
    with pytest.raises(UsageError, match=r"can't read the key .*nowhere.key"):
        open_outputs([f"audit:{folder}?key={tmp_path}/nowhere.key"], camera="front")
    secret = tmp_path / "secret"
    secret.write_text("word\n")
    generate(tmp_path / "own.key", b"word")
    named = f"audit:{tmp_path}/own?key={tmp_path}/own.key&passphrase_file={secret}"
    open_outputs([named], camera="front").close()
    assert list((tmp_path / "own").glob("*.sig"))


class _Filling(AuditLog):
    """Its disk is full while `full`."""

    full = False

    def _write(self, *records: dict[str, object]) -> None:
        if _Filling.full:
            raise OSError(28, "No space left on device")
        super()._write(*records)


def test_what_happens_to_the_guard_is_a_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of its own kind, with both clocks of when it happened, in order with the verdicts; outputs of lines don't have
    it. While the disk is full nothing of it is lost, but for what is more than the queue holds."""
    monkeypatch.setattr(outlet, "_FIRST_DELAY", 0.02)
    monkeypatch.setattr(outlet, "_LONGEST_DELAY", 0.02)
    monkeypatch.setattr(_Filling, "full", False)
    folder, lines = tmp_path / "log", tmp_path / "lines"
    queue = Outlet("audit", lambda: _Filling(folder), limit=4, events=True)
    outlets = Outlets([queue, *open_outputs([f"jsonl:{lines}"], camera="front").outlets])
    outlets.event(Event.of("state", state="guarding"))
    outlets.report(report(0))
    until(lambda: queue.health().taken == 1)
    _Filling.full = True
    for number in range(7):
        outlets.event(Event.of("state", state=f"state {number}"))
    until(lambda: queue.health().failures > 1)
    outlets.report(report(1))
    assert queue.health().dropped >= 3  # two events or three have no room, nor has the report
    _Filling.full = False
    until(lambda: queue.health().waiting == 0)
    outlets.report(report(2))
    outlets.close()
    records = [json.loads(line) for number in sorted(audit_files(folder)) for line in _lines(folder, number)]
    told = [
        record.get("state") or record["verdict"]["sequence"]
        for record in records
        if record["event"] in ("state", "verdict")
    ]
    assert told[:3] == ["guarding", 0, 0] and told[-2:] == [2, 2]
    assert told[3:-2] == [f"state {number}" for number in range(len(told) - 5)] and 3 <= len(told) - 5 <= 5
    assert all(record["time"].endswith("Z") and record["monotonic_ns"] for record in records if "state" in record)
    assert check_audit(folder).faults == [] and lines.read_text().count("\n") == 6


def test_a_report_makes_room_for_another_and_for_no_event(tmp_path: Path) -> None:
    """A full queue: the oldest report goes, events stay where they are."""
    gate = threading.Event()

    class Slow(AuditLog):
        def report(self, report: FrameReport) -> None:
            gate.wait(30)
            super().report(report)

    folder = tmp_path / "log"
    queue = Outlet("audit", lambda: Slow(folder), limit=2, events=True)
    queue.report(report(0))
    until(lambda: queue.health().waiting == 0)
    queue.event(Event.of("state", state="one"))
    for number in (1, 2, 3):
        queue.report(report(number))
    gate.set()
    queue.close()
    records = [json.loads(line) for line in _lines(folder, 1)]
    told = [
        each.get("state") or each["verdict"]["sequence"] for each in records if each["event"] in ("state", "verdict")
    ]
    assert told == [0, 0, "one", 2, 2, 3, 3]
