"""The live page in a real browser."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from firewall.decision.drift import DriftState
from firewall.server import HttpServer, Monitor, create_app
from firewall.verdict import Reason, Verdict
from tests.browser import PATIENCE
from tests.clock import Clock
from tests.server.reports import SOURCE, Reports

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

expect = pytest.importorskip("playwright.sync_api").expect
pytestmark = pytest.mark.browser


def test_a_released_and_a_withheld_sign_appear_live(
    page: Page, server: HttpServer, monitor: Monitor, reports: Reports, complaints: list[str]
) -> None:
    """Each shows up in its list and as a box over the very frame, with words and not by colour alone."""
    page.goto(server.url)
    expect(page.locator("#status-word")).to_have_text("Starting")
    expect(page.locator("#released-none")).to_be_visible()

    monitor.report(reports.frame(lambda: reports.released(14, "Stop"), colour=(20, 60, 220), dropped=3, restarts=1))
    row = page.locator('#released li[data-decision="release"][data-label="Stop"]')
    expect(row).to_contain_text("Stop")
    expect(row).to_contain_text("8.0 ms")
    box = page.locator('.box[data-decision="release"][data-label="Stop"]')
    expect(box).to_have_text("✓ Stop")
    expect(page.locator("#status-word")).to_have_text("Guarding")
    expect(page.locator("#withheld li")).to_have_count(0)

    # The box lies where the verdict's region (20, 30, 40, 24) of 160 x 120 pixels lies in the picture.
    picture, drawn = page.locator("#picture").bounding_box(), box.bounding_box()
    assert picture is not None
    assert drawn is not None
    scale = picture["width"] / 160
    assert drawn["x"] - picture["x"] == pytest.approx(20 * scale, abs=1)
    assert drawn["y"] - picture["y"] == pytest.approx(30 * scale, abs=1)
    assert drawn["width"] == pytest.approx(40 * scale, abs=1)
    assert drawn["height"] == pytest.approx(24 * scale, abs=1)
    colour = page.evaluate("[...document.getElementById('picture').getContext('2d').getImageData(80, 60, 1, 1).data]")
    assert colour == pytest.approx([20, 60, 220, 255], abs=8)

    monitor.report(reports.frame(reports.withheld, dropped=3, restarts=1))
    row = page.locator('#withheld li[data-decision="withhold"][data-reason="suspicious"]')
    expect(row).to_contain_text("suspicious")
    expect(row).to_contain_text("adversarial")
    expect(page.locator('.box[data-decision="withhold"]')).to_have_text("✕ suspicious")
    expect(page.locator('.box[data-decision="release"]')).to_have_count(0)
    assert row.get_attribute("data-label") is None

    for name, count in (("frames", "2"), ("released", "1"), ("withheld", "1"), ("dropped", "3"), ("restarts", "1")):
        expect(page.locator(f"#count-{name}")).to_have_text(count)
    expect(page.locator("#reasons")).to_have_text("suspicious 1")
    expect(page.locator("#latency-p99")).to_have_text("8.0 ms")
    expect(page.locator("#deadline")).to_have_text("33 ms")
    expect(page.locator("#banner")).to_be_hidden()
    assert complaints == []


def test_the_part_that_is_looked_at_is_drawn(
    page: Page, server: HttpServer, monitor: Monitor, reports: Reports, complaints: list[str]
) -> None:
    """A line over the very picture, where the part lies in it; none where whole frames are looked at."""
    page.goto(server.url)
    monitor.report(replace(reports.frame(), looked_at=(0, 30, 120, 60)))
    line = page.locator(".looked-at")
    expect(line).to_have_count(1)
    picture, drawn = page.locator("#picture").bounding_box(), line.bounding_box()
    assert picture is not None
    assert drawn is not None
    scale = picture["width"] / 160
    assert drawn["x"] - picture["x"] == pytest.approx(0, abs=1)
    assert drawn["y"] - picture["y"] == pytest.approx(30 * scale, abs=1)
    assert drawn["width"] == pytest.approx(120 * scale, abs=1)
    assert drawn["height"] == pytest.approx(60 * scale, abs=1)
    monitor.report(reports.frame())
    expect(line).to_have_count(0)
    assert complaints == []


def test_equal_verdicts_stay_one_row(page: Page, server: HttpServer, monitor: Monitor, reports: Reports) -> None:
    """A sign that stays in view counts up instead of filling the list."""
    page.goto(server.url)
    for _ in range(12):
        monitor.report(reports.frame())
    expect(page.locator("#released li")).to_have_text(re.compile("12 times"))
    expect(page.locator("#released li")).to_have_count(1)


def test_drift_is_told_beside_the_bundle(page: Page, server: HttpServer, monitor: Monitor, reports: Reports) -> None:
    """Nothing where the bundle has no reference; then a word for people, and another once traffic differs."""
    page.goto(server.url)
    monitor.report(reports.frame())
    expect(page.locator("#status-word")).to_have_text("Guarding")
    expect(page.locator("#drift-entry")).to_be_hidden()
    monitor.set_drift(DriftState(values=4))
    expect(page.locator("#drift")).to_have_text("as calibrated")
    monitor.set_drift(DriftState(spoken=True, since=5, property="suspicion", values=5))
    expect(page.locator("#drift")).to_have_text("▲ differs from calibration")
    expect(page.locator("#status-word")).to_have_text("Guarding")


def test_an_unsigned_bundle_is_told(page: Page, server: HttpServer, monitor: Monitor, reports: Reports) -> None:
    """Beside its name, and only if nobody vouches for it."""
    page.goto(server.url)
    monitor.report(reports.frame())
    monitor.set_bundle("mine")
    expect(page.locator("#bundle")).to_have_text("mine")
    monitor.set_bundle("mine", unsigned=True)
    expect(page.locator("#bundle")).to_have_text("mine (unsigned)")


def test_a_lost_source_is_told_and_its_old_picture_shows_no_boxes(
    page: Page, server: HttpServer, monitor: Monitor, reports: Reports, complaints: list[str]
) -> None:
    """The banner says why, nothing green stays on the picture, and a new frame ends it."""
    monitor.report(reports.frame())
    page.goto(server.url)
    expect(page.locator(".box")).to_have_count(1)
    monitor.report(reports.failure("the camera is gone"))
    banner = page.locator('#banner[data-kind="source"]')
    expect(banner).to_be_visible()
    expect(banner).to_contain_text("The source is lost. the camera is gone.")
    expect(page.locator("#stage-note")).to_contain_text("This picture is old.")
    expect(page.locator(".box")).to_have_count(0)
    monitor.report(reports.frame())
    expect(banner).to_be_hidden()
    expect(page.locator('.box[data-decision="release"]')).to_have_count(1)
    assert complaints == []


@pytest.mark.parametrize(
    ("reason", "kind", "word", "title"),
    [
        (Reason.CAMERA_FAULT, "camera", "Camera fault", "The camera has a fault."),
        (Reason.STALE, "stale", "Old picture", "The camera shows an old picture."),
    ],
)
def test_a_camera_fault_is_told_by_its_name_as_long_as_it_lasts(
    page: Page, reports: Reports, complaints: list[str], clock: Clock, reason: Reason, kind: str, word: str, title: str
) -> None:
    """Not "source lost", also long after the last good frame: the camera is there. No box stays. Only when it gives
    nothing any more it is lost, and a good frame ends it."""
    monitor = Monitor(source=SOURCE, bundle="hand-made", live=True, stale_after=3.0, hung_after=1e9, clock=clock)
    monitor.set_ready(True)
    with HttpServer(create_app(monitor), "127.0.0.1", 0) as server:
        monitor.report(reports.frame(captured_at=clock.now))
        page.goto(server.url)
        expect(page.locator(".box")).to_have_count(1)
        for _ in range(10):
            clock.now += 1.0
            monitor.report(reports.failure("frozen: camera 0: it repeats one picture", reason=reason))
        banner = page.locator(f'#banner[data-kind="{kind}"]')
        expect(banner).to_contain_text(f"{title} frozen: camera 0: it repeats one picture.")
        expect(page.locator("#status-word")).to_have_text(word)
        expect(page.locator("#stage-note")).to_contain_text("This picture is old.")
        expect(page.locator(".box")).to_have_count(0)
        clock.now += 10.0
        expect(page.locator("#status-word")).to_have_text("Source lost")
        monitor.report(reports.frame(captured_at=clock.now))
        expect(page.locator("#banner")).to_be_hidden()
        expect(page.locator("#status-word")).to_have_text("Guarding")
    # The server is gone then: what the browser says of that is no complaint about the page.
    assert [line for line in complaints if "ERR_" not in line] == []


def test_an_overloaded_guard_says_so_and_its_picture_goes_on(page: Page, reports: Reports, clock: Clock) -> None:
    """Named with how many were late; the picture is no old one, since what is in time is still released."""
    monitor = Monitor(source=SOURCE, bundle="hand-made", live=True, overload=(2, 2), hung_after=1e9, clock=clock)
    monitor.set_ready(True)
    with HttpServer(create_app(monitor), "127.0.0.1", 0) as server:
        for _ in range(2):
            monitor.report(reports.frame(lambda: reports.withheld(Reason.LATE), captured_at=clock.now))
        page.goto(server.url)
        banner = page.locator('#banner[data-kind="overloaded"]')
        expect(banner).to_contain_text("The firewall is overloaded. 2 of 2 frames were judged too late.")
        expect(page.locator("#status-word")).to_have_text("Overloaded")
        expect(page.locator(".box")).to_have_count(1)
        monitor.report(reports.frame(captured_at=clock.now))
        expect(page.locator("#banner")).to_be_hidden()
        expect(page.locator("#status-word")).to_have_text("Guarding")


def test_a_lost_connection_is_told_and_found_again(
    page: Page, server: HttpServer, monitor: Monitor, reports: Reports
) -> None:
    """The firewall goes away: banner, old picture. It comes back at the same address: all is well without a reload."""
    monitor.report(reports.frame())
    page.goto(server.url)
    expect(page.locator(".box")).to_have_count(1)
    server.stop()
    banner = page.locator('#banner[data-kind="connection"]')
    expect(banner).to_be_visible()
    expect(banner).to_contain_text("The connection to the firewall is lost.")
    expect(page.locator("#status-word")).to_have_text("Not connected")
    expect(page.locator(".box")).to_have_count(0)
    with HttpServer(create_app(monitor), "127.0.0.1", urlsplit(server.url).port or 0):
        expect(banner).to_be_hidden()
        expect(page.locator('#released li[data-label="Stop"]')).to_have_count(1)
        expect(page.locator(".box")).to_have_count(1)


def test_names_are_text_and_never_markup(
    page: Page, server: HttpServer, monitor: Monitor, reports: Reports, complaints: list[str]
) -> None:
    """A bundle with hostile label names, or a hostile source, can't put anything into the page."""
    name = "<img src=x onerror=\"document.title='taken'\">"
    monitor.report(reports.frame(lambda: reports.released(1, name), lambda: reports.withheld(Reason.LATE, detail=name)))
    page.goto(server.url)
    expect(page.locator("#released li .what")).to_have_text(name)
    expect(page.locator("#withheld li .why")).to_have_text(name)
    expect(page.locator(".box .tag")).to_have_text([f"✓ {name}", "✕ late"])
    assert page.title() == "Perception firewall"
    assert page.locator("main img").count() == 0
    assert complaints == []


