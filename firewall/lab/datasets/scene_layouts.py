"""Annotations of scenes as common tools write them: YOLO's text files and COCO's JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import yaml
from PIL import Image

from firewall.errors import DataError
from firewall.lab.datasets.gtsdb import Box
from firewall.sources.folder import folders, image_files
from firewall.sources.uri import IMAGE_SUFFIXES, natural, printable

__all__ = ["Annotated", "coco_file", "coco_scenes", "picture_size", "yolo_folder", "yolo_scenes"]

#: Files that hold the classes' names, a line each.
_LISTS = ("classes.txt", "obj.names", "labels.names")
_ORIENTATION, _TURNED = 0x0112, (5, 6, 7, 8)


@dataclass(frozen=True, eq=False)
class Annotated:
    """N images and the boxes in them.

    Attributes:
        layout: yolo or coco.
        files: Of the images.
        called: The images' names in the layout.
        boxes: Of each image; `label` is the annotation's number.
        names: Number -> name; None where the annotation has numbers alone, which are the labels'.
    """

    layout: str
    files: list[Path]
    called: list[str]
    boxes: list[tuple[Box, ...]]
    names: dict[int, str] | None


def picture_size(file: Path | BinaryIO, name: str) -> tuple[int, int]:
    """Width and height of an image as it is decoded, from its header alone.

    Raises:
        DataError: It has none that can be read.
    """
    try:
        with Image.open(file) as image:
            width, height = image.size
            turned = image.format in ("JPEG", "MPO", "TIFF") and image.getexif().get(_ORIENTATION) in _TURNED
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{name} can't be read as an image; copy it again") from error
    return (height, width) if turned else (width, height)


# YOLO -----------------------------------------------------------------------------------------------------------------


def yolo_folder(root: Path) -> bool:
    """Whether there are text files as YOLO's tools write them: in a folder named labels, or beside images."""
    for place, names in folders(root):
        texts = [name for name in names if name.endswith(".txt") and name not in _LISTS]
        if texts and place.name != "labels" and "labels" not in place.relative_to(root).parts:
            stems = {Path(name).stem for name in names if Path(name).suffix.lower() in IMAGE_SUFFIXES}
            texts = [name for name in texts if Path(name).stem in stems]
        if texts:
            return True
    return False


def yolo_scenes(root: Path, count: int) -> Annotated:
    """Read images and their text files: a line for each box, CLASS X Y WIDTH HEIGHT in 0..1 of the frame's sides, X and
    Y of the middle; or CLASS and the points of an outline.

    An image without a text file has no signs. Names come from a .yaml with `names`, or from classes.txt.

    Args:
        root: The data set's folder.
        count: Labels of the bundle, which numbers without names have to be among.

    Raises:
        DataError: There are no images, a text file has no image, or a line can't be read.
    """
    files = image_files(root)
    texts = [_text_of(file, root) for file in files]
    expected = {text for text in texts if text is not None}
    for place, found in folders(root):
        if "labels" not in (place.name, *place.relative_to(root).parts):
            continue
        lost = sorted(name for name in found if name.endswith(".txt") and name not in _LISTS)
        lost = [name for name in lost if place / name not in expected]
        if lost:
            raise DataError(f"{printable(str(place / lost[0]))} has no image of its name; copy it, or remove the file")
    names = _yolo_names(root)
    allowed = f"there are {count} labels" if names is None else f"{len(names)} classes have names"
    boxes = []
    for file, text in zip(files, texts, strict=True):
        found_boxes = () if text is None else tuple(_yolo_boxes(text, *picture_size(file, printable(str(file)))))
        for box in found_boxes:
            if box.label not in (range(count) if names is None else names):
                raise DataError(f"{printable(str(text))} has the class {box.label}, but {allowed}, from 0 on; mend it")
        boxes.append(found_boxes)
    called = [file.relative_to(root).as_posix() for file in files]
    return Annotated("yolo", files, called, boxes, names)


def _text_of(file: Path, root: Path) -> Path | None:
    parts = list(file.relative_to(root).parts)
    places = [place for place, part in enumerate(parts[:-1]) if part == "images"]
    choices = [file.with_suffix(".txt"), file.parent / "labels" / f"{file.stem}.txt"]
    if places:
        parts[places[-1]] = "labels"
        choices.insert(0, (root / Path(*parts)).with_suffix(".txt"))
    elif root.name == "images":
        choices.insert(0, root.parent / "labels" / file.relative_to(root).with_suffix(".txt"))
    return next((choice for choice in choices if choice.is_file()), None)


