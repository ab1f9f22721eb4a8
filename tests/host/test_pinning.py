"""Threads on their cores, as the kernel sees them."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import cv2
import pytest

from firewall.errors import EngineError, UsageError
from firewall.host.core_list import listed
from firewall.host.pinning import (
    Cores,
    elsewhere,
    judge_here,
    judge_stays,
    pinned,
    placed,
    pool_placer,
    present_threads,
    proved,
    usable,
)

ALL = frozenset(os.sched_getaffinity(0))
FIRST, LAST = min(ALL), max(ALL)
two_cores = pytest.mark.skipif(len(ALL) < 2, reason="this process may use one core alone")


def on(thread: int = 0) -> set[int]:
    return os.sched_getaffinity(thread)


@pytest.fixture
def waiting() -> Iterator[int]:
    """A thread that was there before anything is pinned."""
    found: list[int] = []
    begun, end = threading.Event(), threading.Event()

    def wait() -> None:
        found.append(threading.get_native_id())
        begun.set()
        end.wait()

    thread = threading.Thread(target=wait)
    thread.start()
    begun.wait()
    yield found[0]
    end.set()
    thread.join()


def in_a_thread(work: Callable[[], set[int]]) -> set[int]:
    """What a new thread finds."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


def of_a_process() -> set[int]:
    """The cores of a process that is started here, as it sees them at its start."""
    code = "import os; print(*os.sched_getaffinity(0))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {int(core) for core in done.stdout.split()}


def test_nothing_named_changes_nothing() -> None:
    """Every door is open, and does nothing."""
    with pinned(None, 5) as cores:
        assert cores is None and placed() is None
        judge_here()
        assert on() == ALL == usable() and not judge_stays()
        pool_placer()()
        with elsewhere():
            assert on() == ALL


@two_cores
def test_the_judge_has_its_core_and_all_else_the_others(waiting: int) -> None:
    """Threads from before, new ones and processes; afterwards everything is as it was."""
    rest = ALL - {LAST}
    threads = cv2.getNumThreads()
    with pinned(f"{LAST}") as cores:
        assert cores is not None and cores is placed()
        assert (cores.named, cores.judging, cores.others, cores.shared) == ((LAST,), (LAST,), rest, False)
        assert on() == on(waiting) == in_a_thread(on) == of_a_process() == rest
        judge_here()
        assert on() == {LAST} and on(waiting) == rest and usable() == ALL and judge_stays()
        assert cv2.getNumThreads() == 1  # its threads would inherit this one's core
        # What the judging thread starts by itself would stay with it; so it says where.
        assert in_a_thread(on) == {LAST}
        with elsewhere():
            assert on() == in_a_thread(on) == of_a_process() == rest
        with elsewhere([LAST]):
            assert of_a_process() == {LAST}
        assert on() == {LAST}
        os.sched_setaffinity(0, ALL)  # as someone with taskset may do, or a core that goes away
        assert not judge_stays()
    assert on() == on(waiting) == ALL and placed() is None and cv2.getNumThreads() == threads


def test_where_no_core_is_left_all_run_there_too() -> None:
    """Also on a machine with one core."""
    with pinned(listed(ALL)) as cores:
        assert cores is not None and cores.shared and cores.others == ALL
        assert cores.judging == tuple(sorted(ALL))
        assert cores.line().endswith("everything else there too, as no other core is left")
        judge_here()
        assert on() == {FIRST}
        with elsewhere():
            assert on() == ALL
    assert on() == ALL


@two_cores
def test_fewer_threads_than_cores_leave_cores_free(waiting: int) -> None:
    """They were named for judging, so nothing else comes there."""
    with pinned(f"{LAST},{FIRST}", 1) as cores:
        assert cores is not None and cores.judging == (LAST,) and cores.named == (LAST, FIRST)
        assert cores.line().startswith(f"judging on core {LAST} of {FIRST}")
        assert on(waiting) == ALL - {FIRST, LAST} or cores.shared


def test_refused_at_the_door() -> None:
    """More threads than cores; and nothing was moved."""
    few = pytest.raises(UsageError, match=r"^cores '\d+': 2 threads need 2 cores, one each, and here are 1;")
    with few, pinned(f"{FIRST}", 2, what="cores"):
        pytest.fail("not refused")
    assert on() == ALL and placed() is None


@pytest.mark.parametrize(
    ("cores", "line"),
    [
        (Cores((2, 3), (2, 3), frozenset({0, 1, 4})), "judging on cores 2-3, everything else on 0-1,4"),
        (Cores((5,), (5,), frozenset({0})), "judging on core 5, everything else on 0"),
        (Cores((2, 3), (2,), frozenset({0})), "judging on core 2 of 2-3, everything else on 0"),
    ],
)
def test_what_people_read(cores: Cores, line: str) -> None:
    """Which is the startup line's."""
    assert cores.line() == line


@two_cores
def test_threads_of_a_pool_have_a_core_each() -> None:
    """The first one the second core, since the judging thread has the first; one too many stays where it is."""
    with pinned(f"{LAST},{FIRST}") as cores:
        assert cores is not None
        place = pool_placer()

        def placing() -> set[int]:
            place()
            return on()

        assert in_a_thread(placing) == {FIRST}
        assert in_a_thread(placing) == cores.others


def test_a_library_that_put_no_thread_there_is_found_out(monkeypatch: pytest.MonkeyPatch, waiting: int) -> None:
    """After a while; a thread that is there counts, also if it comes late."""
    monkeypatch.setattr("firewall.host.pinning._PATIENCE", 0.3)
    before = present_threads()
    assert {threading.get_native_id(), waiting} <= before
    with pytest.raises(EngineError, match=f"a network has no thread on core {LAST}, where it was told to put one"):
        proved(before, [LAST], "a network")
    end = threading.Event()

    def late() -> None:
        time.sleep(0.05)
        os.sched_setaffinity(0, {LAST})
        end.wait()

    thread = threading.Thread(target=late)
    thread.start()
    try:
        proved(before, [LAST], "a network")
    finally:
        end.set()
        thread.join()


def test_a_core_that_goes_away_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """To judge there is refused in one line; to start something elsewhere goes on wherever it may."""
    with pinned(f"{FIRST}"):

        def gone(thread: int, cores: object) -> None:
            raise OSError(22, "Invalid argument")

        with monkeypatch.context() as patched:
            patched.setattr(os, "sched_setaffinity", gone)
            with pytest.raises(EngineError, match=f"core {FIRST} can't be had any more: Invalid argument"):
                judge_here()
            with elsewhere():
                assert in_a_thread(on)
        assert not judge_stays()
