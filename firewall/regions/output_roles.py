"""Which of several outputs are boxes, scores, labels and a count, and how scores become 0..1."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from firewall.config import RegionDetectorSettings
from firewall.regions.graph import Array

__all__ = ["find_roles", "scores_activation"]

_BOXES = ("detection_boxes", "boxes", "bboxes", "pred_boxes", "det_boxes", "pred_bboxes", "dets", "locations", "loc")
_SCORES = (
    "detection_scores",
    "scores",
    "pred_scores",
    "det_scores",
    "pred_logits",
    "logits",
    "confidences",
    "confidence",
    "conf",
    "probs",
    "score",
)
_LABELS = ("detection_classes", "labels", "classes", "pred_classes", "det_classes", "class_ids", "pred_labels", "label")
_COUNTS = ("num_detections", "num_dets", "num_predictions", "num_boxes", "bbox_num")


def find_roles(answers: Mapping[str, Array], settings: RegionDetectorSettings) -> tuple[str, dict[str, str]] | None:
    """Layout and role -> name of the output, or None if there are no boxes with scores among them.

    Named in the settings first, then by the names that exporters give, then by shape: boxes have four columns, scores
    and labels as many rows.
    """
    boxes = settings.boxes or _choose(answers, _BOXES, _is_boxes, "box")
    if boxes is None:
        return _with_scores_inside(answers)
    shape = answers[boxes].shape
    if len(shape) not in (2, 3) or (len(shape) == 3 and 0 not in shape and shape[0] < 1):
        return None
    if shape[-1] != 4:
        return _with_scores_inside(answers)
    count = shape[-2]
    others = {name: values for name, values in answers.items() if name != boxes and _has_rows(values, count)}
    if settings.scores is not None:
        scores: str | None = settings.scores
    else:
        usable = {name: values for name, values in others.items() if name != settings.labels}
        scores = _choose(usable, _SCORES, lambda values: values.dtype.kind == "f", "score")
        if scores is None:
            tables = [
                name for name, values in usable.items() if values.dtype.kind == "f" and _columns(values, count) > 1
            ]
            plain = [name for name, values in usable.items() if values.dtype.kind == "f"]
            fractions = [name for name in plain if not _whole(answers[name])]
            chosen = next((found for found in (tables, plain, fractions) if len(found) == 1), [])
            scores = chosen[0] if chosen else None
    if scores is None:
        return None
    found = {"boxes": boxes, "scores": scores}
    if _columns(answers[scores], count) <= 1:
        rest = {name: values for name, values in others.items() if name != scores and _columns(values, count) <= 1}
        labels = settings.labels or _choose(rest, _LABELS, lambda _: True, "class")
        if labels is None:
            whole = [name for name, values in rest.items() if values.dtype.kind in "iu" or _whole(values)]
            labels = whole[0] if len(whole) == 1 else None
        if labels is not None:
            found["labels"] = labels
    total = _choose(answers, _COUNTS, lambda values: values.size <= max(1, shape[0] if len(shape) == 3 else 1), None)
    if total is not None:
        found["count"] = total
    return _layout(boxes, scores, answers, count), found


def scores_activation(
    answers: Mapping[str, Array], found: Mapping[str, str], layout: str, settings: RegionDetectorSettings
) -> tuple[str, str, bool]:
    """(activation, background, sure) for the scores. Logits are taken as such only where their name or layout says so:
    numbers outside 0..1 under another name are a mistake that has to be cleared up, not guessed at."""
    values = np.asarray(answers[found["scores"]], np.float64)
    rows = (
        values.reshape(-1, values.shape[-1])
        if values.ndim >= 2 and values.shape[-1] > 1 and "labels" not in found
        else None
    )
    activation: str = settings.activation
    background: str = settings.background
    if rows is None:
        return ("none" if activation == "auto" else activation), "none", True
    rows = rows[np.isfinite(rows).all(axis=1)]
    nothing = "none"
    if len(rows):
        best = rows.argmax(axis=1)
        if (best == rows.shape[1] - 1).mean() > 0.5:
            nothing = "last"
        elif (best == 0).mean() > 0.5:
            nothing = "first"
    if activation == "auto":
        activation = "none"
        if layout == "detr":
            # DETR's last class is 'no object' and wins nearly everywhere; of networks with a sigmoid no class does.
            activation = "softmax" if nothing == "last" else "sigmoid"
    if background == "auto":
        background = "none"
        sums = len(rows) > 0 and bool((np.abs(rows.sum(axis=1) - 1) < 0.02).all())
        if rows.shape[1] > 1 and (activation == "softmax" or (activation == "none" and sums)):
            background = nothing
    return activation, background, len(rows) > 0


def _layout(boxes: str, scores: str, answers: Mapping[str, Array], count: int) -> str:
    if _plain(boxes) == "detection_boxes":
        return "tensorflow"
    logits = "logit" in _plain(scores) or (_plain(boxes) == "dets" and _columns(answers[scores], count) > 1)
    return "detr" if logits else "boxes"


def _with_scores_inside(answers: Mapping[str, Array]) -> tuple[str, dict[str, str]] | None:
    """Boxes with their score as a fifth column, and labels."""
    fives = [
        name
        for name, values in answers.items()
        if values.ndim in (2, 3) and values.shape[-1] == 5 and values.dtype.kind == "f"
    ]
    if len(fives) != 1:
        return None
    count = answers[fives[0]].shape[-2]
    labels = [
        name
        for name, values in answers.items()
        if name != fives[0] and values.dtype.kind in "iu" and _has_rows(values, count)
    ]
    if len(labels) != 1:
        return None
    return "mmdet", {"boxes": fives[0], "labels": labels[0]}


def _choose(
    answers: Mapping[str, Array], names: tuple[str, ...], fits: Callable[[Array], bool], part: str | None
) -> str | None:
    """The output with the first of `names`; else the only one that fits and has `part` in its name; else the only one
    that fits, for boxes alone."""
    plain = {_plain(name): name for name in reversed(list(answers))}
    for name in names:
        if name in plain and fits(answers[plain[name]]):
            return plain[name]
    fitting = [name for name, values in answers.items() if fits(values)]
    partly = [name for name in fitting if part and part in _plain(name) and not _plain(name).startswith("raw_")]
    if len(partly) == 1:
        return partly[0]
    if names is _BOXES and len(fitting) > 1:
        # Scores of four classes are as wide as a box.
        fitting = [name for name in fitting if _large(answers[name])]
    return fitting[0] if names is _BOXES and len(fitting) == 1 else None


def _plain(name: str) -> str:
    """A name without the paths and numbers that converters put around it."""
    return name.split(":", maxsplit=1)[0].rsplit("/", maxsplit=1)[-1].lower()


def _is_boxes(values: Array) -> bool:
    return values.ndim in (2, 3) and values.shape[-1] == 4 and values.dtype.kind in "fiu"


def _has_rows(values: Array, count: int) -> bool:
    return values.ndim in (1, 2, 3) and count in values.shape[:2]


def _columns(values: Array, count: int) -> int:
    """Values for each box."""
    if values.ndim < 2:
        return 1
    return 1 if values.ndim == 2 and values.shape == (1, count) else values.shape[-1]


def _whole(values: Array) -> bool:
    return bool(values.size) and bool((values == np.rint(values)).all()) and bool((values > 1).any())


def _large(values: Array) -> bool:
    return bool((values > 1).any())
