"""The web server in a thread of its own, beside the frame loop."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import logging
import re
import socket
import ssl
import threading
import time
from functools import partial
from types import TracebackType
from typing import Any, cast, final

import uvicorn
from starlette.applications import Starlette

from firewall.errors import FirewallError, UsageError
from firewall.server.connection import Connection, Limits
from firewall.server.hosts import is_any_address

__all__ = ["HttpServer", "parse_address"]

_ADDRESS = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9._-]+)):(?P<port>[0-9]{1,5})")
_START_TIMEOUT = 20.0
_KEEP_ALIVE = 3600  # seconds; Limits.head_time ends idle connections before that
_BACKLOG = 64
_HANDSHAKE = 5.0  # seconds until TLS has to be agreed on
_SEND_BUFFER = 64 * 1024  # bytes that the system holds for a client that doesn't read, before we see that it doesn't


def parse_address(text: str, *, option: str = "--http", otherwise: str = ", or off") -> tuple[str, int]:
    """(host, port) of 'HOST:PORT', an IPv6 host in brackets: '[::1]:8080'; of 'PORT', on this machine alone.

    Port 0 lets the system choose.

    Args:
        text: What a user gave.
        option: The setting, for messages.
        otherwise: What else may be given, for messages.

    Raises:
        UsageError: If it is anything else.
    """
    written = text.strip()
    match = _ADDRESS.fullmatch(f"127.0.0.1:{written}" if written.isdecimal() else written)
    usage = f"give HOST:PORT, for example 127.0.0.1:8080 or [::1]:8080{otherwise}"
    if match is None:
        raise UsageError(f"{text!r} is no address for {option}; {usage}")
    host, port = match["v6"] or match["name"], int(match["port"])
    if match["v6"]:
        try:
            ipaddress.IPv6Address(host)
        except ValueError:
            raise UsageError(f"{host!r} in {option} {text!r} is no IPv6 address; {usage}") from None
    if port > 65535:
        raise UsageError(f"port {port} in {option} {text!r} is out of range 0..65535; {usage}")
    return host, port


class _Server(uvicorn.Server):
    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        # A reader that doesn't read keeps its connection open with unsent data; nobody would ever close it.
        for connection in list(self.server_state.connections):
            if connection.transport is not None:
                connection.transport.abort()
        await asyncio.sleep(0)


class _TlsLoop(asyncio.SelectorEventLoop):
    """Whoever connects and agrees on nothing is no connection yet, so that no limit but this ends it."""

    async def create_server(self, *arguments: Any, **named: Any) -> asyncio.Server:
        return await super().create_server(*arguments, **{"ssl_handshake_timeout": _HANDSHAKE, **named})


def _run(loop: asyncio.AbstractEventLoop, server: _Server, listener: socket.socket) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_until_complete(server.serve(sockets=[listener]))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        asyncio.set_event_loop(None)
        loop.close()


@final
class HttpServer:
    """Serves `app` between start() and stop(), or as a context manager. Signals stay the caller's.

    Args:
        app: What it serves.
        host: Name or address to bind, without brackets.
        port: 0 picks a free one; `url` tells which.
        limits: What clients may take.
        tls: Speak HTTPS with this, else HTTP.
        otherwise: What to do where it can't listen, for messages.
    """

    def __init__(
        self,
        app: Starlette,
        host: str,
        port: int,
        *,
        limits: Limits | None = None,
        tls: ssl.SSLContext | None = None,
        otherwise: str = "name another with --http HOST:PORT or turn the page off with --http off",
    ) -> None:
        self._app, self._host, self._port = app, host, port
        self._tls, self._otherwise = tls, otherwise
        self._limits = limits or Limits()
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None
        self._stopping = app.state.stopping = threading.Event()  # open streams look at it

    @property
    def url(self) -> str:
        """Where a browser on this machine finds the page."""
        host = self._host
        if is_any_address(host):
            host = "::1" if ":" in host else "127.0.0.1"
        return f"http{'s' if self._tls else ''}://{f'[{host}]' if ':' in host else host}:{self._port}/"

    def start(self) -> None:
        """Bind, serve, and return once requests are answered. Raises FirewallError in one line."""
        listener = self._bind()
        self._port = listener.getsockname()[1]
        config = uvicorn.Config(
            self._app,
            http=cast("type[asyncio.Protocol]", partial(Connection, limits=self._limits)),
            loop="asyncio",
            ws="none",
            lifespan="on",
            log_config=None,
            log_level=logging.CRITICAL,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=_BACKLOG,
            timeout_keep_alive=_KEEP_ALIVE,
            timeout_graceful_shutdown=1,
        )
        config.load()
        config.ssl = self._tls
        self._server = server = _Server(config)
        loop: asyncio.AbstractEventLoop = _TlsLoop() if self._tls else asyncio.SelectorEventLoop()
        self._thread = threading.Thread(target=_run, args=(loop, server, listener), name="firewall-http", daemon=True)
        self._thread.start()
        limit = time.monotonic() + _START_TIMEOUT
        while not server.started:
            if not self._thread.is_alive() or time.monotonic() > limit:
                listener.close()
                raise FirewallError(f"the web server at {self.url} did not start; {self._otherwise}")
            time.sleep(0.005)

    def stop(self) -> None:
        """End open streams, close, and wait for the thread: about a second at worst. May be called twice."""
        if self._server is None or self._thread is None:
            return
        self._stopping.set()
        self._server.should_exit = True
        self._thread.join(2.5)
        if self._thread.is_alive():
            self._server.force_exit = True
            self._thread.join(1.0)
        self._server = self._thread = None

    def __enter__(self) -> HttpServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _bind(self) -> socket.socket:
        # Bound here and not by uvicorn, which would end the process over a busy port.
        where = f"[{self._host}]:{self._port}" if ":" in self._host else f"{self._host}:{self._port}"
        otherwise = self._otherwise
        try:
            found = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        except (OSError, UnicodeError):
            raise FirewallError(f"{self._host!r} is no address of this machine; {otherwise}") from None
        family, kind, protocol, _, address = found[0]
        try:
            listener = socket.socket(family, kind, protocol)
        except OSError as error:
            raise FirewallError(f"can't listen at {where}: {error.strerror}; {otherwise}") from None
        try:
            # So that a restart need not wait for old connections; a port that is listened on stays busy on Linux.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)  # connections inherit it
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind(address)
            listener.listen(_BACKLOG)
        except OSError as error:
            listener.close()
            if error.errno == errno.EADDRINUSE:
                raise FirewallError(f"{where} is in use; {otherwise}") from None
            raise FirewallError(f"can't listen at {where}: {error.strerror}; {otherwise}") from None
        return listener
