"""What a gate costs: requests a second and latency of MLServer alone, of the gate, and of the gate before MLServer.

    make mlserver
    PYTHONPATH=. .venv/bin/python benchmarks/gate.py [--requests 700] [--clients 1,8] [--json FILE]

All four run at the same time, each in a process of its own with the bundle's classifier on one thread, and are asked in
turn, some requests each, so that a busy machine slows all of them. Before that, MLServer's labels and the gate's are
compared on every image. One client also asks the firewall in the benchmark's own process. The images are the demo's
signs at the classifier's size, benign and attacked. MLServer takes JSON only; the gate is asked in both forms. p99
needs 662 requests.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from machine import machine

from firewall import Firewall
from firewall.bundle import load_bundle
from firewall.demo.source import DemoReader, truth
from firewall.frame import Pixels
from firewall.transforms import resize
from tests.gate.mlserver import running_mlserver

_EVERY = 5  # frames of the demo
_TURN = 50  # requests of one client before the next server's turn


def main() -> None:
    """Compare, time, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=700, help="of each server, for each number of clients")
    parser.add_argument("--clients", default="1,8", help="how many at a time")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    bundle = load_bundle("default")
    images = signs(bundle.manifest.classifier.input.width, bundle.manifest.classifier.input.height)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        mlserver = stack.enter_context(running_mlserver(folder, bundle))
        alone = stack.enter_context(gate())
        before = stack.enter_context(gate("--upstream", mlserver, "--model", "pixels"))
        name = bundle.manifest.name
        subjects: dict[str, Asker | Direct] = {
            "MLServer alone, JSON": Asker(mlserver, "pixels", "input", binary=False),
            "gate, JSON": Asker(alone, name, "image", binary=False),
            "gate, binary": Asker(alone, name, "image", binary=True),
            "gate before MLServer, binary": Asker(before, "pixels", "input", binary=True),
        }
        result: dict[str, Any] = {"machine": machine(), "images": len(images), **compare(subjects, images), "rows": []}
        for clients in (int(each) for each in arguments.clients.split(",")):
            # A firewall is for one thread at a time.
            asked = {**subjects, "verdict, no HTTP": Direct()} if clients == 1 else subjects
            result["rows"] += timed(asked, images, arguments.requests, clients)
        result["machine"]["load_after"] = os.getloadavg()[0]
    for row in result["rows"]:
        print(json.dumps(row))  # noqa: T201 - a program that prints
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


def signs(width: int, height: int) -> list[Pixels]:
    """The demo's signs, benign and attacked."""
    found = []
    for sequence, (pixels, _) in enumerate(DemoReader({"fps": "0", "loop": "0"})):
        if sequence % _EVERY == 0:
            x, y, w, h = truth(sequence).box
            found.append(resize(np.ascontiguousarray(pixels[y : y + h, x : x + w]), width, height))
    return found


@contextmanager
def gate(*more: str) -> Iterator[str]:
    """A gate's URL."""
    command = [sys.executable, "-m", "firewall", "gate", "--http", "127.0.0.1:0", "--threads", "1", "--rate", "0"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [*command, "--timeout", "60", *more], stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stderr is not None  # noqa: S101 - a pipe was asked for
        try:
            said = next(line for line in process.stderr if line.startswith("gate: http"))
            parts = urlsplit(said.split()[1].rstrip(","))
            yield f"{parts.scheme}://{parts.netloc}"
        finally:
            process.terminate()


class Asker:
    """Asks one server for the label of an image."""

    def __init__(self, url: str, model: str, tensor: str, *, binary: bool) -> None:
        """Name the server, its model and the model's input."""
        self._address, self._path, self._tensor, self._binary = (
            urlsplit(url),
            f"/v2/models/{model}/infer",
            tensor,
            binary,
        )

    def connected(self) -> http.client.HTTPConnection:
        """A connection that stays open."""
        return http.client.HTTPConnection(self._address.hostname or "", self._address.port, timeout=120)

    def request(self, image: Pixels) -> tuple[bytes, dict[str, str]]:
        """(body, headers); made before the clock runs."""
        tensor: dict[str, Any] = {"name": self._tensor, "datatype": "UINT8", "shape": [1, *image.shape]}
        if not self._binary:
            body = json.dumps({"inputs": [{**tensor, "data": image.reshape(-1).tolist()}]}).encode()
            return body, {"Content-Type": "application/json"}
        tensor["parameters"] = {"binary_data_size": image.size}
        head = json.dumps({"inputs": [tensor]}).encode()
        return head + image.tobytes(), {"Inference-Header-Content-Length": str(len(head))}

    def ask(self, connection: http.client.HTTPConnection, request: tuple[bytes, dict[str, str]]) -> tuple[int, Any]:
        """(status, JSON) of the answer."""
        connection.request("POST", self._path, *request)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())


