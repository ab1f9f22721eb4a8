"""Evidence as a guard keeps it: which cases, their pictures, how many, and what a crash or a full disk leaves."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from firewall.errors import FirewallError
from firewall.frame import Frame
from firewall.sinks import FrameReport, Outlets, evidence, open_outputs, outlet, quarantine
from firewall.sinks.evidence import Cases, case_folders
from firewall.sinks.quarantine import Quarantine
from firewall.verdict import BundleStamp, Reason, Stamps, Verdict
from tests.sinks.making import RELEASED, failure, report, until

STAMPS = {name: Stamps(BundleStamp("traffic-signs", 4, "128a7be433d4"), name) for name in ("front", "rear")}


def seen(number: int, *verdicts: Verdict, camera: str = "front", size: tuple[int, int] = (160, 120)) -> FrameReport:
    """Frame `number` of a camera with 10 frames a second; each column, row and frame has a colour of its own."""
    rows, columns = np.indices((size[1], size[0]))
    pixels = np.stack([columns % 256, rows % 256, np.full_like(rows, number % 256)], axis=2).astype(np.uint8)
    at = 1000 + number / 10
    told = STAMPS[camera].on([*verdicts] or [Verdict("cam", number, (0, 0, *size))], captured_at=at)
    return FrameReport(Frame(pixels, "cam", number, at), told)


def withheld(track: int | None, reason: Reason = Reason.SUSPICIOUS, region: Any = (60, 30, 20, 22)) -> Verdict:
    return Verdict("cam", 0, region, reason=reason, track=track, scores={"x": 1.0}, suspected_label=14)


def nothing(number: int) -> FrameReport:
    return seen(number, Verdict("cam", number, (0, 0, 160, 120), reason=Reason.NOTHING_FOUND))


def cases(folder: Path) -> list[dict[str, Any]]:
    """All records in the order of their numbers, each with its `files`."""
    told = []
    for number, path in sorted(case_folders(folder).items()):
        record = json.loads((path / "verdict.json").read_text())
        assert record["number"] == number and record["schema"] == "firewall.evidence/1"
        for name, digest in record["sha256"].items():
            assert hashlib.sha256((path / name).read_bytes()).hexdigest() == digest
        told.append({**record, "files": sorted(file.name for file in path.iterdir()), "path": path})
    return told


def picture(record: dict[str, Any], name: str) -> Any:
    """(H, W, 3) RGB of a picture of a case."""
    return cv2.imread(str(record["path"] / name))[..., ::-1]


def test_a_track_is_kept_once_with_pictures_around_it(tmp_path: Path) -> None:
    """The crop pixel by pixel, the pictures half a second before and after, the line; only for the owner's eyes."""
    sink = Quarantine(tmp_path / "q")
    for number in range(10):
        sink.report(nothing(number))
    for number in range(10, 14):
        sink.report(seen(number, withheld(3)))
    for number in range(14, 20):
        sink.report(nothing(number))
    sink.close()
    (case,) = cases(tmp_path / "q")
    assert case["files"] == ["after.jpg", "at.jpg", "before.jpg", "crop.png", "verdict.json"]
    assert case["path"].name.endswith("-front-track3") and case["frame"] == [160, 120] and case["left_out"] == 0
    verdict = case["verdict"]
    assert (verdict["sequence"], verdict["track"], verdict["reason"]) == (
        0,
        3,
        "suspicious",
    ) and "scores" not in verdict
    crop = picture(case, "crop.png")
    assert np.array_equal(crop, seen(10).frame.pixels[30:52, 60:80])  # type: ignore[union-attr]
    colours = [int(np.median(picture(case, f"{name}.jpg")[..., 2])) for name in ("before", "at", "after")]
    assert colours == pytest.approx([5, 10, 15], abs=1)
    assert case["path"].stat().st_mode & 0o077 == (case["path"] / "crop.png").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("reasons", "kept"),
    [
        ([Reason.UNCONFIRMED, Reason.UNCONFIRMED, None, None], []),
        ([Reason.UNCONFIRMED, Reason.UNCONFIRMED], ["not confirmed yet"]),
        ([Reason.UNFIT, Reason.UNFIT, Reason.LATE], ["late"]),
        ([Reason.UNFIT, Reason.UNCONFIRMED, None, Reason.REVOKED, Reason.SUSPICIOUS], ["revoked"]),
        ([None, Reason.UNCONFIRMED, Reason.LATE], []),
        ([Reason.NOT_A_SIGN, Reason.UNCONFIRMED, None, Reason.SUSPICIOUS], ["not a sign"]),
        ([Reason.ENGINE_ERROR, Reason.LATE], ["engine error"]),
    ],
)
@pytest.mark.parametrize("gone", [True, False])
def test_which_tracks_are_kept(tmp_path: Path, reasons: list[Reason | None], kept: list[str], gone: bool) -> None:
    """What speaks against a sign at once; what only waited once it is gone or the guard ends, and never if it was
    released."""
    sink = Quarantine(tmp_path / "q")
    for number, reason in enumerate(reasons):
        sink.report(seen(number, RELEASED if reason is None else withheld(7, reason)))
    if gone:
        for number in range(len(reasons), len(reasons) + 40):
            sink.report(nothing(number))
        assert [case["verdict"]["reason"] for case in cases(tmp_path / "q")] == kept
    sink.close()
    assert [case["verdict"]["reason"] for case in cases(tmp_path / "q")] == kept


