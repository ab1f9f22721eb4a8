"""GTSDB: frames with boxed signs, from a pack and from the official layout."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from firewall.errors import DataError, UsageError
from firewall.lab.datasets import open_dataset
from firewall.lab.datasets.gtsdb import load_scenes

#: Class, left, top, right, bottom; right and bottom are the last pixels inside. One sign touches the frame's corner.
BOXES = ([[14, 40, 30, 79, 69], [2, 0, 0, 15, 15]], [], [[42, 100, 50, 199, 149]])
NUMBERS = (0, 1, 7)


def frames() -> list[np.ndarray]:
    """Three frames of noise."""
    generator = np.random.default_rng(0)
    return [generator.integers(0, 256, (160, 220, 3), np.uint8) for _ in BOXES]


def pack(root: Path, boxes: list[str] | None = None) -> Path:
    """The three frames as a pack."""
    blobs = []
    for frame in frames():
        file = io.BytesIO()
        Image.fromarray(frame).save(file, "PNG")
        blobs.append(file.getvalue())
    root.mkdir(exist_ok=True)
    np.savez(
        root / "gtsdb_train.npz",
        blob=np.frombuffer(b"".join(blobs), np.uint8),
        off=np.cumsum([0, *map(len, blobs)]),
        frame=np.array(NUMBERS),
        boxes=np.array([json.dumps(each) for each in BOXES] if boxes is None else boxes),
    )
    return root


def official(root: Path) -> Path:
    """The three frames as the benchmark has them, with a line for a frame that is not there."""
    folder = root / "FullIJCNN2013"
    folder.mkdir(parents=True)
    lines = ["00899.ppm;1;1;20;20;5"]
    for number, frame, boxes in zip(NUMBERS, frames(), BOXES, strict=True):
        Image.fromarray(frame).save(folder / f"{number:05d}.ppm")
        lines += [
            f"{number:05d}.ppm;{left};{top};{right};{bottom};{label}" for label, left, top, right, bottom in boxes
        ]
    (folder / "gt.txt").write_text("\n".join(lines) + "\n")
    (folder / "14").mkdir()  # single signs, as the full archive has them beside the frames
    Image.fromarray(frames()[0][:20, :20]).save(folder / "14" / "00000.ppm")
    return root


@pytest.mark.parametrize("layout", [pack, official])
def test_signs_are_cut_out_with_a_margin(tmp_path: Path, layout: object) -> None:
    """Each box, its last pixels included, with a tenth of its side around it, at least five pixels, and no more than
    the frame has; both layouts give the same images, classes, groups and names."""
    assert callable(layout)
    data = open_dataset("gtsdb", layout(tmp_path / "data"))
    first, _, third = frames()

    assert data.labels.tolist() == [14, 2, 42] and data.groups.tolist() == [0, 0, 7]
    assert list(data.sources) == ["gtsdb/00000/0", "gtsdb/00000/1", "gtsdb/00007/0"]
    expected = [first[25:75, 35:85], first[:21, :21], third[40:160, 90:210]]
    assert all(np.array_equal(image, right) for image, right in zip(data.images, expected, strict=True))


def test_frames_without_signs_are_there(tmp_path: Path) -> None:
    """They give negatives."""
    scenes = load_scenes(pack(tmp_path / "data"))
    assert len(scenes) == 3 and scenes.boxes[1] == () and scenes.numbers.tolist() == [0, 1, 7]
    assert scenes.boxes[2][0].side == 100 and np.array_equal(scenes.frames[1], frames()[1])


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        ("[[43, 1, 1, 9, 9]]", "class from 0 to 42"),
        ("[[3, 9, 1, 1, 9]]", "left, top, right and bottom are expected"),
        ("[[3, 1, 1, 9]]", "frame 0 that can't be read"),
        ("[[3, 1, 1, 9,", "frame 0 that can't be read"),
        ("[[3, 200, 1, 220, 9]]", "outside of its 220x160 pixels"),
        ("[[3, -1, 1, 20, 9]]", "outside of its 220x160 pixels"),
    ],
)
def test_a_box_that_cannot_be(tmp_path: Path, boxes: str, message: str) -> None:
    """Named with its frame; nothing is cut wrong silently."""
    with pytest.raises(DataError, match=message):
        open_dataset("gtsdb", pack(tmp_path / "data", [boxes, "[]", "[]"]))


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    """No frames, no signs, a damaged table, a part that there isn't."""
    with pytest.raises(DataError, match=r"gtsdb_train.npz, or gt.txt beside"):
        open_dataset("gtsdb", tmp_path)
    with pytest.raises(DataError, match="none of the 3 frames"):
        open_dataset("gtsdb", pack(tmp_path / "none", ["[]"] * 3))
    root = official(tmp_path / "torn")
    (root / "FullIJCNN2013" / "gt.txt").write_text("00000.ppm;40;30\n")
    with pytest.raises(DataError, match="FILE;left;top;right;bottom;class"):
        open_dataset("gtsdb", root)
    with pytest.raises(UsageError, match="no part"):
        open_dataset("gtsdb", pack(tmp_path / "data"), part="train")
