"""Which cores the threads of this process run on: those that judge, one to a core, apart from all the others.

A thread or process inherits the cores of whoever starts it. So the whole process is first put on the other cores, and
whatever is opened from then on (page, outputs, readers, capture) belongs there by itself. Only the threads that compute
verdicts are taken out: the judging thread, which calls `judge_here`, and the pools of networks, by `core_of`. What the
judging thread starts later it starts `elsewhere`.

Cores belong to the process, not to an object in it, so this is the one module that keeps them.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from firewall.errors import EngineError, UsageError
from firewall.host.core_list import allowed, checked, listed

__all__ = [
    "Cores",
    "elsewhere",
    "judge_here",
    "judge_stays",
    "pinned",
    "placed",
    "pool_placer",
    "present_threads",
    "proved",
    "usable",
]

_TASKS = Path("/proc/self/task")
_PATIENCE = 2.0  # seconds for a thread of a pool that has just been started to put itself where it belongs


@dataclass(frozen=True)
class Cores:
    """Where this process runs.

    Attributes:
        named: The cores that were named, in their order.
        judging: Those of them that have a thread which computes verdicts, one each; the judging thread has the first.
        others: Those of all other threads, and of capture.
        shared: Nothing was left for the others, so that they run on those of the judging ones too.
    """

    named: tuple[int, ...]
    judging: tuple[int, ...]
    others: frozenset[int]
    shared: bool = False

    def line(self) -> str:
        """For people, such as "judging on core 2 of 2-3, everything else on 0-1"."""
        many = "cores" if len(self.judging) > 1 else "core"
        of = "" if len(self.judging) == len(self.named) else f" of {listed(self.named)}"
        rest = "there too, as no other core is left" if self.shared else f"on {listed(self.others)}"
        return f"judging on {many} {listed(self.judging)}{of}, everything else {rest}"


class _Process:
    """What is known of this process."""

    cores: Cores | None = None
    judge: int | None = None  # thread id of the kernel


def placed() -> Cores | None:
    """Where this process runs; None unless it is `pinned`."""
    return _Process.cores


@contextmanager
def pinned(written: str | None, threads: int = 0, *, what: str = "--cores") -> Iterator[Cores | None]:
    """Inside the block threads that judge run on these cores alone, and all others of this process elsewhere.

    Args:
        written: The cores, as of `core_list`. None: everything stays as it is.
        threads: Threads that compute verdicts; 0 = one for each of the cores.
        what: Who names the cores, for messages.

    Yields:
        Where what runs; None if nothing was named.

    Raises:
        UsageError: If the cores can't be had, or are fewer than the threads.
    """
    if written is None:
        yield None
        return
    cores, may = checked(written, what), allowed()
    if threads > len(cores):
        raise UsageError(
            f"{what} {written!r}: {threads} threads need {threads} cores, one each, and here are {len(cores)}; name as "
            "many, or lower --threads"
        )
    left = may - {*cores}
    _Process.cores = Cores(cores, cores[: threads or len(cores)], left or may, shared=not left)
    try:
        _all_on(_Process.cores.others)
        yield _Process.cores
    finally:
        _Process.cores = _Process.judge = None
        _opencv_threads(-1)
        _all_on(may)


def usable() -> frozenset[int]:
    """Cores that this process may run on, wherever the calling thread was put."""
    cores = _Process.cores
    return allowed() if cores is None else cores.others.union(cores.named)


def judge_here() -> None:
    """From here on the calling thread judges: it is put on its core. Nothing happens unless the process is `pinned`.

    Raises:
        EngineError: If the kernel has taken the core away.
    """
    if _Process.cores is None:
        return
    _only_on(_Process.cores.judging[0])
    _Process.judge = threading.get_native_id()
    _opencv_threads(1)


def judge_stays() -> bool:
    """Whether the judging thread still is where it was put: a core that is switched off loses its threads."""
    cores, judge = _Process.cores, _Process.judge
    if cores is None or judge is None:
        return False
    with suppress(OSError):
        return os.sched_getaffinity(judge) == {cores.judging[0]}
    return False


@contextmanager
def elsewhere(cores: Collection[int] | None = None) -> Iterator[None]:
    """Threads and processes that are started inside the block begin their lives on other cores.

    Args:
        cores: On these. None: on those that judging leaves; if the process is not `pinned`, anywhere.
    """
    wanted = cores or (None if _Process.cores is None else _Process.cores.others)
    if wanted is None:
        yield
        return
    here = os.sched_getaffinity(0)
    # A core that went away meanwhile is no reason to stop: the kernel then says where threads run.
    with suppress(OSError):
        os.sched_setaffinity(0, wanted)
    try:
        yield
    finally:
        with suppress(OSError):
            os.sched_setaffinity(0, here)


def pool_placer() -> Callable[[], None]:
    """What each thread of a pool calls when it starts: the first one is put on the second core, and so on, since the
    judging thread computes too. Nothing happens unless the process is `pinned`."""
    cores, numbers = _Process.cores, count(1)

    def place() -> None:
        number = next(numbers)
        if cores is not None and number < len(cores.judging):
            _only_on(cores.judging[number])

    return place


def present_threads() -> frozenset[int]:
    """Ids of all threads of this process."""
    return frozenset(int(each.name) for each in _TASKS.iterdir())


def proved(before: Collection[int], cores: Collection[int], what: str) -> None:
    """A library was told to put a thread on each of these cores: did it?

    Args:
        before: The threads that there were before.
        cores: The cores.
        what: Who was told, for the message.

    Raises:
        EngineError: If no new thread keeps to one of the cores.
    """
    limit = time.monotonic() + _PATIENCE
    while True:
        found: set[int] = set()
        for thread in present_threads().difference(before):
            with suppress(OSError):
                on = os.sched_getaffinity(thread)
                found |= on if len(on) == 1 else set()
        missing = set(cores) - found
        if not missing:
            return
        if time.monotonic() > limit:
            raise EngineError(
                f"{what} has no thread on core {listed(missing)}, where it was told to put one; give --threads 1, or "
                "leave --cores out"
            )
        time.sleep(0.002)


def _opencv_threads(number: int) -> None:
    """How many threads OpenCV may use, -1 = as it likes: those that it starts inherit the core of the judging thread,
    and would crowd there."""
    opencv = sys.modules.get("cv2")
    if opencv is not None:
        opencv.setNumThreads(number)


def _only_on(core: int) -> None:
    try:
        os.sched_setaffinity(0, {core})
    except OSError as error:
        raise EngineError(f"core {core} can't be had any more: {error.strerror}; name others with --cores") from error


def _all_on(cores: Collection[int]) -> None:
    """Every thread that there is."""
    for thread in present_threads():
        with suppress(OSError):  # it has ended meanwhile
            os.sched_setaffinity(thread, cores)
