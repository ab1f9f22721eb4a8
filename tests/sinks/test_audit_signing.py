"""An audit log that grows: how far it was signed, what was cut off, what is on the disk, and what it missed."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from firewall.bundle.signature import PublicKey, generate, read_private, read_public
from firewall.cli import app, run
from firewall.errors import UsageError
from firewall.sinks import Event, FrameReport, Outlet, audit_log, open_outputs, outlet
from firewall.sinks.audit_check import check_audit
from firewall.sinks.audit_log import AuditLog, audit_files, seal
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


@pytest.fixture
def growing(tmp_path: Path, key: Path) -> Path:
    """A log of one start and fourteen verdicts, killed before it ended; 13 of these 15 records were signed."""
    log = AuditLog(tmp_path / "log", key=read_private(key), sign_records=4)
    for number in range(7):
        log.report(report(number))
    log._release()  # what the kernel does for a process that is killed
    return tmp_path / "log"


FILE, BESIDE = "audit-00000001.jsonl", "audit-00000001.jsonl.head"


def cut(folder: Path, lines: int) -> None:
    kept = (folder / FILE).read_bytes().split(b"\n")[:lines]
    (folder / FILE).write_bytes(b"".join(line + b"\n" for line in kept))


def changed(folder: Path, place: int) -> None:
    """Somebody who knows how hashes are made changes a record and seals it, and all behind it, again."""
    records = [json.loads(line) for line in (folder / FILE).read_text().splitlines()]
    records[place]["verdict"]["label"] = 33
    sealed, previous = [], records[0]["previous"]
    for record in records:
        del record["hash"]
        line, previous = seal({**record, "previous": previous})
        sealed.append(line + b"\n")
    (folder / FILE).write_bytes(b"".join(sealed))


def test_a_file_is_signed_while_it_grows(growing: Path, trusted: tuple[PublicKey, ...]) -> None:
    """Nothing is wrong with a guard that was killed; signatures vouch for what was signed last, and its time is said.
    The next guard's file vouches for all of it."""
    found = check_audit(growing, trusted)
    assert found.faults == [] and (found.records, found.vouched) == (15, 13)
    assert found.signed_at.endswith("Z") and f"the newest of {found.signed_at}" in found.lines(signed=True)[-1]
    assert (growing / BESIDE).stat().st_mode & 0o077 == 0 and not (growing / f"{FILE}.sig").exists()


def test_an_end_that_was_cut_off_is_found_up_to_the_last_signature(
    growing: Path, trusted: tuple[PublicKey, ...]
) -> None:
    """Every length: fewer records than were signed is a fault that says how many are missing; only what came after the
    last signature can go."""
    for lines in range(14, 0, -1):
        cut(growing, lines)
        found = check_audit(growing, trusted)
        assert check_audit(growing).faults == []  # without a key nobody can tell
        if lines >= 13:
            assert found.faults == [] and found.vouched == 13
        else:
            assert found.faults == [f"{FILE}: its end was cut off: 13 records were signed, and {lines} are there"]
            assert found.vouched == 0


@pytest.mark.parametrize(
    ("falsify", "words"),
    [
        (lambda folder: (folder / BESIDE).unlink(), "its signatures are missing, and its first record says"),
        (lambda folder: (folder / BESIDE).write_bytes(b""), "does not bear a trusted key's signature"),
        (lambda folder: (folder / BESIDE).write_bytes(b"{}\nzz\n"), "does not bear a trusted key's signature"),
        (
            lambda folder: (folder / BESIDE).write_bytes((folder / BESIDE).read_bytes().replace(b":13,", b":12,")),
            "does not bear a trusted key's signature",
        ),
        (lambda folder: changed(folder, 5), "line 13: it is not the record that was signed"),
        (
            lambda folder: (folder / FILE).write_bytes((folder / FILE).read_bytes().replace(b'"cam"', b'"can"')),
            "line 13: it is not the record that was signed",
        ),
    ],
)
def test_what_was_signed_can_not_be_changed(
    growing: Path, trusted: tuple[PublicKey, ...], falsify: Callable[[Path], object], words: str
) -> None:
    """Signatures that are gone, cut, of other bytes; records before the last signature that were written again."""
    falsify(growing)
    found = check_audit(growing, trusted)
    assert any(words in fault for fault in found.faults) and found.vouched == 0, found.faults