@contextmanager
def pouring(monitor: Monitor, reports: Reports) -> Iterator[None]:
    """Frames of many signs, as fast as the monitor takes them up to 100 a second."""
    done = threading.Event()

    def released(region: tuple[int, int, int, int]) -> Verdict:
        number = reports.sequence % 70
        return reports.released(number, f"A sign with quite a long name, number {number}", region=region)

    def pour() -> None:
        while not done.wait(0.01):
            monitor.report(
                reports.frame(
                    lambda: released((0, 0, 160, 120)), lambda: released((150, 110, 10, 10)), reports.withheld
                )
            )

    thread = threading.Thread(target=pour)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(30)


@pytest.mark.parametrize(("width", "scheme"), [(360, "light"), (360, "dark"), (1280, "dark")])
def test_it_fits_a_phone_and_the_dark(
    browser: Browser, server: HttpServer, monitor: Monitor, reports: Reports, width: int, scheme: str
) -> None:
    """Under a flood of long names nothing sticks out sideways, lists stay bounded, and dark is dark."""
    context = browser.new_context(viewport={"width": width, "height": 700}, color_scheme=scheme)  # type: ignore[arg-type]
    try:
        page = context.new_page()
        with pouring(monitor, reports):
            page.goto(server.url)
            expect(page.locator("#released li")).to_have_count(50, timeout=PATIENCE)
            expect(page.locator(".box")).to_have_count(3, timeout=PATIENCE)
            assert page.evaluate("document.documentElement.scrollWidth") <= width
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        brightness = sum(int(part) for part in re.findall(r"\d+", ground)[:3]) / 3
        assert (brightness < 60) == (scheme == "dark")
    finally:
        context.close()
