"""What shows no sign is rarely released, and is said to be none: in the verdict, in the metrics and on the page."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from benchmarks.non_signs import KINDS, measure, pictures
from firewall import Firewall
from firewall.frame import Frame
from firewall.server import HttpServer, Monitor, create_app
from firewall.sinks import FrameReport
from firewall.verdict import Reason, Verdict

if TYPE_CHECKING:
    from playwright.sync_api import Page

#: Pictures of each kind.
COUNT = 24


@pytest.fixture(scope="module")
def guard() -> Firewall:
    """The default bundle."""
    return Firewall.load("default", threads=1)


@pytest.fixture(scope="module")
def found(guard: Firewall) -> dict[str, Any]:
    """What the firewall makes of some pictures of each kind."""
    return measure(guard, {kind: pictures(kind, COUNT) for kind in KINDS})


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_sign_is_rarely_released(found: dict[str, Any], kind: str) -> None:
    """At most a quarter of any kind; benchmarks/results/default/non_signs.json has the rates of many more pictures."""
    entry = found[kind]
    assert entry["released"]["n"] == COUNT
    assert entry["released"]["rate"] <= 1 / 4
    withheld = sum(entry["withheld_because"].values())
    assert withheld + round(entry["released"]["rate"] * COUNT) == COUNT


def test_all_kinds_together(found: dict[str, Any]) -> None:
    """At most a tenth of all is released; and at least a tenth of what is withheld is said to be no sign."""
    said = sum(entry["withheld_because"].get("not a sign", 0) for entry in found.values())
    withheld = sum(sum(entry["withheld_because"].values()) for entry in found.values())
    assert np.mean([entry["released"]["rate"] for entry in found.values()]) <= 1 / 10
    assert said >= withheld / 10


def test_pictures_are_the_same_each_time() -> None:
    """A kind's pictures depend on its name and the seed alone."""
    for kind in KINDS:
        first, again, other = pictures(kind, 3), pictures(kind, 3), pictures(kind, 3, seed=5)
        assert all(np.array_equal(one, two) for one, two in zip(first, again, strict=True))
        assert any(
            one.shape != two.shape or not np.array_equal(one, two) for one, two in zip(first, other, strict=True)
        )


@pytest.fixture(scope="module")
def said(guard: Firewall) -> FrameReport:
    """A real report with the reason: the first drawn picture that gets it, and its frame."""
    for kind in KINDS:
        for picture in pictures(kind, COUNT, seed=1):
            frame = Frame(picture, "test://drawn", 0, time.monotonic())
            verdicts = guard.screen_frame(frame)
            if verdicts[0].reason is Reason.NOT_A_SIGN:
                return FrameReport(frame, verdicts)
    raise AssertionError("nothing is said to be no sign")


@pytest.fixture
def server(said: FrameReport) -> Iterator[HttpServer]:
    """A server whose monitor has got the report."""
    monitor = Monitor(source="test://drawn", bundle="default", live=False, deadline_ms=None, stale_after=60.0)
    monitor.set_ready(True, "guarding")
    with HttpServer(create_app(monitor), "127.0.0.1", 0) as running:
        monitor.report(said)
        yield running


def test_the_verdict_says_so(said: FrameReport) -> None:
    """Withheld, no label, the reason in words; the suspicion that withheld it is above 0."""
    verdict: Verdict = said.verdicts[0]
    line = json.loads(json.dumps(verdict.line()))
    assert line["decision"] == "withhold" and line["label"] is None and line["label_name"] is None
    assert line["reason"] == "not a sign"
    assert verdict.suspicion is not None and verdict.suspicion > 0


def test_the_metrics_say_so(server: HttpServer) -> None:
    """A series of its own, counted once."""
    with urllib.request.urlopen(f"{server.url.rstrip('/')}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    assert 'firewall_frames_total{decision="withhold",reason="not a sign"} 1.0' in text
    assert 'firewall_frames_total{decision="withhold",reason="suspicious"} 0.0' in text


@pytest.mark.browser
def test_the_page_says_so(page: Page, server: HttpServer, complaints: list[str]) -> None:
    """In words, and nobody is told that a drawing behaves like an adversarial example."""
    expect = pytest.importorskip("playwright.sync_api").expect
    page.goto(server.url)
    row = page.locator('#withheld li[data-decision="withhold"][data-reason="not a sign"]')
    expect(row).to_contain_text("no sign")
    expect(row).not_to_contain_text("adversarial")
    expect(page.locator("#reasons")).to_have_text("not a sign 1")
    assert complaints == []
