from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from firewall.errors import FirewallError
from firewall.sinks import FrameReport, JsonLines, Outlet, Outlets, Output
from firewall.sinks import outlet as module
from tests.sinks.making import report, until


class Kept(Output):
    """Keeps the reports, or does what a test wants of it."""

    every = 0.02

    def __init__(self, work: Callable[[FrameReport], None] = lambda _: None) -> None:
        self.work = work
        self.reports: list[FrameReport] = []
        self.ticks = self.reopened = self.closed = self.abandoned = 0

    def report(self, report: FrameReport) -> None:
        self.work(report)
        self.reports.append(report)

    def tick(self) -> None:
        super().tick()
        self.ticks += 1

    def reopen(self) -> None:
        super().reopen()
        self.reopened += 1

    def abandon(self) -> None:
        super().abandon()
        self.abandoned += 1

    def close(self) -> None:
        self.closed += 1

    @property
    def told(self) -> list[int]:
        return [each.verdicts[0].sequence for each in self.reports]


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Failed outputs are opened again soon, and little time is left at the end."""
    monkeypatch.setattr(module, "_FIRST_DELAY", 0.05)
    monkeypatch.setattr(module, "_LONGEST_DELAY", 0.1)
    monkeypatch.setattr(module, "_DRAIN", 0.3)


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What a blocked output waits for; opened with the test's end, so that no thread stays behind."""
    event = threading.Event()
    yield event
    event.set()


def failing(error: Exception, numbers: tuple[int, ...]) -> Callable[[FrameReport], None]:
    """Raises at these reports."""

    def work(given: FrameReport) -> None:
        if given.verdicts[0].sequence in numbers:
            raise error

    return work


def test_all_reports_come_in_order_and_only_who_needs_pixels_holds_them() -> None:
    """A queue of lines holds no pictures: 256 frames would be gigabytes."""
    lines, pictures = Kept(), Kept()
    outlets = Outlets([Outlet("lines", lambda: lines), Outlet("pictures", lambda: pictures, pixels=True)])
    for number in range(20):
        outlets.report(report(number))
    outlets.close()
    assert lines.told == pictures.told == list(range(20)) and lines.closed == pictures.closed == 1
    assert {each.frame.pixels.size for each in lines.reports if each.frame} == {3}
    assert {each.frame.pixels.shape for each in pictures.reports if each.frame} == {(120, 160, 3)}
    assert all(each.healthy and each.taken == 20 and each.dropped == 0 for each in outlets.health())


def test_an_output_that_blocks_delays_nobody_and_the_oldest_reports_are_dropped(gate: threading.Event) -> None:
    """A thousand reports are laid down in less time than one write takes; the other output has all of them; when the
    block ends, the newest follow; the count of what was missed is exact."""
    blocked, other, said = Kept(lambda _: gate.wait(60) and None), Kept(), list[str]()
    outlets = Outlets(
        [Outlet("blocked", lambda: blocked, limit=10, say=said.append), Outlet("other", lambda: other, limit=2000)]
    )
    outlets.report(report(0))
    until(lambda: outlets.health()[0].waiting == 0)
    started = time.monotonic()
    for number in range(1, 1000):
        outlets.report(report(number))
    assert time.monotonic() - started < 30
    until(lambda: len(other.reports) == 1000)
    first, second = outlets.health()
    assert not first.healthy and "takes nothing, or not fast enough: 10 reports wait" in first.detail
    assert (first.taken, first.dropped, first.waiting, first.failures) == (0, 989, 10, 0) and second.healthy
    gate.set()
    outlets.close()
    assert blocked.told == [0, *range(990, 1000)]
    assert outlets.health()[0].taken == 11 and said == ["output blocked missed 989 of 1000 reports"]


def test_where_the_source_waits_nothing_is_dropped() -> None:
    """A file: the loop waits for a slow output, and all reports come."""
    slow = Kept(lambda _: time.sleep(0.005))
    outlet = Outlet("slow", lambda: slow, limit=2, lossless=True)
    for number in range(30):
        outlet.report(report(number))
    outlet.close()
    assert slow.told == list(range(30)) and outlet.health().dropped == 0


