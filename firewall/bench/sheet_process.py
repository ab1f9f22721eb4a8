"""A step of a run sheet: a command with a time limit, that ends when whoever waits for it is stopped."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

__all__ = ["LIMIT", "last_line", "run_command"]

#: Seconds a step may take: sudo forgets a password after fifteen minutes.
LIMIT = 600.0


def run_command(command: Sequence[str], plans: Path) -> tuple[int, str, str]:
    """(exit code, standard output, standard error); 124 if it took too long. At Ctrl-C it is ended, too."""
    environment = {**os.environ, "FIREWALL_PLANS": str(plans), "PYTHONUNBUFFERED": "1", "NO_COLOR": "1"}
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env=environment,
        )
    except OSError as error:
        return 127, "", f"{Path(command[0]).name} can't be run: {error.strerror}"
    try:
        out, errors = process.communicate(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        _end(process)
        return 124, "", f"it took longer than {LIMIT:.0f} s and was ended"
    except BaseException:
        _end(process)
        raise
    return process.returncode, out, errors


def _end(process: subprocess.Popen[str]) -> None:
    """End a process: first as Ctrl-C does, then for good. Whoever presses it again must not stop this."""
    with suppress(ValueError):  # not in the main thread: there is no handler to set
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=10)
        signal.signal(signal.SIGINT, before)
    process.kill()
    process.wait()


def last_line(text: str) -> str:
    """The last line that says something, shortened."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1].removeprefix("firewall: error: ")[:400] if lines else ""
