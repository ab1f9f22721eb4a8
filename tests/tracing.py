"""What a command sends and keeps, seen by strace: every process and thread of it, C libraries included."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

__all__ = ["Surroundings", "Trace", "require_strace", "silent", "traced"]

_CALLS = "connect,sendto,sendmsg,sendmmsg,bind,open,openat,creat,mkdir,mkdirat,rename,renameat,renameat2,link,symlink"
_ADDRESS = re.compile(r'sin6?_port=htons\((\d+)\).*?(?:inet_addr\(|inet_pton\(AF_INET6, )"([^"]+)"')
_OPENED = re.compile(r"= \d+<(?P<path>/[^>]*)>$")
_NAMED = re.compile(r'(?:(?:AT_FDCWD|\d+)<(?P<base>[^>]*)>, )?"(?P<path>[^"]*)"')
_LOOPBACK = ("127.", "::1", "::ffff:127.")
#: Files of the kernel's, not on a disk; and semaphores, which are gone when nobody holds them.
_NO_FILES = ("/dev/null", "/dev/tty", "/dev/pts/", "/proc/", "/dev/shm/sem.", "/dev/nvidia", "/dev/dri/")


def require_strace() -> None:
    """Skips the test where strace is missing or may not look at processes."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed: apt-get install strace")
    tried = subprocess.run(["strace", "-f", "-o", os.devnull, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"strace may not look at processes here: {tried.stderr.strip()[:200]}")


@dataclass(frozen=True)
class Surroundings:
    """Empty folders of a user who has just come: home, temporary files, and where the command is started."""

    home: Path
    temporary: Path
    work: Path

    @classmethod
    def below(cls, folder: Path) -> Surroundings:
        """Made in `folder`."""
        made = cls(folder / "home", folder / "tmp", folder / "work")
        for path in (made.home, made.temporary, made.work):
            path.mkdir()
        return made

    def environment(self, **more: str) -> dict[str, str]:
        """Nothing that the tests' own environment says: CI, for one, keeps ONNX Runtime's telemetry still."""
        search = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))
        return {
            "PATH": search,
            "HOME": str(self.home),
            "TMPDIR": str(self.temporary),
            "PYTHONDONTWRITEBYTECODE": "1",
            "OMP_NUM_THREADS": "1",
            **more,
        }

    def left(self) -> list[str]:
        """What lies in home and in the temporary files, folders too."""
        return sorted(str(path) for root in (self.home, self.temporary) for path in root.rglob("*"))


@dataclass
class Trace:
    """stdout, stderr: of the command. sent: addresses outside this machine that were connected, sent to or listened on.
    written: paths that were opened for writing, made or renamed to. left: what still lies in home and temporary
    files."""

    stdout: str
    stderr: str
    sent: list[str] = field(default_factory=list)
    written: list[Path] = field(default_factory=list)
    left: list[str] = field(default_factory=list)

    def outside(self, *allowed: Path) -> list[str]:
        """What was written that doesn't lie in one of the folders."""
        return sorted({str(path) for path in self.written if not any(path.is_relative_to(root) for root in allowed)})


def traced(folder: Path, *command: object, timeout: float = 110, code: int = 0, **environment: str) -> Trace:
    """Run a command as a user who has just come, in empty folders made in `folder`, and look on. It has to end with
    `code`."""
    around = Surroundings.below(folder)
    (calls := folder / "calls").mkdir()
    watched = ["strace", "-ff", "--seccomp-bpf", "-qq", "-yy", "-s", "512", "-o", str(calls / "t")]
    done = subprocess.run(
        [*watched, "-e", f"trace={_CALLS}", *map(str, command)],
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
        cwd=around.work,
        env=around.environment(**environment),
    )
    assert done.returncode == code, done.stderr[-2000:]
    trace = Trace(done.stdout, done.stderr, left=around.left())
    for file in calls.iterdir():
        for line in file.read_text(errors="replace").splitlines():
            _understand(line, trace, around.work)
    return trace


def silent(trace: Trace, *named: Path) -> None:
    """No address outside this machine, nothing written but in the named folders, nothing left behind."""
    assert trace.sent == []
    assert trace.outside(*named) == []
    assert [path for path in trace.left if not any(Path(path).is_relative_to(root) for root in named)] == []


def _understand(line: str, trace: Trace, work: Path) -> None:
    call = line.partition("(")[0]
    if call in ("connect", "sendto", "sendmsg", "sendmmsg", "bind"):
        named = _ADDRESS.search(line)
        if named and not named[2].startswith(_LOOPBACK):
            trace.sent.append(f"{call} {named[2]} port {named[1]}")
        return
    if " = -1 " in line or (call in ("open", "openat") and not re.search(r"O_WRONLY|O_RDWR|O_CREAT", line)):
        return
    opened, named = _OPENED.search(line), _NAMED.findall(line)
    if opened:
        path = Path(opened["path"])
    elif named:
        path = work.joinpath(*named[-1])  # what comes last is the new name; an absolute one forgets what is before it
    else:
        return
    if not str(path).startswith(_NO_FILES):
        trace.written.append(path)
