"""What clients may draw out of a gate: bytes, time, connections, places and rates. Real sockets and short limits."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from typing import Any

import pytest

from firewall.frame import Pixels
from firewall.gate.app import create_metrics_app
from firewall.gate.gate import Gate, GateLimits
from firewall.gate.judge import Judge
from firewall.server import HttpServer, Limits
from tests.gate.asking import MODEL, ask, infer, make_gate, plain, request_of, served
from tests.server.wire import dial, is_closed

INFER = f"POST /v2/models/{MODEL}/infer HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n".encode()


def limits(**given: Any) -> GateLimits:
    return GateLimits(**{"time": 60.0, "rate": 0, **given})


def whole(client: socket.socket) -> bytes:
    received = b""
    with contextlib.suppress(ConnectionError):
        while data := client.recv(65536):
            received += data
    return received


def test_a_body_of_a_gigabyte_is_refused_before_it_is_read(server: HttpServer) -> None:
    """By its announced length, and the answer arrives though the client goes on sending; the gate lives on."""
    with dial(server) as client:
        client.sendall(INFER + b"Content-Length: 1073741824\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            for _ in range(64):
                client.sendall(bytes(1 << 20))
        answer = whole(client)
    assert answer.startswith(b"HTTP/1.1 413 ") and b'"code":"too_large"' in answer
    assert ask(server, path="/v2/health/live").status == 200


def test_a_body_without_end_is_refused_when_it_is_too_long(judge: Judge) -> None:
    """Chunked, so that no length is announced."""
    with served(make_gate(judge, limits=limits(body=100_000))) as server, dial(server) as client:
        client.sendall(INFER + b"Transfer-Encoding: chunked\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            for _ in range(20):
                client.sendall(b"4000\r\n" + bytes(0x4000) + b"\r\n")
        assert whole(client).startswith(b"HTTP/1.1 413 ")


def test_who_waits_for_a_go_ahead_is_told_before_sending(judge: Judge) -> None:
    """With Expect: 100-continue, as curl does for large bodies."""
    with served(make_gate(judge)) as server, dial(server) as client:
        client.sendall(INFER + b"Content-Length: 1073741824\r\nExpect: 100-continue\r\n\r\n")
        assert client.recv(12) == b"HTTP/1.1 413"


def test_a_byte_a_while_ends_when_its_time_is_over(judge: Judge) -> None:
    """However it trickles, the body has to be there in time; others are answered meanwhile."""
    with served(make_gate(judge), limits=Limits(body_time=1.0)) as server, dial(server) as client:
        client.sendall(INFER + b"Content-Length: 1000\r\n\r\n")
        started = time.monotonic()
        with contextlib.suppress(ConnectionError):
            while time.monotonic() - started < 30:
                client.sendall(b"{")
                client.settimeout(0.2)
                with contextlib.suppress(TimeoutError):
                    if found := client.recv(100):
                        break
                assert ask(server, path="/v2/health/ready").status == 200
        assert found.startswith(b"HTTP/1.1 408 ")


def test_slow_bodies_give_way_to_others(judge: Judge) -> None:
    """Connections that send half a body hold no place: the oldest goes when another client comes."""
    with (
        served(make_gate(judge), limits=Limits(connections=8, for_address=4, body_time=60.0)) as server,
        contextlib.ExitStack() as stack,
    ):
        slow = [stack.enter_context(dial(server)) for _ in range(4)]
        for client in slow:
            client.sendall(INFER + b"Content-Length: 1000\r\n\r\n{")
        time.sleep(0.2)
        assert infer(server, request_of(plain(8))).status == 422
        assert any(is_closed(client) for client in slow[:1])


@pytest.mark.slow
def test_a_thousand_connections_leave_the_gate_answering(judge: Judge, benign_sign: Pixels) -> None:
    """Half of them say nothing, half a body's beginning; a good client gets its label all the same."""
    with served(make_gate(judge)) as server, contextlib.ExitStack() as stack:
        for number in range(1000):
            client = stack.enter_context(dial(server))
            if number % 2:
                with contextlib.suppress(ConnectionError):
                    client.sendall(INFER + b"Content-Length: 1000\r\n\r\n{")
            if number % 250 == 249:
                assert infer(server, request_of(benign_sign)).status == 200
        assert ask(server, path="/v2/health/ready").status == 200


