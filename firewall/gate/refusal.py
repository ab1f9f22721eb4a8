"""Why a request got no label: one list for code, tests, metrics and the OpenAPI description."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

__all__ = ["Code", "ImageAnswer", "Refusal"]


class Code(Enum):
    """What a refusal says under `code`, and the HTTP status that goes with it."""

    BAD_REQUEST = ("bad_request", 400)
    UNAUTHORIZED = ("unauthorized", 401)
    CROSS_ORIGIN = ("cross_origin", 403)
    NOT_FOUND = ("not_found", 404)
    METHOD_NOT_ALLOWED = ("method_not_allowed", 405)
    TOO_LARGE = ("too_large", 413)
    UNSUPPORTED = ("unsupported", 415)
    WITHHELD = ("withheld", 422)
    TOO_MANY_REQUESTS = ("too_many_requests", 429)
    FAILED = ("failed", 500)
    UPSTREAM_UNREACHABLE = ("upstream_unreachable", 502)
    UPSTREAM_STATUS = ("upstream_status", 502)
    UPSTREAM_REDIRECT = ("upstream_redirect", 502)
    UPSTREAM_GARBAGE = ("upstream_garbage", 502)
    UPSTREAM_MODEL = ("upstream_model", 502)
    UPSTREAM_ID = ("upstream_id", 502)
    UPSTREAM_SHAPE = ("upstream_shape", 502)
    UPSTREAM_CLASSES = ("upstream_classes", 502)
    UPSTREAM_VALUES = ("upstream_values", 502)
    BUSY = ("busy", 503)
    NOT_READY = ("not_ready", 503)
    UPSTREAM_TIMEOUT = ("upstream_timeout", 504)
    TIMEOUT = ("timeout", 504)

    def __init__(self, text: str, status: int) -> None:
        self.text, self.status = text, status


@dataclass(frozen=True, slots=True)
class ImageAnswer:
    """What a client learns of one image.

    Attributes:
        label: The class, 0-based; None unless released.
        name: Its name; empty unless released.
        reason: Why it was released or withheld, a `firewall.verdict.Reason`.
        certified: Whether every mask names it, as in a `firewall.verdict.Verdict`; None if withheld or not asked.
    """

    label: int | None
    name: str
    reason: str
    certified: bool | None = None

    @property
    def decision(self) -> str:
        """`release` or `withhold`."""
        return "withhold" if self.label is None else "release"


class Refusal(Exception):  # noqa: N818 - an answer to a client, not an error of ours
    """Raised wherever a request can't be answered with a label."""

    def __init__(
        self,
        code: Code,
        message: str,
        *,
        images: Sequence[ImageAnswer] = (),
        headers: dict[str, str] | None = None,
        request_id: str = "",
    ) -> None:
        """Say why.

        Args:
            code: Which refusal.
            message: One line for people. It holds nothing that the firewall measured.
            images: What was decided for each image, if they were judged.
            headers: More headers of the answer.
            request_id: The request's id, where it is known already.
        """
        super().__init__(message)
        self.code, self.message, self.images = code, message, tuple(images)
        self.headers, self.request_id = headers or {}, request_id

    def body(self, request_id: str) -> dict[str, Any]:
        """The answer's JSON: `error` as the protocol has it, and `code`, `reason`, `id` for programs.

        Args:
            request_id: The request's.
        """
        reason = next((each.reason for each in self.images if each.label is None), self.code.text)
        answer: dict[str, Any] = {"error": self.message, "code": self.code.text, "reason": reason, "id": request_id}
        if self.images:
            answer["images"] = [
                {"index": index, "decision": each.decision, "reason": each.reason}
                for index, each in enumerate(self.images)
            ]
        return answer
