"""Messages between the firewall and its capture process: a JSON header, then raw bytes.

On the wire: 4 bytes (length of the header, big-endian), the header, then as many bytes as its `bytes` says. Nothing is
ever unpickled: the capture process decodes what strangers send, so what comes from it is checked like any input.
"""

from __future__ import annotations

import json
import select
import socket
import struct
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from firewall.errors import SourceError
from firewall.frame import MAX_SIDE, Pixels

__all__ = ["Channel", "Message"]

_LENGTH = struct.Struct(">I")
_LONGEST_HEADER = 64 << 10
_LONGEST_BODY = MAX_SIDE * MAX_SIDE * 3


@dataclass(frozen=True)
class Message:
    """One message between two processes.

    Attributes:
        header: What the sender said.
        body: Raw bytes, empty for most.
    """

    header: dict[str, Any]
    body: bytearray


class Channel:
    """One end. A message that is not what it should be is a SourceError; the other end gone is an EOFError."""

    def __init__(self, end: socket.socket, *, longest_header: int = _LONGEST_HEADER) -> None:
        """Take one end of a connection.

        Args:
            end: A connected stream socket, closed by `close`.
            longest_header: Bytes of the longest header that is accepted.
        """
        self._socket = end
        self._longest_header = longest_header
        self._parts: list[bytearray] = []
        self._want = bytearray(_LENGTH.size)
        self._got = 0
        #: Bytes received so far: whether it grows tells a slow sender from a dead one.
        self.received = 0

    def send(self, header: dict[str, Any], body: Pixels | None = None) -> None:
        """Send all of it; blocks while the other end doesn't read.

        Raises:
            EOFError: If the other end is gone.
        """
        size = 0 if body is None else body.nbytes
        packed = json.dumps({**header, "bytes": size}).encode()
        try:
            self._socket.sendall(_LENGTH.pack(len(packed)) + packed)
            if body is not None:
                self._socket.sendall(np.ascontiguousarray(body).data)
        except (BrokenPipeError, ConnectionError) as error:
            raise EOFError from error

    def receive(self, timeout: float | None) -> Message | None:
        """The next message, or None if it was not complete after `timeout` seconds (None = wait)."""
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            while self._got == len(self._want):
                message = self._complete()
                if message is not None:
                    return message
            left = None if end is None else max(0.0, end - time.monotonic())
            if not _readable(self._socket, left):
                return None
            try:
                count = self._socket.recv_into(memoryview(self._want)[self._got :])
            except ConnectionError as error:
                raise EOFError from error
            if count == 0:
                raise EOFError
            self._got += count
            self.received += count

    def _complete(self) -> Message | None:
        """What was wanted is here: the message if it was the last part of one."""
        self._parts.append(self._want)
        if len(self._parts) == 1:
            size = _LENGTH.unpack(self._parts[0])[0]
            longest = self._longest_header
        elif len(self._parts) == 2:
            size = _header(self._parts[1]).get("bytes")
            longest = _LONGEST_BODY
        else:
            header, body = _header(self._parts[1]), self._parts[2]
            self._parts, self._want, self._got = [], bytearray(_LENGTH.size), 0
            return Message(header, body)
        if type(size) is not int or not 0 <= size <= longest:
            raise SourceError(f"the capture process sent a message of {size!r} bytes")
        self._want, self._got = bytearray(size), 0
        return None

    def close(self) -> None:
        """The other end gets an EOFError."""
        self._socket.close()


def _header(packed: bytearray) -> dict[str, Any]:
    try:
        header = json.loads(packed)
    except ValueError as error:
        raise SourceError("the capture process sent a header that is not JSON") from error
    if not isinstance(header, dict):
        raise SourceError("the capture process sent a header that is not an object")
    return header


def _readable(end: socket.socket, timeout: float | None) -> bool:
    poll = select.poll()  # select.select fails where file descriptors go beyond 1023
    poll.register(end, select.POLLIN)
    return bool(poll.poll(None if timeout is None else timeout * 1000))
