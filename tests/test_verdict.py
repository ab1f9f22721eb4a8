from __future__ import annotations

import json
import math
import time
from dataclasses import replace
from typing import Any

import pytest
from jsonschema import Draft202012Validator, FormatChecker

from firewall.verdict import BundleStamp, Reason, Stamp, Stamps, Verdict, verdict_schema


def test_a_bare_verdict_withholds() -> None:
    """The zero value of a verdict is closed: nothing released, no label, a reason."""
    line = Verdict("s", 0, (0, 0, 1, 1)).line()

    assert line["decision"] == "withhold"
    assert line["label"] is None and line["label_name"] is None
    assert line["reason"] == "unknown"


def test_a_withheld_line_never_carries_a_label() -> None:
    """Even a verdict that was filled in carelessly tells no label unless it is released."""
    line = Verdict("s", 0, (0, 0, 1, 1), released=False, label=14, label_name="stop").line()

    assert line["label"] is None and line["label_name"] is None


def test_scores_are_for_the_operator_alone() -> None:
    """The public line has exactly the contract's keys, those of version 0.2 first; the operator's line adds seven."""
    verdict = Verdict("s", 3, (1, 2, 3, 4), True, 14, "stop", Reason.BENIGN, scores={"agreement": 0.1}, suspicion=-0.2)

    public = [
        *("source", "sequence", "region", "decision", "label", "label_name", "reason", "latency_ms"),
        *("schema", "time", "monotonic_ns", "camera", "frame_id", "track", "frames_seen", "bundle", "age_ms"),
        "certified",
    ]
    assert list(verdict.line()) == public
    assert list(verdict.line(operator=True)) == [
        *public,
        *("suspicion", "scores", "evidence", "suspected_label", "corrected_label", "classified", "stages_ms"),
    ]


def test_lines_are_strict_json() -> None:
    """A score that is not a number becomes null, never NaN, which is not JSON."""
    verdict = Verdict("s", 0, (0, 0, 1, 1), scores={"agreement": math.nan}, suspicion=math.inf, latency_ms=math.nan)

    text = json.dumps(verdict.line(operator=True), allow_nan=False)

    line = json.loads(text)
    assert line["scores"] == {"agreement": None} and line["suspicion"] is None and line["latency_ms"] is None


def strict() -> Draft202012Validator:
    """The schema with every object closed, so that a key that it doesn't have is found too."""

    def closed(part: Any) -> Any:
        if isinstance(part, list):
            return [closed(each) for each in part]
        if not isinstance(part, dict):
            return part
        more = {"additionalProperties": False} if "properties" in part and part.get("type") == "object" else {}
        return {**{key: closed(value) for key, value in part.items()}, **more}

    schema = closed(verdict_schema())
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema, format_checker=FormatChecker())


STAMPS = Stamps(BundleStamp("b", 3, "0123456789ab"), "front")


def stamped(verdict: Verdict, **given: Any) -> dict[str, Any]:
    (line,) = [each.line(operator=True) for each in STAMPS.on([verdict], captured_at=time.monotonic() - 0.25, **given)]
    return line


def test_every_kind_of_line_fits_the_schema() -> None:
    """Bare, stamped, followed, unsigned, with a nonce, of every reason, with details of several lines: the schema with
    closed objects takes each, and knows no required key that a line lacks."""
    validator = strict()
    validator.validate(Verdict("s", 0, (0, 0, 1, 1)).line())
    for reason in Reason:
        validator.validate(stamped(Verdict("s", 0, (0, 0, 1, 1), reason=reason)))
        validator.validate(stamped(Verdict("s", 0, (0, 0, 1, 1), reason=reason, detail="two\nlines: x"), frame=False))
    full = Verdict(
        "s", 9, (1, 2, 3, 4), True, 14, "stop", Reason.BENIGN, unsigned=True, track=1, frames_seen=4, nonce="ab"
    )
    full = replace(full, proved_within=2 / 255)
    line = stamped(replace(full, scores={"a": math.nan, "b": 1.0}), stages={"classify": 0.0061234})
    validator.validate(line)
    assert set(line) == set(verdict_schema()["properties"])
    assert line["bundle"] == {"name": "b", "version": 3, "hash": "0123456789ab"} and line["camera"] == "front"
    assert line["age_ms"] >= 250 and line["stages_ms"] == {"classify": 6.123}
    assert line["monotonic_ns"] <= time.monotonic_ns() - 250_000_000


@pytest.mark.parametrize(
    "wrong",
    [
        {"decision": "withhold"},  # with a label
        {"label": None},  # released without
        {"reason": "late"},
        {"reason": "because"},
        {"schema": "firewall.verdict/2"},
        {"time": "2026-11-29 10:00:00"},
        {"time": 1.5},
        {"region": [1, 2, 3]},
        {"latency_ms": "fast"},
        {"bundle": {"name": "b"}},
        {"more": 1},
    ],
)
def test_the_schema_refuses_what_no_line_says(wrong: dict[str, Any]) -> None:
    """A label on a withheld line, a reason that isn't on the list, another version: none of it fits."""
    line = stamped(Verdict("s", 9, (1, 2, 3, 4), True, 14, "stop", Reason.BENIGN))
    validator = strict()
    assert validator.is_valid(line) and not validator.is_valid({**line, **wrong})


def test_readers_of_version_1_can_ignore_what_is_added() -> None:
    """The schema as it is printed allows keys that it doesn't know: version 1 may grow."""
    line = stamped(Verdict("s", 9, (1, 2, 3, 4)))
    assert Draft202012Validator(verdict_schema()).is_valid({**line, "weather": "rain"})


@pytest.mark.parametrize(
    ("wall", "expected"),
    [
        (0, "1970-01-01T00:00:00.000000Z"),
        (1_700_000_000_123_456, "2023-11-14T22:13:20.123456Z"),
        (-1, None),
        (253_402_300_799_999_999, "9999-12-31T23:59:59.999999Z"),
        (253_402_300_800_000_000, None),
        (2**63, None),
        (None, None),
    ],
)
def test_a_clock_that_shows_nonsense_is_no_error(wall: int | None, expected: str | None) -> None:
    """Before 1970, after the year 9999: `time` is null and the line is written all the same."""
    verdict = replace(Verdict("s", 0, (0, 0, 1, 1)), stamp=Stamp(time_us=wall))
    assert verdict.line()["time"] == expected
    assert strict().is_valid(verdict.line())


def test_frames_of_two_runs_are_told_apart() -> None:
    """`frame_id` is the same for the verdicts of a frame and differs between frames and runs; without a frame there is
    none."""
    one, other = Verdict("s", 5, (0, 0, 1, 1)), Verdict("s", 5, (4, 4, 1, 1))
    again = Stamps(STAMPS.bundle, "front")
    ids = [[each.line()["frame_id"] for each in stamps.on([one, other], captured_at=1.0)] for stamps in (STAMPS, again)]
    assert ids[0][0] == ids[0][1] != ids[1][0]
    assert stamped(replace(one, sequence=6))["frame_id"] != ids[0][0]
    assert stamped(one, frame=False)["frame_id"] is None


def test_stamps_do_not_count_when_verdicts_are_compared() -> None:
    """Two runs over one picture give equal verdicts, whatever the clock showed."""
    verdict = Verdict("s", 5, (0, 0, 1, 1))
    assert STAMPS.on([verdict], captured_at=1.0)[0] == verdict
