"""Small ONNX graphs with the signatures of real exporters that box what is pure red in the picture they are given.

So a test sees all of the way: size, letterbox, order of axes and channels, type and range of the input, then names,
shapes, metadata and box format of the output. The signatures of YOLO and RT-DETR were noted from exports by ultralytics
8.4.190 and 8.3.40 and yolov5 7.0.14 (`docs/own_detector.md`), the others from what their projects document.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

#: What `serve` and the finder see: (x, y, width, height) that is red in `scene`.
SIGN = (300, 100, 60, 40)

_TYPES = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "uint8": TensorProto.UINT8}


def scene(height: int = 300, width: int = 500, sign: tuple[int, int, int, int] = SIGN) -> np.ndarray:
    """A grey street with a pure red sign, (H, W, 3) uint8."""
    picture = np.full((height, width, 3), 90, np.uint8)
    x, y, wide, high = sign
    picture[y : y + high, x : x + wide] = (255, 0, 0)
    return picture


class Drawing:
    """A graph under way. Every value that a method returns is the name of a tensor."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def const(self, value: Any, dtype: Any = np.float32) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def op(self, kind: str, *inputs: str, out: str | None = None, **attributes: Any) -> str:
        name = out or f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def join(self, parts: Sequence[str], axis: int) -> str:
        return self.op("Concat", *parts, axis=axis)


class Red:
    """Where the picture is red: x0, y0, x1, y1 and the picture's width and height in pixels, and 1 if there is any
    red; each (1, 1)."""

    def __init__(self, d: Drawing, picture: str, *, channels_last: bool, full: float, bgr: bool) -> None:
        values = d.op("Cast", picture, to=TensorProto.FLOAT)
        if channels_last:
            values = d.op("Transpose", values, perm=[0, 3, 1, 2])
        values = d.op("Div", values, d.const(full))
        red, green = (
            d.op("Gather", values, d.const([index], np.int64), axis=1) for index in ((2, 1) if bgr else (0, 1))
        )
        over = d.op("Sub", red, green)
        small, large = d.op("Greater", over, d.const(0.6)), d.op("Less", red, d.const(1.5))
        mask = d.op("Cast", d.op("And", small, large), to=TensorProto.FLOAT)
        ones = d.op("Add", d.op("Mul", mask, d.const(0.0)), d.const(1.0))
        self.d = d
        (self.x0, self.x1, self.width), (self.y0, self.y1, self.height) = (self._span(mask, ones, a) for a in (3, 2))
        # A batch holds the frame and grey pictures, so that the largest is the frame's.
        self.any = d.op("Reshape", d.op("ReduceMax", mask, keepdims=0), d.const([1, 1], np.int64))

    def _span(self, mask: str, ones: str, axis: int) -> tuple[str, str, str]:
        d = self.d
        upward = d.op("CumSum", ones, d.const(axis, np.int64))
        side = d.op("Reshape", d.op("ReduceMax", upward, keepdims=0), d.const([1, 1], np.int64))
        downward = d.op("Sub", d.op("Add", side, d.const(1.0)), upward)
        end, start = (
            d.op("Reshape", d.op("ReduceMax", d.op("Mul", mask, line), keepdims=0), d.const([1, 1], np.int64))
            for line in (upward, downward)
        )
        return d.op("Sub", side, start), end, side

    def box(self, form: str, coordinates: str) -> list[str]:
        """Four parts, each (1, 1)."""
        d = self.d
        x0, y0, x1, y1 = self.x0, self.y0, self.x1, self.y1
        if coordinates == "unit":
            x0, x1, y0, y1 = (
                d.op("Div", part, side)
                for part, side in zip((x0, x1, y0, y1), [self.width] * 2 + [self.height] * 2, strict=True)
            )
        if form == "corners":
            return [x0, y0, x1, y1]
        if form == "corners-yx":
            return [y0, x0, y1, x1]
        wide, high = d.op("Sub", x1, x0), d.op("Sub", y1, y0)
        half = d.const(0.5)
        across, down = d.op("Mul", d.op("Add", x0, x1), half), d.op("Mul", d.op("Add", y0, y1), half)
        return [x0, y0, wide, high] if form == "top-left" else [across, down, wide, high]

    def score(self, value: float) -> str:
        return self.d.op("Mul", self.any, self.d.const(value))