def test_who_waits_for_an_output_that_fails_goes_on(gate: threading.Event) -> None:
    """The wait ends with the failure, and what was in the queue is counted as missed."""

    def work(_: FrameReport) -> None:
        gate.wait(60)
        raise FirewallError("disk full")

    outlet = Outlet("full", lambda: Kept(work), limit=1, lossless=True, again=False)
    outlet.report(report(0))
    until(lambda: outlet.health().waiting == 0)
    outlet.report(report(1))
    threading.Timer(0.1, gate.set).start()
    outlet.report(report(2))
    outlet.close()
    assert outlet.health().dropped == 3 and outlet.failed == "disk full"


@pytest.mark.parametrize("error", [FirewallError("disk full"), ZeroDivisionError("by zero"), OSError(5, "I/O error")])
def test_an_output_that_fails_is_opened_again_and_the_others_go_on(error: Exception) -> None:
    """Whatever it raises: said once, closed, opened again; what came meanwhile is missed, not sent when it is old."""
    opened: list[Kept] = []
    said: list[str] = []

    def open_output() -> Kept:
        opened.append(Kept(failing(error, (2,))))
        return opened[-1]

    outlet, other = Outlet("weak", open_output, say=said.append), Kept()
    outlets = Outlets([outlet, Outlet("other", lambda: other)])
    for number in range(3):
        outlets.report(report(number))
    until(lambda: outlet.health().failures == 1)
    assert not outlet.health().healthy and str(error) in str(outlet.failed)
    outlets.report(report(3))
    until(lambda: len(opened) == 2)
    until(lambda: outlet._output is not None)
    outlets.report(report(4))
    outlets.close()
    assert opened[0].told == [0, 1] and opened[1].told == [4] and other.told == [0, 1, 2, 3, 4]
    assert opened[0].closed == opened[1].closed == 1
    health = outlet.health()
    assert health.healthy and (health.taken, health.dropped, health.failures) == (3, 2, 1)
    assert "failed: " in said[0] and said[1] == "output weak works again; it missed 2 reports"


def test_an_output_that_can_not_be_closed_either_is_opened_again() -> None:
    """It may be as broken as it says."""

    class Broken(Kept):
        def close(self) -> None:
            super().close()
            raise OSError(5, "I/O error")

    broken, whole = Broken(failing(FirewallError("gone"), (0,))), Kept()
    choice = iter([broken, whole])
    outlet = Outlet("weak", lambda: next(choice))
    outlet.report(report(0))
    until(lambda: outlet._output is whole)
    outlet.report(report(1))
    outlet.close()
    assert broken.closed == 1 and whole.told == [1]


def test_the_network_may_be_missing_at_the_start_and_later() -> None:
    """It is tried again and again, said once; it never counts as failed, so the guard goes on alone."""
    there = Kept()
    tries: list[int] = []
    said: list[str] = []

    def connect() -> Kept:
        tries.append(1)
        if len(tries) < 4:
            raise OSError(111, "Connection refused")
        return there

    outlet = Outlet("mqtt://broker", connect, network=True, say=said.append)
    outlets = Outlets([outlet])
    outlets.reopen()  # there is nothing that could be
    outlets.report(report(0))
    assert outlet.failed is None and "refused" in outlet.health().detail
    until(lambda: outlet.health().healthy)
    outlets.report(report(1))
    outlets.close()
    assert there.told == [1] and outlet.health().dropped == 1
    assert said[0] == "output mqtt://broker failed: ConnectionRefusedError: [Errno 111] Connection refused"
    assert said[1:] == [
        "output mqtt://broker works again; it missed 1 reports",
        "output mqtt://broker missed 1 of 2 reports",
    ]


def test_a_file_that_is_missing_at_the_start_is_refused() -> None:
    """A mistake of the user: before anything is opened."""

    def refuse() -> Kept:
        raise FirewallError("no such folder")

    with pytest.raises(FirewallError, match="no such folder"):
        Outlet("file", refuse)


