"""The table of states, what each change tells, and what a scraper sees of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from firewall.server import Change, Monitor, State, Watched
from firewall.server.states import ALLOWED, Course
from firewall.verdict import BundleStamp, Reason, Stamps
from tests.clock import Clock
from tests.server.reports import SOURCE, Reports


def test_the_table_names_every_state_and_ends_with_the_guard() -> None:
    """Each state has a row, none leads to itself, `starting` is left for good once frames have come, every state of a
    guard that runs can be left for `not ready` and for `stopped`, and nothing follows the end."""
    assert set(ALLOWED) == set(State) and all(state not in following for state, following in ALLOWED.items())
    assert [state for state in State if State.STARTING in ALLOWED[state]] == [State.NOT_READY]
    assert ALLOWED[State.STOPPED] == set() and ALLOWED[State.ENDED] == {State.STOPPED}
    running = set(State) - {State.ENDED, State.STOPPED}
    assert all({State.NOT_READY, State.STOPPED, State.ENDED} - {state} <= ALLOWED[state] for state in running)


@pytest.mark.parametrize("before", list(State))
@pytest.mark.parametrize("after", list(State))
def test_no_other_way_is_taken(before: State, after: State) -> None:
    """Each pair of states: what the table has is done and told once; from what is over nothing leads back; all else
    makes the camera not ready, and says which way was missing."""
    course = Course("front")
    course.state = before
    change = course.to(after, "why")
    if after is before:
        assert change is None and course.detail == "why"
    elif after in ALLOWED[before]:
        assert change == Change("front", before, after, "why") and course.state is after
        assert change.line() == f"state {before.value} -> {after.value}: why" and course.to(after, "why") is None
    elif before in (State.ENDED, State.STOPPED):
        assert change is None and course.state is before
    else:
        assert course.state is State.NOT_READY and change is not None
        assert change.cause.startswith(f"no way leads from {before.value} to {after.value}")


def _walk(monitor: Monitor, clock: Clock, reports: Reports) -> None:
    """All that may happen to a live camera, with a moment in between."""
    steps: list[Callable[[], None]] = [
        lambda: monitor.set_ready(True, "guarding"),
        lambda: monitor.report(reports.frame(captured_at=clock.now)),
        lambda: monitor.report(reports.failure("frozen", reason=Reason.CAMERA_FAULT)),
        lambda: monitor.report(reports.failure("an old picture", reason=Reason.STALE)),
        lambda: monitor.report(reports.failure("unplugged")),
        lambda: monitor.report(reports.frame(captured_at=clock.now)),
        lambda: monitor.set_ready(False, "self-test failed: golden-00.png"),
        lambda: monitor.set_ready(True, "guarding"),
        lambda: setattr(clock, "now", clock.now + 60) or monitor.beat(),  # type: ignore[func-returns-value]
        lambda: monitor.close("it was told to"),
    ]
    for step in steps:
        clock.now += 0.01
        step()


def test_each_change_is_told_with_its_cause(clock: Clock, reports: Reports) -> None:
    """In order, once each, whether a report, a word of the service, time alone or the end brings it about."""
    told: list[Change] = []
    monitor = Monitor(source=SOURCE, bundle="b", live=True, told=told.append, clock=clock)
    _walk(monitor, clock, reports)
    assert [(change.before.value, change.state.value, change.cause) for change in told] == [
        ("starting", "guarding", "frames are judged"),
        ("guarding", "camera fault", "frozen"),
        ("camera fault", "stale", "an old picture"),
        ("stale", "source lost", "unplugged"),
        ("source lost", "guarding", "frames are judged"),
        ("guarding", "not ready", "self-test failed: golden-00.png"),
        ("not ready", "guarding", "frames are judged"),
        ("guarding", "source lost", "no frame for more than 3 s"),
        ("source lost", "stopped", "the firewall has stopped (it was told to); nothing is released"),
    ]
    monitor.close()
    assert monitor.status()[1].startswith("the firewall has stopped (it was told to)") and len(told) == 9


def test_whoever_asks_is_told_the_state_of_now(clock: Clock, reports: Reports) -> None:
    """A loop that hangs neither beats nor reports: health, page and metrics still see that no frame comes."""
    for ask in (Monitor.status, Monitor.state, Monitor.exposition):
        told: list[Change] = []
        monitor = Monitor(source=SOURCE, bundle="b", live=True, told=told.append, clock=clock)
        monitor.set_ready(True)
        monitor.report(reports.frame(captured_at=clock.now))
        clock.now += 4
        ask(monitor)
        assert [change.state for change in told] == [State.GUARDING, State.LOST]


def _states(monitor: Monitor) -> dict[tuple[str | None, str], float]:
    return {
        (sample.labels.get("camera"), sample.labels["state"]): sample.value
        for family in text_string_to_metric_families(monitor.exposition().decode())
        for sample in family.samples
        if sample.name == "firewall_state"
    }


def test_metrics_have_one_state_of_each_camera(clock: Clock, reports: Reports) -> None:
    """Every state has a series from the start, exactly one of them is 1; of several cameras each has its own."""
    monitor = Monitor(source=SOURCE, bundle="b", live=True, clock=clock)
    assert _states(monitor) == {(None, state.value): float(state is State.STARTING) for state in State}
    monitor.set_ready(True)
    monitor.report(reports.failure("unplugged"))
    assert _states(monitor) == {(None, state.value): float(state is State.LOST) for state in State}
    two = Monitor(bundle="b", cameras=[Watched("front", "a", True), Watched("rear", "b", True)], clock=clock)
    two.set_ready(True)
    stamps = Stamps(BundleStamp("b", 1, "0" * 12), "rear")
    report = reports.frame(captured_at=clock.now)
    two.report(replace(report, verdicts=stamps.on(report.verdicts, captured_at=clock.now)))
    found = _states(two)
    assert len(found) == 2 * len(State) and sum(found.values()) == 2
    assert found["front", "starting"] == found["rear", "guarding"] == 1
