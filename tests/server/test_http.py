"""The server itself: where it binds, what it says if it can't, and that it stops."""

from __future__ import annotations

import signal
import socket
import threading
import time
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest

from firewall.errors import FirewallError, UsageError
from firewall.server import HttpServer, Monitor, create_app, parse_address
from tests.server.reports import Reports


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8080", ("127.0.0.1", 8080)),
        ("localhost:0", ("localhost", 0)),
        ("jetson-7.local:65535", ("jetson-7.local", 65535)),
        ("[::1]:8080", ("::1", 8080)),
        (" 0.0.0.0:80 ", ("0.0.0.0", 80)),
    ],
)
def test_an_address_is_parsed(text: str, address: tuple[str, int]) -> None:
    """HOST:PORT, with IPv6 in brackets."""
    assert parse_address(text) == address


@pytest.mark.parametrize(
    "text",
    [
        *("", ":8080", "localhost", "localhost:", "localhost:http", "::1:8080", "[::1]", "[::g]:80"),
        *("[1.2.3.4]:80", "a:1:2", "localhost:65536", "localhost:-1", "http://localhost:80", "local host:80"),
        "localhost:\N{ARABIC-INDIC DIGIT EIGHT}0",
    ],
)
def test_nonsense_is_refused_in_one_line(text: str) -> None:
    """What is wrong, and what to give instead, as a usage error."""
    with pytest.raises(UsageError) as caught:
        parse_address(text)
    message = str(caught.value)
    assert "\n" not in message
    assert "127.0.0.1:8080" in message


def test_port_zero_picks_a_free_one(server: HttpServer) -> None:
    """The URL tells which, and it answers there."""
    assert urlsplit(server.url).port not in (None, 0)
    with urlopen(server.url, timeout=20) as answer:
        assert answer.status == 200


def test_a_busy_port_is_told_in_one_line(monitor: Monitor) -> None:
    """Who listens there already is undisturbed, and the message says what to do."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(FirewallError) as caught:
            HttpServer(create_app(monitor), "127.0.0.1", port).start()
    assert str(caught.value) == (
        f"127.0.0.1:{port} is in use; name another with --http HOST:PORT or turn the page off with --http off"
    )


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_an_address_of_another_machine_is_told_in_one_line(monitor: Monitor, host: str) -> None:
    """Neither an address that isn't ours nor a name that nobody knows ends in a traceback."""
    with pytest.raises(FirewallError, match="turn the page off with --http off") as caught:
        HttpServer(create_app(monitor), host, 0).start()
    assert "\n" not in str(caught.value)


def test_ipv6(monitor: Monitor) -> None:
    """The page is served on ::1, with brackets in its URL."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    with HttpServer(create_app(monitor, host="::1"), "::1", 0) as server:
        assert server.url.startswith("http://[::1]:")
        with urlopen(server.url, timeout=20) as answer:
            assert answer.status == 200


def test_signals_stay_the_callers(monitor: Monitor) -> None:
    """Neither start nor stop touches the handlers of Ctrl-C and SIGTERM."""
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with HttpServer(create_app(monitor), "127.0.0.1", 0):
        during = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    after = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert before == during == after


def test_it_is_quiet(monitor: Monitor, capfd: pytest.CaptureFixture[str]) -> None:
    """Starting, answering and stopping write nothing."""
    with HttpServer(create_app(monitor), "127.0.0.1", 0) as server, urlopen(server.url, timeout=20) as answer:
        answer.read()
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_it_stops_with_an_open_stream(monitor: Monitor, reports: Reports) -> None:
    """A browser that listens to events does not hold the server up, and the port is free at once."""
    monitor.report(reports.frame())
    server = HttpServer(create_app(monitor), "127.0.0.1", 0)
    server.start()
    with urlopen(f"{server.url}events", timeout=20) as stream:
        assert stream.readline() == b"retry: 1000\n"
        started = time.monotonic()
        server.stop()
        assert time.monotonic() - started < 3.0
        stream.read()  # ends
    server.stop()  # a second time does nothing
    again = HttpServer(create_app(monitor), "127.0.0.1", urlsplit(server.url).port or 0)
    again.start()
    again.stop()


def test_it_stops_with_a_reader_that_does_not_read() -> None:
    """A connection whose buffers are full is cut off instead of waited for."""
    monitor = Monitor(source="test://", bundle="x" * 16_000_000, live=True)  # a state too large for any buffer
    others = set(threading.enumerate())  # another test's server may still be stopping
    server = HttpServer(create_app(monitor), "127.0.0.1", 0)
    server.start()
    address = urlsplit(server.url)
    with socket.create_connection((address.hostname or "", address.port or 0), timeout=20) as client:
        client.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert client.recv(12) == b"HTTP/1.1 200"
        started = time.monotonic()
        server.stop()
        assert time.monotonic() - started < 4.0
    assert not [each for each in set(threading.enumerate()) - others if each.name == "firewall-http"]


def test_a_port_alone_is_of_this_machine() -> None:
    """`http: 8080` listens where nobody else can reach it."""
    assert parse_address(" 8080 ") == ("127.0.0.1", 8080)
