"""One HTTP/1.1 server that is asked, with a limit on the whole of every exchange: its time and its bytes.

It follows no redirects, takes no proxy from the environment, and decodes no compressed answers. Connections are kept
open for the next request.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import h11

from firewall.errors import UsageError
from firewall.gate.refusal import Code, Refusal

__all__ = ["Answer", "HttpClient"]

_MOST_IDLE = 16
_PIECE = 1 << 16
_PATH = re.compile(r"[A-Za-z0-9._~/%-]*")


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer.

    Attributes:
        status: HTTP's.
        headers: Lower-case name -> value.
        body: All of it.
    """

    status: int
    headers: dict[str, str]
    body: bytes


class _Stale(Exception):  # noqa: N818 - not an error: the server had closed a connection that was kept
    pass


@dataclass(slots=True)
class _Line:
    """An open connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    protocol: h11.Connection
    used: bool = False

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self.writer.transport.abort()


class HttpClient:
    """Asks one server. For one event loop."""

    def __init__(self, url: str, *, ca: Path | None = None, most_bytes: int = 4 << 20) -> None:
        """Name the server.

        Args:
            url: http:// or https://, a host, a port and a path if need be.
            ca: Who signs the server's certificate, in PEM; None: whom the system trusts.
            most_bytes: Of an answer's body.

        Raises:
            UsageError: If it is anything else, or there is no such file.
        """
        usage = "give --upstream as http://HOST:PORT or https://HOST:PORT, with a path if need be"
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise UsageError(f"{url!r} is no URL; {usage}") from None
        if "@" in parts.netloc:
            raise UsageError(f"--upstream holds a user name or password, which other users can see; {usage}")
        fine = parts.scheme in ("http", "https") and parts.hostname and _PATH.fullmatch(parts.path)
        if not fine or parts.query or parts.fragment or any(ord(each) <= 32 for each in url):
            raise UsageError(f"{url!r} names no upstream; {usage}")
        self._host = parts.hostname or ""
        self._tls: ssl.SSLContext | None = None
        if parts.scheme == "https":
            try:
                self._tls = ssl.create_default_context(cafile=None if ca is None else str(ca))
            except (OSError, ssl.SSLError) as error:
                raise UsageError(f"can't use --upstream-ca {ca}: {error}") from None
        elif ca is not None:
            raise UsageError("--upstream-ca is for an upstream with https://")
        self._port = port if port is not None else 443 if self._tls else 80
        self._prefix = parts.path.rstrip("/")
        self._authority = parts.netloc
        self._most_bytes = most_bytes
        self._idle: list[_Line] = []

    async def request(
        self, method: str, path: str, *, deadline: float, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> Answer:
        """One exchange.

        Args:
            method: GET or POST.
            path: Below the URL's own.
            deadline: `time.monotonic()` by which the whole answer must be there.
            body: Of the request.
            headers: More headers of the request.

        Raises:
            Refusal: If the server can't be reached, is too slow, or gives no whole answer.
        """
        left = deadline - time.monotonic()
        try:
            return await asyncio.wait_for(self._exchange(method, path, body, headers or {}), max(0.0, left))
        except asyncio.TimeoutError:
            raise Refusal(Code.UPSTREAM_TIMEOUT, "the upstream did not answer in time") from None

    async def _exchange(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> Answer:
        while True:
            line = self._idle.pop() if self._idle else await self._opened()
            try:
                return await self._asked(line, method, path, body, headers)
            except _Stale:
                continue  # only where no byte of an answer had come; a new connection is never stale
            except (OSError, EOFError) as error:
                raise Refusal(Code.UPSTREAM_UNREACHABLE, f"the upstream ended its answer: {_why(error)}") from None
            except h11.ProtocolError:
                raise Refusal(Code.UPSTREAM_GARBAGE, "the upstream's answer is no HTTP") from None

    async def _opened(self) -> _Line:
        try:
            reader, writer = await asyncio.open_connection(self._host, self._port, ssl=self._tls, limit=_PIECE)
        except (OSError, UnicodeError) as error:
            raise Refusal(Code.UPSTREAM_UNREACHABLE, f"the upstream can't be reached: {_why(error)}") from None
        return _Line(reader, writer, h11.Connection(h11.CLIENT))

    async def _asked(self, line: _Line, method: str, path: str, body: bytes, headers: dict[str, str]) -> Answer:
        whole = False
        try:
            sent = [("Host", self._authority), ("Accept", "*/*"), ("Accept-Encoding", "identity"), *headers.items()]
            if method == "POST":
                sent.append(("Content-Length", str(len(body))))
            protocol = line.protocol
            data = protocol.send(h11.Request(method=method, target=f"{self._prefix}{path}", headers=sent)) or b""
            data += (protocol.send(h11.Data(data=body)) or b"") if body else b""
            data += protocol.send(h11.EndOfMessage()) or b""
            try:
                line.writer.write(data)
                await line.writer.drain()
                answer = await self._received(line)
            except (ConnectionError, EOFError) as error:
                if line.used and protocol.their_state is h11.SEND_RESPONSE and not protocol.trailing_data[0]:
                    raise _Stale from error
                raise
            if protocol.our_state is h11.DONE and protocol.their_state is h11.DONE:
                protocol.start_next_cycle()
                whole = not protocol.trailing_data[0] and len(self._idle) < _MOST_IDLE
            return answer
        finally:
            if whole:
                line.used = True
                self._idle.append(line)
            else:
                line.close()

    async def _received(self, line: _Line) -> Answer:
        response: h11.Response | None = None
        parts, size = [], 0
        while True:
            event = line.protocol.next_event()
            if event is h11.NEED_DATA:
                piece = await line.reader.read(_PIECE)
                if not piece and response is None:
                    raise EOFError("it closed the connection without one")
                line.protocol.receive_data(piece)
            elif isinstance(event, h11.Response):
                response = event
            elif isinstance(event, h11.Data):
                size += len(event.data)
                if size > self._most_bytes:
                    raise Refusal(Code.UPSTREAM_GARBAGE, f"the upstream's answer has over {self._most_bytes} bytes")
                parts.append(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage) and response is not None:
                named = {name.decode("latin-1"): value.decode("latin-1") for name, value in response.headers}
                if named.get("content-encoding", "identity") != "identity":
                    raise Refusal(Code.UPSTREAM_GARBAGE, "the upstream's answer is compressed, which wasn't asked for")
                return Answer(response.status_code, named, b"".join(parts))
            elif not isinstance(event, h11.InformationalResponse):
                raise EOFError("it closed the connection")

    def close(self) -> None:
        """Close what is kept open."""
        while self._idle:
            self._idle.pop().close()


def _why(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
