"""The judge of the soak, on lines and logs whose truth is plain; and its cameras, whose pictures are drawn."""

from __future__ import annotations

import json
import struct
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from benchmarks.soak_camera import RECORD, order
from benchmarks.soak_judge import Shown, judge, judge_label

EMPTY: dict[str, Any] = {"drive": 0, "label": None, "box": None, "attack": None}
TRUTH = [
    EMPTY,
    {"drive": 0, "label": 14, "box": [100, 50, 40, 40], "attack": None},
    {"drive": 1, "label": 14, "box": [300, 50, 40, 40], "attack": "DeepFool"},
    {"drive": 2, "label": 38, "box": [300, 52, 40, 40], "attack": None},
]
SECOND = 10**9
WITHHELD = {"decision": "withhold", "label": None, "reason": "suspicious: x"}
#: Sent at 1, 2, 3, 4 and 5 s: nothing, a sign, nothing, an attacked sign, another sign at its place.
SHOWN = Shown([(1 * SECOND, 0), (2 * SECOND, 1), (3 * SECOND, 0), (4 * SECOND, 2), (5 * SECOND, 3)], TRUTH)


def line(second: float, label: int, x: int, **more: Any) -> dict[str, Any]:
    """A verdict line that releases, of a frame captured then."""
    return {
        "camera": "front",
        "frame_id": f"a-{second}",
        "sequence": round(second * 100),
        "track": 1,
        "decision": "release",
        "label": label,
        "reason": "benign",
        "region": [x, 51, 40, 40],
        "monotonic_ns": round(second * SECOND),
        "latency_ms": 50.0,
        "age_ms": 60.0,
        "time": f"2026-11-29T10:00:{second:09.6f}Z",
        **more,
    }


@pytest.mark.parametrize(
    ("given", "what"),
    [
        (line(2.01, 14, 102), "right"),
        (line(2.45, 14, 102), "right"),
        (line(1.98, 14, 102), "right"),  # taken for older than it was; sent before it was handed out
        (line(1.90, 14, 102), "no sign"),  # handed out before it was sent
        (line(2.60, 14, 102), "stale"),
        (line(3.10, 14, 102), "stale"),
        (line(2.01, 38, 102), "wrong label"),
        (line(2.01, 14, 300), "no sign"),
        (line(1.01, 14, 102), "no sign"),
        (line(4.01, 14, 300), "attacked"),
        (line(4.01, 38, 300), "wrong label"),
        (line(5.01, 38, 300), "right"),
        (line(0.50, 14, 102), "no sign"),  # nothing was ever shown by then
    ],
)
def test_a_label_is_held_against_what_the_camera_showed(given: dict[str, Any], what: str) -> None:
    """Class, place and time have to fit, each by itself."""
    assert judge_label(given, SHOWN)[0] == what


def test_ages_are_those_of_the_picture() -> None:
    """From sending to capture and to handing out, whatever the line says of itself."""
    what, lag, age = judge_label(line(2.3, 14, 102), SHOWN)
    assert what == "right" and lag == pytest.approx(0.3) and age == pytest.approx(0.36)
    what, lag, age = judge_label(line(3.1, 14, 102, age_ms=200.0), SHOWN)
    assert what == "stale" and lag == pytest.approx(1.1) and age == pytest.approx(1.3)


