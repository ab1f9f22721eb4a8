"""Which of a graph's outputs are the classes, and what lies between it and logits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto

from firewall.errors import DataError, UsageError
from firewall.lab.models.onnx_reading import described, kind_of

__all__ = ["Tail", "choose", "tail_of"]

Values = Mapping[str, npt.NDArray[np.generic]]
_FLOATS = ("float32", "float16")
#: Operators that don't change what the numbers say.
_SAME = ("Identity", "Dropout")
#: Operators that leave the numbers in their places.
_IN_PLACE = frozenset(
    {"Cast", "Clip", "Exp", "Log", "LogSoftmax", "Mul", "Div", "Neg", "Reshape", "Sigmoid", "Softmax", "Squeeze"}
)


@dataclass
class Tail:
    """What is behind a graph's output.

    Args:
        taken: The value that is taken of the graph.
        classes: How many.
        changes: Whether anything has to be changed.
        steps: Nodes behind it: (operator, constant second operand, attributes).
        note: For the manifest, or "".
    """

    taken: str
    classes: int
    changes: bool = False
    steps: list[tuple[str, float | None, dict[str, Any]]] = field(default_factory=list)
    note: str = ""


def choose(name: str, model: onnx.ModelProto, values: Values, asked: str | None, labels: int | None) -> str:
    """The name of the output that holds the classes.

    Args:
        name: Names the file in errors.
        model: The graph.
        values: What the outputs gave for some images.
        asked: The output that the user asks for.
        labels: How many classes there are, where that is known.

    Returns:
        The output's name.

    Raises:
        DataError: No output, or more than one, could hold the classes; the message names all.
        UsageError: There is no output of the name that was asked for.
    """
    entries = {entry.name: entry for entry in model.graph.output}
    told = ", ".join(_seen(entry, values) for entry in entries.values())
    if asked is not None and asked not in entries:
        raise UsageError(f"{name} has no output {asked!r}; it has {told}")
    fit = [output for output in entries if _classes(entries[output], values) >= 2]
    if asked is None and any(not _sorted(model, output) for output in fit):
        fit = [output for output in fit if not _sorted(model, output)]
    if asked is None and len(entries) > 1:
        fit = [output for output in fit if not _softmax_of_another(model, output, fit)]
        of_labels = [output for output in fit if _classes(entries[output], values) == labels]
        if "logits" in fit and labels in (None, _classes(entries["logits"], values)):
            asked = "logits"
        elif labels is not None and len(of_labels) == 1:
            asked = of_labels[0]
        elif labels is None and len(fit) == 1:
            asked = fit[0]
        elif len(fit) != 1 or labels is not None:
            which = "none of them" if not fit or (labels is not None and not of_labels) else "more than one of them"
            wanted = f"(N, {labels}), as there are labels" if labels is not None else "(N, classes)"
            maps = any("ZipMap" in kind_of(entry) for entry in entries.values())
            raise DataError(
                f"{name} has {len(entries)} outputs: {told}; {which} is float32 {wanted}: "
                + (_ZIPMAP if maps else "say with --output which one holds the classes")
            )
    output = asked or next(iter(entries))
    kind = kind_of(entries[output])
    if "ZipMap" in kind:
        raise DataError(f"{name} gives {told}; float32 (N, classes) is needed: {_ZIPMAP}")
    if kind not in _FLOATS:
        raise DataError(f"{name} gives {_seen(entries[output], values)}; float32 (N, classes) is needed, logits")
    return output


_ZIPMAP = "export it with options={'zipmap': False} of skl2onnx, which gives a table of numbers"


def tail_of(name: str, model: onnx.ModelProto, output: str, values: npt.NDArray[np.generic]) -> Tail:
    """What makes logits (N, classes) of an output.

    Args:
        name: Names the file in errors.
        model: The graph.
        output: The output's name.
        values: What it gave for some images.

    Returns:
        The nodes that are needed behind it.

    Raises:
        DataError: It does not hold one number for each class and image.
    """
    classes = _width(values.shape)
    if classes == 0:
        raise DataError(
            f"{name} gives {output} {_n(values.shape)}; one value a class and image, (N, classes), is needed: "
            "a classifier of whole images, or pool over its places first"
        )
    if classes == 1:
        raise DataError(
            f"{name} gives one value an image, {output} {_n(values.shape)}; one a class is needed, so two at least: "
            "give a classifier of yes and no two outputs"
        )
    if _sorted(model, output):
        raise DataError(
            f"{name} gives its best values sorted, {output} {_n(values.shape)}, so their places say no class; export "
            "it without its last step (TopK, sort), which gives one value for each class"
        )
    tail = Tail(output, classes)
    maker = _maker(model, output)
    flat = values.reshape(len(values), classes).astype(np.float64)
    likely = bool(np.isfinite(flat).all() and flat.min() >= -1e-3 and np.abs(flat.sum(axis=1) - 1).max() < 5e-3)
    if maker is not None and maker.op_type == "Softmax" and likely:
        tail.taken, tail.note = (
            maker.input[0],
            "the file ends in a softmax; what is judged and attacked are the logits before it",
        )
    elif maker is not None and maker.op_type == "Sigmoid":
        tail.taken = maker.input[0]
        tail.note = "the file ends in a sigmoid; what is judged and attacked are the numbers before it"
    tail.changes = tail.taken != output
    half = next(entry for entry in model.graph.output if entry.name == output).type.tensor_type.elem_type
    if half == TensorProto.FLOAT16:
        tail.steps.append(("Cast", None, {"to": TensorProto.FLOAT}))
    if values.ndim > 2:
        tail.steps.append(("Flatten", None, {"axis": 1}))
    if likely and not tail.changes:
        # An image's logits but for a constant, which no softmax sees.
        tail.steps += [("Max", 1e-30, {}), ("Log", None, {})]
        tail.note = "the file gives probabilities; what is judged and attacked are their logarithms"
    tail.changes |= bool(tail.steps)
    return tail


def _classes(entry: onnx.ValueInfoProto, values: Values) -> int:
    """How many classes an output may hold; 0 if it can't."""
    return _width(values[entry.name].shape) if entry.name in values and kind_of(entry) in _FLOATS else 0


