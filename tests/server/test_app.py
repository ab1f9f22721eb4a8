"""Every endpoint, over a real connection."""

from __future__ import annotations

import http.client
import io
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import pytest
from PIL import Image
from starlette.routing import Route

from firewall.decision.drift import DriftState
from firewall.server import HttpServer, Monitor, create_app
from firewall.verdict import Reason
from tests.server.reports import Reports

PATHS = [
    route.path for route in create_app(Monitor(source="", bundle="", live=False)).routes if isinstance(route, Route)
]


@pytest.fixture(scope="module")
def standing() -> Iterator[HttpServer]:
    """One server for the tests that change nothing; it has one frame."""
    monitor = Monitor(source="test://", bundle="standing", live=False)
    monitor.set_ready(True)
    monitor.report(Reports().frame())
    with HttpServer(create_app(monitor), "127.0.0.1", 0) as server:
        yield server


@contextmanager
def asking(
    server: HttpServer, path: str, *, method: str = "GET", host: str | None = None
) -> Iterator[http.client.HTTPResponse]:
    """One request on a connection of its own."""
    address = urlsplit(server.url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=30)
    try:
        connection.request(method, path, headers={} if host is None else {"Host": host})
        yield connection.getresponse()
    finally:
        connection.close()


def fetch(server: HttpServer, path: str, **how: Any) -> tuple[int, bytes]:
    """(status, body) of an answer that ends."""
    with asking(server, path, **how) as answer:
        return answer.status, answer.read()


