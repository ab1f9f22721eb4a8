"""Reading a request's body within limits, and answering one that was not read to its end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from firewall.gate.refusal import Code, Refusal

__all__ = ["Bodies", "LateAnswer"]

_LINGER = 1.0  # seconds that a client has to notice that its body isn't wanted
_MOST_LINGERING = 1 << 28


class Bodies:
    """How much of bodies is held, of one request and of all that haven't come whole yet."""

    def __init__(self, most: int, most_together: int) -> None:
        """Take the limits.

        Args:
            most: Bytes of one body.
            most_together: Bytes of all bodies.
        """
        self._most, self._most_together, self._held = most, most_together, 0

    @contextlib.contextmanager
    def held(self) -> Iterator[_Held]:
        """Room for one body, inside the block."""
        held = _Held(self)
        try:
            yield held
        finally:
            self._held -= held.bytes

    def check(self, request: Request) -> None:
        """Look at the head of a request.

        Raises:
            Refusal: If its body is of a kind that isn't read, or says that it is too large.
        """
        encoding = request.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("", "identity"):
            raise Refusal(Code.UNSUPPORTED, "a compressed body is not read: send it without Content-Encoding")
        kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
        if kind not in ("application/json", "application/octet-stream"):
            raise Refusal(Code.UNSUPPORTED, "the body has to be application/json or application/octet-stream")
        length = request.headers.get("content-length", "")
        if length.isdecimal() and (len(length) > 18 or int(length) > self._most):
            raise self._too_large()

    def _too_large(self) -> Refusal:
        return Refusal(Code.TOO_LARGE, f"a body may have {self._most} bytes; send fewer or smaller images")

    def _take(self, held: _Held, size: int) -> None:
        if held.bytes + size > self._most:
            raise self._too_large()
        if self._held + size > self._most_together:
            raise Refusal(Code.BUSY, "too many large bodies are on their way; ask again later")
        held.bytes += size
        self._held += size


class _Held:
    def __init__(self, bodies: Bodies) -> None:
        self._bodies, self.bytes = bodies, 0

    async def read(self, request: Request) -> bytes:
        """All of a request's body. How long it may take is the connection's to say.

        Raises:
            Refusal: If it becomes too large.
            ClientDisconnect: If it doesn't come whole.
        """
        parts = []
        async for part in request.stream():
            self._bodies._take(self, len(part))
            parts.append(part)
        return b"".join(parts)


async def _linger(receive: Receive, send: Send, messages: list[Message]) -> None:
    """Answer a request whose body was not read, so that its client can read the answer.

    Closing at once would reset the connection, and an answer that the client hasn't read yet would be lost.

    Args:
        receive: Of the request.
        send: Of the request.
        messages: The answer, the last one its body.
    """
    *head, last = messages
    for message in head:
        await send(message)
    await send({**last, "more_body": True})

    async def rest() -> None:
        size = 0
        while size < _MOST_LINGERING:
            message = await receive()
            size += len(message.get("body", b""))
            if message["type"] != "http.request" or not message.get("more_body"):
                return

    with contextlib.suppress(asyncio.TimeoutError, ClientDisconnect):
        await asyncio.wait_for(rest(), _LINGER)
    await send({"type": "http.response.body", "body": b"", "more_body": False})


class LateAnswer(Response):
    """An answer that is made while the request is read; one that leaves some of it unread closes the connection."""

    def __init__(self, make: Callable[[Request], Awaitable[Response]], request: Request) -> None:
        """Take the answer's maker.

        Args:
            make: Makes the answer of a request that it reads.
            request: The request.
        """
        super().__init__()
        self._make, self._request = make, request

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Make and send the answer."""
        whole = False

        async def watched() -> Message:
            nonlocal whole
            message = await receive()
            whole = whole or not message.get("more_body", False)
            return message

        answer = await self._make(Request(scope, watched))
        if whole:
            await answer(scope, receive, send)
            return
        answer.headers["Connection"] = "close"
        messages: list[Message] = []

        async def collect(message: Message) -> None:
            messages.append(message)

        await answer(scope, receive, collect)
        await _linger(receive, send, messages)
