"""The pages and endpoints. All of them only tell: there is nothing here that changes the firewall."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import socket
from collections.abc import AsyncIterator
from importlib import resources
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from firewall.errors import FirewallError
from firewall.server.http import is_any_address
from firewall.server.monitor import Monitor

__all__ = ["create_app"]

_SHORTEST_GAP = 0.1  # seconds between two events of a stream
_LONGEST_GAP = 1.0  # a stream that has nothing new says so this often, so that a reader can tell silence from loss
_MOST_STREAMS = 16

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_FILES = {
    "/": ("page.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}


def create_app(monitor: Monitor, *, host: str = "127.0.0.1") -> Starlette:
    """The web side of one firewall. Answers GET and HEAD only, and only under names that it is known by: localhost, the
    address that a connection came in by, and `host`, the name or address that the server binds."""
    pages = _Pages(monitor)
    routes = [Route(path, _file(*file)) for path, file in _FILES.items()]
    routes += [
        Route("/events", pages.events),
        Route("/frame.jpg", pages.frame),
        Route("/v2/health/live", pages.live),
        Route("/v2/health/ready", pages.ready),
        Route("/metrics", pages.metrics),
    ]
    app = Starlette(
        routes=routes,
        middleware=[Middleware(_Guard, host=host)],
        exception_handlers={Exception: _failed},
    )
    app.router.redirect_slashes = False
    return app


class _Pages:
    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor
        self._streams = 0

    async def events(self, request: Request) -> Response:
        if request.method == "HEAD":
            return Response(media_type="text/event-stream", headers={"Cache-Control": "no-store"})
        if self._streams >= _MOST_STREAMS:
            return PlainTextResponse(
                f"{_MOST_STREAMS} readers are connected; close one", 503, headers={"Retry-After": "5"}
            )
        return StreamingResponse(
            self._stream(request), media_type="text/event-stream", headers={"Cache-Control": "no-store"}
        )

    async def _stream(self, request: Request) -> AsyncIterator[str]:
        stopping = getattr(request.app.state, "stopping", None)
        clock = asyncio.get_running_loop().time
        told, told_at = 0, -_LONGEST_GAP
        self._streams += 1
        try:
            yield "retry: 1000\n\n"
            while not (stopping and stopping.is_set()):
                if self._monitor.change != told or clock() - told_at >= _LONGEST_GAP:
                    state = self._monitor.state(told)
                    told, told_at = state["change"], clock()
                    yield f"data: {json.dumps(state, allow_nan=False, separators=(',', ':'))}\n\n"
                await asyncio.sleep(_SHORTEST_GAP)
        finally:
            self._streams -= 1

    async def frame(self, request: Request) -> Response:
        asked = request.query_params.get("sequence")
        if asked is not None and not (asked.isascii() and asked.isdigit() and len(asked) <= 18):
            return PlainTextResponse("sequence must be a whole number, 0 or more", 400)
        try:
            found = await run_in_threadpool(self._monitor.jpeg, None if asked is None else int(asked))
        except FirewallError as error:
            return PlainTextResponse(str(error), 503)
        if found is None:
            return PlainTextResponse("there is no frame yet", 404, headers={"Cache-Control": "no-store"})
        sequence, data = found
        return Response(
            data, media_type="image/jpeg", headers={"Cache-Control": "no-store", "X-Sequence": str(sequence)}
        )

    async def live(self, request: Request) -> Response:
        live = self._monitor.live
        return JSONResponse({"live": live}, 200 if live else 503, headers={"Cache-Control": "no-store"})

    async def ready(self, request: Request) -> Response:
        ready = self._monitor.ready
        status, detail = self._monitor.status()
        answer: dict[str, Any] = {"ready": ready, "status": status, "detail": detail}
        if self._monitor.unsigned:
            answer["unsigned"] = True
        drift = self._monitor.drift
        if drift is not None:
            answer["drift"] = {"spoken": drift.spoken, "detail": drift.line()}
        return JSONResponse(answer, 200 if ready else 503, headers={"Cache-Control": "no-store"})

    async def metrics(self, request: Request) -> Response:
        exposition = self._monitor.metrics.exposition()
        return Response(exposition, headers={"Content-Type": CONTENT_TYPE_LATEST, "Cache-Control": "no-store"})


def _file(name: str, media_type: str) -> Any:
    content = (resources.files("firewall.server") / name).read_bytes()

    async def send(_: Request) -> Response:
        return Response(content, media_type=media_type, headers={"Cache-Control": "no-cache"})

    return send


async def _failed(request: Request, error: Exception) -> Response:
    logging.getLogger(__name__).error("%s failed: %s: %s", request.url.path, type(error).__name__, error)
    return PlainTextResponse("the page failed; the firewall itself goes on", 500, headers=_HEADERS)


class _Guard:
    """Refuses requests for another host (a page elsewhere whose name was rebound to this machine), and puts the
    security headers on every answer."""

    def __init__(self, app: ASGIApp, host: str) -> None:
        self._app = app
        self._names = {"localhost", "127.0.0.1", "::1", _plain(host)}
        if is_any_address(host):  # then people use the machine's name
            name = socket.gethostname().lower()
            self._names |= {name, f"{name}.local"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
            await send(message)

        asked = _host(Headers(scope=scope).get("host", ""))
        came_in_by = _plain((scope.get("server") or ("",))[0])
        if asked and (asked in self._names or asked == came_in_by):
            await self._app(scope, receive, send_guarded)
        else:
            refusal = PlainTextResponse("this firewall does not serve that host; use its address or localhost", 421)
            await refusal(scope, receive, send_guarded)


def _host(header: str) -> str:
    """The host of a Host header without its port; empty if it is none."""
    if header.startswith("["):
        address, bracket, port = header[1:].partition("]")
        return _plain(address) if bracket and (port == "" or port.startswith(":")) else ""
    name, _, port = header.partition(":")
    return _plain(name) if port == "" or port.isdigit() else ""


def _plain(host: str) -> str:
    """Lower case, and an address in its shortest form."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host.lower()
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)
