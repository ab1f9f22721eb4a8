"""What clients may draw out: time, places and memory. Real sockets; the limits are short so that the tests are."""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections.abc import Iterator

import pytest

from firewall.server import HttpServer, Limits, Monitor, create_app
from firewall.server.connection import Connection, network
from tests.server.reports import Reports
from tests.server.wire import PATIENT, answer, dial, is_closed

HALF = b"GET / HTTP/1.1\r\nHost: localhost\r\nX-More: "
PROBE = b"GET /v2/health/live HTTP/1.0\r\n\r\n"


@contextlib.contextmanager
def limited(limits: Limits, *, bundle: str = "standing") -> Iterator[HttpServer]:
    """A server with these limits. bundle: its name, which every state of /events holds."""
    monitor = Monitor(source="test://", bundle=bundle, live=False)
    monitor.set_ready(True)
    monitor.report(Reports().frame())
    with HttpServer(create_app(monitor, limits=limits), "127.0.0.1", 0, limits=limits) as server:
        yield server


@contextlib.contextmanager
def half_open(server: HttpServer, count: int, *, sending: bytes = HALF) -> Iterator[list[socket.socket]]:
    """Connections that began a request and say no more. Those that the server ends meanwhile don't matter."""
    with contextlib.ExitStack() as stack:
        clients = []
        for _ in range(count):
            client = stack.enter_context(dial(server))
            with contextlib.suppress(ConnectionError):
                client.sendall(sending)
            clients.append(client)
        yield clients


def listen(server: HttpServer, *, source: str = "127.0.0.1") -> socket.socket:
    """A reader of /events with small buffers that has read the first lines of the answer."""
    client = dial(server, source=source)
    client.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return client


def let_in_beside_silent_readers(server: HttpServer, count: int) -> None:
    """Wait until a reader of /events gets in, though `count` others have come before it and take nothing."""
    with contextlib.ExitStack() as stack:
        for silent in [stack.enter_context(listen(server)) for _ in range(count)]:
            assert silent.recv(12) == b"HTTP/1.1 200"
        limit = time.monotonic() + PATIENT
        while True:
            with listen(server) as next_one:
                if next_one.recv(12) == b"HTTP/1.1 200":
                    return
            assert time.monotonic() < limit
            time.sleep(0.2)


@pytest.mark.parametrize("sending", [HALF, b"", b"G"])
def test_half_open_connections_lock_nobody_out(sending: bytes) -> None:
    """With the limits as they are for users, 300 connections that stand still: health, metrics and page answer."""
    with limited(Limits(head_time=600.0)) as server, half_open(server, 300, sending=sending):
        for path in ("/v2/health/live", "/v2/health/ready", "/metrics", "/", "/frame.jpg"):
            assert answer(server, f"GET {path} HTTP/1.0\r\n\r\n".encode())[0] == 200


def test_they_are_bounded() -> None:
    """Of 60 connections no more stay than one address may have, and these are the newest."""
    with (
        limited(Limits(head_time=600.0, for_address=20, connections=40)) as server,
        half_open(server, 60) as clients,
    ):
        assert answer(server, PROBE)[0] == 200
        for client in clients[:40]:
            assert is_closed(client)
        for client in clients[50:]:
            client.settimeout(0.2)
            assert not is_closed(client)


def test_all_addresses_together_are_bounded_and_the_crowd_gives_way() -> None:
    """The address with the most connections loses one to a newcomer; others keep theirs."""
    with limited(Limits(head_time=600.0, connections=12)) as server, half_open(server, 10) as crowd:
        others = [dial(server, source=f"127.0.0.{number}") for number in (2, 3, 4, 5)]
        try:
            assert answer(server, PROBE)[0] == 200
            assert is_closed(crowd[0]) and is_closed(crowd[1])
            for client in others:
                client.sendall(PROBE)
                assert client.recv(12) == b"HTTP/1.1 200"
        finally:
            for client in others:
                client.close()


def test_a_head_has_a_time_limit_that_trickling_does_not_extend() -> None:
    """A byte now and then: the connection ends all the same, with 408. One that says nothing ends without a word."""
    with limited(Limits(head_time=0.6)) as server, dial(server) as slow, dial(server) as silent:
        slow.sendall(HALF)
        slow.settimeout(0.05)
        received, limit = b"", time.monotonic() + PATIENT
        while time.monotonic() < limit:
            try:
                data = slow.recv(4096)
            except TimeoutError:
                with contextlib.suppress(ConnectionError):
                    slow.sendall(b"x")
                continue
            except ConnectionError:
                break
            if not data:
                break
            received += data
        assert time.monotonic() < limit
        assert received == b"" or received.startswith(b"HTTP/1.1 408 ")
        assert silent.recv(4096) == b""


def test_an_idle_connection_is_closed_after_its_answer() -> None:
    """Kept alive for a further request for a while, also after several."""
    with limited(Limits(head_time=0.6)) as server, dial(server) as client:
        for _ in range(3):
            client.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
            received = b""
            while b'{"live":true}' not in received:
                received += client.recv(4096)
        assert client.recv(4096) == b""


