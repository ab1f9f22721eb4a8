"""Which layout a detector's outputs have: from names, shapes, types and metadata first, then from values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import ceil

import numpy as np

from firewall.config import RegionDetectorSettings
from firewall.errors import EngineError, UsageError
from firewall.regions.boxes import Floats
from firewall.regions.graph import Array, Graph
from firewall.regions.layouts import LAYOUTS, ROWS, Plan, read
from firewall.regions.output_roles import find_roles, scores_activation

__all__ = ["recognise"]

#: Boxes that a network with queries instead of anchors gives.
_QUERIES = (100, 200, 300, 500, 900, 1000)
#: Strides of the grids of anchors that are usual.
_STRIDES = ((8, 16, 32), (8, 16, 32, 64), (4, 8, 16, 32), (16, 32), (8, 16), (8, 16, 32, 64, 128))
_DENSE = ("yolov5", "yolov8", "rtdetr")


def recognise(
    graph: Graph, answers: Mapping[str, Array], settings: RegionDetectorSettings, height: int, width: int
) -> Plan:
    """How `answers` (all outputs, by name) of an input of height x width are read.

    Raises:
        UsageError: If the layout is unknown.
        EngineError: If no layout fits; it shows the outputs.
    """
    plan = _plan(graph, answers, settings, height, width)
    try:
        read(plan, [answers[name] for name in plan.outputs])
    except EngineError as error:
        raise _unknown(graph, answers, str(error)) from error
    return plan


def _plan(
    graph: Graph, answers: Mapping[str, Array], settings: RegionDetectorSettings, height: int, width: int
) -> Plan:
    named = settings.layout
    if named != "auto" and named not in LAYOUTS:
        raise UsageError(f"region_detector.layout {named!r} is not known; allowed: auto, {', '.join(LAYOUTS)}")
    for key, name in (("boxes", settings.boxes), ("scores", settings.scores), ("labels", settings.labels)):
        if name is not None and name not in answers:
            raise EngineError(
                f"{graph.what} has no output {name!r}; it has {', '.join(answers)}: name one of them as "
                f"region_detector.{key}"
            )
    task = graph.metadata.get("task", "detect")
    if task not in ("detect", "segment", "pose"):
        raise EngineError(f"{graph.what} says that its task is {task!r}; needed are upright boxes: export a detector")
    if settings.boxes is None and settings.scores is None:
        tables = {name: values for name, values in answers.items() if _is_table(values)}
        roles = find_roles(answers, settings) if named in ("auto", "boxes", "tensorflow", "detr", "mmdet") else None
        if roles is None and len(tables) == 1:
            (name,) = tables
            return _table(graph, name, answers, settings, height, width)
    else:
        roles = find_roles(answers, settings)
    if roles is None:
        raise _unknown(graph, answers, "no output holds boxes and scores as they are known")
    layout, found = roles
    if named != "auto":
        layout = named
    if layout not in ("boxes", "tensorflow", "detr", "mmdet"):
        raise _unknown(graph, answers, f"layout {layout} has all in one output")
    activation, background, sure = ("none", "none", True)
    if "scores" in found:
        activation, background, sure = scores_activation(answers, found, layout, settings)
    return Plan(
        LAYOUTS[layout],
        tuple(found.values()),
        tuple(found),
        activation=activation,
        background=background,
        sure=sure,
    )


def _seen(answers: Mapping[str, Array]) -> str:
    """Names, types, shapes and ranges of values, for one line."""
    told = []
    for name, values in list(answers.items())[:8]:
        finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
        span = f" from {finite.min():.4g} to {finite.max():.4g}" if finite.size else ""
        holes = ", some not finite" if finite.size < values.size else ""
        told.append(f"{name} {values.dtype} {values.shape}{span}{holes}")
    more = f" and {len(answers) - 8} more" if len(answers) > 8 else ""
    return "; ".join(told) + more


def _unknown(graph: Graph, answers: Mapping[str, Array], why: str) -> EngineError:
    """What was seen, and what to set."""
    return EngineError(
        f"{graph.what} gives {_seen(answers)}: {why}; set region_detector.layout to one of {', '.join(LAYOUTS)}, or "
        "name the outputs with region_detector.boxes and .scores"
    )


def _is_table(values: Array) -> bool:
    if values.dtype.kind != "f" or values.ndim < 2:
        return False
    if values.ndim == 4:
        return values.shape[:2] == (1, 1) and values.shape[3] == 7
    if values.ndim == 2:
        return values.shape[1] in (6, 7) or (len(values) > 8 and values.shape[1] > 8)
    return (values.ndim == 3 and min(values.shape[1:]) >= 5) or (values.ndim == 3 and values.shape[2] >= 5)


def _table(
    graph: Graph,
    name: str,
    answers: Mapping[str, Array],
    settings: RegionDetectorSettings,
    height: int,
    width: int,
) -> Plan:
    """Everything in one output."""
    values, named = answers[name], settings.layout
    if (
        values.ndim == 4
        or (values.ndim == 2 and values.shape[1] in (6, 7))
        or named in ("yolov7", "yolo-nas", "ssd", "paddle")
    ):
        return _rows(graph, name, answers, named)
    a, b = values.shape[-2:]
    known = len(graph.names)
    anchors = [sum(ceil(height / s) * ceil(width / s) for s in strides) for strides in _STRIDES]
    grids = {*anchors, *(3 * count for count in anchors)}
    extra = _extra(graph, answers)
    likely = {4 + known + extra, 5 + known + extra} if known else set()
    # Which of the two sides counts boxes: the one that a grid of anchors has, not the one that the classes make.
    if (a in likely) != (b in likely):
        transposed = a in likely
    elif (a in grids) != (b in grids):
        transposed = b in grids
    else:
        transposed = 0 < a < b and a not in _QUERIES
    attributes, count = (a, b) if transposed else (b, a)
    if attributes < 5:
        raise _unknown(graph, answers, f"{attributes} values a box hold no box with a score")
    if named in _DENSE and not (named == "rtdetr" and attributes == 6 and graph.metadata.get("head")):
        return _dense(graph, answers, name, named, attributes, transposed, extra)
    dense = count in grids and not (count in _QUERIES and attributes in (6, 7))
    if named == "end2end" or named == "rtdetr" or (not dense and not transposed):
        if attributes in (6, 7) or named == "end2end" or (attributes == 6 + extra and extra):
            return _rows(graph, name, answers, named, extra)
        return _dense(graph, answers, name, "rtdetr", attributes, transposed, extra)
    tripled = count in grids and count not in anchors
    if known and attributes == 5 + known + extra and (tripled or attributes != 4 + known + extra):
        layout = "yolov5"
    elif known and (attributes == 4 + known + extra or graph.metadata.get("task") in ("pose", "segment")):
        layout = "yolov8"
    elif tripled:
        layout = "yolov5"
    elif transposed:
        layout = "yolov8"
    else:
        layout = _by_objectness(graph, answers, values)
    return _dense(graph, answers, name, layout, attributes, transposed, extra)


def _extra(graph: Graph, answers: Mapping[str, Array]) -> int:
    """Attributes after the classes: coefficients of masks, coordinates of points."""
    if graph.metadata.get("task") == "pose":
        sides = [
            int(part)
            for part in graph.metadata.get("kpt_shape", "").strip("[]() ").split(",")
            if part.strip().isdigit()
        ]
        return int(np.prod(sides)) if sides else 0
    masks = [
        values.shape[1] for values in answers.values() if values.ndim == 4 and values.shape[2] > 1 < values.shape[1]
    ]
    return masks[0] if len(masks) == 1 else 0


def _by_objectness(graph: Graph, answers: Mapping[str, Array], values: Array) -> str:
    """The layout of one row a box on one grid: with objectness (YOLOX, YOLOv6), or YOLOv8's turned round."""
    attributes = values.shape[-1]
    if (values[..., 4] == 1).all() or attributes == 85:
        return "yolov5"
    if attributes == 84:
        return "yolov8"
    raise _unknown(
        graph,
        answers,
        f"{attributes} values a box may be 5 and {attributes - 5} classes or 4 and {attributes - 4}: yolov5 or yolov8",
    )


