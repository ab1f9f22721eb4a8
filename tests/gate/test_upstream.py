"""An upstream behind the gate: a real MLServer, and servers that do everything wrong. No wrong answer is released."""

from __future__ import annotations

import contextlib
import http.server
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from firewall.errors import UsageError
from firewall.frame import Pixels
from firewall.gate.gate import GateLimits
from firewall.gate.http_client import HttpClient
from firewall.gate.judge import Judge
from firewall.gate.pictures import Floats, Scale
from firewall.gate.upstream import Upstream
from firewall.server import HttpServer
from firewall.transforms import resize
from tests.gate.asking import PATIENT, ask, infer, make_gate, request_of, served
from tests.gate.mlserver import running_mlserver


@contextmanager
def guarding(
    judge: Judge,
    url: str,
    model: str,
    *,
    floats: Floats = "255",
    limits: GateLimits = PATIENT,
    most_bytes: int = 4 << 20,
    **how: Any,
) -> Iterator[HttpServer]:
    """A gate in front of an upstream."""
    manifest = judge.guard.bundle.manifest.classifier
    scale = Scale(floats, manifest.input)
    client = HttpClient(url, most_bytes=most_bytes)
    upstream = Upstream(client, model, len(manifest.labels), scale, **how)
    with served(make_gate(judge, model=model, limits=limits, floats=floats, upstream=upstream)) as server:
        yield server


@pytest.fixture(scope="module")
def sign(judge: Judge, benign_sign: Pixels) -> Pixels:
    """A benign sign of the classifier's size."""
    spec = judge.guard.bundle.manifest.classifier.input
    resized: Pixels = resize(benign_sign, spec.width, spec.height)
    assert judge.guard.screen(resized).released
    return resized


