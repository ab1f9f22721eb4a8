"""Annotated road scenes in each layout: the same frames, the same signs, the same labels."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from firewall.errors import DataError, FirewallError, UsageError
from firewall.lab.datasets.classes import annotated_classes
from firewall.lab.datasets.gtsrb import CLASS_NAMES
from firewall.lab.datasets.scenes import Sign, open_scenes

#: Class, left, top, right, bottom of each sign, right and bottom excluded; one touches the frame's corner.
BOXES = (((14, 40, 30, 80, 70), (2, 180, 120, 220, 160)), (), ((42, 100, 50, 131, 80),))
NUMBERS = (0, 1, 7)


def frames() -> list[np.ndarray]:
    """Three frames of noise."""
    generator = np.random.default_rng(0)
    return [generator.integers(0, 256, (160, 220, 3), np.uint8) for _ in BOXES]


def pack(root: Path) -> Path:
    """As the pack of GTSDB, whose boxes hold their last pixels; under a name of its own."""
    blobs = []
    for frame in frames():
        file = io.BytesIO()
        Image.fromarray(frame).save(file, "PNG")
        blobs.append(file.getvalue())
    root.mkdir()
    rows = [[[label, left, top, right - 1, bottom - 1] for label, left, top, right, bottom in some] for some in BOXES]
    np.savez(
        root / "mine.npz",
        blob=np.frombuffer(b"".join(blobs), np.uint8),
        off=np.cumsum([0, *map(len, blobs)]),
        frame=np.array(NUMBERS),
        boxes=np.array([json.dumps(some) for some in rows]),
    )
    return root / "mine.npz"


def gtsdb(root: Path, suffix: str = ".ppm") -> Path:
    """As the benchmark's full archive has it: gt.txt beside the frames, last pixels inside, single signs below."""
    folder = root / "FullIJCNN2013"
    folder.mkdir(parents=True)
    lines = []
    for number, frame, some in zip(NUMBERS, frames(), BOXES, strict=True):
        Image.fromarray(frame).save(folder / f"{number:05d}{suffix}")
        lines += [
            f"{number:05d}{suffix};{left};{top};{right - 1};{bottom - 1};{label}"
            for label, left, top, right, bottom in some
        ]
    (folder / "gt.txt").write_text("\n".join(lines) + "\n")
    (folder / "14").mkdir()
    Image.fromarray(frames()[0][:20, :20]).save(folder / "14" / "00000.ppm")
    return root


def png(root: Path) -> Path:
    """The same with frames that were stored as PNG."""
    return gtsdb(root, ".png")


def yolo(root: Path, names: bool = True) -> Path:
    """As Ultralytics has it: shares of the frame's sides, the middle first; names in data.yaml."""
    for kind in ("images", "labels"):
        (root / kind / "val").mkdir(parents=True)
    for number, frame, some in zip(NUMBERS, frames(), BOXES, strict=True):
        Image.fromarray(frame).save(root / "images" / "val" / f"{number}.png")
        lines = [
            f"{label} {(left + right) / 440:.6f} {(top + bottom) / 320:.6f} "
            f"{(right - left) / 220:.6f} {(bottom - top) / 160:.6f}"
            for label, left, top, right, bottom in some
        ]
        if lines:  # an image without signs has no file
            (root / "labels" / "val" / f"{number}.txt").write_text("\n".join(lines) + "\n")
    if names:
        listed = "\n".join(f"  {number}: {name}" for number, name in enumerate(CLASS_NAMES))
        (root / "data.yaml").write_text(f"val: images/val\nnames:\n{listed}\n")
    return root


def numbers(root: Path) -> Path:
    """YOLO's without any names: numbers are the labels'."""
    return yolo(root, names=False)


def beside(root: Path) -> Path:
    """As older tools have it: each text file beside its image, the names in classes.txt."""
    made = yolo(root / "made", names=False)
    for file in [*made.rglob("*.png"), *made.rglob("*.txt")]:
        file.rename(root / file.name)
    for folder in sorted((path for path in made.rglob("*")), reverse=True):
        folder.rmdir()
    made.rmdir()
    (root / "classes.txt").write_text("\n".join(CLASS_NAMES) + "\n")
    return root