def test_what_is_signed_of_another_file_counts_for_none(
    growing: Path, key: Path, trusted: tuple[PublicKey, ...]
) -> None:
    """The same key, another file; and a file that was cut off before its first signature is a note, for a crash may do
    that."""
    again = AuditLog(growing, key=read_private(key))
    for number in range(6):
        again.report(report(number))
    again._release()
    second = growing / "audit-00000002.jsonl"
    head = second.with_name(f"{second.name}.head")
    assert check_audit(growing, trusted).faults == []
    head.write_bytes((growing / BESIDE).read_bytes())
    assert "does not bear a trusted key's signature of this file" in check_audit(growing, trusted).faults[0]
    head.unlink()
    second.write_bytes(second.read_bytes().split(b"\n")[0] + b"\n")
    found = check_audit(growing, trusted)
    assert found.faults == [] and "its signatures are missing" in found.notes[-1]
    second.write_bytes(b"")
    assert check_audit(growing, trusted).faults == []
    assert check_audit(growing).faults == []


def test_it_is_signed_by_time_too(tmp_path: Path, key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A minute after the last signature, with the next record or, if none comes, by itself; not if nothing was written
    since. The end takes the second file away."""
    now = [1000.0]
    monkeypatch.setattr(audit_log.time, "monotonic", lambda: now[0])
    folder = tmp_path / "log"
    log = AuditLog(folder, key=read_private(key), sign_seconds=60)

    def signed() -> int:
        records: int = json.loads((folder / BESIDE).read_text().splitlines()[0])["records"]
        return records

    log.report(report(0))
    log.tick()
    assert signed() == 1
    now[0] += 61
    log.tick()
    assert signed() == 3
    before = (folder / BESIDE).read_bytes()
    now[0] += 61
    log.tick()
    assert (folder / BESIDE).read_bytes() == before
    log.report(report(1))
    assert signed() == 5
    log.close()
    assert {path.name for path in folder.iterdir()} == {FILE, f"{FILE}.sig"}
    log.tick()  # after the end


def test_what_was_written_is_put_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten seconds after it was written at most, or as `fsync_s` says; 0 is at once; no more often than there is
    something new."""
    synced, now = [0], [1000.0]
    real = os.fsync

    def count(descriptor: int) -> None:
        synced[0] += 1
        real(descriptor)

    monkeypatch.setattr(os, "fsync", count)
    monkeypatch.setattr(audit_log.time, "monotonic", lambda: now[0])
    log = AuditLog(tmp_path / "slow")
    log.report(report(0))
    log.tick()
    assert synced == [0]
    now[0] += 10
    log.tick()
    log.tick()
    assert synced == [1]
    now[0] += 10
    log.tick()
    assert synced == [1]
    log.close()
    assert synced == [2]
    log = AuditLog(tmp_path / "fast", sync_seconds=0)
    for number in range(3):
        log.report(report(number))
    assert synced == [5]
    log.close()


def test_a_disk_that_fails_while_it_is_signed_is_one_line(
    tmp_path: Path, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with any record: the output fails, is opened again, and what is on the disk is in order."""
    monkeypatch.setattr(outlet, "_FIRST_DELAY", 0.02)
    folder, said, full = tmp_path / "log", list[str](), [False]
    real = os.fsync

    def fail(descriptor: int) -> None:
        if full[0]:
            raise OSError(28, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fail)
    log = lambda: AuditLog(folder, key=read_private(key), sync_seconds=0)  # noqa: E731
    queue = Outlet("audit", log, events=True, say=said.append)
    full[0] = True
    queue.report(report(0))
    until(lambda: queue.health().failures > 1)
    assert sorted(audit_files(folder)) == [1] and "No space left on device" in said[0]
    full[0] = False
    until(lambda: queue._output is not None)
    log_ = queue._output
    assert log_ is not None
    full[0] = True
    queue.event(Event.of("state", state="x"))
    until(lambda: queue._output is not log_)
    full[0] = False
    queue.close()
    assert check_audit(folder, read_public(Path(f"{key}.pub"))).faults == []
    full[0] = True
    monkeypatch.setattr(os, "fsync", real)
    alone = AuditLog(tmp_path / "alone", sync_seconds=3600)
    alone.report(report(0))
    alone._sync_seconds = 0
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(Exception, match=r"can't write the audit log .*No space left"):
        alone.tick()
    alone._release()


def test_what_was_missed_is_a_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """How many reports the log has nothing of, at the place where they are missing: of a queue that was too slow, of a
    disk that was full, and of the end."""
    monkeypatch.setattr(outlet, "_FIRST_DELAY", 0.02)
    monkeypatch.setattr(outlet, "_LONGEST_DELAY", 0.02)
    folder, gate, full = tmp_path / "log", threading.Event(), [False]

    class Slow(AuditLog):
        def report(self, report: FrameReport) -> None:
            gate.wait(30)
            super().report(report)

        def _write(self, *records: dict[str, object]) -> None:
            if full[0]:
                raise OSError(28, "No space left on device")
            super()._write(*records)

    queue = Outlet("audit", lambda: Slow(folder), limit=2, events=True)
    queue.report(report(0))
    until(lambda: queue.health().waiting == 0)
    for number in range(1, 6):
        queue.report(report(number))
    gate.set()
    until(lambda: queue.health().taken == 3)
    full[0] = True
    queue.report(report(6))
    until(lambda: queue.health().failures > 1)
    queue.report(report(7))
    full[0] = False
    until(lambda: queue._output is not None)
    queue.report(report(8))
    until(lambda: queue.health().taken == 4)
    gate.clear()
    queue.report(report(9))
    until(lambda: queue.health().waiting == 0)
    for number in range(10, 14):
        queue.report(report(number))
    gate.set()
    queue.close()
    lines = [
        line for number in sorted(audit_files(folder)) for line in audit_files(folder)[number].read_text().split("\n")
    ]
    told = [
        f"-{record['reports']}" if record["event"] == "missed" else record["verdict"]["sequence"]
        for record in map(json.loads, filter(None, lines))
        if record["event"] in ("missed", "verdict")
    ]
    assert told == [0, 0, "-3", 4, 4, 5, 5, "-2", 8, 8, 9, 9, "-2", 12, 12, 13, 13]
    assert queue.health().dropped == 7 and check_audit(folder).faults == []


def test_the_end_says_what_was_missed_last(tmp_path: Path) -> None:
    """Nothing comes after what was missed, but the end."""
    folder, gate = tmp_path / "log", threading.Event()

    class Slow(AuditLog):
        def report(self, report: FrameReport) -> None:
            gate.wait(30)
            super().report(report)

    queue = Outlet("audit", lambda: Slow(folder), limit=1, events=True)
    queue.report(report(0))
    until(lambda: queue.health().waiting == 0)
    with queue._changed:
        queue._dropped += 1  # one for which there was no room
    queue.end()
    gate.set()
    queue.close()
    events = [json.loads(line)["event"] for line in (folder / FILE).read_text().splitlines()]
    assert events == ["start", "verdict", "verdict", "missed", "stop"]


def test_the_options(tmp_path: Path, key: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`sign_records`, `sign_s` and `fsync_s`, as whole numbers; the start record says how often it is signed, and the
    command until when it was."""
    folder = tmp_path / "log"
    for wrong in ("sign_records=0", "sign_s=0", "fsync_s=-1", "fsync_s=soon"):
        with pytest.raises(UsageError, match=f"option '{wrong.split('=')[0]}' of --output .* must be a whole number"):
            open_outputs([f"audit:{folder}?key={key}&{wrong}"], camera="front")
    outlets = open_outputs([f"audit:{folder}?key={key}&sign_records=2&sign_s=30&fsync_s=0"], camera="front")
    outlets.report(report(0))
    until(lambda: outlets.health()[0].taken == 1)
    start = json.loads((folder / FILE).read_text().splitlines()[0])
    assert start["signed_every"] == {"records": 2, "seconds": 30}
    assert run(app, ["audit", "verify", str(folder), "--trust", f"{key}.pub"], "firewall") == 0
    assert "signatures vouch for the first 3, the newest of 20" in capsys.readouterr().out
    outlets.close()
    plain = open_outputs([f"audit:{tmp_path}/plain"], camera="front")
    plain.close()
    assert "signed_every" not in json.loads((tmp_path / "plain" / FILE).read_text().splitlines()[0])
    assert [path.name for path in (tmp_path / "plain").iterdir()] == [FILE]


def test_records_are_shown_as_far_as_they_are_whole(growing: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`firewall audit show`: a line that was changed is left out, the others are printed, and the fault and exit code 1
    come with them."""
    content = (growing / FILE).read_bytes()
    (growing / FILE).write_bytes(content.replace(b'"sequence":3', b'"sequence":4', 1))
    assert run(app, ["audit", "show", str(growing), "--event", "verdict", "--event", "start"], "firewall") == 1
    out = capsys.readouterr().out
    shown = [line.split()[0].split(":")[1] for line in out.splitlines() if line.startswith(FILE)]
    assert shown == [str(number) for number in range(1, 16) if number != 8]
    assert f"fault: {FILE}, line 8: it was changed" in out and " start schema=firewall.audit/1 " in out
