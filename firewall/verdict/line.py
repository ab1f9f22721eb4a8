"""The verdict line, version 1: one definition, from which both the type checker and the JSON Schema come.

Within a version keys may be added, so a reader has to ignore keys that it doesn't know; none is removed or changes its
meaning.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter
from typing_extensions import NotRequired, TypedDict

from firewall.verdict.reason import Reason

__all__ = ["SCHEMA", "BundleLine", "VerdictLine", "verdict_schema"]

#: What `schema` says in each line.
SCHEMA: Literal["firewall.verdict/1"] = "firewall.verdict/1"

_REASON = "^(" + "|".join(reason.value for reason in Reason) + r")(: [\s\S]*)?$"
_TIME = r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{6}Z$"


class BundleLine(TypedDict):
    """What judged."""

    name: Annotated[str, Field(description="name of the bundle")]
    version: Annotated[int, Field(ge=1, description="its version")]
    hash: Annotated[
        str, Field(pattern="^[0-9a-f]{12}$", description="first 12 hexadecimal digits of its manifest's SHA-256")
    ]


class VerdictLine(TypedDict):
    """One verdict on one region of one frame. Readers ignore keys that they don't know."""

    source: Annotated[str, Field(description="what was read, without credentials; in a folder the file")]
    sequence: Annotated[
        int, Field(ge=0, description="number of the frame; rises in each run, a gap is a dropped frame")
    ]
    region: Annotated[
        list[int], Field(min_length=4, max_length=4, description="x, y, width, height in pixels of the frame")
    ]
    decision: Annotated[Literal["release", "withhold"], Field(description="anything else than release: don't use it")]
    label: Annotated[int | None, Field(ge=0, description="the class, 0-based; null unless released")]
    label_name: Annotated[str | None, Field(description="its name; null unless released")]
    reason: Annotated[str, Field(pattern=_REASON, description="one of a fixed list; a detail may follow after ': '")]
    latency_ms: Annotated[float | None, Field(description="milliseconds from capture to the end of screening")]
    schema: Annotated[Literal["firewall.verdict/1"], Field(description="name and version of this schema")]
    time: Annotated[
        str | None,
        Field(
            pattern=_TIME,
            json_schema_extra={"format": "date-time"},
            description="capture in UTC, RFC 3339 with microseconds; jumps when the wall clock is set",
        ),
    ]
    monotonic_ns: Annotated[
        int | None,
        Field(ge=0, description="capture by this machine's monotonic clock in nanoseconds; never jumps, orders frames"),
    ]
    camera: Annotated[str | None, Field(description="name of the camera; null for pictures of the command line")]
    frame_id: Annotated[
        str | None,
        Field(
            description="the same for all verdicts on one frame, other for every other, also in other runs; null if "
            "there was no frame"
        ),
    ]
    track: Annotated[
        int | None, Field(ge=1, description="the same while one sign is followed, within a run; null if none is")
    ]
    frames_seen: Annotated[
        int | None,
        Field(ge=0, description="frames in which the followed sign was judged so far; late ones don't count"),
    ]
    bundle: Annotated[BundleLine | None, Field(description="what judged")]
    age_ms: Annotated[
        float | None, Field(ge=0, description="milliseconds from capture until the verdict was handed to the outputs")
    ]
    certified: Annotated[
        bool | None,
        Field(
            description="with stickers guarded against: true if every mask names the label, or every finer one within "
            "a mask that is unsure; false if none objected to it; null if withheld or not asked"
        ),
    ]
    proved_within: NotRequired[
        Annotated[
            float,
            Field(
                gt=0,
                le=1,
                description="only there if the label is released and proved for changes of every value of the "
                "network's input: how far each may have been changed, a share of 0 to 1",
            ),
        ]
    ]
    unsigned: NotRequired[
        Annotated[Literal[True], Field(description="only there if nobody who is trusted here vouches for the bundle")]
    ]
    suspicion: NotRequired[
        Annotated[float | None, Field(description="operator only: above 0 withholds; null if unknown or not finite")]
    ]
    scores: NotRequired[Annotated[dict[str, float | None], Field(description="operator only: detector -> score")]]
    evidence: NotRequired[
        Annotated[dict[str, float | None], Field(description="operator only: detector -> what its score counts")]
    ]
    suspected_label: NotRequired[
        Annotated[int | None, Field(description="operator only: class that the classifier gave, 0-based")]
    ]
    corrected_label: NotRequired[
        Annotated[int | None, Field(description="operator only: class without the attack, probably, 0-based")]
    ]
    classified: NotRequired[Annotated[int, Field(ge=0, description="operator only: images that the classifier saw")]]
    nonce: NotRequired[
        Annotated[str, Field(description="operator only: what a keyed sweep was drawn from, in hexadecimal")]
    ]
    stages_ms: NotRequired[
        Annotated[dict[str, float], Field(description="operator only: stage -> milliseconds, for the whole frame")]
    ]


def verdict_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a verdict line."""
    schema = _untitled(TypeAdapter(VerdictLine).json_schema())
    released = {"properties": {"decision": {"const": "release"}}}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:perception-firewall:verdict:1",
        **schema,
        "if": released,
        "then": {"properties": {"label": {"type": "integer"}, "reason": {"pattern": f"^{Reason.BENIGN}(: |$)"}}},
        "else": {
            "properties": {
                **{key: {"type": "null"} for key in ("label", "label_name", "certified")},
                "proved_within": False,
            }
        },
    }


def _untitled(schema: Any) -> Any:
    """Without the titles that pydantic makes of the keys."""
    if not isinstance(schema, dict):
        return [_untitled(each) for each in schema] if isinstance(schema, list) else schema
    return {key: _untitled(value) for key, value in schema.items() if key != "title" or not isinstance(value, str)}
