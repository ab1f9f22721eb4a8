"""The audit log: what the guard said, in a folder of files that only grow, chained by hashes and signed.

`audit-00000001.jsonl` and so on, one record a line. A record has the number of its place in the file (`number`), the
hash of the record before it (`previous`) and, last, the SHA-256 of its own text up to there (`hash`). The first record
of a file bears the SHA-256 of the whole file before it. So no line can be changed, left out or moved without a trace,
but for the end of what is not signed yet. A file that is full, or that the guard ended well, gets an Ed25519 signature
of its exact bytes in a file beside it (`.sig`), as a bundle does; so does all that lies before it, by the chain. Until
then a second file (`.head`) says how far it had come when it was signed last: how many records, and the hash of the
last of them. What it names was on the disk before.

A file that a crash or a full disk cut off stays as it is; the next file vouches for it from then on.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from firewall import __version__
from firewall.bundle.signature import sign
from firewall.errors import FirewallError
from firewall.host.file_writing import replace_file
from firewall.host.output import json_text
from firewall.sinks.event import Event, now
from firewall.sinks.report import FrameReport, Output

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

__all__ = ["HEAD", "NOTHING", "SIGNED", "AuditLog", "audit_files", "seal"]

#: What stands for the hash of what is before the first file.
NOTHING = "0" * 64
#: Added to a file's name for its signature.
SIGNED = ".sig"
#: Added to it while the file grows: what was signed of it so far, one line, and the signature of that line, in hex.
HEAD = ".head"
_NAME = re.compile(r"audit-(\d{8})\.jsonl")


class AuditLog(Output):
    """Writes each verdict to the newest file. Every report is handed to the system at once, so that a killed process
    loses at most the line it was writing; what a machine that loses its power has not put on the disk is lost: what was
    written in the last `sync_seconds`.

    Args:
        folder: It is made, for its owner alone, if there is none.
        operator: Add suspicion and detector scores.
        size: Bytes after which the next file begins.
        keep: How many files are kept; the oldest are deleted.
        key: What files are signed with when they end. None: they are only chained.
        sign_records: Sign what there is after so many records,
        sign_seconds: or so many seconds after the last time, if something was written since.
        sync_seconds: Seconds after which what was written is put on the disk; 0: at once.
        about: What the first record of each file says besides: what is in use, ready for JSON.

    Raises:
        FirewallError: If the folder can't be written, or another guard writes there.
    """

    def __init__(
        self,
        folder: Path,
        *,
        operator: bool = False,
        size: int = 16 << 20,
        keep: int = 100,
        key: Ed25519PrivateKey | None = None,
        sign_records: int = 1000,
        sign_seconds: float = 60.0,
        sync_seconds: float = 10.0,
        about: Mapping[str, Any] | None = None,
    ) -> None:
        self._about = dict(about or {})
        self._sign_records, self._sign_seconds, self._sync_seconds = sign_records, sign_seconds, sync_seconds
        if key is not None:
            self._about |= {"signed_every": {"records": sign_records, "seconds": sign_seconds}}
        self._folder, self._operator, self._size, self._keep, self._key = folder, operator, size, keep, key
        self._lock = self._file = -1
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            self._lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._begin()
        except OSError as error:
            self._release()
            if isinstance(error, BlockingIOError):
                raise FirewallError(f"another guard writes its audit log to {folder}; name another folder") from error
            raise self._refused(error) from error

    def report(self, report: FrameReport) -> None:
        """Write the report's verdicts."""
        self._take(*({"event": "verdict", "verdict": each.line(operator=self._operator)} for each in report.verdicts))

    def event(self, event: Event) -> None:
        """Write what happened to the guard."""
        self._take(event.record())

    def missed(self, reports: int) -> None:
        """Write that there were reports of which the log has nothing."""
        self._take({"event": "missed", "reports": reports, **now()})

    def tick(self) -> None:
        """Sign, and put on the disk, what has waited for long enough."""
        try:
            if self._file >= 0:
                self._keep_up()
        except OSError as error:
            raise self._refused(error) from error

    def close(self) -> None:
        """End the newest file."""
        try:
            if self._file >= 0:
                self._end("the guard ended")
        except OSError as error:
            raise self._refused(error) from error
        finally:
            self._release()

    def _take(self, *records: dict[str, Any]) -> None:
        try:
            self._write(*records)
            if self._bytes >= self._size:
                self._end("full")
                self._begin()
            self._keep_up()
        except OSError as error:
            raise self._refused(error) from error

    def _begin(self) -> None:
        there = audit_files(self._folder)
        last = max(there, default=0)
        before = there.get(last)
        previous = NOTHING if before is None else hashlib.sha256(before.read_bytes()).hexdigest()
        self._path = self._folder / f"audit-{last + 1:08d}.jsonl"
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._file = os.open(self._path, flags, 0o600)
        self._previous, self._number, self._bytes = previous, 0, 0
        try:
            self._write(
                {"event": "start", "schema": "firewall.audit/1", "version": __version__, **self._about, **now()}
            )
            self._signed = self._synced = 0  # records
            self._signed_at = self._synced_at = time.monotonic()
            if self._key is not None:
                self._sign(self._key)
        except OSError:  # a full disk: no trail of empty files, for which older ones would have to go
            self._path.unlink()
            os.close(self._file)
            self._file = -1
            raise
        for number in sorted(there)[: -self._keep + 1 or None]:
            for beside in (SIGNED, HEAD):
                _beside(there[number], beside).unlink(missing_ok=True)
            there[number].unlink()

    def _write(self, *records: dict[str, Any]) -> None:
        lines = []
        for record in records:
            self._number += 1
            line, self._previous = seal({"number": self._number, "previous": self._previous, **record})
            lines.append(line + b"\n")
        data = b"".join(lines)
        self._bytes += len(data)
        while data:
            data = data[os.write(self._file, data) :]

    def _keep_up(self) -> None:
        moment = time.monotonic()
        new, since = self._number - self._signed, moment - self._signed_at
        if self._key is not None and (new >= self._sign_records or (new and since >= self._sign_seconds)):
            self._sign(self._key)
        elif self._number > self._synced and moment - self._synced_at >= self._sync_seconds:
            self._sync()

    def _sync(self) -> None:
        os.fsync(self._file)
        self._synced, self._synced_at = self._number, time.monotonic()

    def _sign(self, key: Ed25519PrivateKey) -> None:
        self._sync()  # a signature of what a loss of power takes away would look like a log that was cut off
        head = {"schema": "firewall.audit-head/1", "file": self._path.name, "records": self._number}
        text = json_text({**head, "hash": self._previous, **now()}, compact=True).encode()
        signature = sign(text, key)[0].hex().encode()
        replace_file(_beside(self._path, HEAD), text + b"\n" + signature + b"\n", mode=0o600)
        self._signed, self._signed_at = self._number, time.monotonic()

    def _end(self, why: str) -> None:
        file = self._file
        try:
            self._write({"event": "stop", "why": why, **now()})
            os.fsync(file)
        finally:
            self._file = -1
            os.close(file)
        if self._key is not None:
            replace_file(_beside(self._path, SIGNED), sign(self._path.read_bytes(), self._key)[0], mode=0o600)
            _beside(self._path, HEAD).unlink(missing_ok=True)

    def _release(self) -> None:
        for descriptor in (self._file, self._lock):
            if descriptor >= 0:
                os.close(descriptor)
        self._file = self._lock = -1

    def _refused(self, error: OSError) -> FirewallError:
        return FirewallError(f"can't write the audit log {self._folder}: {error.strerror}")


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def audit_files(folder: Path) -> dict[int, Path]:
    """Number -> file, of all files of an audit log."""
    named = ((_NAME.fullmatch(path.name), path) for path in folder.iterdir())
    return {int(found[1]): path for found, path in named if found}


def seal(record: dict[str, Any]) -> tuple[bytes, str]:
    """A record as a line, and its hash, which stands at the line's end."""
    text = json_text(record, compact=True).encode()
    digest = hashlib.sha256(text).hexdigest()
    return text[:-1] + f',"hash":"{digest}"}}'.encode(), digest
