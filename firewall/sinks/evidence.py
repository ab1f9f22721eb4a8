"""A bounded folder of evidence: one folder for each case, that is there whole or not at all.

`00000012-20261129T081502Z-front-track8` holds what one withheld sign looked like: `verdict.json` (EVIDENCE), pictures
and the crop. The number counts up and says which case is older, since a wall clock may be set back. A case is written
under a hidden name, pushed to the disk and then renamed; it is removed by the same way back. So a killed guard or a
full disk leaves nothing that could be taken for a case.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from firewall.errors import FirewallError
from firewall.host.file_writing import replace_file
from firewall.host.output import json_text

__all__ = ["EVIDENCE", "RECORD", "Cases", "case_folders", "refused"]

#: What `schema` says in each record.
EVIDENCE = "firewall.evidence/1"
#: The record of a case.
RECORD = "verdict.json"
_NAME = re.compile(r"(\d{8,})-(\d{8}T\d{6}Z)-[A-Za-z0-9_-]+")
_HIDDEN = re.compile(rf"\.{_NAME.pattern}\.(partial|gone)")
_TIME = "%Y%m%dT%H%M%SZ"
_DAY = 86400.0


@dataclass(slots=True)
class _Kept:
    path: Path
    bytes: int
    since: float


class Cases:
    """The cases of one guard. When there are too many the oldest go.

    Args:
        folder: It is made, for its owner alone, if there is none.
        size: Most bytes that all cases have together.
        days: Cases older than this go, by the wall clock. A clock that was set back makes no case older than the one
            before it.

    Raises:
        FirewallError: If the folder can't be written, or another guard writes there.
    """

    def __init__(self, folder: Path, *, size: int, days: int) -> None:
        self.folder, self._size, self._age = folder, size, days * _DAY
        self._lock, self._number = -1, 0
        self._kept: deque[_Kept] = deque()
        #: Of all cases together.
        self.bytes = 0
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            self._lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for each in folder.iterdir():
                if _HIDDEN.fullmatch(each.name):  # of a guard that was killed
                    shutil.rmtree(each)
            for self._number, path in sorted(case_folders(folder).items()):
                for file in path.glob(".*"):  # the same
                    file.unlink()
                self._keep(path, sum(file.stat().st_size for file in path.iterdir()))
            self._make_room(0)
            self.expire()
        except OSError as error:
            self.close()
            if isinstance(error, BlockingIOError):
                raise FirewallError(f"another guard keeps its evidence in {folder}; name another folder") from error
            raise refused(folder, error) from error

    def add(self, name: str, record: Mapping[str, Any], files: Mapping[str, bytes]) -> Path | None:
        """Write a case; older ones go first if it doesn't fit beside them.

        Args:
            name: What its folder's name ends with: letters, digits, - and _.
            record: Ready for JSON; number and time of writing are added.
            files: Name -> content.

        Returns:
            Its folder; None if it alone is larger than all may be.

        Raises:
            OSError: If it can't be written. Then nothing of it is there.
        """
        now = time.time()
        number = self._number + 1
        stamp = datetime.fromtimestamp(max(now, 0.0), timezone.utc).strftime(_TIME)
        text = json_text({"schema": EVIDENCE, "number": number, "written": stamp, **record}, indent=1) + "\n"
        content = {**files, RECORD: text.encode()}
        size = sum(map(len, content.values()))
        if size > self._size:
            return None
        self._make_room(size)
        path = self.folder / f"{number:08d}-{stamp}-{name}"
        partial = path.with_name(f".{path.name}.partial")
        try:
            partial.mkdir(mode=0o700)
            for file, data in content.items():
                replace_file(partial / file, data, mode=0o600)
            partial.rename(path)
        except OSError:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        os.fsync(self._lock)
        self._number = number
        self._keep(path, size)
        return path

    def complete(self, case: Path, name: str, content: bytes) -> None:
        """Add a file to a case, unless that is gone or has no room for it.

        Raises:
            OSError: If it can't be written. The case stays as it was.
        """
        self._make_room(len(content), but=case)
        kept = next((each for each in self._kept if each.path == case), None)
        if kept is not None and self.bytes + len(content) <= self._size:
            replace_file(case / name, content, mode=0o600)
            kept.bytes += len(content)
            self.bytes += len(content)

    def expire(self) -> None:
        """Remove what is too old.

        Raises:
            OSError: If it can't be removed.
        """
        while self._kept and time.time() - self._kept[0].since > self._age:
            self._remove(self._kept[0])

    def close(self) -> None:
        """Let another guard write there."""
        if self._lock >= 0:
            os.close(self._lock)
        self._lock = -1

    def _make_room(self, size: int, but: Path | None = None) -> None:
        while self._kept and self.bytes + size > self._size and self._kept[0].path != but:
            self._remove(self._kept[0])

    def _remove(self, kept: _Kept) -> None:
        gone = kept.path.with_name(f".{kept.path.name}.gone")
        with suppress(FileNotFoundError):  # somebody has tidied up
            kept.path.rename(gone)
            shutil.rmtree(gone)
        self._kept.remove(kept)
        self.bytes -= kept.bytes

    def _keep(self, path: Path, size: int) -> None:
        found = _NAME.fullmatch(path.name)
        since = _seconds(found[2]) if found else 0.0
        self._kept.append(_Kept(path, size, max(since, self._kept[-1].since if self._kept else 0.0)))
        self.bytes += size


def case_folders(folder: Path) -> dict[int, Path]:
    """Number -> folder, of all cases in a folder of evidence."""
    named = ((_NAME.fullmatch(path.name), path) for path in folder.iterdir() if path.is_dir())
    return {int(found[1]): path for found, path in named if found}


def refused(folder: Path, error: OSError) -> FirewallError:
    """What is said when evidence can't be written."""
    return FirewallError(f"can't keep evidence in {folder}: {error.strerror}")


def _seconds(stamp: str) -> float:
    try:
        return datetime.strptime(stamp, _TIME).replace(tzinfo=timezone.utc).timestamp()
    except ValueError:  # a name that somebody made up
        return 0.0