def _yolo_boxes(text: Path, width: int, height: int) -> Iterator[Box]:
    try:
        lines = text.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{printable(str(text))} can't be read ({error})") from error
    for line in lines:
        if not line.strip():
            continue
        try:
            label, *fields = line.split()
            number, values = int(label), [float(field) for field in fields]
            points = len(values) >= 6 and len(values) % 2 == 0
            if not (len(values) == 4 or points) or not all(map(math.isfinite, values)):
                raise ValueError
        except ValueError as error:
            raise DataError(
                f"{printable(str(text))} has the line {line!r}; CLASS X Y WIDTH HEIGHT are expected, each side as a "
                "share of the frame's"
            ) from error
        if points:
            left, right, top, bottom = min(values[::2]), max(values[::2]), min(values[1::2]), max(values[1::2])
        else:
            x, y, wide, high = values
            left, right, top, bottom = x - wide / 2, x + wide / 2, y - high / 2, y + high / 2
        yield Box(number, round(left * width), round(top * height), round(right * width), round(bottom * height))


def _yolo_names(root: Path) -> dict[int, str] | None:
    for file in sorted(root.glob("*.y*ml")):
        try:
            content = yaml.safe_load(file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise DataError(f"{printable(str(file))} is no YAML that can be read; mend or remove it") from error
        names = content.get("names") if isinstance(content, dict) else None
        if isinstance(names, list):
            return {number: str(name) for number, name in enumerate(names)}
        if isinstance(names, dict) and all(isinstance(number, int) for number in names):
            return {number: str(name) for number, name in names.items()}
    lists = [place / name for place in (root, root / "labels") for name in _LISTS]
    for file in lists:
        if file.is_file():
            lines = [line.strip() for line in file.read_text(encoding="utf-8", errors="replace").splitlines()]
            return dict(enumerate(line for line in lines if line))
    return None


# COCO -----------------------------------------------------------------------------------------------------------------


def coco_file(root: Path) -> Path | None:
    """The one JSON file with images, annotations and categories in a folder or its sub-folder annotations; or None.

    Raises:
        DataError: There are several.
    """
    files = sorted([*root.glob("*.json"), *(root / "annotations").glob("*.json")])
    found = [file for file in files if _is_coco(_json(file, strict=False))]
    if len(found) > 1:
        names = " and ".join(printable(file.name) for file in found[:2])
        raise DataError(f"{printable(str(root))} holds {names}, both COCO's; name one of them with --scenes")
    return found[0] if found else None


def coco_scenes(file: Path) -> Annotated:
    """Read a COCO file. Images are looked for in its folder, in the one above, and in a folder images of either.

    Args:
        file: The JSON file.

    Raises:
        DataError: It can't be read, an image is missing, or a box or category can't be.
    """
    name, content = printable(str(file)), _json(file, strict=True)
    if not _is_coco(content):
        raise DataError(f"{name} has no lists images, annotations and categories; it is not COCO's")
    try:
        names = {int(entry["id"]): str(entry["name"]) for entry in content["categories"]}
        images = {int(entry["id"]): str(entry["file_name"]) for entry in content["images"]}
        boxes: dict[int, list[Box]] = {number: [] for number in images}
        for entry in content["annotations"]:
            number, label = int(entry["image_id"]), int(entry["category_id"])
            x, y, wide, high = (float(value) for value in entry["bbox"])
            if number not in images:
                raise DataError(f"{name} has a box in image {number}, which it doesn't list; mend it")
            if label not in names:
                raise DataError(f"{name} has the class {label}, which is none of its {len(names)} categories; mend it")
            if not all(map(math.isfinite, (x, y, wide, high))):
                raise ValueError(f"the box {entry['bbox']} is not finite")
            boxes[number].append(Box(label, round(x), round(y), round(x + wide), round(y + high)))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{name} is not as COCO's files are ({type(error).__name__}: {error}); mend it") from error
    if len(images) != len(content["images"]):
        raise DataError(f"{name} has two images of one id; mend it")
    if not images:
        raise DataError(f"{name} lists no image")
    order = sorted(images, key=lambda number: natural(images[number]))
    files = [_image_of(file, images[number]) for number in order]
    called = [images[number] for number in order]
    return Annotated("coco", files, called, [tuple(boxes[number]) for number in order], names)


def _image_of(file: Path, image: str) -> Path:
    above = (file.parent, file.parent.parent)
    parts = [file.stem.rpartition("_")[2], "images"]
    choices: Sequence[Path] = [place / folder / image for place in above for folder in ("", *parts)]
    found = next((choice for choice in choices if choice.is_file()), None)
    if found is None:
        raise DataError(
            f"{printable(str(file))} names {printable(image)}, which is neither in its folder nor in a folder images "
            "beside it; copy it there"
        )
    return found


def _json(file: Path, *, strict: bool) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        if strict:
            raise DataError(f"{printable(str(file))} is no JSON that can be read ({error}); copy it again") from error
        return None


def _is_coco(content: Any) -> bool:
    keys = ("images", "annotations", "categories")
    return isinstance(content, dict) and all(isinstance(content.get(key), list) for key in keys)
