"""`firewall device health` asks a real server."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest
from typer.testing import CliRunner

from firewall.device.cli import device_app
from firewall.errors import FirewallError, UsageError
from firewall.server import HttpServer, Monitor, create_app
from tests.sinks.making import report


@pytest.fixture
def guarded() -> Iterator[tuple[Monitor, str]]:
    """A page and its address."""
    monitor = Monitor(source="demo", bundle="default", live=True)
    server = HttpServer(create_app(monitor, host="127.0.0.1"), "127.0.0.1", 0)
    server.start()
    yield monitor, server.url.removeprefix("http://").rstrip("/")
    server.stop()


def ask(*arguments: str) -> str:
    """What it prints; what it raises comes out."""
    done = CliRunner().invoke(device_app, ["health", *arguments], standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    return done.stdout


def test_alive_ready_and_stopped(guarded: tuple[Monitor, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Alive from the start, ready with a fresh frame, neither when it has stopped; the address may come from the
    environment, and one that means all addresses is this machine's."""
    monitor, address = guarded
    assert ask("--http", address) == '{"live":true}\n'
    with pytest.raises(FirewallError, match="/v2/health/ready answered 503"):
        ask("--http", address, "--ready")
    monitor.set_ready(True, "guarding")
    monitor.report(report(0))
    assert '"ready":true' in ask("--http", address, "--ready")
    monkeypatch.setenv("FIREWALL_HTTP", f"0.0.0.0:{address.rpartition(':')[2]}")
    assert ask() == '{"live":true}\n'
    monitor.close()
    with pytest.raises(FirewallError, match="/v2/health/live answered 503"):
        ask()


def test_nobody_there_is_exit_code_1() -> None:
    """As HEALTHCHECK runs it: one line and exit code 1 where nobody answers; an address that is none is wrong use."""
    command = [sys.executable, "-m", "firewall", "device", "health", "--http", "127.0.0.1:1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 1 and done.stdout == ""
    (said,) = done.stderr.splitlines()
    assert said.startswith("firewall: error: no answer from http://127.0.0.1:1/v2/health/live: ")
    with pytest.raises(UsageError, match="no address"):
        ask("--http", "nonsense")


def test_a_server_that_says_nothing_is_no_health() -> None:
    """A mute port: the time-out ends it; no page at all is wrong use."""
    with socket.create_server(("127.0.0.1", 0)) as mute, pytest.raises(FirewallError, match="no answer from"):
        ask("--http", f"127.0.0.1:{mute.getsockname()[1]}", "--timeout", "0.3")
    with pytest.raises(UsageError, match="has no page"):
        ask("--http", "off")
