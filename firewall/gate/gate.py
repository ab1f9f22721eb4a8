"""What the gate's endpoints share: the firewall, the upstream, the limits, and how an answer comes about."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from firewall.frame import Pixels
from firewall.gate.bodies import Bodies
from firewall.gate.clients import Places, Rates, Tokens
from firewall.gate.history import History
from firewall.gate.judge import Judge
from firewall.gate.metrics import GateMetrics
from firewall.gate.pictures import Pictures
from firewall.gate.refusal import Code, ImageAnswer, Refusal
from firewall.verdict import Reason, Verdict

__all__ = ["Gate", "GateLimits", "Labeller"]

_T = TypeVar("_T")
_GRACE = 2.0  # seconds after a request's deadline in which a verdict, by then `late`, may still come


@dataclass(frozen=True, slots=True)
class GateLimits:
    """What clients may take.

    Attributes:
        body: Bytes of a request's body.
        bodies: Bytes of all bodies that are on their way.
        images: Images in one request.
        pixels: Pixels in one request, all images together.
        in_hand: Requests at a time; of one client half of them.
        rate: Images a second of one client; 0: no limit.
        time: Seconds from a whole request to its answer.
    """

    body: int = 8 << 20
    bodies: int = 256 << 20
    images: int = 32
    pixels: int = 1 << 22
    in_hand: int = 32
    rate: float = 200.0
    time: float = 5.0


class Labeller(Protocol):
    """Whose labels are answered: an upstream's."""

    @property
    def name(self) -> str:
        """Name of its model."""
        ...

    async def ready(self) -> bool:
        """Whether it can give labels."""
        ...

    async def metadata(self) -> dict[str, Any]:
        """`versions` and the one of `inputs` that it takes."""
        ...

    async def labels(self, images: Sequence[Pixels], deadline: float) -> list[int]:
        """One class for each image, 0-based. Raises Refusal."""
        ...

    def close(self) -> None:
        """Close what is kept open, in the event loop."""
        ...


class Gate:
    """What the endpoints share."""

    def __init__(
        self,
        judge: Judge,
        pictures: Pictures,
        *,
        model: str,
        upstream: Labeller | None = None,
        tokens: Tokens | None = None,
        history: History | None = None,
        limits: GateLimits | None = None,
    ) -> None:
        """Put the parts together.

        Args:
            judge: The firewall.
            pictures: How tensors become pixels.
            model: The name that clients ask for.
            upstream: Whose labels are answered; None: the bundle's classifier's.
            tokens: Which clients are let in; None: all that can connect.
            history: Notices probing; None: nobody does.
            limits: What clients may take.
        """
        self.judge, self.pictures, self.model, self.upstream = judge, pictures, model, upstream
        self.tokens, self.history, self.limits = tokens, history, limits or GateLimits()
        self.metrics = GateMetrics()
        self.places, self.rates = Places(self.limits.in_hand), Rates(self.limits.rate)
        self.bodies = Bodies(self.limits.body, self.limits.bodies)
        self.metrics.in_hand(lambda: self.places.taken)
        manifest = judge.guard.bundle.manifest
        self.labels, self._version = manifest.classifier.labels, str(manifest.version)

    async def input(self) -> dict[str, Any]:
        """Name, datatype and shape of the input."""
        if self.upstream is None:
            return {"name": "image", "datatype": "UINT8", "shape": [-1, -1, -1, 3]}
        found: dict[str, Any] = (await self.upstream.metadata())["inputs"][0]
        return found

    async def versions(self) -> list[str]:
        """The versions that a client may name."""
        if self.upstream is None:
            return [self._version]
        return [str(each) for each in (await self.upstream.metadata()).get("versions", [])]

    async def ready(self) -> bool:
        """Whether labels can be given."""
        return self.judge.live and (self.upstream is None or await self.upstream.ready())

    async def answers(self, images: Sequence[Pixels], client: str, arrived: float) -> list[ImageAnswer]:
        """One answer for each image.

        Raises:
            Refusal: If the upstream gives no usable labels, or nothing comes in time.
        """
        deadline = arrived + self.limits.time
        calls: list[Awaitable[Any]] = [self.judged(lambda: self._screened(images, client, arrived, deadline), deadline)]
        if self.upstream is not None:
            calls.append(self._upstream_labels(images, deadline))
        found: list[Any] = await asyncio.gather(*calls, return_exceptions=True)
        for each in found:
            if isinstance(each, BaseException):
                raise each
        verdicts, *labels = found
        given = labels[0] if labels else [verdict.label for verdict in verdicts]
        answers = [self._answer(verdict, label) for verdict, label in zip(verdicts, given, strict=True)]
        for answer in answers:
            self.metrics.judged(answer.decision, answer.reason)
        return answers

    async def judged(self, work: Callable[[], _T], deadline: float) -> _T:
        """What the judge's thread makes of `work`.

        Args:
            work: What it is to do.
            deadline: `time.monotonic()` by which it should have done it.

        Raises:
            Refusal: If it hasn't, shortly after that.
        """
        waiting = asyncio.wrap_future(self.judge.submit(work))
        try:
            return await asyncio.wait_for(waiting, max(0.0, deadline - time.monotonic()) + _GRACE)
        except asyncio.TimeoutError:
            raise Refusal(Code.TIMEOUT, "no verdict within the time limit") from None

    async def _upstream_labels(self, images: Sequence[Pixels], deadline: float) -> list[int]:
        assert self.upstream is not None  # noqa: S101 - for the type checker; asked for only where there is one
        started = time.monotonic()
        try:
            return await self.upstream.labels(images, deadline)
        finally:
            self.metrics.waited(time.monotonic() - started)

    def _screened(self, images: Sequence[Pixels], client: str, arrived: float, deadline: float) -> list[Verdict]:
        verdicts = self.judge.screen(images, f"gate:{client}", arrived, deadline)
        if self.history is None:
            return verdicts
        return [self.history.seen(pixels, client, verdict) for pixels, verdict in zip(images, verdicts, strict=True)]

    def _answer(self, verdict: Verdict, label: int | None) -> ImageAnswer:
        """Closed by default: a label only if the verdict released the same one."""
        if not verdict.released or verdict.label is None:
            return ImageAnswer(None, "", verdict.reason.value)
        if label != verdict.label or not 0 <= label < len(self.labels):
            return ImageAnswer(None, "", Reason.CONTRADICTORY.value)
        return ImageAnswer(label, self.labels[label], verdict.reason.value, verdict.certified)