def coco(root: Path) -> Path:
    """A JSON file in annotations, with categories that are numbered otherwise, and images in a folder beside it."""
    for kind in ("images", "annotations"):
        (root / kind).mkdir(parents=True)
    images, annotations = [], []
    for number, frame, some in zip(NUMBERS, frames(), BOXES, strict=True):
        Image.fromarray(frame).save(root / "images" / f"{number}.png")
        images.append({"id": 100 + number, "file_name": f"{number}.png", "width": 220, "height": 160})
        for label, left, top, right, bottom in some:
            box = [float(left), float(top), float(right - left), float(bottom - top)]
            annotations.append(
                {"id": len(annotations), "image_id": 100 + number, "category_id": 900 - label, "bbox": box}
            )
    categories = [{"id": 900 - label, "name": name.replace(" ", "_").upper()} for label, name in enumerate(CLASS_NAMES)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / "annotations" / "instances_val.json").write_text(json.dumps(content))
    return root


LAYOUTS = (pack, gtsdb, png, yolo, numbers, beside, coco)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_layout_gives_the_same_signs(tmp_path: Path, layout: Callable[[Path], Path]) -> None:
    """Boxes with the same first and last pixels, the bundle's labels, the very pixels; frames without signs too."""
    scenes = open_scenes(layout(tmp_path / "scenes"), CLASS_NAMES)

    expected = [
        [
            Sign((left, top, right - left, bottom - top), label, CLASS_NAMES[label])
            for label, left, top, right, bottom in some
        ]
        for some in BOXES
    ]
    assert [[(s.region, s.label) for s in some] for some in scenes.signs] == [
        [(s.region, s.label) for s in some] for some in expected
    ]
    assert scenes.signs[0][0].side == 40 and scenes.others() == {}
    assert all(np.array_equal(frame, right) for frame, right in zip(scenes.frames, frames(), strict=True))
    scenes.check()
    assert len({scenes.digest(place) for place in range(3)}) == 3


def test_some_of_the_frames(tmp_path: Path) -> None:
    """By their place; pixels, names and signs stay together."""
    scenes = open_scenes(gtsdb(tmp_path / "scenes"), CLASS_NAMES)
    some = scenes.chosen("2:0")
    assert some.names == ("00000", "00007") and some.signs == (scenes.signs[0], scenes.signs[2])
    assert np.array_equal(some.frames[1], frames()[2]) and some.digest(1) == scenes.digest(2)
    assert scenes.chosen("1:0", 1).names == ("00000",) and scenes.chosen("2:1").names == ("00001",)
    for bad in ("5", "0:0", "2:2", "a:b", "-1:0", "2:0:1", ""):
        with pytest.raises(UsageError, match="EVERY:OFFSET"):
            scenes.chosen(bad)
    with pytest.raises(UsageError, match="none of the 3 frames"):
        scenes.chosen("9:5")


def test_classes_become_labels_by_name_and_only_then_by_number() -> None:
    """A name that is a label wins, whatever its case; what has another name is another sign, also if its number is one
    of the labels'. Only where no name is a label, numbers in the names count, and then the classes' own."""
    labels = ("stop", "yield", "speed limit 30")
    assert annotated_classes({0: "tree", 1: "Speed_Limit-30", 2: "stop"}, labels) == ({0: None, 1: 2, 2: 0}, "names")
    assert annotated_classes({5: "class 2", 6: "0"}, labels) == ({5: 2, 6: 0}, "numbers")
    assert annotated_classes({0: "Halt", 1: "Vorfahrt", 2: "Dreissig"}, labels) == ({0: 0, 1: 1, 2: 2}, "numbers")
    assert annotated_classes({0: "tree", 1: "car"}, labels) == ({0: None, 1: None}, "names")
    assert annotated_classes({1: "car 9", 2: "7"}, labels) == ({1: None, 2: None}, "names")


def test_classes_of_no_label_are_kept_and_counted(tmp_path: Path) -> None:
    """In COCO's file and in YOLO's: another sign is no nothing."""
    root = coco(tmp_path / "coco")
    file = root / "annotations" / "instances_val.json"
    content = json.loads(file.read_text())
    content["categories"][14]["name"] = "parking"
    file.write_text(json.dumps(content))
    scenes = open_scenes(file, CLASS_NAMES)
    assert scenes.others() == {"parking": 1} and scenes.signs[0][0].label is None and scenes.signs[0][1].label == 2

    root = yolo(tmp_path / "yolo")
    (root / "data.yaml").write_text((root / "data.yaml").read_text().replace("14: stop", "14: dead end"))
    assert open_scenes(root, CLASS_NAMES).others() == {"dead end": 1}


def test_outlines_are_read_as_their_boxes(tmp_path: Path) -> None:
    """YOLO's files for segmentation hold points."""
    root = numbers(tmp_path / "yolo")
    (root / "labels" / "val" / "1.txt").write_text("3 0.1 0.2 0.3 0.2 0.2 0.5\n\n")
    assert open_scenes(root, CLASS_NAMES).signs[1] == (Sign((22, 32, 44, 48), 3, CLASS_NAMES[3]),)