def events(answer: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
    """The states of an event stream."""
    for line in answer:
        if line.startswith(b"data: "):
            yield json.loads(line[len(b"data: ") :])


def test_the_page_and_its_parts_are_served(standing: HttpServer) -> None:
    """HTML, style, script and icon with their types; the page loads nothing from elsewhere and holds no script."""
    for path, kind in (("/", "text/html"), ("/page.css", "text/css"), ("/page.js", "text/javascript")):
        with asking(standing, path) as answer:
            text = answer.read().decode()
            assert answer.status == 200
            assert answer.headers["Content-Type"].startswith(kind)
        assert "http://" not in text
        assert "https://" not in text
        assert "style=" not in text
    with asking(standing, "/icon.svg") as answer:
        assert answer.headers["Content-Type"] == "image/svg+xml"
    assert (
        fetch(standing, "/")[1].count(b"<script ")
        == fetch(standing, "/")[1].count(b'<script src="page.js" defer></script>')
        == 1
    )


def test_health(server: HttpServer, monitor: Monitor, reports: Reports) -> None:
    """200 and true, or 503 and false; ready only with a frame, neither after the end. Drift is a detail of it."""
    assert fetch(server, "/v2/health/live") == (200, b'{"live":true}')
    status, body = fetch(server, "/v2/health/ready")
    assert (status, json.loads(body)["ready"]) == (503, False)
    monitor.report(reports.frame())
    status, body = fetch(server, "/v2/health/ready")
    assert (status, json.loads(body)["ready"]) == (200, True)
    assert not {"drift", "unsigned", "share_looked_at"} & set(json.loads(body))
    monitor.report(replace(reports.frame(), looked_at=(0, 32, 160, 64)))
    assert json.loads(fetch(server, "/v2/health/ready")[1])["share_looked_at"] == pytest.approx(64 / 120, abs=1e-4)
    monitor.set_bundle("b", unsigned=True)
    assert json.loads(fetch(server, "/v2/health/ready")[1])["unsigned"] is True
    monitor.set_networks({"classifier.onnx": "TensorRT 11.4 fp16", "finder.onnx": "CPUExecutionProvider"})
    assert json.loads(fetch(server, "/v2/health/ready")[1])["networks"] == {
        "classifier.onnx": "TensorRT 11.4 fp16",
        "finder.onnx": "CPUExecutionProvider",
    }
    assert monitor.state()["unsigned"] is True
    monitor.set_drift(DriftState(spoken=True, since=3, property="label", values=9))
    status, body = fetch(server, "/v2/health/ready")
    assert (status, json.loads(body)["drift"]["spoken"]) == (200, True)
    assert json.loads(body)["drift"]["detail"].startswith("since sign 3 the label differs")
    monitor.close()
    assert fetch(server, "/v2/health/live") == (503, b'{"live":false}')
    assert fetch(server, "/v2/health/ready")[0] == 503


def test_the_newest_frame_as_jpeg(server: HttpServer, monitor: Monitor, reports: Reports) -> None:
    """404 before the first, then the newest, or the asked one while it is kept; never stored by a cache."""
    assert fetch(server, "/frame.jpg")[0] == 404
    monitor.report(reports.frame(size=(64, 48)))
    with asking(server, "/frame.jpg?sequence=0") as answer:
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "image/jpeg"
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Sequence"] == "0"
        with Image.open(io.BytesIO(answer.read())) as image:
            assert image.size == (64, 48)
    monitor.report(reports.frame())
    for path in ("/frame.jpg", "/frame.jpg?sequence=999999999999999999"):
        with asking(server, path) as answer:
            assert answer.headers["X-Sequence"] == "1"


@pytest.mark.parametrize("sequence", ["", "-1", "1.5", "abc", "%D9%A1", "9" * 5000, "../../etc/passwd"])
def test_a_sequence_that_is_none_is_refused(standing: HttpServer, sequence: str) -> None:
    """400, not a failure inside."""
    assert fetch(standing, f"/frame.jpg?sequence={sequence}")[0] == 400


def test_metrics_are_in_the_format_of_prometheus(server: HttpServer, monitor: Monitor, reports: Reports) -> None:
    """Text format, with the verdicts counted."""
    monitor.report(reports.frame(reports.released, reports.withheld))
    with asking(server, "/metrics") as answer:
        text = answer.read().decode()
        assert answer.headers["Content-Type"].startswith("text/plain; version=")
    assert 'firewall_frames_total{decision="release",reason="benign"} 1.0' in text
    assert 'firewall_frames_total{decision="withhold",reason="suspicious"} 1.0' in text
    assert 'firewall_frames_total{decision="withhold",reason="late"} 0.0' in text


def test_events_tell_what_happens(server: HttpServer, monitor: Monitor, reports: Reports) -> None:
    """The first state is full, the following hold what is new, and a silent stream still tells time."""
    monitor.report(reports.frame())
    with asking(server, "/events") as answer:
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        assert answer.headers["Cache-Control"] == "no-store"
        stream = events(answer)
        first = next(stream)
        assert first["full"]
        assert first["status"] == "guarding"
        assert [s["label_name"] for s in first["released"]] == ["Stop"]
        assert first["frame"]["verdicts"][0]["region"] == [20, 30, 40, 24]
        monitor.report(reports.frame(lambda: reports.withheld(Reason.LATE, detail="41 ms after capture")))
        second = next(state for state in stream if state["change"] > first["change"])
        assert not second["full"]
        assert second["released"] == []
        assert [(s["reason"], s["detail"]) for s in second["withheld"]] == [("late", "41 ms after capture")]
        third = next(stream)
        assert third["change"] == second["change"]
        assert third["withheld"] == []


def test_streams_are_bounded_and_given_back(server: HttpServer) -> None:
    """Sixteen readers at once, the next is told to wait; a reader that leaves makes room."""
    open_streams = []
    address = urlsplit(server.url)
    for _ in range(16):
        client = socket.create_connection((address.hostname or "", address.port or 0), timeout=30)
        client.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        received = b""
        while b"data: " not in received:
            received += client.recv(4096)
        open_streams.append(client)
    assert fetch(server, "/events")[0] == 503
    assert fetch(server, "/v2/health/live")[0] == 200
    for client in open_streams:
        client.close()
    for _ in range(600):  # until the server has seen them go
        with asking(server, "/events") as answer:
            if answer.status == 200:
                return
    pytest.fail("no stream was given back")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_nothing_can_be_changed(standing: HttpServer, path: str, method: str) -> None:
    """Only GET and HEAD are answered."""
    assert fetch(standing, path, method=method)[0] == 405


@pytest.mark.parametrize("path", [*PATHS, "/nothing-here"])
def test_head_ends_without_a_body(standing: HttpServer, path: str) -> None:
    """Also for the endless stream."""
    status, body = fetch(standing, path, method="HEAD")
    assert (status, body) == (404 if path == "/nothing-here" else 200, b"")


@pytest.mark.parametrize("path", [*PATHS, "/nothing-here", "/frame.jpg?sequence=x"])
def test_security_headers_are_on_every_answer(standing: HttpServer, path: str) -> None:
    """Nothing from elsewhere is loaded, nobody may frame the page, and no other origin may read it."""
    for how in ({}, {"method": "POST"}, {"host": "evil.example"}):
        with asking(standing, path, **how) as answer:
            policy = answer.headers["Content-Security-Policy"]
            assert policy.startswith("default-src 'self';")
            assert "unsafe" not in policy
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
            assert not [name for name in answer.headers if name.lower().startswith("access-control-")]


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:8080", 200),
        ("127.0.0.1:8080", 200),
        ("[::1]:8080", 200),
        ("[0:0:0:0:0:0:0:1]", 200),
        ("evil.example", 421),
        ("localhost.evil.example", 421),
        ("localhost:80:80", 421),
        ("localhost:80@evil.example", 421),
        ("[::1]evil", 421),
        ("[::1", 421),
    ],
)
def test_the_host_must_be_ours(standing: HttpServer, host: str, status: int) -> None:
    """A name that was rebound to this machine is refused, so that a page elsewhere can't read this one."""
    assert fetch(standing, "/v2/health/live", host=host)[0] == status


