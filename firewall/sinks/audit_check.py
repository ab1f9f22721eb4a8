"""Is an audit log as it was written? Reads the files alone; whoever has them and the public key can ask."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from firewall.bundle.signature import PublicKey, verified_by
from firewall.errors import UsageError
from firewall.sinks.audit_log import HEAD, NOTHING, SIGNED, audit_files

__all__ = ["AuditFindings", "audit_records", "check_audit"]

_SEALED = re.compile(rb'(.*),"hash":"([0-9a-f]{64})"\}', re.DOTALL)


@dataclass
class AuditFindings:
    """What was found.

    Attributes:
        files: Files that were read.
        records: Whole lines in them.
        vouched: Records that a signature of a trusted key vouches for, their own file's or a later one's.
        faults: What can't have been written so, one line each: a line that was changed, left out or moved.
        notes: What an honest log can show too: a file that a crash cut off, older files that were deleted.
        last: The hash of the last record; whoever notes it down elsewhere notices when the end is cut off.
        signed_at: When the newest signature was made, if it is one of a file that had not ended.
    """

    files: int = 0
    records: int = 0
    vouched: int = 0
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    last: str = NOTHING
    signed_at: str = ""

    def lines(self, *, signed: bool) -> list[str]:
        """All of it for people; signed: whether signatures were looked at."""
        vouched = (
            f"signatures vouch for the first {self.vouched}" + (self.signed_at and f", the newest of {self.signed_at}")
            if signed
            else "no key was given (--trust), so nothing says that it wasn't written again as a whole"
        )
        return [
            *(f"fault: {each}" for each in self.faults),
            *(f"note: {each}" for each in self.notes),
            f"{self.records} records in {self.files} files; {vouched}; the last hash is {self.last}",
        ]


def check_audit(folder: Path, keys: tuple[PublicKey, ...] = ()) -> AuditFindings:
    """Check a whole audit log.

    Args:
        folder: The log's folder.
        keys: Public keys whose signatures count; without any, signatures are not looked at.

    Returns:
        What was found; it is in order if there are no faults.

    Raises:
        UsageError: If the folder can't be read or holds no audit log.
    """
    found = AuditFindings()
    files, contents = _contents(folder)
    first = min(contents)
    if first > 1:
        found.notes.append(f"files 1 to {first - 1} are not there; they were deleted, by the guard or by somebody")
    before: str | None = NOTHING if first == 1 else None
    for number, content in contents.items():
        if number > first and number - 1 not in contents:
            found.faults.append(f"{files[number].name}: the file before it is missing")
            before = None
        found.files += 1
        records = _check_file(found, files[number], content, before, last=number == max(contents))
        before = hashlib.sha256(content).hexdigest()
        if keys:
            _check_signatures(found, files[number], content, records, keys)
    return found


def audit_records(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """All records that were not changed, in their order, each with the name of its file.

    Raises:
        UsageError: As check_audit.
    """
    files, contents = _contents(folder)
    for number, content in contents.items():
        for line in content.split(b"\n")[:-1]:
            if (record := _record(line)) is not None:
                yield files[number].name, record


def _contents(folder: Path) -> tuple[dict[int, Path], dict[int, bytes]]:
    """Number -> file and its bytes, in their order."""
    try:
        files = audit_files(folder)
        contents = {number: files[number].read_bytes() for number in sorted(files)}
    except OSError as error:
        raise UsageError(f"can't read the audit log {folder}: {error.strerror}") from error
    if not contents:
        raise UsageError(f"{folder} holds no audit log (audit-00000001.jsonl and so on)")
    return files, contents


def _check_file(
    found: AuditFindings, path: Path, content: bytes, before: str | None, *, last: bool
) -> list[dict[str, Any] | None]:
    """The records, None for a line that was changed."""
    *lines, rest = content.split(b"\n")
    if rest:
        found.notes.append(f"{path.name} ends in the middle of a line: a crash, or a full disk")
    stopped, expected = False, before
    records: list[dict[str, Any] | None] = []
    for number, line in enumerate(lines, 1):
        record = _record(line)
        records.append(record)
        where = f"{path.name}, line {number}"
        if record is None:
            found.faults.append(f"{where}: it was changed")
            expected = None
            continue
        if expected is not None and record.get("previous") != expected:
            found.faults.append(f"{where}: it does not follow what is before it")
        if record.get("number") != number:
            found.faults.append(f"{where}: it is record {record.get('number')}; lines are missing, or were moved")
        expected = found.last = record["hash"]
        stopped = record.get("event") == "stop"
        found.records += 1
    if not stopped and not rest:
        found.notes.append(
            f"{path.name} ends without saying so: " + ("the guard runs, or a crash" if last else "a crash")
        )
    return records


def _record(line: bytes) -> dict[str, Any] | None:
    sealed = _SEALED.fullmatch(line)
    if sealed is None or hashlib.sha256(sealed[1] + b"}").hexdigest() != sealed[2].decode():
        return None
    record: dict[str, Any] = json.loads(line)
    return record


def _check_signatures(
    found: AuditFindings,
    path: Path,
    content: bytes,
    records: list[dict[str, Any] | None],
    keys: tuple[PublicKey, ...],
) -> None:
    """The signature of the whole file, or else that of what there was of it when it was signed last."""
    signature, head = (path.with_name(path.name + suffix) for suffix in (SIGNED, HEAD))
    if signature.is_file():
        if verified_by(content, signature.read_bytes(), keys) is None:
            found.faults.append(f"{path.name}: its signature is not that of a trusted key over these bytes")
        else:
            found.vouched, found.signed_at = found.records, ""
    elif head.is_file():
        _check_head(found, path.name, head.read_bytes(), records, keys)
    elif "signed_every" in ((records[:1] or [None])[0] or {}):
        # The first signature is made with the first record, before there is another.
        told = "its signatures are missing, and its first record says that there are some"
        (found.faults if len(records) > 1 else found.notes).append(f"{path.name}: {told}")


def _check_head(
    found: AuditFindings,
    name: str,
    head: bytes,
    records: list[dict[str, Any] | None],
    keys: tuple[PublicKey, ...],
) -> None:
    text, _, signature = head.rstrip(b"\n").partition(b"\n")
    try:
        signer = verified_by(text, bytes.fromhex(signature.decode()), keys)
    except ValueError:
        signer = None
    told = json.loads(text) if signer is not None else {}
    if told.get("file") != name:
        found.faults.append(
            f"{name}: what was signed of it so far does not bear a trusted key's signature of this file"
        )
        return
    signed, there = int(told["records"]), len(records)
    if signed > there:
        found.faults.append(f"{name}: its end was cut off: {signed} records were signed, and {there} are there")
        return
    last = records[signed - 1]
    if last is None or last["hash"] != told["hash"]:
        found.faults.append(f"{name}, line {signed}: it is not the record that was signed")
        return
    found.vouched = found.records - sum(each is not None for each in records[signed:])
    found.signed_at = str(told["time"])
