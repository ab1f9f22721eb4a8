"""GTSRB as the benchmark, Kaggle and torchvision give it out: the same images, labels, tracks, names and splits."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from firewall.errors import DataError
from firewall.lab.datasets import gtsrb, split


def kaggle(official: Path, root: Path) -> None:
    """Train/0..42/CLASS_TRACK_FRAME.png, Test/00000.png, their tables, and a folder Meta."""
    header = "Width,Height,Roi.X1,Roi.Y1,Roi.X2,Roi.Y2,ClassId,Path"
    rows = [header]
    for file in sorted(official.glob("Final_Training/Images/*/*.ppm")):
        label = int(file.parent.name)
        path = f"Train/{label}/{label:05d}_{file.stem}.png"
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        Image.open(file).save(root / path)
        rows.append(f"22,24,2,2,20,22,{label},{path}")
    (root / "Train.csv").write_text("\n".join(rows) + "\n")
    rows = [header]
    (root / "Test").mkdir()
    (root / "Meta").mkdir()
    for line in (official / "GT-final_test.csv").read_text().splitlines()[1:]:
        name, label = line.split(";")[0], line.split(";")[-1]
        Image.open(official / "Final_Test" / "Images" / name).save(root / "Test" / f"{name[:5]}.png")
        rows.append(f"22,24,2,2,20,22,{label},Test/{name[:5]}.png")
    (root / "Test.csv").write_text("\ufeff" + "\r\n".join(rows) + "\r\n", encoding="utf-8")
    (root / "Meta.csv").write_text("Path,ClassId,ShapeId,ColorId,SignId\n")


def torchvision(official: Path, root: Path, *, tables: bool = True) -> None:
    """gtsrb/GTSRB/Training/00000, gtsrb/GTSRB/Final_Test/Images and gtsrb/GT-final_test.csv."""
    shutil.copytree(official / "Final_Training" / "Images", root / "gtsrb" / "GTSRB" / "Training")
    shutil.copytree(official / "Final_Test", root / "gtsrb" / "GTSRB" / "Final_Test")
    shutil.copy(official / "GT-final_test.csv", root / "gtsrb")
    if not tables:
        for table in root.rglob("GT-000*.csv"):
            table.unlink()


def same(one: gtsrb.Gtsrb, two: gtsrb.Gtsrb) -> None:
    first, second = (np.argsort(each.sources) for each in (one, two))
    assert [one.sources[i] for i in first] == [two.sources[i] for i in second]
    assert (one.labels[first] == two.labels[second]).all() and (one.tracks[first] == two.tracks[second]).all()
    assert all((one.images[i] == two.images[j]).all() for i, j in zip(first, second, strict=True))


@pytest.mark.parametrize("layout", ["kaggle", "torchvision", "without tables"])
def test_each_layout_gives_the_same_data(small_gtsrb: Path, tmp_path: Path, layout: str) -> None:
    """258 training images of 129 tracks and 86 test images, alike to the pixel, and split alike."""
    if layout == "kaggle":
        kaggle(small_gtsrb, tmp_path)
    else:
        torchvision(small_gtsrb, tmp_path, tables=layout == "torchvision")
    same(gtsrb.load_train(small_gtsrb), gtsrb.load_train(tmp_path))
    same(gtsrb.load_test(small_gtsrb), gtsrb.load_test(tmp_path))
    ours, theirs = (gtsrb.open_gtsrb(root, "train") for root in (small_gtsrb, tmp_path))
    parts = [dict(zip(data.sources, split(data).tolist(), strict=True)) for data in (ours, theirs)]
    assert parts[0] == parts[1]


def test_kaggles_second_spelling_of_its_folders(small_gtsrb: Path, tmp_path: Path) -> None:
    """Its archive has the folders as `Train` and as `train`; the tables name one, the other is enough."""
    kaggle(small_gtsrb, tmp_path)
    (tmp_path / "Train").rename(tmp_path / "train")
    assert len(gtsrb.load_train(tmp_path)) == 258


def test_what_is_wrong_with_a_layout_is_told(small_gtsrb: Path, tmp_path: Path) -> None:
    """An image that is gone, one that isn't named as a frame, a data set that is there twice, a foreign train.csv."""
    kaggle(small_gtsrb, tmp_path / "one")
    missing = tmp_path / "one" / "Train" / "3" / "00003_00000_00001.png"
    missing.unlink()
    with pytest.raises(DataError, match=r"Train\.csv names the image .*00003_00000_00001\.png, which can't be read"):
        gtsrb.load_train(tmp_path)
    table = tmp_path / "one" / "Train.csv"
    table.write_text(table.read_text().replace("00003_00000_00001", "sign"))
    with pytest.raises(DataError, match="isn't CLASS_TRACK_FRAME"):
        gtsrb.load_train(tmp_path)
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    with pytest.raises(DataError, match="more than once"):
        gtsrb.load_test(tmp_path)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "train.csv").write_text("id,label\n1,2\n")
    with pytest.raises(DataError, match="no GTSRB training images"):
        gtsrb.load_train(tmp_path / "other")