def test_a_bound_name_is_ours(monitor: Monitor) -> None:
    """The host of --http is served, and with all addresses bound the machine's own name."""
    with HttpServer(create_app(monitor, host="jetson.example"), "127.0.0.1", 0) as server:
        assert fetch(server, "/", host="Jetson.example:80")[0] == 200
        assert fetch(server, "/", host=socket.gethostname() + ".local")[0] == 421
    with HttpServer(create_app(monitor, host="0.0.0.0"), "127.0.0.1", 0) as server:
        assert fetch(server, "/", host=socket.gethostname())[0] == 200
        assert fetch(server, "/", host="evil.example")[0] == 421


@pytest.mark.parametrize("path", ["/../app.py", "/%2e%2e/app.py", "/app.py", "/page.html", "/frame.jpg/", "//page.js"])
def test_only_the_listed_files_are_served(standing: HttpServer, path: str) -> None:
    """There is no folder behind the page that could be walked."""
    assert fetch(standing, path)[0] == 404


def test_no_answer_tells_a_score(server: HttpServer, monitor: Monitor, reports: Reports) -> None:
    """Every answer is searched for the operator's fields and for the values that the reports carried in them."""
    told = "agreement 3 of 16, 0.918273"
    for _ in range(3):
        monitor.report(
            reports.frame(
                lambda: reports.released(detail=told),
                *(lambda r=reason: reports.withheld(r, label=660321066, label_name="Kept-Back") for reason in Reason),
                lambda: reports.withheld(Reason.SUSPICIOUS, detail=told),
                lambda: reports.withheld(Reason.DETECTOR_ERROR, detail=told),
            )
        )
    answers = dict.fromkeys([*PATHS, "/nothing-here"], b"")
    for path in answers:
        with asking(server, path) as answer:
            if path == "/events":
                stream = events(answer)
                states = [next(stream)]
                monitor.report(reports.frame(reports.withheld, reports.released))
                states += [next(stream), next(stream)]
                answers[path] = json.dumps(states).encode()
            else:
                answers[path] = answer.read()
            answers[path] += str(answer.headers).encode()
    assert b"Stop" in answers["/events"]  # the search looks at something
    secrets = "suspicion scores suspected corrected classified agreement residual kept-back"
    values = "0.73125 0.7313 0.918273 0.645546 770123077 880234088 990177099 660321066"
    for path, body in answers.items():
        found = [secret for secret in (secrets + " " + values).split() if secret.encode() in body.lower()]
        assert found == [], path
