"""A monitor and a real server in front of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from firewall.server import HttpServer, Monitor, create_app
from tests.server.reports import SOURCE, Reports


@pytest.fixture
def reports() -> Reports:
    """A maker of reports."""
    return Reports()


@pytest.fixture
def monitor() -> Monitor:
    """A monitor of a live source that was told to be ready. Slow to call frames stale: the machine may be busy."""
    monitor = Monitor(source=SOURCE, bundle="hand-made", live=True, deadline_ms=33.0, stale_after=60.0)
    monitor.set_ready(True, "guarding")
    return monitor


@pytest.fixture
def server(monitor: Monitor) -> Iterator[HttpServer]:
    """A running server on a free port."""
    with HttpServer(create_app(monitor), "127.0.0.1", 0) as server:
        yield server
