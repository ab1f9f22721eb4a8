"""The pages and endpoints. They only show things: nothing here changes the firewall."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from dataclasses import asdict
from importlib import resources
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from firewall.errors import FirewallError
from firewall.host.output import json_text, readable
from firewall.server.connection import Connection, Limits
from firewall.server.hosts import SECURITY_HEADERS, Guard, HostNames
from firewall.server.monitor import Monitor

__all__ = ["create_app"]

_SHORTEST_GAP = 0.1  # seconds between two events of a stream
_LONGEST_GAP = 1.0  # a stream without news says so this often, so that a reader notices when the connection is lost
_STALLED = 1.0  # seconds; a reader that has taken nothing for this long is dropped for a new one

_FILES = {
    "/": ("page.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
    "/cameras.js": ("cameras.js", "text/javascript"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}


def create_app(
    monitor: Monitor, *, host: str = "127.0.0.1", names: Iterable[str] = (), limits: Limits | None = None
) -> Starlette:
    """The web application of one firewall. It answers GET and HEAD, under addresses, localhost, `host` and `names`.

    Args:
        monitor: What the pages show.
        host: The name or address that the server binds.
        names: Further host names, see HostNames.
        limits: How many clients may read events.

    Returns:
        The application.

    Raises:
        UsageError: If one of `names` isn't a host name.
    """
    pages = _Pages(monitor, limits or Limits())
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
        middleware=[Middleware(Guard, names=HostNames(host, names))],
        exception_handlers={Exception: _failed},
    )
    app.router.redirect_slashes = False
    return app


class _Pages:
    def __init__(self, monitor: Monitor, limits: Limits) -> None:
        self._monitor, self._limits = monitor, limits
        self._readers: list[Connection] = []

    async def events(self, request: Request) -> Response:
        # X-Accel-Buffering: a proxy in between that gathers events would hold them back.
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        if request.method == "HEAD":
            return Response(media_type="text/event-stream", headers=headers)
        reader: Connection = request.state.connection
        self._readers = [each for each in self._readers if each is not reader and not each.transport.is_closing()]
        near = [each for each in self._readers if each.address == reader.address]
        for among, most in ((near, self._limits.streams_for_address), (self._readers, self._limits.streams)):
            if len(among) >= most and not self._sent_away(among) and (among is near or not self._thinned(len(near))):
                return PlainTextResponse(f"{len(among)} readers are connected; close one", 503, {"Retry-After": "5"})
        reader.buffer_little()
        self._readers.append(reader)
        return StreamingResponse(self._stream(request, reader), media_type="text/event-stream", headers=headers)

    def _sent_away(self, readers: list[Connection]) -> bool:
        """Whether one of them takes nothing, and so had to go."""
        now = asyncio.get_running_loop().time()
        silent = [each for each in readers if each.stalled_since is not None and now - each.stalled_since >= _STALLED]
        if silent:
            longest = min(silent, key=lambda each: each.stalled_since or 0.0)
            longest.drop()
            self._readers.remove(longest)
        return bool(silent)

    def _thinned(self, near: int) -> bool:
        """Whether the address with the most readers lost its oldest to an address that has `near` of them."""
        ((crowded, count),) = Counter(each.address for each in self._readers).most_common(1)
        if count <= near + 1:  # both would have as many afterwards
            return False
        oldest = next(each for each in self._readers if each.address == crowded)
        oldest.drop()
        self._readers.remove(oldest)
        return True

    async def _stream(self, request: Request, reader: Connection) -> AsyncIterator[bytes]:
        stopping = getattr(request.app.state, "stopping", None)
        camera = request.query_params.get("camera")
        clock = asyncio.get_running_loop().time
        told, told_at = 0, -_LONGEST_GAP
        try:
            yield b"retry: 1000\n\n"
            while not (stopping and stopping.is_set()):
                if self._monitor.change != told or clock() - told_at >= _LONGEST_GAP:
                    state = self._monitor.state(told, camera)
                    told, told_at = state["change"], clock()
                    yield f"data: {json_text(state, compact=True)}\n\n".encode()
                await asyncio.sleep(_SHORTEST_GAP)
        finally:
            if reader in self._readers:
                self._readers.remove(reader)

    async def frame(self, request: Request) -> Response:
        asked = request.query_params.get("sequence")
        if asked is not None and not (asked.isascii() and asked.isdigit() and len(asked) <= 18):
            return PlainTextResponse("sequence must be a whole number, 0 or more", 400)
        if (camera := self._camera(request)) is not None and camera not in self._monitor.cameras:
            return self._no_camera()
        small = request.query_params.get("small") == "1"
        sequence_asked = None if asked is None else int(asked)
        try:
            found = await run_in_threadpool(self._monitor.jpeg, sequence_asked, camera, small=small)
        except FirewallError as error:
            return PlainTextResponse(readable(str(error)), 503)
        if found is None:
            return PlainTextResponse("there is no frame yet", 404, headers={"Cache-Control": "no-store"})
        sequence, data = found
        return Response(
            data, media_type="image/jpeg", headers={"Cache-Control": "no-store", "X-Sequence": str(sequence)}
        )

    async def live(self, request: Request) -> Response:
        live = self._monitor.live
        return _json({"live": live}, 200 if live else 503)

    async def ready(self, request: Request) -> Response:
        monitor, camera = self._monitor, self._camera(request)
        if camera is not None and camera not in monitor.cameras:
            return self._no_camera()
        answer = self._health(camera)
        if monitor.unsigned:
            answer["unsigned"] = True
        if warning := monitor.warning:
            answer["warning"] = warning
        if (golden := monitor.golden) is not None:
            answer["golden"] = asdict(golden)
        if camera is None and len(monitor.cameras) > 1:
            answer["cameras"] = [{"name": name, **self._health(name)} for name in monitor.cameras]
            answer.pop("drift", None)
        if networks := monitor.networks:
            answer["networks"] = networks
        if (cores := monitor.cores) is not None:
            answer["cores"] = cores
        outputs = monitor.outputs()
        if outputs:
            answer["outputs"] = [asdict(each) for each in outputs]
        return _json(answer, 200 if answer["ready"] else 503)

    def _health(self, camera: str | None) -> dict[str, Any]:
        status, detail = self._monitor.status(camera)
        health: dict[str, Any] = {"ready": self._monitor.ready_of(camera), "status": status, "detail": detail}
        if (share := self._monitor.share_looked_at(camera)) is not None:
            health["share_looked_at"] = round(share, 4)
        drift = self._monitor.drift_of(camera)
        if drift is not None:
            health["drift"] = {"spoken": drift.spoken, "detail": drift.line()}
        return health

    def _camera(self, request: Request) -> str | None:
        return request.query_params.get("camera")

    def _no_camera(self) -> Response:
        return PlainTextResponse(f"there is no such camera; there are {', '.join(self._monitor.cameras)}", 404)

    async def metrics(self, request: Request) -> Response:
        exposition = await run_in_threadpool(self._monitor.exposition)  # sensors may take their time
        return Response(exposition, headers={"Content-Type": CONTENT_TYPE_LATEST, "Cache-Control": "no-store"})


def _json(answer: dict[str, Any], status: int) -> Response:
    return Response(json_text(answer, compact=True), status, {"Cache-Control": "no-store"}, "application/json")


def _file(name: str, media_type: str) -> Any:
    content = (resources.files("firewall.server") / name).read_bytes()

    async def send(_: Request) -> Response:
        return Response(content, media_type=media_type, headers={"Cache-Control": "no-cache"})

    return send


async def _failed(request: Request, error: Exception) -> Response:
    logging.getLogger(__name__).error("%s failed: %s: %s", request.url.path, type(error).__name__, error)
    return PlainTextResponse("the page failed; the firewall itself goes on", 500, headers=SECURITY_HEADERS)