@pytest.fixture(scope="module")
def mlserver(judge: Judge, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real one."""
    with running_mlserver(tmp_path_factory.mktemp("mlserver"), judge.guard.bundle) as url:
        yield url


def asked(pixels: Pixels, **more: Any) -> dict[str, Any]:
    """A request with the upstream's name for its input."""
    request = request_of(pixels, **more)
    request["inputs"][0]["name"] = "input"
    return request


@pytest.mark.parametrize(("model", "floats"), [("pixels", "255"), ("labels", "255"), ("scaled", "1")])
def test_a_real_mlserver_is_guarded(judge: Judge, mlserver: str, sign: Pixels, model: str, floats: Floats) -> None:
    """Its labels are answered for benign images, of uint8 and float models, of scores and of labels; not for others."""
    expected = judge.guard.screen(sign).label
    with guarding(judge, mlserver, model, floats=floats) as server:
        assert ask(server, path="/v2/health/ready").json == {"ready": True}
        about = ask(server, path=f"/v2/models/{model}").json
        assert about["inputs"][0]["name"] == "input" and about["outputs"][0]["name"] == "label"
        found = infer(server, asked(np.stack([sign, sign]), id="mine"), model=model)
        assert found.status == 200 and found.labels == [expected, expected] and found.json["id"] == "mine"
        refused = infer(server, asked(np.full_like(sign, 90)), model=model)
        assert (refused.status, refused.json["code"]) == (422, "withheld")
        assert b"logits" not in found.body + refused.body


def test_images_of_another_size_than_the_upstreams_are_refused(judge: Judge, mlserver: str, sign: Pixels) -> None:
    """Nobody resizes them: what is screened is what the upstream sees. The message says what it takes."""
    with guarding(judge, mlserver, "pixels") as server:
        found = infer(server, asked(sign[:-1]), model="pixels")
        assert found.status == 400 and "takes UINT8 of shape [-1, " in found.json["error"]


def test_an_upstream_that_ends_is_not_ready_until_it_is_back(judge: Judge, sign: Pixels) -> None:
    """While it is away: not ready, and requests are refused; the same gate answers when it is there again."""
    with guarding_a_port(judge) as (server, port):
        assert ask(server, path="/v2/health/ready").status == 503
        found = infer(server, asked(sign), model="m")
        assert (found.status, found.json["code"]) == (502, "upstream_unreachable")
        with fake(judge, port=port):
            limit = time.monotonic() + 60
            while ask(server, path="/v2/health/ready").status != 200 and time.monotonic() < limit:
                time.sleep(0.2)
            assert infer(server, asked(sign), model="m").status == 200
        assert infer(server, asked(sign), model="m").json["code"] == "upstream_unreachable"


@contextmanager
def guarding_a_port(judge: Judge) -> Iterator[tuple[HttpServer, int]]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    with guarding(judge, f"http://127.0.0.1:{port}", "m") as server:
        yield server, port


Alter = Callable[[dict[str, Any]], Any]


class Fake:
    """An upstream that speaks the protocol well, but for what a test changes."""

    def __init__(self, judge: Judge) -> None:
        spec = judge.guard.bundle.manifest.classifier
        self.label, self.classes = 0, len(spec.labels)
        shape = [-1, spec.input.height, spec.input.width, 3]
        self.metadata: dict[str, Any] = {
            "name": "m",
            "versions": ["1"],
            "platform": "fake",
            "inputs": [{"name": "input", "datatype": "UINT8", "shape": shape}],
            "outputs": [{"name": "logits", "datatype": "FP32", "shape": [-1, self.classes]}],
        }
        self.alter: Alter = lambda answer: answer
        self.raw: bytes | None = None
        self.status = 200
        self.hang = 0.0
        self.asked: list[dict[str, Any]] = []

    def answer(self, request: dict[str, Any]) -> Any:
        self.asked.append(request)
        count = request["inputs"][0]["shape"][0]
        row = [0.0] * self.classes
        row[self.label] = 9.0
        output = {"name": "logits", "datatype": "FP32", "shape": [count, self.classes], "data": row * count}
        return self.alter({"model_name": "m", "model_version": "1", "id": request["id"], "outputs": [output]})


@contextmanager
def fake(judge: Judge, port: int = 0) -> Iterator[tuple[Fake, str]]:
    """It, and its URL."""
    says = Fake(judge)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def reply(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def do_GET(self) -> None:
            found = says.metadata if self.path == "/v2/models/m" else {"name": "fake", "extensions": []}
            self.reply(200, {} if self.path.endswith("/ready") else found)

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            time.sleep(says.hang)
            if says.raw is not None:
                self.wfile.write(says.raw)
                self.close_connection = True
                return
            with contextlib.suppress(OSError):
                self.reply(says.status, says.answer(request), {"Location": "http://127.0.0.1:1/"})

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True
        clients: list[socket.socket] = []  # noqa: RUF012 - one server, one list

        def get_request(self) -> tuple[socket.socket, Any]:
            found = super().get_request()
            self.clients.append(found[0])
            return found

    server = Server(("127.0.0.1", port), Handler)
    says.label = judge.guard.screen(_released(judge)).label or 0
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield says, f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        for client in server.clients:  # as when its process ends
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
        thread.join()


_SIGNS: list[Pixels] = []


def _released(judge: Judge) -> Pixels:
    return _SIGNS[0]


@pytest.fixture(autouse=True)
def _remember(sign: Pixels) -> None:
    _SIGNS[:] = [sign]


def _output(**changes: Any) -> Alter:
    return lambda answer: {**answer, "outputs": [{**answer["outputs"][0], **changes}]}


def _values(change: Callable[[list[float]], list[Any]]) -> Alter:
    def alter(answer: dict[str, Any]) -> dict[str, Any]:
        (output,) = answer["outputs"]
        return {**answer, "outputs": [{**output, "data": change(output["data"])}]}

    return alter


WRONG: dict[str, tuple[Alter, str]] = {
    "another id": (lambda answer: {**answer, "id": "other"}, "upstream_id"),
    "no id": (lambda answer: {key: value for key, value in answer.items() if key != "id"}, "upstream_id"),
    "another model": (lambda answer: {**answer, "model_name": "n"}, "upstream_model"),
    "no model": (lambda answer: {**answer, "model_name": None}, "upstream_model"),
    "no outputs": (lambda answer: {**answer, "outputs": []}, "upstream_shape"),
    "outputs are none": (lambda answer: {**answer, "outputs": None}, "upstream_garbage"),
    "two of one name": (lambda answer: {**answer, "outputs": answer["outputs"] * 2}, "upstream_shape"),
    "another name": (_output(name="scores"), "upstream_shape"),
    "another type": (_output(datatype="FP64"), "upstream_shape"),
    "fewer classes": (_output(shape=[1, 10], data=[1.0] + [0.0] * 9), "upstream_classes"),
    "more classes": (_output(shape=[1, 44], data=[1.0] + [0.0] * 43), "upstream_classes"),
    "no batch": (_output(shape=[43]), "upstream_shape"),
    "two images": (lambda a: _output(shape=[2, 43], data=a["outputs"][0]["data"] * 2)(a), "upstream_shape"),
    "no images": (_output(shape=[0, 43], data=[]), "upstream_shape"),
    "turned": (_output(shape=[43, 1]), "upstream_shape"),
    "too few values": (_values(lambda data: data[:-1]), "upstream_garbage"),
    "too many values": (_values(lambda data: [*data, 0.0]), "upstream_garbage"),
    "texts": (_values(lambda data: [str(each) for each in data]), "upstream_garbage"),
    "nulls": (_values(lambda data: [None] * len(data)), "upstream_garbage"),
    "not a number": (_values(lambda data: [float("nan")] * len(data)), "upstream_garbage"),
    "infinity": (_values(lambda data: [float("inf"), *data[1:]]), "upstream_garbage"),
    "all the same": (_values(lambda data: [0.0] * len(data)), "upstream_values"),
    "a list": (lambda answer: [answer], "upstream_garbage"),
    "nothing": (lambda answer: None, "upstream_garbage"),
    "text": (lambda answer: "benign", "upstream_garbage"),
    "no JSON": (lambda answer: b"<html>", "upstream_garbage"),
    "half of it": (lambda answer: json.dumps(answer).encode()[:-9], "upstream_garbage"),
    "empty": (lambda answer: b"", "upstream_garbage"),
    "binary without data": (_output(parameters={"binary_data_size": 172}), "upstream_garbage"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_answer_is_refused_with_its_reason(judge: Judge, sign: Pixels, name: str) -> None:
    """502 and what was wrong with it, though the image is benign; then the same upstream, mended, is believed again."""
    alter, code = WRONG[name]
    with fake(judge) as (upstream, url), guarding(judge, url, "m") as server:
        upstream.alter = alter
        found = infer(server, asked(sign, id="mine"), model="m")
        assert (found.status, found.json["code"], found.json["id"]) == (502, code, "mine")
        assert "outputs" not in found.json
        upstream.alter = lambda answer: answer
        assert infer(server, asked(sign), model="m").labels == [upstream.label]


def test_another_class_than_the_guards_is_withheld(judge: Judge, sign: Pixels) -> None:
    """The upstream was fooled and the guard's classifier was not, or the other way round: contradictory."""
    with fake(judge) as (upstream, url), guarding(judge, url, "m") as server:
        upstream.label = (upstream.label + 1) % upstream.classes
        found = infer(server, asked(sign), model="m")
        assert (found.status, found.json["reason"]) == (422, "contradictory")


@pytest.mark.parametrize(
    ("status", "code"),
    [(500, "upstream_status"), (503, "upstream_status"), (400, "upstream_status"), (204, "upstream_status")]
    + [(status, "upstream_redirect") for status in (301, 302, 303, 307, 308)],
)
def test_another_status_is_refused(judge: Judge, sign: Pixels, status: int, code: str) -> None:
    """Also if a good answer comes with it; a redirect is never followed."""
    with fake(judge) as (upstream, url), guarding(judge, url, "m") as server:
        upstream.status = status
        found = infer(server, asked(sign), model="m")
        assert (found.status, found.json["code"]) == (502, code)


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", "upstream_unreachable"),
        (b"\0\1\2garbage\r\n\r\n", "upstream_garbage"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", "upstream_garbage"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}", "upstream_garbage"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n{}", "upstream_garbage"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b" " * 300_000, "upstream_garbage"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 300_000, "upstream_garbage"),
    ],
)
def test_what_is_no_answer_is_refused(judge: Judge, sign: Pixels, raw: bytes, code: str) -> None:
    """Nothing, no HTTP, half an answer, a compressed one, an endless one."""
    with fake(judge) as (upstream, url), guarding(judge, url, "m", most_bytes=200_000) as server:
        upstream.raw = raw
        found = infer(server, asked(sign), model="m")
        assert (found.status, found.json["code"]) == (502, code), found.json


def test_an_upstream_that_hangs_is_given_up(judge: Judge, sign: Pixels) -> None:
    """504 when the time is over, not when it answers at last; places are free again."""
    limits = GateLimits(time=1.5, rate=0)
    with fake(judge) as (upstream, url), guarding(judge, url, "m", limits=limits) as server:
        assert infer(server, asked(sign), model="m").status == 200
        upstream.hang = 6.0
        started = time.monotonic()
        found = infer(server, asked(sign), model="m")
        assert (found.status, found.json["code"]) == (504, "upstream_timeout")
        assert time.monotonic() - started < 6.0


def test_an_upstream_that_trickles_is_given_up(judge: Judge, sign: Pixels) -> None:
    """A byte at a time keeps no single read waiting, but the whole answer has one limit."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        stop = threading.Event()

        def trickle() -> None:
            while not stop.is_set():
                with contextlib.suppress(OSError):
                    client, _ = listener.accept()
                    with client:
                        client.sendall(b"HTTP/1.1 200 OK\r\nX: ")
                        while not stop.wait(0.05):
                            client.sendall(b"x")

        listener.settimeout(0.1)
        thread = threading.Thread(target=trickle)
        thread.start()
        try:
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            with guarding(judge, url, "m", limits=GateLimits(time=1.0, rate=0)) as server:
                found = infer(server, asked(sign), model="m")
                assert (found.status, found.json["code"]) == (504, "upstream_timeout")
        finally:
            stop.set()
            thread.join()


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"name": "other"}, "upstream_model"),
        ({"inputs": []}, "upstream_model"),
        ({"inputs": None}, "upstream_model"),
        ({"outputs": [{"name": "logits", "datatype": "FP32"}]}, "upstream_model"),
        ({"outputs": [{"name": "logits", "datatype": "FP32", "shape": [-1, 10]}]}, "upstream_classes"),
        ({"outputs": [{"name": "text", "datatype": "BYTES", "shape": [-1]}]}, "upstream_model"),
        ({"outputs": [{"name": each, "datatype": "FP32", "shape": [-1, 43]} for each in "ab"]}, "upstream_model"),
        ({"inputs": [{"name": "input", "datatype": "INT64", "shape": [-1, 48, 48, 3]}]}, "upstream_model"),
        ({"inputs": [{"name": "input", "datatype": "UINT8", "shape": [-1, -1, -1, -1]}]}, "upstream_model"),
        ({"inputs": [{"name": "input", "datatype": "UINT8", "shape": [-1, 48, 48, 4]}]}, "upstream_model"),
        ({"inputs": [{"name": "input", "datatype": "UINT8", "shape": [6912]}]}, "upstream_model"),
    ],
)
def test_a_model_that_cant_be_guarded_is_refused(judge: Judge, sign: Pixels, change: dict[str, Any], code: str) -> None:
    """Of another class count, without images, with metadata that don't tell: not ready, and every request says why."""
    with fake(judge) as (upstream, url), guarding(judge, url, "m") as server:
        upstream.metadata |= change
        assert ask(server, path="/v2/health/ready").status == 503
        found = infer(server, asked(sign), model="m")
        assert (found.status, found.json["code"]) == (502, code)
        assert ask(server, path="/v2/models/m").json["code"] == code


def test_the_upstream_sees_the_pixels_that_are_screened(judge: Judge, sign: Pixels) -> None:
    """Made from what was screened, not what was sent: the client's id, spelling and number format don't reach it."""
    with fake(judge) as (upstream, url), guarding(judge, url, "m") as server:
        request = asked(sign, id="mine", parameters={"priority": 3})
        request["inputs"][0] |= {
            "datatype": "FP32",
            "shape": [1, 3, *sign.shape[:2]],
            "data": sign.transpose(2, 0, 1).astype(float).tolist(),
        }
        request["inputs"][0]["data"] = [request["inputs"][0]["data"]]
        assert infer(server, request, model="m").status == 200
        (seen,) = upstream.asked
        assert seen["id"] != "mine" and "parameters" not in seen
        (tensor,) = seen["inputs"]
        assert tensor["datatype"] == "UINT8" and tensor["data"] == sign.reshape(-1).tolist()


@pytest.mark.parametrize(
    "url",
    ["", "x", "ftp://h", "http://", "http://h/?q=1", "http://h/#f", "http://h:99999", "http://u:p@h", "http://h h"],
)
def test_what_is_no_url_is_refused(url: str) -> None:
    """In one line."""
    with pytest.raises(UsageError) as error:
        HttpClient(url)
    assert "\n" not in str(error.value) and "http://HOST:PORT" in str(error.value)
