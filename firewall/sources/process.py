"""The capture process: reads one source and gives a frame when asked. Started by `capture`, never by hand.

Native decoders can hang or crash on what cameras and networks send; in a separate process they can be killed. It leaves
signals of the terminal to its parent, and ends when its parent does.
"""

from __future__ import annotations

import os
import queue
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from firewall.errors import CameraFaultError, FirewallError, ImageError, StaleError
from firewall.frame import Pixels, check_pixels
from firewall.sources.channel import Channel
from firewall.sources.freshness import Freshness
from firewall.sources.uri import SourceSpec

__all__ = ["Reader", "main", "open_reader"]

_LONGEST_REQUEST = 1 << 28  # the names of a folder's files go in one
_FROZEN, _FROZEN_STREAM = 2.0, 10.0
_NO_CAMERA = ("images", "test")  # neither a still nor the test pattern need show a scene
_LAST_WORDS = 1.0  # seconds a reader has to close when the process has to end


class Reader(Protocol):
    """What every source offers. An ImageError from `__next__` is about one frame: the next call goes on."""

    def __next__(self) -> tuple[Pixels, float]:
        """(pixels (H, W, 3) uint8 RGB, time.monotonic() when they were captured)."""

    def close(self) -> None:
        """Close what is open."""


def open_reader(spec: SourceSpec, *, open_timeout: float, read_timeout: float, start: int = 0) -> Reader:
    """The reader of a source.

    Imports only what that kind of source needs.

    Args:
        spec: The source.
        open_timeout: Longest wait for it to open, in seconds.
        read_timeout: Longest wait for a frame, in seconds.
        start: How many pictures, or frames of test or demo, to skip first.

    Raises:
        SourceError: If the source can't be opened.
    """
    if spec.kind == "images":
        from firewall.sources.image import ImageReader

        return ImageReader(spec.files, start=start)
    if spec.kind == "test":
        from firewall.sources.pattern import PatternReader

        return PatternReader(spec.options, paced=spec.live, start=start)
    if spec.kind == "demo":
        from firewall.demo.source import DemoReader

        return DemoReader(spec.options, start=start)
    if spec.kind in ("camera", "csi"):
        from firewall.sources.camera import open_camera, open_csi_camera

        if spec.kind == "csi":
            return open_csi_camera(spec.target, spec.options)
        return open_camera(spec.target, spec.options, read_timeout=read_timeout)
    if spec.kind == "stream":
        from firewall.sources.stream import open_stream

        return open_stream(spec.target, spec.name, open_timeout=open_timeout, read_timeout=read_timeout)
    from firewall.sources.video import VideoReader

    return VideoReader(spec.target, spec.name, timeout=max(open_timeout, read_timeout))


@dataclass(frozen=True)
class _Reply:
    """A header and, for a frame, its pixels. `last`: nothing comes after it."""

    header: dict[str, Any]
    pixels: Pixels | None = None

    @property
    def last(self) -> bool:
        return self.header["kind"] in ("end", "failed")


class _Frames:
    """The replies of a source, one for each frame, numbered from 0."""

    def __init__(self, reader: Reader, explain: Callable[[Exception], str], freshness: Freshness) -> None:
        self._reader, self._explain, self._freshness = reader, explain, freshness
        self._index = 0

    def next(self) -> _Reply:
        index = self._index
        self._index += 1
        try:
            pixels, captured_at = next(self._reader)
            check_pixels(pixels)
            self._freshness.check(pixels, captured_at)
        except StopIteration:
            return _Reply({"kind": "end"})
        except ImageError as error:
            return _Reply({"kind": _kind(error), "index": index, "detail": self._explain(error)})
        except Exception as error:  # whatever a decoder throws: the parent has to hear of it
            return _Reply({"kind": "failed", "detail": self._explain(error)})
        header = {"kind": "frame", "index": index, "shape": pixels.shape, "captured_at": float(captured_at)}
        return _Reply(header, pixels)

    def take(self, closing: Callable[[], bool]) -> _Reply | None:
        """Files wait to be asked."""
        return self.next()

    def close(self) -> None:
        self._reader.close()


