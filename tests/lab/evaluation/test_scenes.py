"""Whole road scenes, by the command that a user runs: drawn scenes whose answers are known from the edge itself."""

from __future__ import annotations

import base64
import io
import json
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from firewall import Firewall
from firewall.demo.scene import Encounter, render
from firewall.demo.signs import DRAWN
from firewall.errors import DataError
from firewall.frame import Frame, Pixels, Region
from firewall.lab.datasets.gtsrb import CLASS_NAMES
from firewall.lab.datasets.scenes import Sign
from firewall.lab.evaluation.scenes.made_sequences import CLOSER, FRAMES, made_frames
from firewall.lab.evaluation.scenes.matching import judged_signs
from firewall.lab.evaluation.scenes.released_labels import ReleasedLabels
from firewall.lab.evaluation.scenes.rows import Looked
from firewall.lab.measurement.intervals import count_interval, rate_interval, rate_of
from firewall.regions import build
from tests.lab.in_process import lab

pytestmark = pytest.mark.timeout(400)

RATE = {"rate", "n", "ci95"}


@dataclass(frozen=True, eq=False)
class Drawn:
    """A drawn frame on which the default bundle releases one label, the right one, at the sign."""

    pixels: Pixels
    box: Region
    label: int


@pytest.fixture(scope="module")
def drawn() -> list[Drawn]:
    """Three of them, found by asking finder and firewall as the service does."""
    guard = Firewall.load("default", threads=1)
    finder = build("signs", bundle=guard.bundle)
    found: list[Drawn] = []
    for seed, label in enumerate(sorted(DRAWN) * 3):
        pixels, box = render(Encounter(label, seed=9000 + seed), 7)
        verdicts = guard.screen_frame(Frame(pixels, "drawn", 0, time.monotonic()), finder.find(pixels))
        out = [verdict for verdict in verdicts if verdict.released]
        if len(out) == 1 and out[0].label == label and overlap(out[0].region, box) >= 0.5:
            found.append(Drawn(pixels, box, label))
        if len(found) == 3:
            return found
    raise AssertionError("the default bundle releases hardly any drawn sign")


def overlap(one: Region, other: Region) -> float:
    """Intersection over union, counted pixel by pixel."""
    masks = np.zeros((2, 400, 640), bool)
    for mask, (x, y, width, height) in zip(masks, (one, other), strict=True):
        mask[y : y + height, x : x + width] = True
    return float((masks[0] & masks[1]).sum() / (masks[0] | masks[1]).sum())


def pack(file: Path, frames: list[tuple[Pixels, list[tuple[int, Region]]]]) -> Path:
    """A pack as GTSDB's."""
    blobs = []
    for pixels, _ in frames:
        out = io.BytesIO()
        Image.fromarray(pixels).save(out, "PNG")
        blobs.append(out.getvalue())
    rows = [
        json.dumps([[label, x, y, x + width - 1, y + height - 1] for label, (x, y, width, height) in signs])
        for _, signs in frames
    ]
    np.savez(
        file,
        blob=np.frombuffer(b"".join(blobs), np.uint8),
        off=np.cumsum([0, *map(len, blobs)]),
        frame=np.arange(len(frames)),
        boxes=np.array(rows),
    )
    return file