def test_a_rate_is_kept_for_each_client(judge: Judge) -> None:
    """Images count, not requests: a batch takes many. Refused with 429 and when to come again."""
    import numpy as np

    with served(make_gate(judge, limits=limits(rate=3.0))) as server:
        assert infer(server, request_of(np.stack([plain(8)] * 8))).status == 422
        refused = infer(server, request_of(plain(8)))
        assert refused.status == 429 and refused.json["code"] == "too_many_requests"
        assert int(refused.headers["Retry-After"]) >= 1


def test_places_are_bounded_and_no_client_takes_all(judge: Judge) -> None:
    """One client has at most half of the places; who comes in vain gets an answer at once, and places come back."""
    gate = make_gate(judge, limits=limits(in_hand=2))
    held, free = threading.Event(), threading.Event()

    def block() -> None:
        held.set()
        free.wait(60)

    with served(gate) as server:
        judge.submit(block)
        held.wait(60)
        first = threading.Thread(target=infer, args=(server, request_of(plain(8))))
        first.start()
        while not gate.places.taken:
            time.sleep(0.01)
        refused = infer(server, request_of(plain(8)))
        assert refused.status == 503 and refused.json["code"] == "busy"
        free.set()
        first.join(60)
        assert infer(server, request_of(plain(8))).status == 422 and gate.places.taken == 0


def test_a_verdict_that_comes_too_late_releases_nothing(judge: Judge, benign_sign: Pixels) -> None:
    """The judge is held up beyond the time limit: no label, though the image is benign."""
    with served(make_gate(judge, limits=limits(time=0.2))) as server:
        judge.submit(lambda: time.sleep(0.5))
        late = infer(server, request_of(benign_sign))
        assert (late.status, late.json["reason"]) == (422, "late")
        judge.submit(lambda: time.sleep(4))
        stuck = infer(server, request_of(benign_sign))
        assert (stuck.status, stuck.json["code"]) == (504, "timeout")
        judge.submit(lambda: None).result(60)


def test_a_judge_that_fails_releases_nothing(
    judge: Judge, benign_sign: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    """500 with `failed` and no detail; the next request is answered."""

    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("secret detail")

    with served(make_gate(judge)) as server:
        with monkeypatch.context() as patched:
            patched.setattr(judge, "screen", broken)
            found = infer(server, request_of(benign_sign))
        assert (found.status, found.json["code"]) == (500, "failed") and b"secret" not in found.body
        assert infer(server, request_of(benign_sign)).status == 200


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"Content_Encoding": "gzip"}, "unsupported"),
        ({"Content_Type": "text/plain"}, "unsupported"),
        ({"Content_Type": "application/x-www-form-urlencoded"}, "unsupported"),
        ({"Origin": "http://evil.example"}, "cross_origin"),
        ({"Origin": "null"}, "cross_origin"),
    ],
)
def test_pages_and_compressed_bodies_are_not_answered(server: HttpServer, headers: dict[str, str], code: str) -> None:
    """A page elsewhere can make a browser send such requests to this machine."""
    assert infer(server, request_of(plain(8)), **headers).json["code"] == code


def test_a_foreign_host_is_not_answered(server: HttpServer) -> None:
    """So that no page elsewhere reads answers under a name of its own (DNS rebinding)."""
    assert infer(server, request_of(plain(8)), Host="evil.example").status == 421


def test_what_was_answered_is_counted_for_the_operator_alone(judge: Judge, benign_sign: Pixels) -> None:
    """At an address of its own; clients find no /metrics."""
    gate: Gate = make_gate(judge)
    with served(gate) as server, HttpServer(create_metrics_app(gate), "127.0.0.1", 0) as operator:
        infer(server, request_of(benign_sign))
        infer(server, request_of(plain()))
        infer(server, json.dumps({}).encode())
        found = ask(operator, path="/metrics").body.decode()
        assert ask(server, path="/metrics").status == 404
    for code in ("ok", "withheld", "bad_request"):
        assert f'firewall_gate_requests_total{{code="{code}"}} 1.0' in found
    assert 'firewall_gate_images_total{decision="release",reason="benign"} 1.0' in found
    assert "firewall_gate_requests_in_hand 0.0" in found
