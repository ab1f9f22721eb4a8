"""Power rails of a board: read from sysfs, or from tegrastats where sysfs tells nothing; and the energy of a window."""

from __future__ import annotations

import re
import shutil
import statistics
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from firewall.bench.report import Energy
from firewall.errors import FirewallError
from firewall.host.sensors import Rails, rails

__all__ = ["Meter", "Rails", "TegrastatsRails", "rails", "source", "tegrastats_rails", "total"]

#: Rails that everything else hangs on: where one is there it is the total.
_INPUTS = ("VDD_IN", "VIN", "POM_5V_IN", "VDD_5V_IN", "5V_IN")
#: `VDD_IN 4321mW/4310mW` (now/average) of tegrastats, without the unit in JetPack 4.
_TEGRASTATS = re.compile(r"(?:^|\s)([A-Z][A-Z0-9_]*) (\d+)(?:mW)?/(\d+)(?:mW)?(?=\s|$)")
_NOT_RAILS = frozenset({"RAM", "SWAP", "IRAM"})


def total(found: Rails) -> tuple[float, list[str]]:
    """The power of the whole board.

    Args:
        found: Power of each rail in mW.

    Returns:
        mW, and the rails that they are the sum of: the input rail where the board has one, else all of them. A meter at
        the plug will not confirm the sum of all (jtop and others add them up in the same way).
    """
    for name in _INPUTS:
        if name in found:
            return found[name], [name]
    return sum(found.values()), list(found)


def tegrastats_rails(line: str) -> Rails:
    """Power of each rail by one line of tegrastats.

    Args:
        line: What it printed.

    Returns:
        Rail -> mW now, not the average since its start.
    """
    return {name: float(now) for name, now, _ in _TEGRASTATS.findall(line) if name not in _NOT_RAILS}


class TegrastatsRails:
    """The newest line of a running tegrastats. Use as a context manager."""

    def __init__(self, program: str, interval_ms: int = 100) -> None:
        """Make ready to start it.

        Args:
            program: Path of tegrastats.
            interval_ms: Milliseconds between two lines.
        """
        self._command = [program, "--interval", str(interval_ms)]
        self._newest: Rails = {}

    def __enter__(self) -> TegrastatsRails:  # noqa: PYI034 - Self is not in Python 3.10
        try:
            self._process = subprocess.Popen(
                self._command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, errors="replace"
            )
        except OSError as error:
            raise FirewallError(
                f"{self._command[0]} can't be run ({error.strerror}); mend it, or measure without: --energy-seconds 0"
            ) from error
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()
        return self

    def _follow(self) -> None:
        if self._process.stdout is not None:
            for line in self._process.stdout:
                self._newest = tegrastats_rails(line) or self._newest

    def __call__(self) -> Rails:
        """Power in mW; empty before the first line."""
        return self._newest

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        self._thread.join(5)
        if self._process.stdout is not None:
            self._process.stdout.close()


class _Sysfs:
    def __init__(self, root: Path) -> None:
        self._root = root

    def __enter__(self) -> _Sysfs:  # noqa: PYI034
        return self

    def __call__(self) -> Rails:
        return rails(self._root)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


def source(root: Path = Path("/")) -> _Sysfs | TegrastatsRails | None:
    """What can read the rails here.

    Args:
        root: Folder with /sys and /usr/bin, for tests.

    Returns:
        A context manager to call for the rails; None if nothing can read them.
    """
    if rails(root):
        return _Sysfs(root)
    program = shutil.which("tegrastats", path=str(root / "usr/bin")) or shutil.which("tegrastats")
    return None if program is None else TegrastatsRails(program)


class Meter:
    """Reads the rails in a thread of its own while its block runs."""

    def __init__(self, read: Callable[[], Rails], period: float = 0.1) -> None:
        """Make ready to read.

        Args:
            read: Gives power in mW by rail.
            period: Seconds between two readings; reading takes about a millisecond each.
        """
        self._read, self._period = read, period
        self._readings: list[tuple[float, Rails]] = []
        self._ended = threading.Event()

    def __enter__(self) -> Meter:  # noqa: PYI034
        self._started = time.monotonic()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()
        return self

    def _follow(self) -> None:
        while True:
            found = self._read()
            if found:
                self._readings.append((time.monotonic(), found))
            if self._ended.wait(self._period):
                return

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._seconds = time.monotonic() - self._started
        self._ended.set()
        self._thread.join()

    def energy(self, frames: int) -> Energy | None:
        """The energy of the block that has ended.

        Args:
            frames: Frames that were screened in it; 0 for an idle block.

        Returns:
            The energy; None if nothing was read.
        """
        if not self._readings:
            return None
        totals = [total(found) for _, found in self._readings]
        power = statistics.fmean(milliwatts for milliwatts, _ in totals)
        names = list(self._readings[0][1])
        return Energy(
            seconds=self._seconds,
            readings=len(totals),
            frames=frames,
            power=power,
            highest=max(milliwatts for milliwatts, _ in totals),
            rails={name: statistics.fmean(found.get(name, 0.0) for _, found in self._readings) for name in names},
            a_frame=power / 1e3 * self._seconds / frames if frames else None,
            total_of=totals[0][1],
        )
