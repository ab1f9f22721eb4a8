"""What a service does on SIGINT, SIGTERM, SIGHUP and SIGUSR1."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from firewall.service.golden import SelfTest
from firewall.service.loop import Loop
from firewall.sinks import Outlets

__all__ = ["reopen_on_hangup", "self_test_on_signal", "stop_on_signals"]


@contextmanager
def stop_on_signals(service: Loop) -> Iterator[None]:
    """Inside the block SIGINT and SIGTERM stop a service after the current frame; a second one ends the process.

    Args:
        service: What to stop.
    """

    def handle(number: int, _: FrameType | None) -> None:
        service.stop()
        signal.signal(number, signal.SIG_DFL)

    previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def reopen_on_hangup(outputs: Outlets) -> Iterator[None]:
    """Inside the block SIGHUP opens the files of verdict lines again, as programs that rotate log files expect.

    Args:
        outputs: The outputs. If none of them writes lines to a file, SIGHUP keeps its meaning.
    """
    if not any(outlet.name.startswith("jsonl:") for outlet in outputs.outlets):
        yield
        return
    previous = signal.signal(signal.SIGHUP, lambda *_: outputs.reopen())
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, previous)


@contextmanager
def self_test_on_signal(test: SelfTest | None) -> Iterator[None]:
    """Inside the block SIGUSR1 has a round of golden frames begin at once. On a system without it nothing changes.

    Args:
        test: Judges them. None: there are none, and the signal, which would otherwise end the process, does nothing.
    """
    number = getattr(signal, "SIGUSR1", None)
    if number is None:
        yield
        return
    previous = signal.signal(number, lambda *_: None if test is None else test.demand())
    try:
        yield
    finally:
        signal.signal(number, previous)
