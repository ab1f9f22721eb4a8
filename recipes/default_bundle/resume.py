"""Run one stage's command: go on with what a killed run of it left, begin over where it was another.

    python resume.py firewall lab ... --out FOLDER [--json FILE]

DVC starts this for every stage that has to be made (dvc.yaml). The project's long commands go on from what is in
`--out`, but they can't know that the data or a network they began with has been another since. So a note of the command
and of the contents of its inputs is kept until it has ended well. If that note is there and the same, this very stage
was killed or failed, and its output stays; otherwise the output goes before the command starts.
"""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

#: What a stage writes.
OUTPUTS = ("--out", "--json", "--work")
#: Kept in a database's folder by those who read it: no part of what it is. `.dvcignore` has the same.
CACHES = ("measured", ".lock")
_NOTES = Path(".stages")


def main(command: Sequence[str]) -> int:
    """Run `command` in the work folder; its exit code."""
    with_parent()
    _NOTES.mkdir(exist_ok=True)
    stage = os.environ["DVC_STAGE"]
    with (_NOTES / f"{stage}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            sys.stderr.write(f"resume.py: error: another run is at work on the stage {stage}; wait for it, or end it\n")
            return 1
        return run(command, _NOTES / f"{stage}.json", lock.fileno())


def run(command: Sequence[str], note: Path, lock: int) -> int:
    """Go on with what is there if `note` says that it is of this very run; its exit code. lock: held by the command
    too, so that it is free only when the command is gone."""
    now = {"command": list(command), "inputs": {str(path): digest(path) for path in inputs(command)}}
    if not same(note, now):
        for path in values(command, OUTPUTS):
            remove(path)
        partial = note.with_suffix(".partial")
        partial.write_text(json.dumps(now, indent=1) + "\n", encoding="utf-8")
        partial.replace(note)
    for path in values(command, OUTPUTS):
        path.parent.mkdir(parents=True, exist_ok=True)
    code = subprocess.run(command, check=False, pass_fds=(lock,), preexec_fn=with_parent).returncode
    if code == 0:
        note.unlink()
    return code


def with_parent() -> None:
    """This process ends when its parent does: a run that is killed leaves no training behind (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def values(command: Sequence[str], options: Sequence[str] | None = None) -> list[Path]:
    """The values of some options, or of all but the outputs (None), as paths; of lists with commas each part."""
    found = []
    for option, value in itertools.pairwise(command):
        if option.startswith("--") and (option in options if options is not None else option not in OUTPUTS):
            found += [Path(part) for part in value.split(",") if part]
    return found


def inputs(command: Sequence[str]) -> list[Path]:
    """What the command reads: the values of its options that are files or folders."""
    return sorted({path for path in values(command) if path.exists()})


def digest(path: Path) -> str:
    """SHA-256 of a file, or of a folder's files with their names, less caches."""
    total = hashlib.sha256()
    for file in files(path):
        with file.open("rb") as content:
            while block := content.read(1 << 20):
                total.update(block)
        total.update(f"\0{file.relative_to(path)}\0{file.stat().st_size}\0".encode())
    return total.hexdigest()


def files(path: Path) -> Iterator[Path]:
    """The file itself, or a folder's files in the order of their names."""
    if path.is_file():
        yield path
        return
    for root, folders, names in os.walk(path, followlinks=True):
        folders[:] = sorted(name for name in folders if name not in CACHES)
        yield from (Path(root) / name for name in sorted(names) if name not in CACHES)


def same(note: Path, now: object) -> bool:
    """Whether a run of the same command on the same inputs was begun and not ended."""
    try:
        return bool(json.loads(note.read_text(encoding="utf-8")) == now)
    except (OSError, ValueError):
        return False


def remove(path: Path) -> None:
    """A file or a whole folder of the work folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
