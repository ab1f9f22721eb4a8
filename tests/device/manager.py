"""What systemd is to the guard: a datagram socket that states come to, and a process that was started with it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

__all__ = ["PATIENT", "Manager", "guarding"]

PATIENT = 60.0  # seconds: the machine may be busy


class Manager:
    """Listens on a socket, `@name` for an abstract one."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + address[1:] if address[0] == "@" else address)
        self.heard: list[dict[str, str]] = []

    def next(self, timeout: float = PATIENT) -> dict[str, str] | None:
        """The states of the next datagram; None if none came in time."""
        self.socket.settimeout(timeout)
        try:
            data = self.socket.recv(65536)
        except TimeoutError:
            return None
        self.heard.append(dict(line.split("=", 1) for line in data.decode().split("\n")))
        return self.heard[-1]

    def until(self, state: str) -> dict[str, str]:
        """The first datagram with this state."""
        limit = time.monotonic() + PATIENT
        while time.monotonic() < limit:
            found = self.next()
            assert found is not None, self.heard[-3:]
            if state in found:
                return found
        raise AssertionError(f"no {state} among {len(self.heard)}: {self.heard[-3:]}")

    def starved(self, quiet: float) -> bool:
        """Whether no WATCHDOG comes for so many seconds, within the patience of a test."""
        limit = time.monotonic() + PATIENT
        fed_at = time.monotonic()
        while time.monotonic() < limit:
            found = self.next(0.1)
            if found is not None and "WATCHDOG" in found:
                fed_at = time.monotonic()
            elif time.monotonic() - fed_at > quiet:
                return True
        return False

    def close(self) -> None:
        """Nobody listens any more."""
        self.socket.close()


def guarding(
    manager: Manager, *arguments: object, watchdog: str = "800000", code: str = "", more: Sequence[tuple[str, str]] = ()
) -> subprocess.Popen[str]:
    """`firewall serve`, started as systemd starts it; `code` runs first in its process."""
    environment = {**os.environ, "NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": watchdog, **dict(more)}
    entry = f"{code}\nimport sys\nfrom firewall.cli import main\nsys.argv[0] = 'firewall'\nmain()"
    command = [sys.executable, "-X", "faulthandler", "-c", entry, "serve", "--http", "off", *map(str, arguments)]
    return subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).resolve().parents[2],
    )