Outputs = list[tuple[str, int, list[Any] | None]]
Head = Callable[[Drawing, Red], Outputs]


def save(
    file: Path,
    head: Head,
    *,
    shape: Sequence[Any] = (1, 3, 320, 320),
    dtype: str = "float32",
    full: float | None = None,
    bgr: bool = False,
    name: str = "images",
    metadata: dict[str, str] | None = None,
    others: Sequence[tuple[str, int, list[Any]]] = (),
) -> Path:
    """Write the graph. full: what a full pixel is, 255 for uint8 and else 1."""
    d = Drawing()
    picture = name
    if len(shape) == 3:
        picture = d.op("Unsqueeze", name, d.const([0], np.int64))
    last = shape[-1] == 3
    red = Red(d, picture, channels_last=last, full=full or (255 if dtype == "uint8" else 1), bgr=bgr)
    outputs = [helper.make_tensor_value_info(*entry) for entry in head(d, red)]
    inputs = [helper.make_tensor_value_info(name, _TYPES[dtype], list(shape))]
    inputs += [helper.make_tensor_value_info(*entry) for entry in others]
    graph = helper.make_graph(d.nodes, "detector", inputs, outputs, d.constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    for key, text in (metadata or {}).items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, text
    onnx.checker.check_model(model)
    onnx.save(model, file)
    return file


def ultralytics(classes: int = 3, size: int = 320, **more: str) -> dict[str, str]:
    """The metadata of an Ultralytics export."""
    return {
        "description": "Ultralytics YOLOv8n model",
        "author": "Ultralytics",
        "stride": "32",
        "task": "detect",
        "batch": "1",
        "imgsz": f"[{size}, {size}]",
        "names": str({number: ("stop sign", "car", "give way")[number % 3] for number in range(classes)}),
        **more,
    }


def dense(
    *,
    rows: int,
    classes: int,
    objectness: bool = False,
    transposed: bool = False,
    form: str = "centre",
    coordinates: str = "pixels",
    output: str = "output0",
    batch: int = 1,
    half: bool = False,
    extra: int = 0,
    known: bool = True,
    label: int = 0,
) -> Head:
    """(1, N, 4+C), with objectness (1, N, 5+C), transposed (1, 4+C, N): three rows show the sign, the others small
    boxes of score 0. known: whether the graph says its output's sides."""

    def head(d: Drawing, red: Red) -> Outputs:
        scores = []
        for wanted in (0.8, 0.9, 0.85):
            parts = red.box(form, coordinates)
            parts += [red.score(1.0)] * objectness
            parts += [red.score(wanted if number == label else 0.01) for number in range(classes)]
            parts += [d.const([[0.3]])] * extra
            scores.append(d.join(parts, 1))
        rest = np.zeros((rows - 3, 4 + objectness + classes + extra))
        span = 300.0 if coordinates == "pixels" else 0.9
        rest[:, :2], rest[:, 2:4] = span / 2, span / 30
        table = d.op(
            "Unsqueeze",
            d.join([d.const(rest[: rows // 2]), *scores, d.const(rest[rows // 2 :])], 0),
            d.const([0], np.int64),
        )
        sides: list[Any] = [batch, rows, rest.shape[1]]
        if transposed:
            table, sides = d.op("Transpose", table, perm=[0, 2, 1]), [batch, rest.shape[1], rows]
        if batch > 1:
            table = d.join([table] * batch, 0)
        kind = TensorProto.FLOAT16 if half else TensorProto.FLOAT
        d.op("Cast", table, out=output, to=kind)
        return [(output, kind, sides if known else ["batch", "attributes", "anchors"])]

    return head


def listed(
    columns: Sequence[str],
    *,
    rows: int = 300,
    form: str = "corners",
    coordinates: str = "pixels",
    output: str = "output0",
    lead: Sequence[int] = (1,),
    fill: Sequence[float] | None = None,
    label: float = 0.0,
    free: bool = False,
) -> Head:
    """A row a box, of the columns box (four), score, label, picture. The sign twice, then rows of `fill` (zeros).
    free: only the sign's rows, none if there is none, as a graph with suppression inside gives."""

    def head(d: Drawing, red: Red) -> Outputs:
        parts: list[str] = []
        for column in columns:
            if column == "box":
                parts += red.box(form, coordinates)
            elif column == "score":
                parts.append(red.score(0.9))
            else:
                parts.append(d.const([[label if column == "label" else 0.0]]))
        row = d.join(parts, 1)
        width = len(columns) + 3
        if free:
            there = d.op("Cast", d.op("Reshape", red.any, d.const([1], np.int64)), to=TensorProto.BOOL)
            d.op("Compress", row, there, out=output, axis=0)
            return [(output, TensorProto.FLOAT, ["boxes", width])]
        rest = np.zeros((rows - 2, width)) if fill is None else np.tile(np.asarray(fill, np.float32), (rows - 2, 1))
        table = d.join([row, row, d.const(rest)], 0)
        d.op("Reshape", table, d.const([*lead, rows, width], np.int64), out=output)
        return [(output, TensorProto.FLOAT, [*lead, rows, width])]

    return head


def split(
    names: dict[str, str],
    *,
    rows: int = 20,
    lead: bool = True,
    form: str = "corners",
    coordinates: str = "pixels",
    classes: int = 0,
    label: float = 1.0,
    label_type: int = TensorProto.INT64,
    logits: float | None = None,
    background: str = "none",
    middle: bool = False,
    order: Sequence[str] = ("boxes", "scores", "labels", "count"),
) -> Head:
    """Boxes, scores and perhaps labels and count as outputs of their own, `names` by role. classes: scores are (N, C).
    logits: what a row of nothing has in the last column, the others -5. background: 'first': column 0 of probabilities
    is 1 where nothing is. middle: boxes are (1, N, 1, 4)."""

    def head(d: Drawing, red: Red) -> Outputs:
        one = d.join(red.box(form, coordinates), 1)
        rest = np.tile(np.array([[0.4, 0.4, 0.5, 0.5]]) * (1 if coordinates == "unit" else 100), (rows - 1, 1))
        if form in ("centre", "top-left"):
            rest[:, 2:] /= 10
        made = {"boxes": d.join([one, d.const(rest)], 0)}
        if not classes:
            made["scores"] = d.op(
                "Reshape", d.join([red.score(0.9), d.const(np.zeros((rows - 1, 1)))], 0), d.const([rows], np.int64)
            )
        elif logits is not None:
            nothing = np.full((rows, classes), -5.0)
            nothing[:, -1] = logits
            sign = np.zeros((rows, classes))
            sign[0, 1], sign[0, -1] = 8.0, -5.0 - logits
            made["scores"] = d.op("Add", d.const(nothing), d.op("Mul", red.any, d.const(sign)))
        else:
            table, sign = np.zeros((rows, classes)), np.zeros((rows, classes))
            sign[0, 1] = 0.9
            if background == "first":
                table[:, 0], sign[0, 0] = 1.0, -0.9
            made["scores"] = d.op("Add", d.const(table), d.op("Mul", red.any, d.const(sign)))
        made["labels"] = d.op("Cast", d.const(np.full(rows, label)), to=label_type)
        made["count"] = d.const([float(rows)])
        kinds = {"labels": label_type}
        shapes: dict[str, list[Any]] = {
            "boxes": [rows, 4],
            "scores": [rows, classes] if classes else [rows],
            "labels": [rows],
            "count": [1],
        }
        outputs: Outputs = []
        for role in order:
            if role in names:
                shape = [1, *shapes[role]] if lead and role != "count" else shapes[role]
                if middle and role == "boxes":
                    shape = [1, rows, 1, 4]
                d.op("Reshape", made[role], d.const(shape, np.int64), out=names[role])
                outputs.append((names[role], kinds.get(role, TensorProto.FLOAT), shape))
        return outputs

    return head
