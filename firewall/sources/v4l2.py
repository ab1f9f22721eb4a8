"""A camera's buffers as the kernel's driver (V4L2) hands them out, with all that it says of each.

OpenCV and FFmpeg read cameras too, but keep to themselves what matters here: that a buffer is damaged, how much of it
was filled, when it was taken. The structures are those of <linux/videodev2.h> on 64-bit machines.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import math
import mmap
import os
import secrets
import select
import time
from contextlib import suppress
from ctypes import c_int, c_long, c_uint8, c_uint16, c_uint32, c_ulong
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from firewall.sources.pixel_formats import Layout

__all__ = ["ALTERNATE", "Buffer", "Stream", "fourcc_text"]

_CAPTURE, _CAPTURE_MPLANE = 1, 9  # buffer types, pictures in one plane or in several
_CAP_CAPTURE, _CAP_MPLANE, _CAP_STREAMING, _CAP_DEVICE_CAPS = 0x1, 0x1000, 0x04000000, 0x80000000
_MMAP = 1
_FLAG_ERROR, _FLAG_CLOCK, _FLAG_MONOTONIC = 0x40, 0xE000, 0x2000
#: Field order of a driver that gives half pictures by turns.
ALTERNATE = 7
_BUFFERS = 4
_STEP = 512  # 8 bytes of so many are a mark
_MOST_FORMATS = 64


class _Capability(ctypes.Structure):
    _fields_ = (
        *(("driver", ctypes.c_char * 16), ("card", ctypes.c_char * 32), ("bus", ctypes.c_char * 32)),
        *(("version", c_uint32), ("capabilities", c_uint32), ("device_caps", c_uint32), ("reserved", c_uint32 * 3)),
    )


class _Description(ctypes.Structure):
    _fields_ = (
        *(("index", c_uint32), ("type", c_uint32), ("flags", c_uint32), ("description", c_uint8 * 32)),
        *(("pixelformat", c_uint32), ("mbus_code", c_uint32), ("reserved", c_uint32 * 3)),
    )


class _Pix(ctypes.Structure):
    _fields_ = tuple(
        (name, c_uint32)
        for name in ("width", "height", "pixelformat", "field", "bytesperline", "sizeimage", "colorspace", "priv")
    )


class _PlaneFormat(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("sizeimage", c_uint32), ("bytesperline", c_uint32), ("reserved", c_uint16 * 6))


class _PixPlanes(ctypes.Structure):
    _pack_ = 1
    _fields_ = (
        *((name, c_uint32) for name in ("width", "height", "pixelformat", "field", "colorspace")),
        *(("planes", _PlaneFormat * 8), ("num_planes", c_uint8), ("flags", c_uint8), ("rest", c_uint8 * 10)),
    )


class _FormatUnion(ctypes.Union):
    # The pointer is not used: with it, the union is aligned as the kernel's is.
    _fields_ = (("pix", _Pix), ("planes", _PixPlanes), ("raw", c_uint8 * 200), ("pointer", ctypes.c_void_p))


class _Format(ctypes.Structure):
    _fields_ = (("type", c_uint32), ("fmt", _FormatUnion))


class _Parm(ctypes.Structure):
    _fields_ = (
        *(("type", c_uint32), ("capability", c_uint32), ("mode", c_uint32)),
        *(("numerator", c_uint32), ("denominator", c_uint32), ("rest", c_uint8 * 184)),
    )


class _Request(ctypes.Structure):
    _fields_ = tuple((name, c_uint32) for name in ("count", "type", "memory", "capabilities", "flags"))


class _PlaneUnion(ctypes.Union):
    _fields_ = (("mem_offset", c_uint32), ("userptr", c_ulong))


class _Plane(ctypes.Structure):
    _fields_ = (
        *(("bytesused", c_uint32), ("length", c_uint32), ("m", _PlaneUnion), ("data_offset", c_uint32)),
        ("reserved", c_uint32 * 11),
    )


class _BufferUnion(ctypes.Union):
    _fields_ = (("offset", c_uint32), ("userptr", c_ulong), ("planes", ctypes.POINTER(_Plane)))


class _Buffer(ctypes.Structure):
    _fields_ = (
        *((name, c_uint32) for name in ("index", "type", "bytesused", "flags", "field")),
        *(("seconds", c_long), ("microseconds", c_long), ("timecode", c_uint32 * 4)),
        *(("sequence", c_uint32), ("memory", c_uint32), ("m", _BufferUnion), ("length", c_uint32)),
        *(("reserved", c_uint32), ("request_fd", c_int)),
    )


def _code(direction: int, number: int, kind: Any) -> int:
    return direction << 30 | ctypes.sizeof(kind) << 16 | ord("V") << 8 | number


_READ, _WRITE = 2, 1
_QUERYCAP = _code(_READ, 0, _Capability)
_ENUM_FMT = _code(_READ | _WRITE, 2, _Description)
_S_FMT = _code(_READ | _WRITE, 5, _Format)
_REQBUFS = _code(_READ | _WRITE, 8, _Request)
_QUERYBUF, _QBUF, _DQBUF = (_code(_READ | _WRITE, number, _Buffer) for number in (9, 15, 17))
_STREAMON = _code(_WRITE, 18, c_int)
_S_PARM = _code(_READ | _WRITE, 22, _Parm)


def fourcc_text(code: int) -> str:
    """The four letters of a pixel format, `MJPG` for instance."""
    return code.to_bytes(4, "little").decode("latin-1").strip()


@dataclass(frozen=True)
class Buffer:
    """What the driver handed out.

    Attributes:
        data: The bytes that it filled.
        damage: Why the picture isn't whole; "" if no damage is known.
        stamp: `time.monotonic()` when it was taken, as the driver says, or None if it doesn't.
        captured_at: When it came, or about `stamp` if it had waited for us; it rises.
    """

    data: bytes
    damage: str
    stamp: float | None
    captured_at: float


class Stream:
    """A camera whose buffers are read. Errors are OSErrors, as the kernel gives them; see `formats` and `choose`."""

    def __init__(self, device: str) -> None:
        """Open the device.

        Args:
            device: /dev/videoN.

        Raises:
            OSError: If it can't be opened; ENOTTY or EINVAL if it is not a camera.
        """
        self._file = os.open(device, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._maps: list[mmap.mmap] = []
        self._marks: list[npt.NDArray[np.uint64]] = []
        try:
            asked = self._ask(_QUERYCAP, _Capability())
        except OSError:
            os.close(self._file)
            raise
        # Two nodes of one camera have the same `capabilities`; what this one can do stands in `device_caps`.
        can = asked.device_caps if asked.capabilities & _CAP_DEVICE_CAPS else asked.capabilities
        self._planes = not can & _CAP_CAPTURE and bool(can & _CAP_MPLANE)
        self._type = _CAPTURE_MPLANE if self._planes else _CAPTURE
        self._came = -math.inf
        #: Whether it gives pictures at all; many a camera has a second node for other data.
        self.gives_pictures = bool(can & (_CAP_CAPTURE | _CAP_MPLANE)) and bool(can & _CAP_STREAMING)
        #: Name of the driver, `uvcvideo` or `v4l2 loopback` for instance.
        self.driver: str = asked.driver.decode("latin-1")

    def _ask(self, code: int, asked: Any) -> Any:
        fcntl.ioctl(self._file, code, asked, True)
        return asked

    def formats(self) -> list[str]:
        """The pixel formats that it offers, as four letters each."""
        found: list[str] = []
        with suppress(OSError):  # EINVAL ends the list
            for index in range(_MOST_FORMATS):
                asked = self._ask(_ENUM_FMT, _Description(index=index, type=self._type))
                found.append(fourcc_text(asked.pixelformat))
        return found

    def choose(self, fourcc: str, width: int, height: int, rate: float | None) -> tuple[Layout, int]:
        """Sets format, size and frames a second, as near as the camera comes; what it took, and the order of fields."""
        wanted = int.from_bytes(fourcc.ljust(4).encode("latin-1"), "little")
        asked = _Format(type=self._type)
        pix = asked.fmt.planes if self._planes else asked.fmt.pix
        pix.width, pix.height, pix.pixelformat = width, height, wanted
        self._ask(_S_FMT, asked)
        if self._planes and pix.num_planes != 1:
            raise OSError(errno.ENOTSUP, "a picture in several buffers")
        stride = pix.planes[0].bytesperline if self._planes else pix.bytesperline
        if rate is not None:
            with suppress(OSError):  # not every driver lets it be set
                self._ask(_S_PARM, _Parm(type=self._type, numerator=1000, denominator=max(1, round(rate * 1000))))
        return Layout(fourcc_text(pix.pixelformat), pix.width, pix.height, stride), pix.field

    def start(self) -> None:
        """Lets the pictures come."""
        count = self._ask(_REQBUFS, _Request(count=_BUFFERS, type=self._type, memory=_MMAP)).count
        if count < 1:
            raise OSError(errno.ENOMEM, "no buffers")
        for index in range(count):
            asked = self._buffer(index)
            self._ask(_QUERYBUF, asked)
            plane = asked.m.planes[0] if self._planes else None
            length = asked.length if plane is None else plane.length
            offset = asked.m.offset if plane is None else plane.m.mem_offset
            memory = mmap.mmap(self._file, length, mmap.MAP_SHARED, offset=offset)
            self._maps.append(memory)
            self._marks.append(np.frombuffer(memory, np.uint64, length // 8)[::_STEP])
        self._mark = np.uint64(secrets.randbits(64))
        for index in range(count):
            self._queue(index)
        self._ask(_STREAMON, c_int(self._type))

    def _buffer(self, index: int = 0) -> _Buffer:
        asked = _Buffer(index=index, type=self._type, memory=_MMAP)
        if self._planes:
            asked.m.planes = ctypes.pointer((_Plane * 8)()[0])
            asked.length = 8
        return asked

    def _queue(self, index: int) -> None:
        """Gives a buffer back to be filled. It is marked: what is still there afterwards was not written to."""
        self._marks[index][:] = self._mark
        self._ask(_QBUF, self._buffer(index))

    def read(self, timeout: float) -> Buffer | None:
        """The newest buffer, or None if none came within `timeout` seconds."""
        poll = select.poll()
        poll.register(self._file, select.POLLIN | select.POLLERR)
        end = time.monotonic() + timeout
        found, waited = self._dequeue(), False
        while found is None:
            left = end - time.monotonic()
            if left <= 0:
                return None
            poll.poll(left * 1000)
            found, waited = self._dequeue(), True
            if found is None:
                time.sleep(0.001)  # POLLERR comes at once, also where nothing is to be had
        came = time.monotonic()
        if not waited:  # it lay there while we were busy: so may newer ones
            while (newer := self._dequeue()) is not None:
                self._queue(found.index)
                found, came = newer, time.monotonic()
        buffer = self._copied(found, came, waited)
        self._came = came
        self._queue(found.index)
        return buffer

    def _dequeue(self) -> _Buffer | None:
        try:
            asked: _Buffer = self._ask(_DQBUF, self._buffer())
        except BlockingIOError:
            return None
        return asked

    def _copied(self, found: _Buffer, came: float, waited: bool) -> Buffer:
        memory, plane = self._maps[found.index], found.m.planes[0] if self._planes else None
        used = found.bytesused if plane is None else plane.bytesused
        first = 0 if plane is None else plane.data_offset
        data = memory[first : min(used, len(memory))]
        damage = ""
        words = range(0, len(memory) // 8, _STEP)
        kept = np.flatnonzero(self._marks[found.index] == self._mark)
        if found.flags & _FLAG_ERROR:
            damage = "its driver calls the picture damaged"
        elif used > len(memory):
            damage = f"its driver says {used} bytes of a buffer of {len(memory)}"
        elif any(first <= 8 * words[mark] and 8 * words[mark] + 8 <= used for mark in kept):
            damage = "a part of the picture was not written"
        stamp = found.seconds + found.microseconds / 1e6
        if found.flags & _FLAG_CLOCK != _FLAG_MONOTONIC or stamp <= 0:
            return Buffer(data, damage, None, came)
        # When it was begun, says the driver: that may be before the last one was here, but it came after that.
        return Buffer(data, damage, stamp, came if waited else min(came, max(stamp, self._came + 1e-6)))

    def close(self) -> None:
        """Gives the camera back; its pictures stop."""
        self._marks = []  # views of the memory
        for memory in self._maps:
            memory.close()
        self._maps = []
        os.close(self._file)
