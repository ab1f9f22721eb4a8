"""The power modes of a Jetson: which there are, which one is set, and changing it so that it is always put back."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from firewall.errors import FirewallError

__all__ = ["ModeKeeper", "PowerMode", "chosen", "current", "may_change", "modes"]

_MODEL = re.compile(r"POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+)")
_WATTS = re.compile(r"(\d+)W", re.IGNORECASE)
#: Seconds that nvpmodel may take; it switches cores off and on.
_PATIENCE = 60.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True)
class PowerMode:
    """A mode. number: as nvpmodel counts. name: as it calls it. watts: of the name; None for one without a limit."""

    number: int
    name: str
    watts: int | None


def modes(root: Path = Path("/")) -> list[PowerMode]:
    """The board's modes, as its nvpmodel.conf lists them; empty if there is none.

    Args:
        root: Folder with /etc, for tests.
    """
    for file in sorted(root.glob("etc/nvpmodel*.conf")):
        with suppress(OSError):
            found = [
                PowerMode(int(match[1]), match[2], _watts(match[2]))
                for line in file.read_text(encoding="utf-8", errors="replace").splitlines()
                if not line.lstrip().startswith("#") and (match := _MODEL.search(line))
            ]
            if found:
                return found
    return []


def chosen(known: Sequence[PowerMode], watts: Sequence[int]) -> tuple[list[PowerMode], list[str]]:
    """(the modes to measure in, why some aren't). Above all that carry a number the mode without a limit is meant.

    Args:
        known: The board's modes.
        watts: What is wanted, such as 15, 30 and 60.
    """
    taken, missing = list[PowerMode](), list[str]()
    numbers = [mode.watts for mode in known if mode.watts is not None]
    for wanted in watts:
        fitting = [mode for mode in known if mode.watts == wanted]
        if not fitting and wanted > max(numbers, default=0):
            fitting = [mode for mode in known if mode.watts is None]
        if not fitting:
            there = ", ".join(mode.name for mode in known) or "none that nvpmodel.conf tells"
            missing.append(f"this board has no mode of {wanted} W; it has {there}")
        elif fitting[0] not in taken:
            taken.append(fitting[0])
    return taken, missing


def current() -> int | None:
    """Number of the mode that is set, by `nvpmodel -q`; None if it can't be asked."""
    program = shutil.which("nvpmodel")
    if program is None:
        return None
    try:
        done = subprocess.run([program, "-q"], check=False, **_QUIET, timeout=_PATIENCE)  # type: ignore[call-overload]
    except (OSError, subprocess.TimeoutExpired):
        return None
    numbers = [line for line in str(done.stdout).split() if line.isdigit()]
    return int(numbers[-1]) if done.returncode == 0 and numbers else None


def may_change(*, ask_for_password: bool) -> list[str] | None:
    """What to put before a command that needs root; None if there is no way.

    Args:
        ask_for_password: Whether somebody is there whom sudo may ask.
    """
    if os.geteuid() == 0:
        return []
    sudo = shutil.which("sudo")
    if sudo is None:
        return None
    with suppress(OSError, subprocess.TimeoutExpired):
        if subprocess.run([sudo, "-n", "true"], check=False, **_QUIET, timeout=10).returncode == 0:  # type: ignore[call-overload]
            return [sudo, "-n"]
    return [sudo] if ask_for_password else None


class ModeKeeper:
    """Changes the power mode and puts it back.

    Args:
        before: Number of the mode to go back to.
        prefix: As of `may_change`.
        say: Tells people in one line.
    """

    def __init__(self, before: int, prefix: Sequence[str], say: Callable[[str], None]) -> None:
        self._before, self._prefix, self._say = before, list(prefix), say

    def change(self, number: int) -> None:
        """Set a mode. Whether it is set is asked, not believed.

        Args:
            number: Of the mode.

        Raises:
            FirewallError: If it isn't set after that, as where a change takes a restart.
        """
        program = shutil.which("nvpmodel") or "nvpmodel"
        try:
            # Nothing to read: where it would like to restart the board the answer is no.
            done = subprocess.run(  # type: ignore[call-overload]
                [*self._prefix, program, "-m", str(number)], check=False, **_QUIET, timeout=_PATIENCE
            )
            said = " ".join(f"{done.stdout} {done.stderr}".split())
        except (OSError, subprocess.TimeoutExpired) as error:
            said = f"{type(error).__name__}"
        if (found := current()) != number:
            raise FirewallError(
                f"power mode {number} was asked for, and mode {'unknown' if found is None else found} is set: "
                f"{said[:200] or 'nvpmodel gave no reason'}"
            )

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Whatever happens in the block, the mode of before is set at its end: also at Ctrl-C, SIGTERM and SIGHUP,
        which become KeyboardInterrupt in the block. While it is put back none of them counts."""
        handlers = {each: signal.signal(each, _interrupt) for each in _SIGNALS}
        try:
            yield
        finally:
            _ignored()  # what is started now doesn't hear them either
            try:
                self.put_back()
            finally:
                for each, handler in handlers.items():
                    signal.signal(each, handler)

    def put_back(self) -> None:
        """Set the mode of before, if another one is set; what can't be done is said, with the command that does it."""
        if current() == self._before:
            return
        try:
            self.change(self._before)
            self._say(f"power mode {self._before} is set again")
        except FirewallError as error:
            self._say(f"the power mode could not be put back ({error}); do it with: sudo nvpmodel -m {self._before}")


_QUIET = {
    "stdin": subprocess.DEVNULL,
    "stdout": subprocess.PIPE,
    "stderr": subprocess.PIPE,
    "text": True,
    "errors": "replace",
}


def _ignored() -> None:
    while True:
        try:
            for each in _SIGNALS:
                signal.signal(each, signal.SIG_IGN)
        except KeyboardInterrupt:  # pressed twice
            continue
        return


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def _watts(name: str) -> int | None:
    found = _WATTS.search(name)
    return int(found[1]) if found else None