@pytest.fixture(scope="module")
def scenes(drawn: list[Drawn], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five frames: annotated right; with another class; not annotated; annotated elsewhere; with nothing on it."""
    one, two, three = drawn
    elsewhere = (2, 2, 40, 40)
    frames = [
        (one.pixels, [(one.label, one.box)]),
        (two.pixels, [((two.label + 1) % 43, two.box)]),
        (three.pixels, []),
        (one.pixels, [(one.label, elsewhere)]),
        (np.full((400, 640, 3), 128, np.uint8), []),
    ]
    return pack(tmp_path_factory.mktemp("scenes") / "drawn.npz", frames)


@pytest.fixture(scope="module")
def run(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str, Path]:
    """JSON, page and folder of a run."""
    work = tmp_path_factory.mktemp("work")
    found, page = again(scenes, work)
    return found, page, work


def again(scenes: Path, work: Path, *more: object) -> tuple[dict[str, Any], str]:
    """JSON and page of a run; the frames that `work` holds are not judged again."""
    file, page = work / "found.json", work / "found.html"
    result = lab("evaluate", "scenes", "--scenes", scenes, "--work", work, *more, "--json", file, "--html", page)
    assert result.returncode == 0, result.stderr
    return json.loads(file.read_text()), page.read_text()


def test_each_frame_counts_for_what_it_is(run: tuple[dict[str, Any], str, Path]) -> None:
    """One label right, one wrong, one where no sign is annotated, one sign missed with a phantom beside it, an empty
    frame; the signs of a frame are a cluster, frames are not."""
    found, _, _ = run
    assert found["frames"] == 5 and found["signs"] == 3
    assert set(found["found"]) >= {"all", "24px", "32px"}
    assert found["found"]["all"]["rate"] == pytest.approx(2 / 3)
    for name, hits in (("released_right", 1), ("released_wrong", 1), ("withheld", 0), ("missed", 1)):
        assert set(found[name]) == RATE
        assert found[name]["rate"] == pytest.approx(hits / 3) and found[name]["n"] == 3
        exact = rate_of(np.arange(3) < hits, np.arange(3))
        assert found[name]["ci95"] == pytest.approx([exact.low, exact.high])
    assert found["phantoms"] == 2 and found["phantom_frames"]["rate"] == pytest.approx(2 / 5)
    assert found["phantom_frames"]["ci95"] == pytest.approx(rate_interval(2, 5)) and found["loose_releases"] == 0
    assert sum(found["phantom_labels"].values()) == 2
    assert found["other_signs"]["signs"] == 0 and found["other_signs"]["released"]["rate"] is None
    assert sum(entry["signs"] for entry in found["by_class"].values()) == 3
    assert sum(entry["signs"] for entry in found["by_size"].values()) == 3
    assert set(found["latency_ms"]) >= {"p50", "p90", "p99", "max", "mean", "n"}
    assert found["about"]["layout"] == "pack" and found["about"]["classes_by"] == "names"


def in_layout(layout: str, scenes: Path, root: Path) -> Path:
    """The frames of a pack as people keep them: GTSDB's folder with gt.txt, YOLO's, or COCO's."""
    held = np.load(scenes)
    images, labels = root / "images", root / "labels"
    images.mkdir(parents=True)
    labels.mkdir()
    lines, listed, boxes = list[str](), list[dict[str, Any]](), list[dict[str, Any]]()
    for number, row in enumerate(held["boxes"]):
        blob = held["blob"][held["off"][number] : held["off"][number + 1]].tobytes()
        name = f"{number:05d}.png"
        ((root if layout == "gtsdb" else images) / name).write_bytes(blob)
        width, height = Image.open(io.BytesIO(blob)).size
        listed.append({"id": number, "file_name": name, "width": width, "height": height})
        shares = list[str]()
        for label, left, top, right, bottom in json.loads(row):
            lines.append(f"{name};{left};{top};{right};{bottom};{label}")
            wide, high = right - left + 1, bottom - top + 1
            middle = (left + wide / 2) / width, (top + high / 2) / height
            shares.append(f"{label} {middle[0]:.8f} {middle[1]:.8f} {wide / width:.8f} {high / height:.8f}")
            box = {"id": len(boxes), "image_id": number, "category_id": label, "bbox": [left, top, wide, high]}
            boxes.append(box)
        if layout == "yolo":
            (labels / f"{number:05d}.txt").write_text("\n".join(shares))
    if layout == "gtsdb":
        (root / "gt.txt").write_text("\n".join(lines) + "\n")
    if layout == "coco":
        kinds = [{"id": number, "name": name} for number, name in enumerate(CLASS_NAMES)]
        (root / "scenes.json").write_text(json.dumps({"images": listed, "annotations": boxes, "categories": kinds}))
        return root / "scenes.json"
    return root


@pytest.mark.parametrize("layout", ["gtsdb", "yolo", "coco"])
def test_every_layout_gives_the_same_figures(
    layout: str, scenes: Path, run: tuple[dict[str, Any], str, Path], tmp_path: Path
) -> None:
    """By the command, from the files of each: all that was found of the pack, by class and size too, and all that the
    format promises, each rate with its interval."""
    found, page = again(in_layout(layout, scenes, tmp_path / "scenes"), tmp_path / "work", "--threads", 1)
    for changing in ("latency_ms", "about"):
        assert set(found.pop(changing)) == set(run[0][changing])
    assert found == {name: value for name, value in run[0].items() if name not in ("latency_ms", "about")}
    assert set(found) >= {"frames", "signs", "found", "released_right", "released_wrong", "withheld", "phantoms"}
    assert set(found) >= {"phantom_frames", "regions_a_frame", "by_class", "by_size"}
    rates = [*found["found"].values(), found["phantom_frames"], found["released_right"], found["released_wrong"]]
    for entry in (*found["by_class"].values(), *found["by_size"].values()):
        rates += [value for value in entry.values() if isinstance(value, dict)]
    assert len(rates) > 10 and all(set(rate) == RATE and len(rate["ci95"]) == 2 for rate in rates)
    assert "<h2>Phantoms <small>2</small></h2>" in page


def test_regions_are_those_of_the_edge(run: tuple[dict[str, Any], str, Path], drawn: list[Drawn]) -> None:
    """The rows hold what finder and firewall say of the very pixels, and the regions a frame follow from them."""
    found, _, work = run
    (file,) = work.glob("scenes/*/frames-*.jsonl")
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    guard = Firewall.load("default", threads=1)
    regions = build("signs", bundle=guard.bundle).find(drawn[0].pixels)
    verdicts = guard.screen_frame(Frame(drawn[0].pixels, "drawn", 0, time.monotonic()), regions)

    expected = [[*v.region, v.suspected_label, v.label, str(v.reason)] for v in verdicts]
    assert rows[0]["regions"] == rows[3]["regions"] == expected
    assert rows[4]["regions"] == []
    # Each region is released, withheld at a sign, or counted with its reason where no sign is.
    reasons = sum(found["on_nothing_because"].values()) + found["phantoms"]
    assert found["regions_on_nothing_a_frame"] == pytest.approx(reasons / 5)
    assert found["regions_a_frame"] == pytest.approx(np.mean([len(row["regions"]) for row in rows]), abs=1e-3)


def test_the_page_shows_every_miss_wrong_release_and_phantom(run: tuple[dict[str, Any], str, Path]) -> None:
    """Pictures that can be opened, under headings with their number; the figures lead."""
    found, page, _ = run
    body = page[page.index("<body>") :]
    assert body.index("released right") < body.index("<h2>")
    for kind, count in (("Phantoms", 2), ("Released wrong", 1), ("Missed", 1)):
        assert f"<h2>{kind} <small>{count}</small></h2>" in page
    pictures = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', page)
    assert len(pictures) >= 4
    for picture in pictures:
        assert min(Image.open(io.BytesIO(base64.b64decode(picture))).size) >= 40
    assert "http" not in re.sub(r'base64,[^"]+', "", page)
    assert found["about"]["bundle_sha256"] in page


def test_an_attacked_sign_stands_in_its_frame(
    run: tuple[dict[str, Any], str, Path], scenes: Path, drawn: list[Drawn]
) -> None:
    """Only a sign that was found and named right is attacked; what is stored differs from its region by at most 8
    levels. Without the attack, but compressed too, the same sign is judged again."""
    from firewall.lab.datasets.packs import load_pack

    work = run[2]
    found, page = again(scenes, work, "--attack", "fgsm", "--signs", 1)
    attacked = found["attacked"]
    assert attacked["n"] == 1 and attacked["attack"] == "fgsm" and attacked["compress"] == "jpeg-90"
    assert {name: found[name] for name in ("found", "phantoms", "latency_ms")} == {
        name: run[0][name] for name in ("found", "phantoms", "latency_ms")
    }
    assert "Attacked: fgsm, then jpeg-90" in page
    for name in ("wrong_release", "released_right", "withheld", "missed", "classifier_fooled"):
        assert set(attacked[name]) == RATE and attacked[name]["n"] == 1
    (file,) = work.glob("attacked/*.npz")
    (image,), columns = load_pack(file)
    assert columns["source"].tolist() == ["00000/0"] and columns["label"].tolist() == [drawn[0].label]
    (frames,) = work.glob("scenes/*/frames-*.jsonl")
    regions = [row[:4] for row in json.loads(frames.read_text().splitlines()[0])["regions"]]
    x, y, width, height = max(regions, key=lambda region: overlap(tuple(region), drawn[0].box))
    change = np.abs(image.astype(int) - drawn[0].pixels[y : y + height, x : x + width])
    assert 0 < change.max() <= 8


def test_made_sequences_say_that_they_are_made(run: tuple[dict[str, Any], str, Path], scenes: Path) -> None:
    """With tracks a sign that stays is released once three frames agree, not before; rates are of signs and sequences
    with their numbers."""
    found, page = again(scenes, run[2], "--limit", 1, "--made-sequences", 1)
    made = found["made_sequences"]
    assert found["frames"] == 1 and "Over time, made sequences" in page
    assert made["sequences"] == 1 and made["frames_a_sequence"] == FRAMES and made["what"].startswith("made:")
    assert made["signs"] >= 1 and made["released_right"]["n"] == made["signs"]
    assert made["phantoms_a_sequence"]["n"] == 1 and set(made["phantoms_a_sequence"]) == RATE | {"count"}
    assert made["frames_until_right"] is None or made["frames_until_right"] >= 2


def test_a_killed_run_goes_on(scenes: Path, run: tuple[dict[str, Any], str, Path], tmp_path: Path) -> None:
    """Killed with SIGKILL while it judges: the same command keeps what was done, and ends with the same figures."""
    work = tmp_path / "work"
    asked = ("evaluate", "scenes", "--scenes", scenes, "--work", work)
    command = [sys.executable, "-m", "firewall", "lab", *map(str, asked), "--json", str(tmp_path / "a.json")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while process.poll() is None and not any(file.stat().st_size for file in work.glob("scenes/*/*.jsonl")):
            time.sleep(0.05)
    finally:
        process.kill()
        process.wait()
    (file,) = work.glob("scenes/*/*.jsonl")
    # The kill may have come too late; a run that was stopped in the middle of a line is made here by hand as well.
    first = file.read_bytes().split(b"\n")[0] + b"\n"
    file.write_bytes(first + first[: len(first) // 2])

    result = lab(*asked, "--json", tmp_path / "b.json")
    assert result.returncode == 0, result.stderr
    found, expected = json.loads((tmp_path / "b.json").read_text()), dict(run[0])
    found.pop("latency_ms"), expected.pop("latency_ms")
    assert found == expected
    assert file.read_bytes().startswith(first) and file.read_bytes().count(b"\n") == 5

    # Rows of other frames are not taken for these.
    lines = file.read_text().splitlines()
    file.write_text("\n".join([lines[1], *lines[1:]]) + "\n")
    assert lab(*asked, "--json", tmp_path / "c.json").returncode == 0
    assert json.loads((tmp_path / "c.json").read_text())["phantoms"] == expected["phantoms"]


def test_signs_of_no_label_are_not_nothing(drawn: list[Drawn], tmp_path: Path) -> None:
    """YOLO's layout with a class that the bundle doesn't know: a label on it is no phantom and no wrong release of a
    known sign, but counted."""
    for kind in ("images", "labels"):
        (tmp_path / kind).mkdir()
    for number, each in enumerate(drawn[:2]):
        Image.fromarray(each.pixels).save(tmp_path / "images" / f"{number}.png")
        x, y, width, height = each.box
        line = f"{number} {(x + width / 2) / 640} {(y + height / 2) / 400} {width / 640} {height / 400}\n"
        (tmp_path / "labels" / f"{number}.txt").write_text(line)
    (tmp_path / "data.yaml").write_text(f"names: [parking, {CLASS_NAMES[drawn[1].label]}]\n")
    result = lab("evaluate", "scenes", "--scenes", tmp_path, "--json", tmp_path / "found.json")
    assert result.returncode == 0, result.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["signs"] == 1 and found["released_right"]["rate"] == 1.0 and found["phantoms"] == 0
    assert found["other_signs"]["signs"] == 1 and found["other_signs"]["classes"] == {"parking": 1}
    assert found["other_signs"]["released"]["rate"] == 1.0


def test_a_video_is_counted_an_hour(drawn: list[Drawn], tmp_path: Path) -> None:
    """A second of one frame: the label goes out once for all of it, after three frames; as an hour's rate, with the
    interval of one event."""
    file = tmp_path / "still.avi"
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter.fourcc(*"MJPG"), 10, (640, 400))
    for _ in range(10):
        writer.write(drawn[0].pixels[..., ::-1])
    writer.release()
    result = lab("evaluate", "scenes", "--video", file, "--json", tmp_path / "v.json", "--html", tmp_path / "v.html")
    assert result.returncode == 0, result.stderr
    found = json.loads((tmp_path / "v.json").read_text())
    assert "frames" not in found
    video = found["video"]
    assert video["frames"] == 10 and video["seconds"] == 1.0 and video["failures"] == 0
    assert video["released_labels"] == 1 and list(video["labels"]) == [CLASS_NAMES[drawn[0].label]]
    assert video["released_labels_an_hour"]["rate"] == pytest.approx(3600)
    low, high = count_interval(1)
    assert video["released_labels_an_hour"]["ci95"] == pytest.approx([3600 * low, 3600 * high])
    assert (tmp_path / "v.html").read_text().count("data:image/jpeg") == 1


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--scenes", "nowhere"), "are not there"),
        (("--frames", "5"), "EVERY:OFFSET"),
        (("--frames", "9:7"), "leaves none of the 5 frames"),
        (("--attack", "nothing"), "no attack is named 'nothing'"),
        (("--attack", "linf-8@input"), "can't be pasted back"),
        (("--attack", "linf-8", "--compress", "zip"), "no channel is named 'zip'"),
        (("--regions", "everywhere"), "regions 'everywhere' is not known"),
        (("--regions", "detector"), "needs --region-detector"),
        (("--device", "tpu"), "tpu"),
        (("--bundle", "nowhere"), "nowhere"),
        (("--video", "nowhere.mp4"), "nowhere.mp4"),
        (("--limit", "0"), "limit"),
    ],
)
def test_wrong_use(scenes: Path, tmp_path: Path, more: tuple[str, ...], message: str) -> None:
    """One line that names the value and what is allowed."""
    asked = ("--scenes", scenes, "--limit", 1) if "--limit" not in more else ("--scenes", scenes)
    result = lab("evaluate", "scenes", *asked, *more)
    assert result.returncode in (1, 2) and message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_nothing_to_judge() -> None:
    """Neither frames nor a video; what needs frames, without them."""
    result = lab("evaluate", "scenes")
    assert result.returncode == 2 and "--scenes" in result.stderr and "--video" in result.stderr
    result = lab("evaluate", "scenes", "--video", "x.mp4", "--made-sequences", 1)
    assert result.returncode == 2 and "need annotated frames" in result.stderr


def looked(region: Region, released: int | None = None) -> Looked:
    """A region, withheld or released."""
    return Looked(region, 1, released, "benign" if released is not None else "suspicious")


def test_regions_and_signs_are_matched_one_to_one() -> None:
    """Two regions on one sign find it once, and the second is not on nothing; one region between two signs finds one of
    them; what goes out on any region at a sign counts for it."""
    one, two = Sign((0, 0, 20, 20), 1, "a"), Sign((0, 20, 20, 20), 2, "b")

    found = judged_signs([one], [looked((0, 0, 20, 20), 1), looked((1, 1, 20, 20), 7)])
    assert found.signs[0].found and found.signs[0].released == (1, 7)
    assert found.signs[0].wrong and not found.signs[0].right and found.apart == found.phantoms == ()

    found = judged_signs([one, two], [looked((0, 0, 20, 40), 1)])
    assert [each.found for each in found.signs].count(True) == 1 and found.apart == ()

    # As many pairs as can be: the better pair for itself would leave the other sign without.
    close = [Sign((0, 0, 20, 20), 1, "a"), Sign((0, 6, 20, 20), 2, "b")]
    found = judged_signs(close, [looked((0, 2, 20, 20)), looked((0, -3, 20, 20))])
    assert [each.found for each in found.signs] == [True, True]

    # An IoU of a third: it fits no sign, and what goes out counts for it all the same.
    found = judged_signs([one], [looked((0, 10, 20, 20), 1)])
    assert not found.signs[0].found and found.signs[0].right and not found.signs[0].missed
    assert len(found.loose) == 1 and found.phantoms == ()

    found = judged_signs([one], [looked((100, 100, 20, 20), 1), looked((200, 0, 20, 20))])
    assert found.signs[0].missed and len(found.phantoms) == 1 and len(found.apart) == 2
    assert judged_signs([], []).apart == () and judged_signs([one], []).signs[0].missed


def test_a_box_of_half_the_sign_finds_it() -> None:
    """An IoU of exactly a half counts."""
    sign = Sign((0, 0, 20, 20), 1, "a")
    assert judged_signs([sign], [looked((0, 0, 20, 10))]).signs[0].found
    assert not judged_signs([sign], [looked((0, 0, 20, 9))]).signs[0].found


def test_a_window_shows_signs_where_it_says() -> None:
    """The first frame is all of it, the last half as large again, and the box moves with what it is about."""
    frame = np.full((240, 400, 3), 90, np.uint8)
    sign = Sign((250, 60, 24, 20), 3, "x")
    frame[60:80, 250:274] = 240
    seen = list(made_frames(frame, [sign, Sign((0, 0, 10, 10), 4, "y")], 0, seed=5))
    assert len(seen) == FRAMES
    assert seen[0][1][0].region == sign.region
    for pixels, (moved, _) in seen:
        bright = np.argwhere(pixels[..., 1] > 165)
        (top, left), (bottom, right) = bright.min(0), bright.max(0)
        x, y, width, height = moved.region
        assert np.abs(np.array([left, top, right + 1, bottom + 1]) - (x, y, x + width, y + height)).max() <= 2
    assert seen[-1][1][0].region[2:] == (round(24 * CLOSER), round(20 * CLOSER))
    assert seen[-1][1][1].side == 0  # it is out of sight
    again = list(made_frames(frame, [sign], 0, seed=5))
    assert np.array_equal(again[7][0], seen[7][0])


def test_the_interval_of_a_count() -> None:
    """Garwood's, as tables have it; a negative count is none."""
    assert count_interval(0) == pytest.approx((0.0, 3.6889), abs=1e-4)
    assert count_interval(1) == pytest.approx((0.0253, 5.5716), abs=1e-4)
    assert count_interval(10) == pytest.approx((4.7954, 18.3904), abs=1e-4)
    with pytest.raises(DataError, match="no count"):
        count_interval(-1)


def test_a_label_that_goes_on_counts_once() -> None:
    """At the same place, also when it skips frames or grows; elsewhere, another label, or after a long pause: again."""
    labels = ReleasedLabels()
    assert len(labels.add(0, [((10, 10, 20, 20), 3)])) == 1
    assert labels.add(1, [((14, 12, 22, 22), 3)]) == [] and labels.add(9, [((20, 14, 26, 26), 3)]) == []
    assert len(labels.add(10, [((20, 14, 26, 26), 4), ((200, 10, 20, 20), 3)])) == 2
    assert len(labels.add(40, [((20, 14, 26, 26), 3)])) == 1
    assert [event.frames for event in labels.events] == [3, 1, 1, 1]


def test_a_part_of_the_frames(run: tuple[dict[str, Any], str, Path], scenes: Path, drawn: list[Drawn]) -> None:
    """`--within` a part that holds all signs changes nothing that is counted, and says how many signs lie in it; within
    one that holds none nothing is found. The rows of another part are not taken for this one's."""
    whole, _, work = run
    same, _ = again(scenes, work, "--within", "0,0,1,1")
    assert {key: same[key] for key in ("found", "released_right", "phantoms", "by_size")} == {
        key: whole[key] for key in ("found", "released_right", "phantoms", "by_size")
    }
    assert same["about"]["within"] == "0,0,1,1" and "within" not in whole["about"] and "within" not in whole
    assert same["within"]["share_of_a_frame"] == 1 and same["within"]["whole_within"]["rate"] == 1
    bottom = max(one.box[1] + one.box[3] for one in drawn)
    assert bottom < 352
    none, _ = again(scenes, work, "--within", "0,352,640,48")
    assert none["regions_a_frame"] == 0 and none["missed"]["rate"] == 1 and none["phantoms"] == 0
    assert none["within"]["outside"]["rate"] == 1 and none["within"]["share_of_a_frame"] == pytest.approx(48 / 400)
    # The part is looked at from row 64 on, so that the sign at (2, 2), 40 pixels high, lies outside.
    cut, _ = again(scenes, work, "--within", "0,64,640,336")
    assert cut["within"]["outside"]["rate"] == pytest.approx(1 / 3)


def test_a_part_is_proposed(tmp_path: Path) -> None:
    """`lab within`: the smallest part of the frames that holds so many signs whole, by counting in all parts; the
    frames that are left for judging don't count."""
    blank = np.full((256, 320, 3), 90, np.uint8)
    random = np.random.default_rng(4)
    places = [(int(x), int(y)) for x, y in zip(random.integers(0, 290, 40), random.integers(60, 180, 40), strict=True)]
    frames = [(blank, [(14, (x, y, 25, 20))]) for x, y in places]
    frames[5:5] = [(blank, [(14, (3, 3, 20, 20))])]  # the sixth: left for judging
    file = pack(tmp_path / "frames.npz", frames)
    for share in (1.0, 0.9, 0.5):
        result = lab("within", "--scenes", file, "--frames-without", "41:5", "--share", share, "--json", tmp_path / "p")
        assert result.returncode == 0, result.stderr
        found = json.loads((tmp_path / "p").read_text())
        x, y, width, height = (
            round(float(number) * side)
            for number, side in zip(found["within"].split(","), (320, 256, 320, 256), strict=True)
        )
        sizes = {
            (right - left) * (low - top): count
            for left in range(0, 320, 32)
            for right in range(left + 32, 321, 32)
            for top in range(0, 256, 32)
            for low in range(top + 32, 257, 32)
            if (count := sum(left <= a and a + 25 <= right and top <= b and b + 20 <= low for a, b in places))
            >= share * 40
        }
        assert width * height == min(sizes) and found["signs"] == found["frames"] == 40
        assert found["whole_within"] == sum(
            x <= a and a + 25 <= x + width and y <= b and b + 20 <= y + height for a, b in places
        )
        assert found["whole_within"] >= share * 40 and found["share_of_a_frame"] == pytest.approx(
            width * height / (320 * 256), abs=1e-4
        )


def test_frames_of_several_sizes_have_a_part_in_common(tmp_path: Path) -> None:
    """Shares of the sides: a sign in the upper half of one size and of another."""
    frames = [
        (np.full((side, 2 * side, 3), 90, np.uint8), [(14, (side, side // 4, side // 5, side // 5))])
        for side in (100, 150, 200)
    ]
    result = lab("within", "--scenes", pack(tmp_path / "frames.npz", frames), "--share", "1")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["within"] == "0.5,0.24,0.1,0.22"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--share", "0"), "share of signs"),
        (("--share", "nan"), "share of signs"),
        (("--share", "1.5"), "share of signs"),
        (("--frames-without", "1:0"), "leaves none"),
        (("--frames-without", "x"), "EVERY:OFFSET"),
        (("--frames-without", "3:1"), "no sign is annotated"),
    ],
)
def test_what_proposes_no_part_is_one_line(options: tuple[str, str], words: str, tmp_path: Path) -> None:
    """A share that is none, no frames, no signs."""
    blank = np.full((64, 64, 3), 90, np.uint8)
    frames = [(blank, []), (blank, [(14, (8, 8, 20, 20))]), (blank, [])]
    result = lab("within", "--scenes", pack(tmp_path / "frames.npz", frames), *options)
    assert result.returncode and len(result.stderr.splitlines()) == 1 and words in result.stderr, result.stderr