def _dense(
    graph: Graph, answers: Mapping[str, Array], name: str, layout: str, attributes: int, transposed: bool, extra: int
) -> Plan:
    start, known = (5 if layout == "yolov5" else 4), len(graph.names)
    classes = attributes - start - extra
    if (
        known
        and attributes - start >= known
        and (classes != known)
        and graph.metadata.get("task") in ("pose", "segment")
    ):
        classes = known
    if classes < 1:
        raise _unknown(graph, answers, f"{attributes} values a box leave no class for layout {layout}")
    return Plan(LAYOUTS[layout], (name,), classes=classes, transposed=transposed)


def _rows(graph: Graph, name: str, answers: Mapping[str, Array], named: str, extra: int = 0) -> Plan:
    """A class number in each row. If the width leaves a choice, the values of the columns decide."""
    values = np.asarray(answers[name], np.float64)
    width = values.shape[-1]
    count = next(
        (
            key
            for key, other in answers.items()
            if key != name and other.size <= len(values) and other.dtype.kind in "iu"
        ),
        None,
    )
    plan = Plan(
        LAYOUTS["end2end"],
        (name,) if count is None else (name, count),
        ("table",) if count is None else ("table", "count"),
    )
    if named in ROWS:
        if ROWS[named].width != width and not (named == "end2end" and width > 6):
            raise _unknown(graph, answers, f"layout {named} has {ROWS[named].width} columns")
        return replace(plan, layout=LAYOUTS[named], rows=replace(ROWS[named], width=width))
    if values.ndim == 4:
        return replace(plan, layout=LAYOUTS["ssd"], rows=ROWS["ssd"])
    rows = values.reshape(-1, width)
    rows = rows[np.isfinite(rows).all(axis=1)]
    rows = rows[np.abs(rows).max(axis=1, initial=0) > 0]
    learnt = replace(ROWS["end2end"], width=width)
    if named == "rtdetr" or graph.metadata.get("head") == "RTDETRDecoder":
        return replace(plan, layout=LAYOUTS["rtdetr"], rows=learnt)
    if any(tensor.name.lower() == "scale_factor" for tensor in graph.inputs) and width == 6:
        return replace(plan, layout=LAYOUTS["paddle"], rows=ROWS["paddle"])
    scored = rows[(rows[:, 4:] > 0).any(axis=1)]
    if not len(scored):
        guess = "yolov7" if width == 7 and not extra else "end2end"
        return replace(plan, layout=LAYOUTS[guess], rows=replace(ROWS[guess], width=width), sure=False)
    if width == 7 and not extra:
        return _seven(graph, answers, plan, rows)
    return _six(graph, answers, plan, rows, width)