def _edit(root: Path, name: str, text: str) -> Path:
    file = next(root.rglob(name))
    file.write_text(text)
    return root


def _coco(root: Path, **changes: object) -> Path:
    file = next(coco(root).rglob("*.json"))
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    return root


IMAGE = {"id": 100, "file_name": "0.png"}
CATEGORY = {"id": 1, "name": "stop"}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: root, "are not there"),
        (lambda root: (root.mkdir(), root)[1], "no annotated frames in"),
        (lambda root: _edit(gtsdb(root), "gt.txt", "00003.ppm;1;1;9;9;4\n"), "names 00003.ppm, which is not beside it"),
        (lambda root: _edit(gtsdb(root), "gt.txt", "00000.ppm;1;1;9;9;43\n"), "a class from 0 to 42"),
        (lambda root: _edit(gtsdb(root), "gt.txt", "00000.ppm;1;1;9\n"), "FILE;left;top;right;bottom;class"),
        (lambda root: _edit(gtsdb(root), "gt.txt", "00000.ppm;200;1;220;9;4\n"), "within its 220x160"),
        (lambda root: _edit(gtsdb(root), "gt.txt", "00000.ppm;-1;1;20;9;4\n"), "within its 220x160"),
        (lambda root: _edit(numbers(root), "0.txt", "43 0.5 0.5 0.1 0.1\n"), "class 43, but there are 43 labels"),
        (lambda root: _edit(numbers(root), "0.txt", "-1 0.5 0.5 0.1 0.1\n"), "class -1, but there are 43 labels"),
        (lambda root: _edit(yolo(root), "data.yaml", "names: [stop, yield]\n"), "but 2 classes have names"),
        (lambda root: _edit(yolo(root), "data.yaml", "names: [stop\n"), "no YAML"),
        (lambda root: _edit(numbers(root), "0.txt", "4 0.5 0.5 0.1\n"), "CLASS X Y WIDTH HEIGHT"),
        (lambda root: _edit(numbers(root), "0.txt", "4 0.5 0.5 nan 0.1\n"), "CLASS X Y WIDTH HEIGHT"),
        (lambda root: _edit(numbers(root), "0.txt", "4 0.95 0.5 0.2 0.1\n"), "within its 220x160"),
        (lambda root: _edit(numbers(root), "0.txt", "4 0.5 0.5 0 0.1\n"), "within its 220x160"),
        (lambda root: (yolo(root) / "labels" / "val" / "9.txt").write_text("") or root, "has no image of its name"),
        (lambda root: _edit(coco(root), "*.json", "{"), "no annotated frames in"),
        (lambda root: _coco(root, images=[{"id": 1, "file_name": "no.png"}], annotations=[]), "names no.png, which is"),
        (lambda root: _coco(root, images=[]), "doesn't list"),
        (lambda root: _coco(root, categories=[CATEGORY]), "none of its 1 categories"),
        (lambda root: _coco(root, images=[{"id": 1}]), "is not as COCO's files are"),
        (lambda root: _coco(root, images=[IMAGE, IMAGE], annotations=[]), "two images of one id"),
    ],
)
def test_what_cannot_be(tmp_path: Path, make: Callable[[Path], Path], message: str) -> None:
    """One line that names the file and the value, before any frame is judged."""
    with pytest.raises(FirewallError, match=message) as caught:
        open_scenes(make(tmp_path / "scenes"), CLASS_NAMES).check()
    assert "\n" not in str(caught.value)


def test_a_folder_of_two_kinds(tmp_path: Path) -> None:
    """The user names one of them."""
    gtsdb(tmp_path / "both")
    coco(tmp_path / "other")
    (tmp_path / "both" / "x.json").write_text(next((tmp_path / "other").rglob("*.json")).read_text())
    with pytest.raises(DataError, match=r"GTSDB's gt.txt and a COCO file; name"):
        open_scenes(tmp_path / "both", CLASS_NAMES)
    with pytest.raises(DataError, match="no known layout"):
        open_scenes(tmp_path / "both" / "FullIJCNN2013" / "gt.txt", CLASS_NAMES)


def test_frames_without_signs_stay(tmp_path: Path) -> None:
    """A folder whose table is empty: all frames, no signs; whatever is on them is a phantom."""
    scenes = open_scenes(_edit(gtsdb(tmp_path / "scenes"), "gt.txt", ""), CLASS_NAMES)
    assert len(scenes) == 3 and scenes.signs == ((), (), ())
