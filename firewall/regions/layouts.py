"""The layouts of detectors' outputs that are known, and how boxes, scores and classes are read from each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from firewall.errors import EngineError
from firewall.regions.boxes import Floats
from firewall.regions.graph import Array

__all__ = ["LAYOUTS", "ROWS", "Candidates", "Layout", "Plan", "Rows", "read"]


@dataclass(frozen=True, slots=True)
class Rows:
    """A box a row of `width` columns: four of the box from `box` on, one score, one class.

    Attributes:
        width: Numbers in a row.
        box: Column of the first side of the box.
        score: Column of the score.
        label: Column of the class.
        picture: Column with the number of the picture in its batch.
    """

    width: int
    box: int
    score: int
    label: int
    picture: int | None = None


@dataclass(frozen=True, slots=True)
class Layout:
    """How the outputs of one family of detectors are laid out.

    Attributes:
        name: Name of the layout, as in the settings.
        form: Shape and columns of the outputs, in words.
        format: How the box is written, None if its values have to tell.
        coordinates: "pixels" or "unit", None if values have to tell.
        letterbox: How the network was trained to see a frame, None if that is unknown.
    """

    name: str
    form: str
    format: str | None = None
    coordinates: str | None = None
    letterbox: bool | None = None


_ALL = (
    Layout("yolov5", "(1, N, 5+C): box, objectness, a score a class", "centre", letterbox=True),
    Layout("yolov8", "(1, 4+C, N) or (1, N, 4+C): box, a score a class", "centre", letterbox=True),
    Layout("end2end", "(1, N, 6): box, score, class", letterbox=True),
    Layout("rtdetr", "(1, N, 4+C) or (1, N, 6), 0..1 of the stretched frame", "centre", "unit", letterbox=False),
    Layout("yolov7", "(N, 7): picture, box, class, score", "corners", letterbox=True),
    Layout("yolo-nas", "(N, 7): picture, box, score, class", "corners", letterbox=True),
    Layout("ssd", "(1, 1, N, 7): picture, class, score, box", "corners", letterbox=False),
    Layout("paddle", "(N, 6): class, score, box", "corners", letterbox=False),
    Layout("mmdet", "(1, N, 5): box, score; labels (1, N)", "corners", letterbox=False),
    Layout("tensorflow", "detection_boxes, _scores, _classes, num_detections", "corners-yx", letterbox=False),
    Layout("detr", "boxes (1, N, 4), logits (1, N, C)", "centre", "unit", letterbox=False),
    Layout("boxes", "boxes (N, 4), scores (N) or (N, C), labels (N)", letterbox=None),
)
LAYOUTS = {layout.name: layout for layout in _ALL}

#: Columns of the layouts that have a class number in a row.
ROWS = {
    "end2end": Rows(6, box=0, score=4, label=5),
    "paddle": Rows(6, label=0, score=1, box=2),
    "yolov7": Rows(7, picture=0, box=1, label=5, score=6),
    "yolo-nas": Rows(7, picture=0, box=1, score=5, label=6),
    "ssd": Rows(7, picture=0, label=1, score=2, box=3),
}


@dataclass(frozen=True, slots=True)
class Plan:
    """How the outputs of one network are read.

    Attributes:
        layout: Its layout.
        outputs: Names, in the order of `roles`, of: table, boxes, scores, labels, count.
        roles: What each output holds.
        classes: Score columns of a dense table.
        transposed: It has a row for each attribute.
        rows: Its columns, where a row has a class number.
        activation: What turns the network's numbers into scores of 0..1.
        background: Column of the scores that means "nothing".
        sure: False while no values have been seen that tell.
    """

    layout: Layout
    outputs: tuple[str, ...]
    roles: tuple[str, ...] = ("table",)
    classes: int = 0
    transposed: bool = False
    rows: Rows | None = None
    activation: str = "none"
    background: str = "none"
    sure: bool = True


@dataclass(frozen=True, slots=True)
class Candidates:
    """The boxes that a network gave for one frame.

    Attributes:
        boxes: (N, 4) as the network writes them.
        scores: (N,).
        classes: (N,) int64, -1 where none is given.
    """

    boxes: Floats
    scores: Floats
    classes: Array

    def __len__(self) -> int:
        return len(self.scores)

    def where(self, chosen: Array) -> Candidates:
        """Those that an index or mask (N,) names."""
        return Candidates(self.boxes[chosen], self.scores[chosen], self.classes[chosen])


def read(plan: Plan, answers: Sequence[Array], allowed: frozenset[int] | None = None) -> Candidates:
    """The boxes of the first picture of the batch.

    Args:
        plan: How the outputs are read.
        answers: As `plan.outputs`.
        allowed: Classes that count, None for all.

    Raises:
        EngineError: If the arrays don't have the shapes that the plan was made for.
    """
    parts = dict(zip(plan.roles, answers, strict=True))
    try:
        with np.errstate(all="ignore"):  # the reader of these values refuses what isn't finite
            return _read(plan, parts, allowed)
    except (ValueError, IndexError) as error:  # no shape that a layout has
        shapes = ", ".join(str(values.shape) for values in answers)
        raise EngineError(f"outputs of shape {shapes} can't be read as layout {plan.layout.name}") from error


def _read(plan: Plan, parts: dict[str, Array], allowed: frozenset[int] | None) -> Candidates:
    if plan.rows is not None:
        found = _of_rows(plan.rows, parts)
    elif plan.layout.name in ("yolov5", "yolov8", "rtdetr"):
        return _dense(plan, parts["table"], allowed)
    else:
        found = _split(plan, parts, allowed)
    if allowed is not None and (found.classes >= 0).any():
        found = found.where(np.isin(found.classes, list(allowed)))
    return found


def _of_rows(columns: Rows, parts: dict[str, Array]) -> Candidates:
    table = _floats(parts["table"])
    if table.shape[-1:] != (columns.width,):
        raise _changed(table)
    if columns.picture is None:
        table = table[0] if table.ndim == 3 else table
    else:
        table = table.reshape(-1, columns.width)
        table = table[table[:, columns.picture] == 0]  # the frame is the first of the batch; -1 fills up
    if table.ndim != 2:
        raise _changed(table)
    table = table[: _count(parts)]
    labels = table[:, columns.label]
    # Rows of zeros and rows of class -1 are how lists of fixed length end.
    table = table[(labels >= 0) & table.any(axis=1)] if not np.isnan(table).any() else table
    boxes = table[:, columns.box : columns.box + 4]
    return Candidates(boxes, table[:, columns.score], _whole(table[:, columns.label]))


def _dense(plan: Plan, table: Array, allowed: frozenset[int] | None) -> Candidates:
    """A table with a score for every class: rows are attributes from here on, as Ultralytics writes it."""
    table = table[0] if table.ndim == 3 else table
    table = table if plan.transposed else table.T
    start = 5 if plan.layout.name == "yolov5" else 4
    if table.ndim != 2 or len(table) < start + plan.classes:
        raise _changed(table)
    scores, classes = _best(table[start : start + plan.classes], allowed)
    if start == 5:
        scores = scores * _floats(table[4])
    return Candidates(_floats(table[:4]).T, scores, classes)


def _split(plan: Plan, parts: dict[str, Array], allowed: frozenset[int] | None) -> Candidates:
    """Boxes in one output, the rest in others."""
    boxes = _floats(parts["boxes"])
    boxes = boxes[0] if boxes.ndim == 3 else boxes
    if boxes.ndim != 2 or boxes.shape[1] not in (4, 5):
        raise _changed(boxes)
    count = len(boxes)
    if boxes.shape[1] == 5:
        scores, classes = boxes[:, 4], np.full(count, -1, np.int64)
        boxes = boxes[:, :4]
    else:
        table = _rows_of(parts["scores"], count)
        if table.ndim == 1:
            scores, classes = _activated(_floats(table), plan.activation), np.full(count, -1, np.int64)
        else:
            table = _activated(_floats(table).T, plan.activation).T
            first = 1 if plan.background == "first" else 0
            table = table[:, first : table.shape[1] - (plan.background == "last")]
            shifted = None if allowed is None else frozenset(number - first for number in allowed)
            scores, classes = _best(table.T, shifted)
            classes = classes + first
    if "labels" in parts:
        classes = _whole(_floats(_rows_of(parts["labels"], count)))
        if classes.shape != (count,):
            raise _changed(parts["labels"])
    most = _count(parts)
    return Candidates(boxes[:most], scores[:most], classes[:most])


def _best(table: Array, allowed: frozenset[int] | None) -> tuple[Floats, Array]:
    """The best allowed class of each column of (C, N): score and number. NaN comes out as NaN."""
    columns = None if allowed is None else np.array(sorted(n for n in allowed if 0 <= n < len(table)), np.int64)
    table = table if columns is None else table[columns]
    if not len(table):
        return np.zeros(table.shape[1]), np.full(table.shape[1], -1, np.int64)
    best = np.asarray(table.argmax(axis=0), np.int64)
    scores = np.take_along_axis(table, best[None], axis=0)[0]
    return _floats(scores), best if columns is None else columns[best]


def _activated(table: Floats, activation: str) -> Floats:
    """Scores of 0..1 along the first axis."""
    if activation == "sigmoid":
        return np.asarray(1 / (1 + np.exp(-np.clip(table, -60, 60))), np.float64)
    if activation == "softmax" and table.ndim == 2 and len(table):
        raised = np.exp(table - table.max(axis=0, keepdims=True))
        return np.asarray(raised / raised.sum(axis=0, keepdims=True), np.float64)
    return table


def _rows_of(values: Array, count: int) -> Array:
    """(N,) or (N, C) of an output with or without a leading batch."""
    if values.ndim >= 2 and values.shape[1] == count and (values.ndim == 3 or values.shape[0] == 1 or count != 1):
        values = values[0]
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim not in (1, 2) or len(values) != count:
        raise _changed(values)
    return values


def _count(parts: dict[str, Array]) -> int | None:
    """How many rows count, where the network says so."""
    if "count" not in parts or not parts["count"].size:
        return None
    most = float(parts["count"].ravel()[0])
    return int(most) if 0 <= most < 2**31 else None


def _floats(values: Array) -> Floats:
    return np.asarray(values, np.float64)


def _whole(values: Floats) -> Array:
    return np.where(np.isfinite(values), np.rint(np.clip(values, -1, 2**31)), -1).astype(np.int64)


def _changed(values: Array) -> EngineError:
    return EngineError(f"an output of shape {values.shape} doesn't fit the others, or a batch of another size")