def test_a_run_is_judged_from_its_files(tmp_path: Path) -> None:
    """A whole folder: each thing that was wrong is counted; a record and a line that were cut off are left out."""
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "truth.json").write_text(json.dumps(TRUTH))
    records = [(second * SECOND, picture) for second, picture in ((1, 0), (2, 1), (3, 0), (4, 2), (5, 3))]
    (tmp_path / "front.log").write_bytes(b"".join(RECORD.pack(*each) for each in records) + struct.pack("<q", 1))
    lines = [
        line(2.01, 14, 102),
        line(2.10, 14, 102, latency_ms=1001.0, age_ms=1002.0),
        line(3.10, 14, 102),
        line(4.01, 38, 300, time="2026-11-29T09:00:04.010000Z"),
        line(4.20, 0, 0, time="2026-11-29T09:00:04.200000Z") | WITHHELD,
    ]
    text = "".join(json.dumps(each) + "\n" for each in lines)
    (tmp_path / "verdicts.jsonl").write_text(text + '{"cut off')
    arrived = [{"at": 2.2, "camera": "front", "topic": "verdict", "retained": False, "payload": lines[0]}]
    arrived += [{**arrived[0], "at": 9.0, "payload": line(2.02, 15, 102)}]
    (tmp_path / "mqtt.jsonl").write_text("".join(json.dumps(each) + "\n" for each in arrived))
    used = {"pid": 1, "rss_mb": 100.0, "files": 9, "threads": 4}
    events = [
        {"at": 1.0 + 10 * number, "what": "sample", "load": 2.0, "service": [used], "captures": [used]}
        for number in range(13)
    ]
    events += [{"at": 20.0, "what": "kill camera: server", "camera": "front"}]
    events += [{"at": 30.0, "what": "camera back", "camera": "front"}]
    (tmp_path / "events.jsonl").write_text("".join(json.dumps(each) + "\n" for each in events))
    polls = [
        {"at": at, "status": status, "cameras": {"front": status == 200}, "words": {"front": word}}
        for at, status, word in (
            (20.5, 200, "source lost"), (23.2, 200, "source lost"), (24.0, 503, "source lost"), (32.0, 200, "guarding")
        )
    ]  # fmt: skip
    (tmp_path / "ready.jsonl").write_text("".join(json.dumps(each) + "\n" for each in polls))
    plan = {"cameras": ["front"], "minutes": 2.0, "pictures": {}, "sustained": 10.0, "fps": 20.0, "begin": 1.0}
    (tmp_path / "plan.json").write_text(json.dumps(plan | {"deadline_ms": 1000.0, "exit": 0}))

    found = judge(tmp_path)
    released = found["released"]
    assert {key: released[key] for key in ("n", "right", "stale", "wrong label", "no sign")} == {
        "n": 4, "right": 2, "stale": 1, "wrong label": 1, "no sign": 0
    }  # fmt: skip
    assert (released["judged_late"], released["handed_out_late"], released["sent_longer_ago_than_deadline"]) == (
        1,
        1,
        2,
    )
    assert [each["what"] for each in found["examples"]] == ["stale", "wrong label"]
    assert found["lines"]["n"] == 5 and found["lines"]["withheld"] == {"suspicious": 1}
    assert found["lines"]["out_of_order"] == 0 and found["clock"]["jumps_s"] == [-3600]
    mqtt = found["outputs"]["mqtt"]
    assert mqtt["released_that_no_line_has"] == 1 and mqtt["arrived_1s_after_deadline"] == 1
    server = found["ready"]["server"]
    assert server["told_after_s"]["max"] == 0.5 and server["not_ready_after_s"]["max"] == 4.0
    assert (server["ready_again_after_s"]["max"], server["said_ready_while_dead"], server["polls_while_dead"]) == (
        2,
        1,
        2,
    )
    slope = found["memory"]["service"]["slope"]
    assert abs(slope["rss_mb_an_hour"]) < 1e-6 and found["memory"]["captures"]["at"]["2 min"]["files"] == 9


def test_a_camera_begins_without_a_sign_and_never_repeats_a_drive() -> None:
    """So that an old label fits nothing that is shown; another seed is another order."""
    known = [{**EMPTY, "drive": number // 4, "label": None if number % 4 < 2 else 3} for number in range(20)]
    shown = order(known, 7, 400)
    assert all(known[at]["label"] is None for at in shown[:4])
    drives = [known[at]["drive"] for at in shown[4::4]]
    assert all(one != other for one, other in pairwise(drives))
    assert shown != order(known, 8, 400) and len(shown) >= 400