class _NewestFrame(_Frames):
    """The replies of a live source: a thread reads on and keeps the newest; what nobody took is gone."""

    def __init__(self, reader: Reader, explain: Callable[[Exception], str], freshness: Freshness) -> None:
        super().__init__(reader, explain, freshness)
        self._changed = threading.Condition()
        self._newest: _Reply | None = None
        self._end: _Reply | None = None
        self._closing = False
        self._thread = threading.Thread(target=self._read_on, name="newest frame", daemon=True)
        self._thread.start()

    def _read_on(self) -> None:
        while not self._closing:
            reply = self.next()
            with self._changed:
                if reply.last:
                    self._end = reply
                else:
                    self._newest = reply
                self._changed.notify()
            if reply.last:
                break
        self._reader.close()  # here, because no other thread may while a native call is under way

    def take(self, closing: Callable[[], bool]) -> _Reply | None:
        with self._changed:
            while self._newest is None and self._end is None:
                if closing():
                    return None
                self._changed.wait(0.2)
            reply, self._newest = self._newest or self._end, None
            return reply

    def close(self) -> None:
        self._closing = True
        self._thread.join(_LAST_WORDS)


def main(descriptor: int, parent: int) -> None:
    """Serve the firewall at the other end of socket `descriptor` until it hangs up or process `parent` is gone."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    channel = Channel(socket.socket(fileno=descriptor), longest_header=_LONGEST_REQUEST)
    requests: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(channel, requests, parent), name="listener", daemon=True).start()
    with suppress(EOFError):
        _serve(channel, requests)
    os._exit(0)  # threads may be inside native code that an orderly end would pull away from under them


def _listen(channel: Channel, requests: queue.SimpleQueue[dict[str, Any] | None], parent: int) -> None:
    with suppress(EOFError, OSError, FirewallError):
        # The end of the socket may stay open in a fork of the parent, so its being alive is asked as well.
        while os.getppid() == parent:
            message = channel.receive(1.0)
            if message is not None:
                requests.put(message.header)
    requests.put(None)
    time.sleep(_LAST_WORDS)
    os._exit(1)  # the main thread hangs in native code


def _serve(channel: Channel, requests: queue.SimpleQueue[dict[str, Any] | None]) -> None:
    channel.send({"kind": "started"})
    order = requests.get()
    if order is None:
        return
    start, times = order["start"], {key: order[key] for key in ("open_timeout", "read_timeout")}
    spec = SourceSpec(**order["spec"])

    def explain(error: Exception) -> str:
        text = str(error) if isinstance(error, FirewallError) else f"{type(error).__name__}: {error}"
        if spec.kind == "stream":  # its URL may hold a password
            text = text.replace(spec.target, spec.name)
        return " ".join(text.split())[:500]

    try:
        reader = open_reader(spec, start=start, **times)
        channel.send({"kind": "open"})
        if spec.kind == "video":
            _pass_over(reader, start, channel)
        # Rows of an earlier frame tell of a sensor alone: what was drawn or coded may well repeat them.
        rows = order["stale_rows"] if getattr(reader, "sensor", False) else 0
        freshness = Freshness(
            spec.name,
            frozen_after=_frozen_after(spec, order["frozen_after"]),
            stale_rows=rows,
            picture_faults=order["camera_faults"] and spec.kind not in _NO_CAMERA,
            good_frames=order["good_frames"],
        )
        frames = (_NewestFrame if spec.live else _Frames)(reader, explain, freshness)
    except StopIteration:
        channel.send({"kind": "end"})
        return
    except Exception as error:  # also a bug of ours: whatever it is, the parent has to hear of it
        channel.send({"kind": "failed", "detail": explain(error)})
        return
    try:
        while requests.get() is not None:
            reply = frames.take(lambda: not requests.empty())
            if reply is None:
                return
            channel.send(reply.header, reply.pixels)
            if reply.last:
                return
    finally:
        frames.close()


def _kind(error: ImageError) -> str:
    if isinstance(error, CameraFaultError):
        return "fault"
    return "stale" if isinstance(error, StaleError) else "bad"


def _frozen_after(spec: SourceSpec, asked: float | None) -> float:
    """Seconds that a source may show one picture; 0 = for ever, as a recording may."""
    if not spec.live:
        return 0
    if asked is not None:
        return asked
    # In H.264, a camera that nothing moves before may well repeat one picture until its next key frame.
    return _FROZEN_STREAM if spec.kind == "stream" else _FROZEN


def _pass_over(reader: Reader, count: int, channel: Channel) -> None:
    """Go to where a killed capture process had come in a video; seeking lands elsewhere in many a format."""
    skip = getattr(reader, "skip", reader.__next__)  # a video need not convert what it passes over
    told = time.monotonic()
    for _ in range(count):
        skip()
        if time.monotonic() - told > 0.2:
            channel.send({"kind": "alive"})
            told = time.monotonic()