class Direct:
    """The firewall in this process, as if it were a server: what a gate's answer costs without HTTP."""

    def __init__(self) -> None:
        self._guard = Firewall.load("default", threads=1)

    def connected(self) -> NoConnection:
        """Nothing that would have to be closed."""
        return NoConnection()

    def request(self, image: Pixels) -> Pixels:
        """The image."""
        return image

    def ask(self, _: Any, request: Pixels) -> tuple[int, Any]:
        """The status that a gate would answer."""
        return 200 if self._guard.screen(request).released else 422, None


class NoConnection:
    """Stands for one."""

    def connect(self) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to do."""


def compare(subjects: dict[str, Any], images: list[Pixels]) -> dict[str, int]:
    """How many images each releases; ends the program where two labels differ that should be the same."""
    labels: dict[str, list[int | None]] = {}
    for name, asker in subjects.items():
        connection, labels[name] = asker.connected(), []
        for image in images:
            status, answer = asker.ask(connection, asker.request(image))
            if status not in (200, 422):
                raise SystemExit(f"{name} answered {status}: {answer}")
            outputs = {each["name"]: each["data"] for each in answer.get("outputs", [])}
            if "logits" in outputs:
                labels[name].append(int(np.argmax(outputs["logits"])))
            else:
                labels[name].append(outputs["label"][0] if outputs else None)
        connection.close()
    first, *gates = labels
    for name in gates:
        if labels[name] != labels[gates[0]]:
            raise SystemExit(f"{name} releases other labels than {gates[0]}")
        if any(label not in (None, truth_) for label, truth_ in zip(labels[name], labels[first], strict=True)):
            raise SystemExit(f"{name} releases a label that {first} doesn't give")
    return {"released": sum(label is not None for label in labels[gates[0]])}


def timed(subjects: dict[str, Any], images: list[Pixels], requests: int, clients: int) -> list[dict[str, Any]]:
    """A row for each server."""
    prepared = {name: [asker.request(image) for image in images] for name, asker in subjects.items()}
    times: dict[str, list[float]] = {name: [] for name in subjects}
    spent = dict.fromkeys(subjects, 0.0)
    while any(len(each) < requests for each in times.values()):
        for name, asker in subjects.items():
            started = time.perf_counter()
            share = max(1, _TURN // clients)
            threads = [
                threading.Thread(target=_turn, args=(asker, prepared[name], number * share, share, times[name]))
                for number in range(clients)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            spent[name] += time.perf_counter() - started
    rows = []
    for name, found in times.items():
        p50, p90, p99, most = (1e3 * float(each) for each in np.percentile(found, [50, 90, 99, 100]))
        rows.append(
            {
                "server": name,
                "clients": clients,
                "requests": len(found),
                "requests_a_second": round(len(found) / spent[name], 1),
                "p50_ms": round(p50, 1),
                "p90_ms": round(p90, 1),
                "p99_ms": round(p99, 1),
                "max_ms": round(most, 1),
            }
        )
    return rows


def _turn(asker: Any, requests: list[Any], first: int, count: int, times: list[float]) -> None:
    connection = asker.connected()
    connection.connect()
    for number in range(count):
        request = requests[(first + number) % len(requests)]
        started = time.perf_counter()
        status, _ = asker.ask(connection, request)
        times.append(time.perf_counter() - started)
        if status not in (200, 422):
            raise SystemExit(f"answered {status}")
    connection.close()


if __name__ == "__main__":
    main()
