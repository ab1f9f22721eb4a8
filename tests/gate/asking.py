"""Gates for tests, and requests to them as bytes on a socket, so that a test can send what no client would."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from firewall.bundle import InputSpec
from firewall.frame import Pixels
from firewall.gate.app import create_app
from firewall.gate.gate import Gate, GateLimits
from firewall.gate.judge import Judge
from firewall.gate.pictures import Floats, Pictures, Scale
from firewall.server import HttpServer, Limits

MODEL = "signs"
#: The machine may be busy: what is not about time must not end for want of it.
PATIENT = GateLimits(time=60.0, rate=0)


def make_gate(
    judge: Judge, *, limits: GateLimits = PATIENT, floats: Floats = "255", model: str = MODEL, **parts: Any
) -> Gate:
    """A gate with the tests' firewall."""
    spec: InputSpec = judge.guard.bundle.manifest.classifier.input
    pictures = Pictures(Scale(floats, spec), most_images=limits.images, most_pixels=limits.pixels)
    return Gate(judge, pictures, model=model, limits=limits, **parts)


@contextmanager
def served(gate: Gate, *, limits: Limits | None = None, tls: Any = None) -> Iterator[HttpServer]:
    """It, on a free port of this machine."""
    with HttpServer(create_app(gate), "127.0.0.1", 0, limits=limits, tls=tls) as server:
        yield server


@dataclass
class Reply:
    """An answer."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found

    @property
    def labels(self) -> list[int]:
        (output,) = [each for each in self.json["outputs"] if each["name"] == "label"]
        found: list[int] = output["data"]
        return found


def ask(
    server: HttpServer,
    method: str = "GET",
    path: str = "/v2",
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
) -> Reply:
    """One request on a connection of its own."""
    address = urlsplit(server.url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=100)
    try:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return Reply(answer.status, answer.msg, answer.read())
    finally:
        connection.close()


def request_of(pixels: np.ndarray[Any, Any], **more: Any) -> dict[str, Any]:
    """The JSON of a request for one tensor of UINT8."""
    tensor = {"name": "image", "datatype": "UINT8", "shape": list(pixels.shape), "data": pixels.reshape(-1).tolist()}
    return {"inputs": [tensor], **more}


def infer(server: HttpServer, request: Any, *, model: str = MODEL, **headers: str) -> Reply:
    """Ask for labels: with JSON, or with bytes as they are."""
    body = request if isinstance(request, bytes) else json.dumps(request).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return ask(server, "POST", f"/v2/models/{model}/infer", body, named)


def plain(side: int = 40) -> Pixels:
    """An image that no bundle releases."""
    return np.full((side, side, 3), 90, np.uint8)