def test_the_guard_ends_when_the_last_output_has_failed() -> None:
    """One of two may fail; when none is left the loop gets an error, once, with the first one's reason."""
    one = Outlet("one", lambda: Kept(failing(FirewallError("one is full"), (1,))), again=False)
    two = Outlet("two", lambda: Kept(failing(FirewallError("two is full"), (3,))), again=False)
    outlets = Outlets([one, two])
    for number in range(4):
        outlets.report(report(number))
        until(lambda: all(each.waiting == 0 for each in outlets.health()))
    until(lambda: two.failed)
    with pytest.raises(FirewallError, match="one is full"):
        outlets.report(report(4))
    outlets.close()
    assert [each.failures for each in outlets.health()] == [1, 1]


def test_an_output_that_has_failed_is_told_at_the_end() -> None:
    """The guard went on with the other, and its exit code says that something was not written."""
    weak = Outlet("weak", lambda: Kept(failing(FirewallError("full"), (0,))), again=False)
    outlets = Outlets([weak, Outlet("other", Kept)])
    outlets.report(report(0))
    until(lambda: weak.failed)
    with pytest.raises(FirewallError, match="full"):
        outlets.close()


def test_a_disk_that_says_at_the_end_that_it_is_full_is_an_error() -> None:
    """What can't be closed was not written."""

    class Full(Kept):
        def close(self) -> None:
            raise FirewallError("full at the end")

    with pytest.raises(FirewallError, match="full at the end"):
        Outlets([Outlet("full", Full)]).close()


def test_without_outputs_there_is_nothing_to_fail() -> None:
    """`--output off`."""
    outlets = Outlets([])
    outlets.report(report(0))
    outlets.reopen()
    outlets.close()
    assert outlets.health() == []


@pytest.mark.parametrize("reports", [1, 5])
def test_the_end_waits_for_nobody_who_takes_nothing(gate: threading.Event, reports: int) -> None:
    """A reader that hangs: the guard ends in time; what lay in the queue is an error, and counted."""
    blocked = Kept(lambda _: gate.wait(60) and None)
    outlets = Outlets([Outlet("pipe", lambda: blocked)])
    for number in range(reports):
        outlets.report(report(number))
    until(lambda: outlets.health()[0].waiting == reports - 1)
    if reports == 1:
        outlets.close()
    else:
        with pytest.raises(FirewallError, match="4 reports were not taken when the guard ended"):
            outlets.close()
        assert outlets.health()[0].dropped == 4
    assert blocked.abandoned == 1


def test_the_end_does_not_wait_for_a_broker_that_hangs(gate: threading.Event) -> None:
    """The thread is just connecting: there is no output yet to abandon."""
    tries: list[int] = []

    def connect() -> Kept:
        tries.append(1)
        if len(tries) > 1:
            gate.wait(60)
        raise OSError(110, "timed out")

    outlet = Outlet("mqtt://broker", connect, network=True)
    until(lambda: len(tries) == 2)
    Outlets([outlet]).close()
    assert not outlet.health().healthy


def test_ticks_come_while_there_is_nothing_and_a_signal_reopens() -> None:
    """Also where a tick fails: it stops this output alone."""
    kept = Kept()
    outlet = Outlet("file", lambda: kept)
    until(lambda: kept.ticks > 2)
    Outlets([outlet]).reopen()
    until(lambda: kept.reopened == 1)

    class Tired(Kept):
        def tick(self) -> None:
            raise FirewallError("can't reopen")

    tired = Outlet("tired", Tired, again=False)
    until(lambda: tired.failed == "can't reopen")
    for each in (outlet, tired):
        each.close()
    assert kept.reopened == 1 and tired.health().dropped == 0


def test_lines_are_on_disk_without_waiting_for_the_end(tmp_path: Path) -> None:
    """A real file behind a real queue: who reads while the guard runs sees the newest verdict."""
    path = tmp_path / "v.jsonl"
    outlet = Outlet("jsonl", lambda: JsonLines.append(path))
    outlet.report(report(3))
    until(lambda: path.read_text().count("\n") == 2)
    outlet.close()