def test_a_body_that_never_ends_is_cut_off() -> None:
    """The answer comes at once and the rest of the request is waited for no longer than for a head."""
    with limited(Limits(head_time=0.6)) as server, dial(server) as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000\r\n\r\nx")
        assert client.recv(12) == b"HTTP/1.1 405"
        assert is_closed(client)


def test_a_head_of_any_size_is_refused() -> None:
    """Memory is bounded: a head that doesn't end is 400 after some kilobytes."""
    with limited(Limits()) as server, dial(server) as client:
        client.sendall(HALF)
        with contextlib.suppress(ConnectionError):
            for _ in range(200):
                client.sendall(b"x" * 4096)
        client.settimeout(PATIENT)
        assert is_closed(client)
        assert answer(server, PROBE)[0] == 200


def test_a_reader_of_events_that_takes_nothing_is_dropped() -> None:
    """Its buffers are full, and after send_time the connection ends, so that its place is free."""
    limits = Limits(send_time=0.6, streams_for_address=4)
    with limited(limits, bundle="x" * 16_000_000) as server:  # a state that is too large for any buffer
        let_in_beside_silent_readers(server, 4)


def test_a_silent_reader_gives_way_to_a_new_one_before_its_time() -> None:
    """With all 16 places taken by readers that take nothing, a further one gets in long before send_time."""
    with limited(Limits(send_time=600.0), bundle="x" * 4_000_000) as server:
        let_in_beside_silent_readers(server, 16)


def test_little_waits_in_the_system_for_a_reader_of_events(monkeypatch: pytest.MonkeyPatch) -> None:
    """States have a kilobyte; the system took megabytes of them for a client that takes nothing (4.2 MB, now 0.2 MB),
    and it was an hour before that was seen."""
    held = []

    def buffer_little(connection: Connection) -> None:
        original(connection)
        ours: socket.socket = connection.transport.get_extra_info("socket")
        held.append(ours.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF))

    original = Connection.buffer_little
    monkeypatch.setattr(Connection, "buffer_little", buffer_little)
    with limited(Limits()) as server, listen(server) as client:
        assert client.recv(12) == b"HTTP/1.1 200"
    assert len(held) == 1 and held[0] <= 1 << 16


def test_readers_of_one_address_leave_room_for_others() -> None:
    """An address that has all of its places keeps nobody else out; all together are bounded too."""
    with limited(Limits(streams_for_address=3, streams=5)) as server, contextlib.ExitStack() as stack:
        told = []
        for source in ("127.0.0.1",) * 4 + ("127.0.0.2",) * 3:
            client = stack.enter_context(listen(server, source=source))
            told.append(client.recv(12).decode()[-3:])
        assert told == ["200", "200", "200", "503", "200", "200", "503"]
        assert answer(server, PROBE)[0] == 200


def test_the_address_with_the_most_readers_gives_way_to_a_new_one() -> None:
    """All places are taken, four of five by one address: it loses its oldest reader to a third address, which can't be
    kept out so; no one else loses one."""
    with limited(Limits(streams_for_address=4, streams=5)) as server, contextlib.ExitStack() as stack:
        clients = []
        for source in (*("127.0.0.1",) * 4, "127.0.0.2", "127.0.0.3"):
            clients.append(stack.enter_context(listen(server, source=source)))
            assert clients[-1].recv(12) == b"HTTP/1.1 200"
        for client in clients:
            client.settimeout(PATIENT)
        assert is_closed(clients[0])
        for client in clients[1:]:
            assert client.recv(1)


def test_readers_that_read_stay() -> None:
    """A limit on taking what was sent ends nobody who takes it."""
    with limited(Limits(send_time=0.5, head_time=0.5)) as server, listen(server) as client:
        received, limit = b"", time.monotonic() + PATIENT
        while received.count(b"data: ") < 4:  # one a second
            data = client.recv(65536)
            assert data and time.monotonic() < limit
            received += data


def test_a_large_answer_that_is_not_taken_is_dropped() -> None:
    """A client that asks again and again and reads nothing holds no more than its buffers, and not for long."""
    with limited(Limits(send_time=0.6)) as server, dial(server) as client:
        client.sendall(b"GET /page.js HTTP/1.1\r\nHost: localhost\r\n\r\n" * 1000)
        ended = select.poll()
        ended.register(client, select.POLLHUP)
        assert ended.poll(PATIENT * 1000)
        assert answer(server, PROBE)[0] == 200


def test_an_ipv6_address_counts_for_its_network() -> None:
    """One machine has a whole /64 to itself; an IPv4 address in IPv6 form is the IPv4 address."""
    assert network("2001:db8::1") == network("2001:db8::ffff:1") != network("2001:db8:0:1::1")
    assert network("::ffff:192.0.2.7") == network("192.0.2.7") != network("192.0.2.8")
    assert network("fe80::1%eth0") == network("fe80::2")
    assert network("") == ""
