"""Equal verdicts become one line, and no line tells of evidence."""

from __future__ import annotations

import math

import pytest

from firewall.server.sightings import LONGEST_GAP, Sightings, public_line
from firewall.verdict import Reason
from tests.server.reports import Reports


def test_equal_verdicts_count_up_one_sighting(reports: Reports) -> None:
    """Two signs that alternate for three frames are two sightings of three, the later begun first in the list."""
    sightings = Sightings()
    for step in range(3):
        reports.sequence = step
        sightings.add(reports.released(14, "Stop"), 2 * step + 1, 0.1 * step, 1000.0)
        sightings.add(reports.released(17, "No entry"), 2 * step + 2, 0.1 * step, 1000.0)
    told = sightings.since(0)
    assert [(s["label_name"], s["count"], s["first_sequence"], s["sequence"]) for s in told] == [
        ("No entry", 3, 0, 2),
        ("Stop", 3, 0, 2),
    ]


def test_a_pause_starts_another_sighting(reports: Reports) -> None:
    """The same label after more than the longest gap is news."""
    sightings = Sightings()
    for now in (0.0, LONGEST_GAP, 2 * LONGEST_GAP + 0.01):
        sightings.add(reports.released(), 1, now, 1000.0)
    assert [s["count"] for s in sightings.since(0)] == [1, 2]


def test_only_what_changed_is_told_again(reports: Reports) -> None:
    """A reader that has seen change 1 gets what came with change 2, no more."""
    sightings = Sightings()
    sightings.add(reports.released(14, "Stop"), 1, 0.0, 1000.0)
    sightings.add(reports.released(17, "No entry"), 2, 0.0, 1000.0)
    assert [s["label_name"] for s in sightings.since(1)] == ["No entry"]
    assert sightings.since(2) == []


def test_the_list_is_bounded(reports: Reports) -> None:
    """The oldest sightings go, and numbers still rise."""
    sightings = Sightings(limit=3)
    for label in range(5):
        sightings.add(reports.released(label, None), label, 0.0, 1000.0)
    told = sightings.since(-1)
    assert [(s["label"], s["number"]) for s in told] == [(4, 5), (3, 4), (2, 3)]


@pytest.mark.parametrize("reason", list(Reason))
def test_a_detail_is_told_only_if_no_detector_wrote_it(reports: Reports, reason: Reason) -> None:
    """The reason is the bare enum value; details of camera, clock, file, size and self-test are told, others stay."""
    line = public_line(reports.withheld(reason, detail="3 of 16 agree"))
    own = (Reason.LATE, Reason.BAD_IMAGE, Reason.UNFIT, Reason.SOURCE_ERROR, Reason.STALE, Reason.CAMERA_FAULT)
    told = reason in (*own, Reason.SELF_TEST)
    assert (line["reason"], line["detail"]) == (reason.value, "3 of 16 agree" if told else "")


@pytest.mark.parametrize("latency", [math.nan, math.inf])
def test_a_latency_that_is_no_number_is_null(reports: Reports, latency: float) -> None:
    """JSON has no NaN."""
    assert public_line(reports.withheld(latency_ms=latency))["latency_ms"] is None


def test_a_withheld_label_is_not_told(reports: Reports) -> None:
    """A verdict that wrongly carries a label keeps it to itself."""
    line = public_line(reports.withheld(label=14, label_name="Stop"))
    assert line["label"] is None
    assert line["label_name"] is None