def test_what_shows_nothing_is_not_kept(tmp_path: Path) -> None:
    """A source without a frame, frames with nothing in them: no case. A picture that couldn't be judged has no crop."""
    sink = Quarantine(tmp_path / "q")
    sink.report(failure(0))
    sink.report(nothing(1))
    assert cases(tmp_path / "q") == []
    sink.report(seen(2, withheld(None, Reason.BAD_IMAGE, (0, 0, 0, 0))))
    sink.report(report(3, withheld(4), stamped=False))
    sink.close()
    whole, unstamped = cases(tmp_path / "q")
    assert whole["files"] == ["at.jpg", "before.jpg", "verdict.json"] and whole["path"].name.endswith("-front")
    assert unstamped["path"].name.endswith("-picture-track4")


def test_without_tracks_each_sighting_is_kept(tmp_path: Path) -> None:
    """One place and reason for as long as it is withheld is one sighting; another place, reason, file or a pause of two
    seconds makes another."""
    sink = Quarantine(tmp_path / "q", operator=True)
    for number in range(30):
        sink.report(seen(number, withheld(None, region=(60 + number // 4, 30, 20, 22))))
    assert len(cases(tmp_path / "q")) == 1
    sink.report(seen(30, withheld(None, region=(100, 90, 20, 22)), withheld(None, Reason.NOT_A_SIGN)))
    sink.report(seen(31, Verdict("b.png", 0, (67, 30, 20, 22), reason=Reason.SUSPICIOUS)))
    sink.report(seen(60, withheld(None, region=(67, 30, 20, 22))))
    sink.close()
    told = cases(tmp_path / "q")
    assert [case["verdict"]["reason"] for case in told] == [
        "suspicious",
        "suspicious",
        "not a sign",
        *["suspicious"] * 2,
    ]
    assert told[0]["verdict"]["suspected_label"] == 14 and told[0]["verdict"]["scores"] == {"x": 1.0}
    assert "after.jpg" in told[0]["files"] and "after.jpg" not in told[-1]["files"]  # there was no further frame


def test_cameras_are_kept_apart(tmp_path: Path) -> None:
    """Two cameras in one process: track 1 of each is a case, and the pictures around it are its own camera's."""
    sink = Quarantine(tmp_path / "q")
    for number in range(20):
        sink.report(seen(number, withheld(1), camera="front"))
        sink.report(seen(number + 100, withheld(1), camera="rear"))
    sink.close()
    front, rear = cases(tmp_path / "q")
    assert (front["verdict"]["camera"], rear["verdict"]["camera"]) == ("front", "rear")
    assert np.median(picture(front, "after.jpg")[..., 2]) == pytest.approx(5, abs=1)
    assert np.median(picture(rear, "after.jpg")[..., 2]) == pytest.approx(105, abs=1)


def test_a_large_frame_is_scaled_down_and_its_crop_is_not(tmp_path: Path) -> None:
    """2560 pixels wide: pictures of 1280, a crop of every pixel; also of a region that sticks out of the frame."""
    sink = Quarantine(tmp_path / "q")
    sink.report(
        seen(0, withheld(1, region=(1000, 30, 700, 500)), withheld(2, region=(-10, -5, 30, 20)), size=(2560, 600))
    )
    sink.close()
    large, edge = cases(tmp_path / "q")
    assert picture(large, "at.jpg").shape == (300, 1280, 3) and picture(large, "crop.png").shape == (500, 700, 3)
    assert large["frame"] == [2560, 600] and picture(edge, "crop.png").shape == (15, 20, 3)


def test_no_more_than_so_many_in_a_minute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A flood of tracks fills the rate, waiting ones half of it; the next case says how many were left out."""
    now = [100.0]
    monkeypatch.setattr(quarantine.time, "monotonic", lambda: now[0])
    sink = Quarantine(tmp_path / "q", rate=4)
    for track in range(100):
        sink.report(seen(track, withheld(1000 + track, Reason.UNFIT)))
    assert len(cases(tmp_path / "q")) == 2
    for track in range(100):
        sink.report(seen(100 + track, withheld(2000 + track)))
    assert len(cases(tmp_path / "q")) == 4
    now[0] += 61
    sink.report(seen(200, withheld(1)))
    assert cases(tmp_path / "q")[-1]["left_out"] > 100
    sink.report(seen(201, withheld(2)))
    assert cases(tmp_path / "q")[-1]["left_out"] == 0
    sink.close()


def test_memory_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tracks without end: a bounded number is remembered, and of waiting ones so many with pictures."""
    monkeypatch.setattr(quarantine, "_MOST_TRACKS", 50)
    sink = Quarantine(tmp_path / "q", rate=1)
    for number in range(60):
        sink.report(seen(number, withheld(number * 2, Reason.LATE), withheld(number * 2 + 1, Reason.UNCONFIRMED)))
        (scene,) = sink._scenes.values()
        assert len(scene.tracks) <= 50 and sum(each.waiting is not None for each in scene.tracks.values()) <= 16
        assert len(scene.shots) <= 3 and len(scene.sightings) == 0
    sink.close()


def test_what_is_too_large_by_itself_is_left_out(tmp_path: Path) -> None:
    """A crop of 3 MB of noise where 1 MB is allowed: counted, and the next case is kept."""
    sink = Quarantine(tmp_path / "q", size=1 << 20)
    noise = np.frombuffer(os.urandom(1000 * 1000 * 3), np.uint8).reshape(1000, 1000, 3)
    told = seen(0, withheld(1, region=(0, 0, 1000, 1000)))
    sink.report(FrameReport(Frame(noise, "cam", 0, 1000.0), told.verdicts))
    sink.report(seen(1, withheld(2)))
    sink.close()
    (case,) = cases(tmp_path / "q")
    assert case["verdict"]["track"] == 2 and case["left_out"] == 1


def big(there: Cases, name: str) -> Path:
    """A case of 100 KiB and a little."""
    case = there.add(name, {"verdict": {}}, {"crop.png": os.urandom(100 << 10)})
    assert case is not None
    return case


def test_the_oldest_make_room(tmp_path: Path) -> None:
    """By size, over restarts too, also where a wall clock was set back; what alone is too large is not kept; a case
    that somebody removed is no trouble."""
    folder = tmp_path / "q"
    there = Cases(folder, size=1 << 20, days=30)
    made = [big(there, f"c{number}") for number in range(9)]
    big(there, "d")
    big(there, "e")
    assert sorted(case_folders(folder)) == list(range(2, 12)) and there.bytes <= 1 << 20
    assert there.add("huge", {}, {"crop.png": bytes(2 << 20)}) is None and len(case_folders(folder)) == 10
    there.complete(made[2], "after.jpg", bytes(200_000))  # the oldest go for it, but not itself
    assert (made[2] / "crop.png").exists() and not (made[2] / "after.jpg").exists() and not made[1].exists()
    shutil.rmtree(made[2])
    big(there, "g")
    there.close()
    there = Cases(folder, size=300 * 1024, days=30)
    assert sorted(case_folders(folder)) == [11, 12]
    newest = big(there, "f")
    assert sorted(case_folders(folder)) == [12, 13] and there.bytes <= 300 * 1024
    there.complete(newest, "after.jpg", bytes(1000))
    assert (newest / "after.jpg").stat().st_size == 1000
    there.complete(folder / "00000099-20260101T000000Z-x", "after.jpg", bytes(1000))  # it went meanwhile: no harm
    there.close()


def test_old_ones_go_and_a_clock_that_was_set_back_takes_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """30 days by the wall clock. A board that starts in 1970 writes cases that are no older than those before them."""
    folder, day = tmp_path / "q", 86400
    wall, ticks = [2_000_000_000.0], [0.0]
    monkeypatch.setattr(evidence.time, "time", lambda: wall[0])
    monkeypatch.setattr(quarantine.time, "monotonic", lambda: ticks[0])
    sink = Quarantine(folder)
    sink.report(seen(0, withheld(1)))
    wall[0] = 5.0
    sink.report(seen(1, withheld(2)))
    wall[0] = 2_000_000_000.0 + 29 * day
    sink.report(seen(2, withheld(3)))
    ticks[0] += 61
    sink.tick()
    assert sorted(case_folders(folder)) == [1, 2, 3]
    wall[0] += 2 * day
    sink.tick()  # not yet: once a minute
    assert sorted(case_folders(folder)) == [1, 2, 3]
    ticks[0] += 61
    sink.tick()
    assert sorted(case_folders(folder)) == [3]
    sink.close()
    wall[0] += 31 * day
    Cases(folder, size=1 << 20, days=30).close()
    assert case_folders(folder) == {}
    (folder / "00000009-20261399T000000Z-made-up").mkdir()
    there = Cases(folder, size=1 << 20, days=36_500)
    assert sorted(case_folders(folder)) == [9]
    there.close()


def test_a_killed_guard_leaves_no_half_case(tmp_path: Path) -> None:
    """A real process, kill -9 while it writes one case after the other: every case is whole, what was begun is gone
    after the next start, the numbers go on, and meanwhile no second guard may write there."""
    folder = tmp_path / "q"
    code = (
        "from pathlib import Path; from tests.sinks.test_quarantine import Quarantine, seen, withheld\n"
        f"sink = Quarantine(Path({str(folder)!r}), rate=100000)\n"
        "for number in range(10**9):\n"
        "    sink.report(seen(number, withheld(2 * number), withheld(2 * number + 1))); print(number, flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) == 20:
                break
        with pytest.raises(FirewallError, match=r"another guard keeps its evidence in .*; name another folder"):
            Quarantine(folder)
        process.kill()
    told = cases(folder)
    assert len(told) >= 42 and all({"at.jpg", "crop.png", "verdict.json"} <= {*case["files"]} for case in told)
    last = max(case_folders(folder))
    torn = folder / f".{last + 1:08d}-20261129T080000Z-front.partial"
    torn.mkdir(exist_ok=True)
    (torn / "at.jpg").write_bytes(b"half")
    (told[0]["path"] / ".after.jpg.77.partial").write_bytes(b"half")
    sink = Quarantine(folder)
    assert not list(folder.rglob(".*"))
    sink.report(seen(0, withheld(1)))
    sink.close()
    assert max(case_folders(folder)) == last + 1


@contextlib.contextmanager
def no_file_larger(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_stops_only_the_evidence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No file may grow for a while: every line is still written, no half case is left, health says so, and cases are
    kept again when there is room. Alone it doesn't end the guard either."""
    monkeypatch.setattr(outlet, "_FIRST_DELAY", 0.05)
    monkeypatch.setattr(outlet, "_LONGEST_DELAY", 0.05)
    folder, said = tmp_path / "q", list[str]()
    outlets = open_outputs([f"quarantine:{folder}?size=10M", f"jsonl:{tmp_path}/v"], camera="front", say=said.append)
    kept = outlets.outlets[0]
    outlets.report(seen(0, withheld(1)))
    until(lambda: kept.health().taken == 1)
    with no_file_larger(1000):  # a line fits, a picture doesn't
        outlets.report(seen(1, withheld(2)))
        until(lambda: kept.health().failures == 1)
        assert kept.failed and not list(folder.rglob(".*")) and len(cases(folder)) == 1
    until(lambda: kept._output is not None)
    outlets.report(seen(2, withheld(3)))
    outlets.close()
    assert [case["verdict"]["track"] for case in cases(folder)] == [1, 3]
    assert len((tmp_path / "v").read_text().splitlines()) == 3
    assert f"can't keep evidence in {folder}: File too large" in said[0] and "works again" in said[1]
    alone = Outlets([outlet.Outlet("quarantine:x", lambda: Quarantine(folder), pixels=True, aside=True, again=False)])
    with no_file_larger(1000):
        alone.report(seen(1, withheld(2)))
        until(lambda: alone.outlets[0].failed)
        alone.report(seen(2))
    with pytest.raises(FirewallError, match="can't keep evidence"):  # the exit code tells of it
        alone.close()


def test_a_listener_that_is_gone_ends_the_guard_all_the_same(tmp_path: Path) -> None:
    """Evidence tells nobody of a verdict: with standard output gone and only a quarantine left, the guard ends."""
    outlets = open_outputs(["jsonl:/dev/full", f"quarantine:{tmp_path}/q"], camera="front")

    def ended() -> bool:
        try:
            outlets.report(report(0))
        except FirewallError:
            return True
        return False

    until(ended)
    outlets.close()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda folder: folder.write_text(""), "File exists"),
        (lambda folder: None, "No such file"),
    ],
)
def test_a_folder_that_can_not_be_written_is_one_line(
    tmp_path: Path, spoil: Callable[[Path], object], words: str
) -> None:
    """At the start."""
    folder = tmp_path / "q" if words == "File exists" else tmp_path / "no" / "q"
    spoil(folder)
    with pytest.raises(FirewallError, match=f"can't keep evidence in .*{words}"):
        Quarantine(folder)


def test_a_folder_that_went_away_is_one_line(tmp_path: Path) -> None:
    """While it is written to, and at the end."""
    sink = Quarantine(tmp_path / "q")
    (tmp_path / "q").rmdir()
    with pytest.raises(FirewallError, match=r"can't keep evidence in .*No such file"):
        sink.report(seen(0, withheld(1)))
    sink.report(seen(1, withheld(2, Reason.LATE)))
    with pytest.raises(FirewallError, match=r"can't keep evidence in .*No such file"):
        sink.close()


def test_a_slow_disk_delays_no_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every write takes a second: a live source's reports are taken at once all the same, the oldest are dropped and
    counted."""
    slow = evidence.replace_file

    def wait(*given: Any, **more: Any) -> None:
        time.sleep(1)
        slow(*given, **more)

    monkeypatch.setattr(evidence, "replace_file", wait)
    outlets = open_outputs([f"quarantine:{tmp_path}/q"], camera="front")
    for number in range(50):
        outlets.report(seen(number, withheld(number)))
    (health,) = outlets.health()
    assert health.dropped >= 30 and health.waiting <= 8  # a frame loop that waited would have lost none
    monkeypatch.undo()
    outlets.close()


def test_where_a_case_lies_is_told_before_the_audit_log_ends(tmp_path: Path) -> None:
    """Each case is an event: its folder, the frame and track, the pictures' hashes. One that waited until the guard
    ended is in the audit log too, whichever of the two was named first."""
    for order in (1, -1):
        log, kept = tmp_path / f"log{order}", tmp_path / f"kept{order}"
        outlets = open_outputs([f"audit:{log}", f"quarantine:{kept}"][::order], camera="front")
        outlets.report(seen(0, withheld(3)))
        outlets.report(seen(1, withheld(4, Reason.UNCONFIRMED)))
        outlets.close()
        told = [json.loads(line) for line in (log / "audit-00000001.jsonl").read_text().splitlines()]
        evidence = [each for each in told if each["event"] == "evidence"]
        assert [(each["track"], each["reason"]) for each in evidence] == [(3, "suspicious"), (4, "not confirmed yet")]
        assert [each["case"] for each in evidence] == [case["path"].name for case in cases(kept)]
        assert [each["sha256"] for each in evidence] == [case["sha256"] for case in cases(kept)]
        assert evidence[0]["frame_id"] == cases(kept)[0]["verdict"]["frame_id"]
        assert evidence[0]["folder"] == str(kept) and evidence[0]["camera"] == "front"
