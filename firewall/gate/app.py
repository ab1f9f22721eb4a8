"""The gate's endpoints: the Open Inference Protocol v2 over HTTP."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from firewall.frame import Pixels
from firewall.gate.bodies import LateAnswer
from firewall.gate.clients import client_of
from firewall.gate.gate import Gate
from firewall.gate.openapi import description
from firewall.gate.protocol import HEADER_LENGTH, OUTPUTS, Asked, answer_body, read_request
from firewall.gate.refusal import Code, ImageAnswer, Refusal
from firewall.host.output import json_text
from firewall.server.hosts import Guard, HostNames

__all__ = ["create_app", "create_metrics_app"]

_log = logging.getLogger(__name__)


def create_app(gate: Gate, *, host: str = "127.0.0.1", names: Iterable[str] = ()) -> Starlette:
    """The web application of a gate.

    Args:
        gate: What it answers with.
        host: The name or address that the server binds.
        names: Further host names, see firewall.server.HostNames.

    Raises:
        UsageError: If one of `names` isn't a host name.
    """
    pages = _Endpoints(gate)
    routes = [
        Route("/v2", pages.server),
        Route("/v2/health/live", pages.live),
        Route("/v2/health/ready", pages.health_ready),
        Route("/openapi.json", pages.openapi),
        *(
            route
            for path in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}")
            for route in (
                Route(path, pages.model),
                Route(f"{path}/ready", pages.model_ready),
                Route(f"{path}/infer", pages.infer, methods=["POST"]),
            )
        ),
    ]
    app = Starlette(
        routes=routes,
        middleware=[Middleware(Guard, names=HostNames(host, names))],
        lifespan=_closing(gate),
        exception_handlers={404: _no_such_page, 405: _no_such_method, Exception: _failed},
    )
    app.router.redirect_slashes = False
    return app


def _closing(gate: Gate) -> Callable[[Starlette], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        if gate.upstream is not None:
            gate.upstream.close()

    return lifespan


def create_metrics_app(gate: Gate, *, host: str = "127.0.0.1", names: Iterable[str] = ()) -> Starlette:
    """The operator's page of a gate: /metrics. At an address of its own, so that clients can't read it."""

    async def metrics(_: Request) -> Response:
        headers = {"Content-Type": CONTENT_TYPE_LATEST, "Cache-Control": "no-store"}
        return Response(gate.metrics.exposition(), headers=headers)

    return Starlette(routes=[Route("/metrics", metrics)], middleware=[Middleware(Guard, names=HostNames(host, names))])


class _Endpoints:
    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    async def live(self, _: Request) -> Response:
        live = self._gate.judge.live
        return _json({"live": live}, 200 if live else 503)

    async def health_ready(self, _: Request) -> Response:
        ready = await self._gate.ready()
        return _json({"ready": ready}, 200 if ready else 503)

    async def openapi(self, _: Request) -> Response:
        gate = self._gate
        return _json(description(gate.model, () if gate.upstream else await gate.versions()), 200)

    async def server(self, request: Request) -> Response:
        async def answer() -> Response:
            from firewall import __version__

            return _json(
                {"name": "perception-firewall", "version": __version__, "extensions": ["binary_tensor_data"]}, 200
            )

        return await self._let_in(request, answer)

    async def model(self, request: Request) -> Response:
        async def answer() -> Response:
            await self._check_model(request)
            tensor = await self._gate.input()
            outputs = [{"name": name, "datatype": kind, "shape": [-1]} for name, kind in OUTPUTS.items()]
            return _json(
                {
                    "name": self._gate.model,
                    "versions": await self._gate.versions(),
                    "platform": "perception_firewall",
                    "inputs": [tensor],
                    "outputs": outputs,
                },
                200,
            )

        return await self._let_in(request, answer)

    async def model_ready(self, request: Request) -> Response:
        async def answer() -> Response:
            ready = await self._gate.ready()
            if ready:
                await self._check_model(request)
            return _json({"name": self._gate.model, "ready": ready}, 200 if ready else 503)

        return await self._let_in(request, answer)

    async def _let_in(self, request: Request, answer: Callable[[], Awaitable[Response]]) -> Response:
        try:
            client_of(request, self._gate.tokens)
            return await answer()
        except Refusal as refusal:
            return _refused(refusal, secrets.token_hex(8))

    async def _check_model(self, request: Request) -> None:
        asked = request.path_params
        known = asked["model"] == self._gate.model
        if not known or ("version" in asked and asked["version"] not in await self._gate.versions()):
            raise Refusal(
                Code.NOT_FOUND,
                f"there is no such model here, or no such version of it; ask for GET /v2/models/{self._gate.model}",
            )

    async def infer(self, request: Request) -> LateAnswer:
        return LateAnswer(self._infer, request)

    async def _infer(self, request: Request) -> Response:
        arrived, identity, code = time.monotonic(), secrets.token_hex(8), "ok"
        try:
            if "origin" in request.headers:
                raise Refusal(Code.CROSS_ORIGIN, "pages of a browser are not answered: the request has an Origin")
            client = client_of(request, self._gate.tokens)
            self._gate.rates.take(client, 1)
            self._gate.bodies.check(request)
            with self._gate.bodies.held() as held:
                body = await held.read(request)
                arrived = time.monotonic()
                with self._gate.places.one(client):
                    await self._check_model(request)
                    asked, images = await self._read(request, body, arrived)
                    identity = asked.id or identity
                    if len(images) > 1:
                        self._gate.rates.take(client, len(images) - 1)
                    answers = await self._gate.answers(images, client, arrived)
                    version = next(iter(await self._gate.versions()), "")
            return self._answered(asked, identity, answers, version)
        except Refusal as refusal:
            code = refusal.code.text
            return _refused(refusal, refusal.request_id or identity)
        except ClientDisconnect:
            code = "gone"
            return Response(status_code=408)
        except Exception as error:
            code = Code.FAILED.text
            _log.error("a request failed: %s: %s", type(error).__name__, error)
            return _refused(Refusal(Code.FAILED, "the gate failed; nothing is released"), identity)
        finally:
            self._gate.metrics.answered(code, time.monotonic() - arrived)

    async def _read(self, request: Request, body: bytes, arrived: float) -> tuple[Asked, list[Pixels]]:
        name = (await self._gate.input())["name"]
        header_length = request.headers.get(HEADER_LENGTH)
        gate = self._gate

        def work() -> tuple[Asked, list[Pixels]]:
            asked = read_request(body, header_length, name)
            try:
                return asked, gate.pictures.read(asked.tensor)
            except Refusal as refusal:
                refusal.request_id = asked.id
                raise

        return await gate.judged(work, arrived + gate.limits.time)

    def _answered(self, asked: Asked, identity: str, answers: list[ImageAnswer], version: str) -> Response:
        withheld = [each for each in answers if each.label is None]
        if withheld and not asked.partial:
            many = f"{len(withheld)} of {len(answers)} labels are" if len(answers) > 1 else "the label is"
            raise Refusal(Code.WITHHELD, f"{many} withheld: {withheld[0].reason}", images=answers, request_id=identity)
        parameters = {"unsigned": True} if self._gate.judge.guard.bundle.unsigned else {}
        body, headers = answer_body(self._gate.model, version, identity, asked, answers, parameters)
        return Response(body, 200, {**headers, "Cache-Control": "no-store"})


def _json(answer: dict[str, Any], status: int, headers: dict[str, str] | None = None) -> Response:
    return Response(
        json_text(answer, compact=True), status, {"Cache-Control": "no-store", **(headers or {})}, "application/json"
    )


def _refused(refusal: Refusal, identity: str) -> Response:
    return _json(refusal.body(identity), refusal.code.status, refusal.headers)


async def _no_such_page(_: Request, __: Exception) -> Response:
    return _refused(Refusal(Code.NOT_FOUND, "there is nothing here; ask for /openapi.json"), secrets.token_hex(8))


async def _no_such_method(_: Request, error: Exception) -> Response:
    headers = dict(getattr(error, "headers", None) or {})
    return _refused(
        Refusal(Code.METHOD_NOT_ALLOWED, "this is asked for in another way; see /openapi.json", headers=headers),
        secrets.token_hex(8),
    )


async def _failed(request: Request, error: Exception) -> Response:
    _log.error("%s failed: %s: %s", request.url.path, type(error).__name__, error)
    return _refused(Refusal(Code.FAILED, "the gate failed; nothing is released"), secrets.token_hex(8))
