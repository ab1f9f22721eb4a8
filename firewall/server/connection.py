"""One connection of the web server, and what it may cost: time, memory and places."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import struct
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

__all__ = ["Connection", "Limits", "network"]

#: Bytes that wait in the system for a reader of events; a state has some kilobytes.
_LITTLE = 1 << 15
_TIMED_OUT = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Limits:
    """What clients may take. Times in seconds.

    Attributes:
        head_time: From the connection, or from the end of the last answer, to the end of the next request's head; what
            trickles in meanwhile doesn't lengthen it.
        body_time: From the end of a request's head to the end of its body.
        send_time: What was sent must have been taken by then.
        connections: The most connections at a time.
        for_address: The most of these from one address (a /64 network of IPv6).
        streams: The most readers of /events at a time.
        streams_for_address: The most of these from one address.
    """

    head_time: float = 5.0
    body_time: float = 10.0
    send_time: float = 10.0
    connections: int = 256
    for_address: int = 64
    streams: int = 32
    streams_for_address: int = 16


def network(address: str) -> str:
    """Whom an address counts for: itself; for IPv6 its /64, which is what one machine is usually given."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped:
        return str(found.ipv4_mapped)
    return str(ipaddress.IPv6Network((found, 64), strict=False))


class Connection(H11Protocol):
    """HTTP/1.1 as uvicorn speaks it, with a limit on everything that a client can draw out.

    Nobody is refused for what others hold open: where there are too many connections, the one that has kept the server
    waiting longest goes, from the address that has the most. A request that arrives at once, as that of an orchestrator
    for its health, is therefore always answered.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        limits: Limits,
    ) -> None:
        """As uvicorn makes it. The pages find it as request.state.connection."""
        super().__init__(config, server_state, {**app_state, "connection": self}, _loop)
        self._limits = limits
        self._awaited = ""  # "head" or "body" of a request: what we wait for
        self._wait_timer: asyncio.TimerHandle | None = None
        self._send_timer: asyncio.TimerHandle | None = None
        self._dropped = False
        self._began = False  # some of the next request's head has come
        self.address = ""
        self.waiting_since: float | None = None  # of the loop's clock: no whole request is in hand
        self.stalled_since: float | None = None  # of the loop's clock: what was sent isn't taken

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take it in, and send another one away if there are too many."""
        super().connection_made(transport)
        # Told of every byte that the system doesn't take, so that no more than one piece of an answer waits here. With
        # TLS, asyncio counts from the limit itself: 0 would mean that even nothing is too much.
        transport.set_write_buffer_limits(high=1 if transport.get_extra_info("sslcontext") else 0, low=0)
        self.address = network(self.client[0] if self.client else "")
        self._settle()
        self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing of it stays."""
        for timer in (self._wait_timer, self._send_timer):
            if timer is not None:
                timer.cancel()
        self._wait_timer = self._send_timer = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Part of a request."""
        self._began = True
        super().data_received(data)
        self._settle()

    def on_response_complete(self) -> None:
        """The answer has been handed over; the next request may come."""
        self._began = False
        super().on_response_complete()
        self._settle()

    def pause_writing(self) -> None:
        """The client isn't taking what was sent as fast as it was sent."""
        super().pause_writing()
        self.stalled_since = self.loop.time()
        self._send_timer = self.loop.call_later(self._limits.send_time, self.drop)

    def resume_writing(self) -> None:
        """The client has taken all of it."""
        super().resume_writing()
        self.stalled_since = None
        if self._send_timer is not None:
            self._send_timer.cancel()
            self._send_timer = None

    def buffer_little(self) -> None:
        """For an answer without end: else the system would hold megabytes for a client that takes nothing, and it would
        be minutes before that is seen."""
        self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _LITTLE)

    def drop(self) -> None:
        """End it at once; what was not sent is lost."""
        self._dropped = True
        # The system too shall forget what it still holds for a client that takes nothing.
        reset = struct.pack("ii", 1, 0)
        self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
        self.transport.abort()

    def _settle(self) -> None:
        """Start or end the wait for a request's head or body. One that goes on is not started again."""
        if self.cycle is None or self.cycle.response_complete:
            awaited, most = "head", self._limits.head_time
        else:
            awaited, most = "body" if self.cycle.more_body else "", self._limits.body_time
        if awaited == self._awaited or self.transport.is_closing():
            return
        if self._wait_timer is not None:
            self._wait_timer.cancel()
        self._awaited = awaited
        self.waiting_since = self.loop.time() if awaited else None
        self._wait_timer = self.loop.call_later(most, self._waited_enough) if awaited else None

    def _waited_enough(self) -> None:
        awaited, self._awaited, self._wait_timer = self._awaited, "", None
        if self.stalled_since is not None:  # the last answer is still on its way, and has a limit of its own
            self._settle()
            return
        if self._began and (awaited == "head" or not self.cycle.response_started):
            self.transport.write(_TIMED_OUT)
        self.transport.close()

    def _make_room(self) -> None:
        others = [
            each for each in self.connections if isinstance(each, Connection) and each is not self and not each._dropped
        ]
        near = [each for each in others if each.address == self.address]
        if len(near) >= self._limits.for_address:
            leaves = _most_idle(near)
        elif len(others) >= self._limits.connections:
            ((crowded, _),) = Counter(each.address for each in others).most_common(1)
            leaves = _most_idle(each for each in others if each.address == crowded) or _most_idle(others)
        else:
            return
        if leaves is not None:
            leaves.drop()
        elif len(others) >= self._limits.connections:
            self.drop()


def _most_idle(connections: Iterable[Connection]) -> Connection | None:
    """Which of them has kept us waiting longest: for a request if any does, else for taking its answer."""
    among = list(connections)
    waiting = [(each.waiting_since, id(each), each) for each in among if each.waiting_since is not None]
    stalled = [(each.stalled_since, id(each), each) for each in among if each.stalled_since is not None]
    found = min(waiting or stalled, default=None)
    return None if found is None else found[2]
