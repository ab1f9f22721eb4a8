"""The page behind a reverse proxy that serves it below a path of its own, as nginx does with its defaults."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import pytest

from firewall.server import HttpServer, Monitor
from tests.browser import PATIENCE
from tests.server.reports import Reports

if TYPE_CHECKING:
    from playwright.sync_api import Page

PREFIX = "/road/guard-7/"


@contextmanager
def proxied(upstream: str, prefix: str = PREFIX) -> Iterator[str]:
    """The URL at which a proxy serves `upstream` below `prefix`; anything else there is 404. Speaks HTTP/1.0 to it and
    passes on the Host of its client."""
    to = urlsplit(upstream)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if not self.path.startswith(prefix):
                self.send_error(404)
                return
            server = http.client.HTTPConnection(to.hostname or "", to.port, timeout=PATIENCE / 1000)
            server._http_vsn, server._http_vsn_str = 10, "HTTP/1.0"
            try:
                server.request("GET", "/" + self.path.removeprefix(prefix), headers={"Host": self.headers["Host"]})
                answer = server.getresponse()
                self.send_response(answer.status)
                for name, value in answer.getheaders():
                    if name.lower() not in ("connection", "transfer-encoding", "server", "date"):
                        self.send_header(name, value)
                self.end_headers()
                while data := answer.read1(65536):
                    self.wfile.write(data)
                    self.wfile.flush()
            except OSError:
                pass  # the browser or the firewall has gone
            finally:
                server.close()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as proxy:
        proxy.daemon_threads = True
        thread = threading.Thread(target=proxy.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{proxy.server_port}{prefix}"
        finally:
            proxy.shutdown()
            thread.join()


@pytest.mark.browser
def test_the_page_works_below_a_path(
    page: Page, server: HttpServer, monitor: Monitor, reports: Reports, complaints: list[str]
) -> None:
    """Style, script, picture and live events in a real browser, all of them below the proxy's path and by HTTP/1.0."""
    from playwright.sync_api import expect

    asked: list[str] = []
    with proxied(server.url) as url:
        page.on("request", lambda request: asked.append(urlsplit(request.url).path))
        page.goto(url)
        expect(page.locator("#status-word")).to_have_text("Starting", timeout=PATIENCE)
        monitor.report(reports.frame(lambda: reports.released(14, "Stop"), colour=(20, 60, 220)))
        expect(page.locator('#released li[data-label="Stop"]')).to_be_visible(timeout=PATIENCE)
        expect(page.locator(".box")).to_have_count(1, timeout=PATIENCE)
        monitor.report(reports.frame(reports.withheld, colour=(220, 60, 20)))
        expect(page.locator("#withheld li")).to_have_count(1, timeout=PATIENCE)
        expect(page.locator('.box[data-decision="withhold"]')).to_have_count(1, timeout=PATIENCE)
        colour = page.evaluate("[...document.getElementById('picture').getContext('2d').getImageData(9, 9, 1, 1).data]")
        assert colour == pytest.approx([220, 60, 20, 255], abs=8)
        assert page.evaluate("getComputedStyle(document.body).margin") == "0px"  # the style is there
        page.goto("about:blank")
    assert asked and all(path.startswith(PREFIX) for path in asked)
    assert {path.removeprefix(PREFIX) for path in asked} >= {
        "",
        "page.css",
        "page.js",
        "icon.svg",
        "events",
        "frame.jpg",
    }
    assert complaints == []


def test_health_and_metrics_below_a_path(server: HttpServer) -> None:
    """As anything else; and a proxy that gathers answers is asked not to gather events."""
    with proxied(server.url) as url:
        for path in ("v2/health/live", "metrics"):
            with urlopen(url + path, timeout=PATIENCE / 1000) as answer:
                assert answer.status == 200
    with urlopen(f"{server.url}events", timeout=PATIENCE / 1000) as answer:
        assert answer.headers["X-Accel-Buffering"] == "no"


def test_what_a_proxy_says_of_itself_changes_nothing(server: HttpServer) -> None:
    """X-Forwarded-Prefix, -Host and Forwarded can be sent by anybody: the answer is the same to the byte."""
    with urlopen(server.url, timeout=PATIENCE / 1000) as answer:
        plain = answer.read()
    told = {
        "X-Forwarded-Prefix": "//evil.example/",
        "X-Forwarded-Host": "evil.example",
        "Forwarded": "host=evil.example",
    }
    with urlopen(Request(server.url, headers=told), timeout=PATIENCE / 1000) as answer:
        assert answer.read() == plain
