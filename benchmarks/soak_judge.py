"""What the run of soak.py came to: every released label against what its camera showed, and what was written down.

A verdict line bears the moment of capture by the monotonic clock, which the cameras' logs bear as well. A released
label is right if a picture sent in the half second before its capture, or until it was handed out, has a sign of that
class at that place.
"""

from __future__ import annotations

import bisect
import datetime as dt
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.soak_camera import RECORD

__all__ = ["Shown", "fits", "judge", "judge_label", "overlap", "read"]

_WINDOW = 0.5  # seconds before its capture in which a picture was sent
_LONG_AGO = 60.0  # seconds in which the picture of an old label is looked for
_OVERLAP = 0.4  # of the region and the sign's true box: intersection over union
_GRACE = 3.0  # seconds until a camera that was killed must not be called ready any more

Line = dict[str, Any]


class Shown:
    """What a camera showed, and when.

    Args:
        records: (nanoseconds of the monotonic clock, number of the picture), in their order.
        truth: What the pictures show, as soak_camera.draw writes it.
    """

    def __init__(self, records: Iterable[tuple[int, int]], truth: Sequence[dict[str, Any]]) -> None:
        told = sorted(records)
        self._at = [at for at, _ in told]
        self._pictures = [picture for _, picture in told]
        self._truth = truth

    @classmethod
    def read(cls, log: Path, truth: Sequence[dict[str, Any]]) -> Shown:
        """Of a camera's log; a record that was cut off by kill -9 is left out."""
        data = log.read_bytes()
        return cls(RECORD.iter_unpack(data[: len(data) // RECORD.size * RECORD.size]), truth)

    def between(self, begin: int, end: int) -> list[tuple[int, dict[str, Any]]]:
        """(when, truth) of what was sent from `begin` to `end`, the newest first."""
        places = range(bisect.bisect_left(self._at, begin), bisect.bisect_right(self._at, end))
        return [(self._at[place], self._truth[self._pictures[place]]) for place in reversed(places)]


def judge_label(line: Line, shown: Shown) -> tuple[str, float, float]:
    """What a released label is, and how old.

    Args:
        line: A verdict line that releases.
        shown: What its camera showed.

    Returns:
        right; attacked (the true class of a sign that was attacked); stale (it fits what was shown longer ago); wrong
        label; or no sign. Then, of pictures that the label fits, seconds from sending to capture of the one that it
        fits best (below 0: the guard took it for older than it was), and from sending to handing out of the newest
        one; nan if there is none.
    """
    captured = line["monotonic_ns"]
    out = captured + int(line["age_ms"] * 1e6)
    recent = shown.between(captured - int(_WINDOW * 1e9), out)
    fitting = [each for each in recent if fits(line, each[1])]
    if fitting:
        before = [each for each in fitting if each[0] <= captured] or fitting
        at, known = max(before, key=lambda each: overlap(line["region"], each[1]["box"]))
        return "attacked" if known["attack"] else "right", (captured - at) / 1e9, (out - fitting[0][0]) / 1e9
    earlier = shown.between(captured - int(_LONG_AGO * 1e9), captured - int(_WINDOW * 1e9))
    old = next((at for at, known in earlier if fits(line, known)), None)
    if old is not None:
        return "stale", (captured - old) / 1e9, (out - old) / 1e9
    there = any(known["box"] and overlap(line["region"], known["box"]) >= _OVERLAP for _, known in recent)
    return "wrong label" if there else "no sign", float("nan"), float("nan")


def fits(line: Line, known: dict[str, Any]) -> bool:
    """Whether a released label is true of a picture: its class, at its place."""
    return bool(known["label"] == line["label"] and known["box"] and overlap(line["region"], known["box"]) >= _OVERLAP)


def overlap(one: Sequence[int], other: Sequence[int]) -> float:
    """Intersection over union of two boxes [x, y, width, height]."""
    across = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    down = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    common = max(0, across) * max(0, down)
    return common / (one[2] * one[3] + other[2] * other[3] - common)


def judge(folder: Path) -> dict[str, Any]:
    """All figures of a run whose files lie in `folder`."""
    plan = json.loads((folder / "plan.json").read_text())
    truth = json.loads((folder / "pictures" / "truth.json").read_text())
    shown = {name: Shown.read(folder / f"{name}.log", truth) for name in plan["cameras"]}
    lines = read(folder / "verdicts.jsonl")
    events = read(folder / "events.jsonl")
    released, examples = _released(lines, shown, plan["deadline_ms"])
    return {
        "minutes": plan["minutes"],
        "pictures": plan["pictures"],
        "sustained_fps": plan["sustained"],
        "sent_fps": round(plan["fps"] * len(plan["cameras"]), 1),
        "deadline_ms": plan["deadline_ms"],
        "load": _load(events),
        "events": dict(Counter(event["what"] for event in events if event["what"] not in ("sample", "said"))),
        "lines": _lines(lines, plan),
        "released": released,
        "examples": examples,
        "clock": _clock(lines),
        "memory": _memory(events, plan),
        "ready": _ready(read(folder / "ready.jsonl"), events),
        "outputs": _outputs(folder, lines, plan),
        "exit": plan.get("exit"),
    }


def read(path: Path) -> list[Line]:
    """All whole lines of a file; none if it isn't there."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]


def _released(lines: list[Line], shown: dict[str, Shown], deadline_ms: float) -> tuple[dict[str, Any], list[Line]]:
    found: Counter[str] = Counter({"right": 0, "attacked": 0, "stale": 0, "wrong label": 0, "no sign": 0})
    lags, seen, examples, drives = [], [], [], set()
    out = [line for line in lines if line["decision"] == "release"]
    for line in out:
        what, lag, age = judge_label(line, shown[line["camera"]])
        found[what] += 1
        seen.append(age)
        drives.add((line["camera"], line["track"]))
        if what in ("right", "attacked"):
            lags.append(lag)
        elif len(examples) < 20:
            examples.append({"what": what, **line})
    ages = [line["age_ms"] for line in out] or [float("nan")]
    return {
        "n": len(out),
        "tracks": len(drives),
        **found,
        "judged_late": sum(line["latency_ms"] > deadline_ms for line in out),
        "handed_out_late": sum(age > deadline_ms for age in ages),
        "sent_longer_ago_than_deadline": sum(1e3 * age > deadline_ms for age in seen),
        "age_ms": _percentiles(ages),
        "sent_to_capture_ms": _percentiles([1e3 * lag for lag in lags] or [float("nan")]),
    }, examples


def _percentiles(values: Sequence[float]) -> dict[str, float]:
    p50, p99, top = np.percentile(values, (50, 99, 100))
    return {"p50": round(float(p50), 1), "p99": round(float(p99), 1), "max": round(float(top), 1)}


def _lines(lines: list[Line], plan: dict[str, Any]) -> dict[str, Any]:
    frames = {(line["camera"], line["frame_id"]) for line in lines if line["frame_id"]}
    reasons = Counter(line["reason"].partition(":")[0] for line in lines if line["decision"] == "withhold")
    disorder, newest = 0, dict.fromkeys(plan["cameras"], (-1, -1))
    for line in lines:
        order = (line["sequence"], line["monotonic_ns"])
        disorder += order < newest[line["camera"]] or order[1] < newest[line["camera"]][1]
        newest[line["camera"]] = order
    return {
        "n": len(lines),
        "frames": len(frames),
        "frames_a_second": round(len(frames) / (60 * plan["minutes"]), 1),
        "withheld": dict(reasons.most_common()),
        "withheld_with_a_label": sum(line["decision"] != "release" and line["label"] is not None for line in lines),
        "out_of_order": disorder,
    }


def _clock(lines: list[Line]) -> dict[str, Any]:
    """By how much `time` jumped against the monotonic clock, and the reasons just after."""
    offsets = [
        dt.datetime.fromisoformat(line["time"].replace("Z", "+00:00")).timestamp() - line["monotonic_ns"] / 1e9
        for line in lines
    ]
    jumps = [at for at in range(1, len(offsets)) if abs(offsets[at] - offsets[at - 1]) > 1]
    told: dict[str, Any] = {"jumps_s": [round(offsets[at] - offsets[at - 1]) for at in jumps]}
    for at in jumps[:1]:
        moment = lines[at]["monotonic_ns"]
        near = [line["monotonic_ns"] - moment for line in lines if line["decision"] == "release"]
        told["released_10s_before"] = sum(-10e9 < after < 0 for after in near)
        told["released_10s_after"] = sum(0 <= after < 10e9 for after in near)
    return told


def _load(events: list[Line]) -> dict[str, float]:
    loads = [event["load"] for event in events if event["what"] == "sample"] or [float("nan")]
    return {"mean": round(float(np.mean(loads)), 1), "max": round(max(loads), 1)}


def _memory(events: list[Line], plan: dict[str, Any]) -> dict[str, Any]:
    """Of the service, and of its captures together (they are started again at each kill)."""
    samples = [event for event in events if event["what"] == "sample"]
    begin, found = plan["begin"], {}
    marks = sorted({minute for minute in (0.5, 1, 2, 10, 20, plan["minutes"]) if minute <= plan["minutes"]})
    for who in ("service", "captures"):
        rows = [
            (event["at"] - begin, *(sum(each[key] for each in event[who]) for key in ("rss_mb", "files", "threads")))
            for event in samples
            if event[who]
        ]
        settled = [row for row in rows if row[0] >= min(120, 20 * plan["minutes"])]
        at: dict[str, Any] = {}
        for minute in marks:
            row = min(rows, key=lambda each: abs(each[0] - 60 * minute))
            at[f"{minute:g} min"] = {"rss_mb": round(row[1], 1), "files": row[2], "threads": row[3]}
        slope = {}
        if len(settled) > 2:
            times = [row[0] / 3600 for row in settled]
            for place, key in enumerate(("rss_mb", "files", "threads"), 1):
                slope[f"{key}_an_hour"] = round(float(np.polyfit(times, [row[place] for row in settled], 1)[0]), 2)
        found[who] = {"at": at, "slope": slope, "max_rss_mb": round(max(row[1] for row in rows), 1)}
    return found


def _ready(polls: list[Line], events: list[Line]) -> dict[str, Any]:
    """What /v2/health/ready said while a camera was killed: of that one and of the others."""
    found: dict[str, Any] = {"polls": len(polls), "unanswered": sum(poll["status"] == 0 for poll in polls)}
    kills = [event for event in events if event["what"].startswith("kill camera")]
    backs = [event for event in events if event["what"] == "camera back"]
    for kind in ("server", "capture"):
        dead = other = other_ready = said_ready = 0
        until_told, until_not, until_again = [], [], []
        for kill in (kill for kill in kills if kill["what"].endswith(kind)):
            name, at = kill["camera"], kill["at"]
            again_from = [x["at"] for x in backs if x["camera"] == name and x["at"] >= at and kind == "server"]
            back = min(again_from, default=at)
            after = [poll for poll in polls if at <= poll["at"] < back + 40 and poll["status"]]
            told = next((poll["at"] for poll in after if poll["words"].get(name) != "guarding"), None)
            until_told += [] if told is None else [told - at]
            lost = next((poll["at"] for poll in after if not poll["cameras"].get(name)), None)
            if lost is not None:
                until_not.append(lost - at)
                again = next((p["at"] for p in after if p["at"] > max(lost, back) and p["cameras"].get(name)), None)
                until_again += [] if again is None else [again - back]
            for poll in (poll for poll in after if poll["at"] < max(back, at + 5)):
                if kind == "server" and poll["at"] > at + _GRACE:
                    dead, said_ready = dead + 1, said_ready + bool(poll["cameras"].get(name))
                for each, ready in poll["cameras"].items():
                    other, other_ready = other + (each != name), other_ready + (each != name and ready)
        found[kind] = {
            "kills": sum(kill["what"].endswith(kind) for kill in kills),
            "told": len(until_told),
            "told_after_s": _percentiles(until_told) if until_told else None,
            "not_ready": len(until_not),
            "not_ready_after_s": _percentiles(until_not) if until_not else None,
            "ready_again_after_s": _percentiles(until_again) if until_again else None,
            "came_back": len(until_again),
            "polls_while_dead": dead,
            "said_ready_while_dead": said_ready,
            "others_ready": round(other_ready / other, 3) if other else None,
        }
    return found


def _outputs(folder: Path, lines: list[Line], plan: dict[str, Any]) -> dict[str, Any]:
    told: dict[str, Any] = {each["name"].replace(str(folder), ""): each for each in plan.get("outputs", [])}
    found: dict[str, Any] = {
        name: {key: each[key] for key in ("taken", "dropped", "failures")} for name, each in told.items()
    }
    known = {(line["frame_id"], *line["region"], line["label"]) for line in lines if line["decision"] == "release"}
    came = read(folder / "mqtt.jsonl")
    verdicts = [(each["at"], each["payload"]) for each in came if each["topic"] == "verdict"]
    out = [(at, line) for at, line in verdicts if line["decision"] == "release"]
    ages = [1e3 * at - line["monotonic_ns"] / 1e6 for at, line in verdicts] or [float("nan")]
    found["mqtt"] = {
        "verdicts": len(verdicts),
        "lost": round(1 - len(verdicts) / len(lines), 4) if lines else None,
        "released": len(out),
        "released_that_no_line_has": sum(
            (line["frame_id"], *line["region"], line["label"]) not in known for _, line in out
        ),
        "age_on_arrival_ms": _percentiles(ages),
        "arrived_1s_after_deadline": sum(age > plan["deadline_ms"] + 1000 for age in ages),
        "states": dict(Counter(each["payload"] for each in came if each["topic"] == "state")),
    }
    found["audit"] = plan.get("audit")
    found["quarantine"] = plan.get("quarantine")
    return found
