"""The cameras of soak.py: an MJPEG server in a process of its own, which writes down what it shows, and when.

    python benchmarks/soak_camera.py PORT PICTURES FPS SEED LOG

The pictures are the demo's: drives past signs, some of them attacked, and between them the road without a sign. The
order of the drives depends on the seed; a camera begins with a road without a sign, so that a label that comes then is
an old one.
"""

from __future__ import annotations

import http.server
import json
import os
import random
import struct
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from firewall.demo.scene import Encounter, render
from firewall.demo.source import ENCOUNTERS, DemoReader, truth
from firewall.frame import Pixels, Region

__all__ = ["RECORD", "draw", "order"]

RECORD = struct.Struct("<qi")  # of the log: time.monotonic_ns() when sending began, number of the picture
_STEPS = 24  # of a drive past a benign sign
_TRIES = 3  # sceneries of a drive past a benign sign
_EMPTY = 8  # pictures of the road without a sign, of each drive
_QUALITY = 92
_BUFFER = 1 << 16  # bytes that may be on their way: a camera doesn't store pictures
_BEGIN = 2  # times the pictures of an empty road with which a camera begins


def draw(folder: Path, calm: Callable[[list[bytes], list[dict[str, Any]]], bool]) -> dict[str, int]:
    """Draw all pictures, NNNN.jpg, and write truth.json.

    The truth is a list, one entry a picture: drive, its number; label, the class, or None without a sign; box
    [x, y, width, height] of the sign, or None; attack, its name or None.

    Args:
        folder: Where to.
        calm: Given the pictures of a drive and what they show: whether they can be used. Scenery that isn't is drawn
            from other random numbers; an attacked drive, which can't be, is left out.

    Returns:
        drives, pictures, and drives that were `refused`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    known: list[dict[str, Any]] = []
    refused = drives = 0
    for number, entry in enumerate(ENCOUNTERS):
        for seed in (entry.seed,) if entry.attack else range(entry.seed, entry.seed + 100 * _TRIES, 100):
            pictures, truths = _drive(number, replace(entry, seed=seed))
            if calm(pictures, truths):
                for picture in pictures:
                    (folder / f"{len(known):04d}.jpg").write_bytes(picture)
                    known.append(truths.pop(0) | {"drive": drives})
                drives += 1
                break
            refused += 1
    (folder / "truth.json").write_text(json.dumps(known), encoding="utf-8")
    return {"drives": drives, "pictures": len(known), "refused": refused}


def _drive(number: int, entry: Encounter) -> tuple[list[bytes], list[dict[str, Any]]]:
    """The pictures of a drive, and what they show: the road without the sign, then the sign."""
    pictures: list[bytes] = []
    truths: list[dict[str, Any]] = []

    def add(pixels: Pixels, label: int | None, box: Region | None) -> None:
        quality = [cv2.IMWRITE_JPEG_QUALITY, _QUALITY - len(pictures) % 3]
        pictures.append(cv2.imencode(".jpg", np.ascontiguousarray(pixels[..., ::-1]), quality)[1].tobytes())
        attack = None if label is None else entry.attack
        truths.append({"label": label, "box": None if box is None else list(box), "attack": attack})

    before = replace(entry, steps=4 * _EMPTY)
    for step in range(_EMPTY):
        add(render(before, step, empty=True)[0], None, None)
    if entry.attack is None:
        longer = replace(entry, steps=_STEPS)
        for step in range(_STEPS):
            pixels, box = render(longer, step)
            add(pixels, entry.label, box)
        return pictures, truths
    start = sum(each.steps for each in ENCOUNTERS[:number])
    attacked = DemoReader({"fps": "0", "loop": "0"}, start=start)
    for step in range(entry.steps):
        pixels, _ = next(attacked)
        for _ in range(2):  # two frames, the second of another JPEG quality
            add(pixels, entry.label, truth(start + step).box)
    return pictures, truths


def order(known: list[dict[str, Any]], seed: int, count: int) -> list[int]:
    """The first `count` pictures, at least, that a camera with this seed shows."""
    chance = random.Random(seed)  # noqa: S311 - an order, no secret
    numbers = sorted({each["drive"] for each in known})
    drives = [[at for at, each in enumerate(known) if each["drive"] == number] for number in numbers]
    shown = [at for at in chance.choice(drives) if known[at]["label"] is None] * _BEGIN
    last = None
    while len(shown) < count:  # no drive twice in a row: its pictures are to tell of the moment
        last = chance.choice([drive for drive in drives if drive is not last])
        shown += last
    return shown


class _Camera(http.server.BaseHTTPRequestHandler):
    """Shows the picture whose time it is; one that could not be sent in time is left out."""

    pictures: list[bytes]
    shown: list[int]
    fps: float
    log: int
    began: float

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=picture")
        self.end_headers()
        number = 0
        with suppress(OSError):
            while True:
                number = max(number + 1, int((time.monotonic() - self.began) * self.fps))
                time.sleep(max(0.0, self.began + number / self.fps - time.monotonic()))
                picture = self.shown[number % len(self.shown)]
                data = self.pictures[picture]
                head = f"--picture\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
                os.write(self.log, RECORD.pack(time.monotonic_ns(), picture))
                self.wfile.write(head.encode() + data + b"\r\n")

    def log_message(self, *_: object) -> None:
        pass


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def get_request(self) -> Any:
        connection, address = super().get_request()
        connection.setsockopt(1, 7, _BUFFER)  # SOL_SOCKET, SO_SNDBUF
        return connection, address


def main() -> None:
    """Show pictures until the process is killed."""
    port, folder, fps, seed, log = sys.argv[1:]
    known = json.loads((Path(folder) / "truth.json").read_text(encoding="utf-8"))
    _Camera.pictures = [(Path(folder) / f"{number:04d}.jpg").read_bytes() for number in range(len(known))]
    _Camera.fps, _Camera.shown = float(fps), order(known, int(seed), 100_000)
    _Camera.log = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    server = _Server(("127.0.0.1", int(port)), _Camera)
    _Camera.began = time.monotonic()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    thread.join()


if __name__ == "__main__":
    main()