def _six(graph: Graph, answers: Mapping[str, Array], plan: Plan, rows: Floats, width: int) -> Plan:
    columns = replace(ROWS["end2end"], width=width)
    if not (rows[:, 4] > 0).any() and not (_number(rows[:, 0]) and _score(rows[:, 1])):
        return replace(plan, rows=columns, sure=False)
    if _score(rows[:, 4]) and _number(rows[:, 5]):
        small = np.abs(rows[:, :4]).max(axis=1) <= 1.5
        inverted = (rows[:, 2] <= rows[:, 0]) | (rows[:, 3] <= rows[:, 1])
        queries = small.mean() > 0.9 and inverted.mean() > 0.2
        return replace(plan, layout=LAYOUTS["rtdetr" if queries else "end2end"], rows=columns)
    if width == 6 and _number(rows[:, 0]) and _score(rows[:, 1]):
        return replace(plan, layout=LAYOUTS["paddle"], rows=ROWS["paddle"])
    if width == 6 and _score(rows[:, 4]) and _score(rows[:, 5]):
        return Plan(LAYOUTS["rtdetr"], plan.outputs[:1], classes=2)
    raise _unknown(graph, answers, "its columns are not box, score 0..1 and class, in this order")


def _seven(graph: Graph, answers: Mapping[str, Array], plan: Plan, rows: Floats) -> Plan:
    fits = []
    for name in ("yolov7", "yolo-nas"):
        columns = ROWS[name]
        if _number(rows[:, 0]) and _score(rows[:, columns.score]) and _number(rows[:, columns.label]):
            fits.append(name)
    if len(fits) == 1:
        return replace(plan, layout=LAYOUTS[fits[0]], rows=ROWS[fits[0]])
    raise _unknown(
        graph, answers, "seven columns may be yolov7 (picture, box, class, score) or yolo-nas (score, class)"
    )


def _score(column: Floats) -> bool:
    return bool(((column >= -1e-3) & (column <= 1.001)).all())


def _number(column: Floats) -> bool:
    return bool(((column >= -1) & (np.abs(column - np.rint(column)) < 1e-3)).all())