def _width(shape: tuple[int, ...]) -> int:
    """Numbers an image, if they lie along one axis; else 0."""
    wide = [side for side in shape[1:] if side != 1]
    return 0 if len(shape) < 2 or len(wide) > 1 else wide[0] if wide else 1


def _seen(entry: onnx.ValueInfoProto, values: Values) -> str:
    if entry.name not in values:
        return described([entry])
    return f"{entry.name} {kind_of(entry)} {_n(values[entry.name].shape)}"


def _n(shape: tuple[int, ...]) -> str:
    return f"({', '.join(['N', *map(str, shape[1:])])}{',' if len(shape) == 1 else ''})"


def _softmax_of_another(model: onnx.ModelProto, output: str, others: list[str]) -> bool:
    maker = _maker(model, output)
    return (
        maker is not None
        and maker.op_type in ("Softmax", "LogSoftmax")
        and any(_same(model, maker.input[0]) == _same(model, other) for other in others if other != output)
    )


def _maker(model: onnx.ModelProto, value: str) -> onnx.NodeProto | None:
    """The node that a value comes from, nodes that change nothing left out."""
    makers = {result: node for node in model.graph.node for result in node.output}
    node = makers.get(value)
    while node is not None and node.op_type in _SAME:
        node = makers.get(node.input[0])
    return node


def _sorted(model: onnx.ModelProto, output: str) -> bool:
    """Whether an output comes from TopK, as of torch.topk and torch.sort."""
    node = _maker(model, output)
    while node is not None and node.op_type in _IN_PLACE:
        node = _maker(model, node.input[0])
    return node is not None and node.op_type == "TopK"


def _same(model: onnx.ModelProto, value: str) -> str:
    node = _maker(model, value)
    return value if node is None else node.output[0]
