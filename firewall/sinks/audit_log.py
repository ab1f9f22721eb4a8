"""The audit log: what the guard said, in a folder of files that only grow, chained by hashes and signed.

`audit-00000001.jsonl` and so on, one record a line. A record has the number of its place in the file (`number`), the
hash of the record before it (`previous`) and, last, the SHA-256 of its own text up to there (`hash`). The first record
of a file bears the SHA-256 of the whole file before it. So no line can be changed, left out or moved without a trace,
but for the end of what is not signed yet. A file that is full, or that the guard ended well, gets an Ed25519 signature
of its exact bytes in a file beside it (`.sig`), as a bundle does; so does all that lies before it, by the chain.

A file that a crash or a full disk cut off stays as it is; the next file vouches for it from then on.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
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

__all__ = ["NOTHING", "SIGNED", "AuditLog", "audit_files", "seal"]

#: What stands for the hash of what is before the first file.
NOTHING = "0" * 64
#: Added to a file's name for its signature.
SIGNED = ".sig"
_NAME = re.compile(r"audit-(\d{8})\.jsonl")


class AuditLog(Output):
    """Writes each verdict to the newest file. Every report is handed to the system at once, so that a killed process
    loses at most the line it was writing; what a machine that loses its power has not put on the disk is lost.

    Args:
        folder: It is made, for its owner alone, if there is none.
        operator: Add suspicion and detector scores.
        size: Bytes after which the next file begins.
        keep: How many files are kept; the oldest are deleted.
        key: What files are signed with when they end. None: they are only chained.
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
        about: Mapping[str, Any] | None = None,
    ) -> None:
        self._about = dict(about or {})
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
        except OSError:  # a full disk: no trail of empty files, for which older ones would have to go
            self._path.unlink()
            os.close(self._file)
            self._file = -1
            raise
        for number in sorted(there)[: -self._keep + 1 or None]:
            there[number].with_name(there[number].name + SIGNED).unlink(missing_ok=True)
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

    def _end(self, why: str) -> None:
        file = self._file
        try:
            self._write({"event": "stop", "why": why, **now()})
            os.fsync(file)
        finally:
            self._file = -1
            os.close(file)
        if self._key is not None:
            replace_file(
                self._path.with_name(self._path.name + SIGNED), sign(self._path.read_bytes(), self._key)[0], mode=0o600
            )

    def _release(self) -> None:
        for descriptor in (self._file, self._lock):
            if descriptor >= 0:
                os.close(descriptor)
        self._file = self._lock = -1

    def _refused(self, error: OSError) -> FirewallError:
        return FirewallError(f"can't write the audit log {self._folder}: {error.strerror}")


def audit_files(folder: Path) -> dict[int, Path]:
    """Number -> file, of all files of an audit log."""
    named = ((_NAME.fullmatch(path.name), path) for path in folder.iterdir())
    return {int(found[1]): path for found, path in named if found}


def seal(record: dict[str, Any]) -> tuple[bytes, str]:
    """A record as a line, and its hash, which stands at the line's end."""
    text = json_text(record, compact=True).encode()
    digest = hashlib.sha256(text).hexdigest()
    return text[:-1] + f',"hash":"{digest}"}}'.encode(), digest
