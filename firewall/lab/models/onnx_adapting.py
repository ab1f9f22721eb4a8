"""A user's ONNX graph in the one form that everything else works with: float32 (N, C, H, W) in RGB, N free, to float32
(N, classes), logits.

What the graph wants otherwise (BGR, channels last, float16 or uint8 pixels, a batch of one, probabilities, one of
several outputs) is done by a node or two in front of it or behind it. So every engine, every kernel that writes the
network's input, every device and every older version does it without knowing, and the hash of the bundle's file covers
it. Nothing is guessed without a trial: the result is run on single images and on all together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from firewall.errors import DataError, UsageError
from firewall.lab.models.onnx_graph import free_reshapes, needed_only, unused
from firewall.lab.models.onnx_output import Tail, choose, tail_of
from firewall.lab.models.onnx_reading import described, kind_of, parse_onnx
from firewall.lab.models.onnx_trial import prepared, samples, trial
from firewall.lab.models.options import Options

__all__ = ["Adapted", "adapt"]


@dataclass
class Adapted:
    """A network in the one form.

    Args:
        content: Its file; the user's own bytes where nothing had to be changed.
        model: The same, parsed.
        input: Name of its input.
        output: Name of its output.
        channels: 1 or 3.
        height: In pixels.
        width: In pixels.
        mean: A number for red, green and blue (or grey), in units of the full range.
        std: As mean.
        classes: How many logits.
        notes: What was changed, for the manifest.
    """

    content: bytes
    model: onnx.ModelProto
    input: str
    output: str
    channels: int
    height: int
    width: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: int
    notes: list[str] = field(default_factory=list)


def adapt(name: str, content: bytes, options: Options, labels: int | None) -> Adapted:
    """Bring the graph of an ONNX file into the one form.

    Args:
        name: Names it in errors.
        content: The file's bytes.
        options: What the user says of it.
        labels: How many classes there are, where that is known.

    Returns:
        The network, tried on images.

    Raises:
        DataError: The file is no classifier of images.
        UsageError: The options don't fit it.
    """
    model = parse_onnx(name, content)
    entry = _input(name, model)
    free = _batch_is_free(model)
    kind, (channels, height, width), last = _shape(name, entry, options)
    mean, std = (
        options.rgb(_per_channel(name, [value / options.range for value in values], channels))
        for values in (options.mean, options.std)
    )
    if options.channels == "bgr" and channels == 1:
        raise UsageError(f"{name} takes one channel; leave out channels=bgr")
    if kind == "uint8":
        if set(mean) != {0.0} or set(std) not in ({1.0}, {1 / 255}):
            raise UsageError(f"{name} takes uint8 pixels as they are; leave out range, mean, std and preparation")
        std = (1 / 255,) * channels
    _forget(model, entry)
    notes = _in_front(model, kind, last=last, bgr=options.channels == "bgr", shape=(channels, height, width))
    changed = bool(notes) or not free
    images = prepared(samples(channels, height, width), mean, std)
    try:
        values = trial(name, model, images)
    except DataError as error:
        if not free_reshapes(model):
            raise
        try:
            values = trial(name, model, images)
        except DataError:
            raise error from None  # the first says what the file itself does
        changed = True
        notes.append("the batch size that was written down inside it is free now")
    several = len(model.graph.output) > 1
    output = choose(name, model, values, options.output, labels)
    tail = tail_of(name, model, output, values[output])
    changed |= several or tail.changes
    result = _behind(model, output, tail)
    if changed:
        needed_only(model)
        model.ir_version = max(model.ir_version, 4)  # older ones want every weight among the inputs
    if several:
        notes.append(f"of its outputs {output!r} is taken")
    if tail.note:
        notes.append(tail.note)
    whole = model.SerializeToString(deterministic=True) if changed else content
    if changed:
        values = trial(name, model, images)
    return Adapted(
        whole,
        model,
        model.graph.input[0].name,
        result,
        channels,
        height,
        width,
        mean,
        std,
        values[result].shape[1],
        notes,
    )


def _input(name: str, model: onnx.ModelProto) -> onnx.ValueInfoProto:
    """The one input; the weights that older files list among the inputs are taken out of them."""
    weights = {entry.name for entry in (*model.graph.initializer, *model.graph.sparse_initializer)}
    inputs = [entry for entry in model.graph.input if entry.name not in weights]
    if len(inputs) != 1:
        raise DataError(
            f"{name} has {len(inputs)} inputs: {described(inputs)}; a classifier of images has one, (N, 3, H, W): "
            "export it with the others as constants"
        )
    entry = inputs[0]
    kept = onnx.ValueInfoProto()
    kept.CopyFrom(entry)
    if len(model.graph.input) > 1:
        del model.graph.input[:]
        model.graph.input.append(kept)
    return kept


def _batch_is_free(model: onnx.ModelProto) -> bool:
    shapes = [entry.type.tensor_type.shape.dim for entry in (*model.graph.input, *model.graph.output)]
    return all(shape and not shape[0].dim_value for shape in shapes)


def _shape(name: str, entry: onnx.ValueInfoProto, options: Options) -> tuple[str, tuple[int, int, int], bool]:
    """Type of the pixels, (channels, height, width), and whether the channels come last."""
    kind, seen = kind_of(entry), described([entry])
    sides = [side.dim_value for side in entry.type.tensor_type.shape.dim]
    if kind not in ("float32", "float16", "uint8"):
        raise DataError(f"{name} takes {seen}; float32 pixels are needed (float16 and uint8 will do): export it so")
    if len(sides) != 4:
        table = len(sides) == 2
        raise DataError(
            f"{name} takes {len(sides)} dimensions, {seen}; images (N, 3, H, W) are needed: "
            + ("put a Flatten in front, if its features are pixels" if table else "export it with that layout")
        )
    last = sides[1] not in (1, 3) and sides[3] in (1, 3)
    channels, height, width = (sides[axis] for axis in ((3, 1, 2) if last else (1, 2, 3)))
    if channels not in (1, 3):
        raise DataError(
            f"{name} takes {seen}, with {channels or 'an open number of'} channels; export it with the layout "
            "(N, 3, H, W) or (N, H, W, 3)"
        )
    asked = options.size or (0, 0)
    if min(height or asked[0], width or asked[1]) < 1:
        raise DataError(
            f"{name} leaves its input size open, {seen}; give the one that it was trained with, such as --size 224x224 "
            "(height x width; size=224x224 beside the file or behind a '?')"
        )
    if options.size is not None and any(
        side not in (0, given) for side, given in zip((height, width), asked, strict=True)
    ):
        raise UsageError(f"{name} takes {height}x{width} pixels, not size={asked[0]}x{asked[1]}")
    return kind, (channels, height or asked[0], width or asked[1]), last


def _per_channel(name: str, values: Sequence[float], channels: int) -> tuple[float, ...]:
    if len(values) not in (1, channels):
        raise UsageError(f"{name} has {channels} channels, but {len(values)} numbers of mean or std were given")
    return tuple(values) * (channels // len(values))


def _forget(model: onnx.ModelProto, entry: onnx.ValueInfoProto) -> None:
    """The shapes that hold for another batch size, and the one that is written down."""
    for each in (model.graph.input[0], *model.graph.output):
        if each.type.tensor_type.shape.dim:
            each.type.tensor_type.shape.dim[0].dim_param = "N"
    entry.CopyFrom(model.graph.input[0])
    del model.graph.value_info[:]


def _in_front(model: onnx.ModelProto, kind: str, *, last: bool, bgr: bool, shape: tuple[int, int, int]) -> list[str]:
    """Put nodes in front of the graph that make what it takes of float32 (N, C, H, W) in RGB; says which."""
    graph, own = model.graph, model.graph.input[0].name
    steps: list[tuple[str, list[str], dict[str, Any], str]] = []
    constants = []
    if bgr:
        order = numpy_helper.from_array(np.array([2, 1, 0], np.int64), unused(model, "bgr"))
        constants.append(order)
        steps.append(("Gather", [order.name], {"axis": 1}, "it takes BGR, which is made of RGB in front of it"))
    if last:
        steps.append(("Transpose", [], {"perm": [0, 2, 3, 1]}, "it takes its channels last (N, H, W, C)"))
    if kind == "float16":
        steps.append(("Cast", [], {"to": TensorProto.FLOAT16}, "it takes float16"))
    if kind == "uint8":
        half = numpy_helper.from_array(np.array(0.5, np.float32), unused(model, "half"))
        constants.append(half)
        steps.append(("Add", [half.name], {}, "it takes uint8"))  # a cast cuts off
        steps.append(("Cast", [], {"to": TensorProto.UINT8}, ""))
    if not steps:
        return []
    value = image = unused(model, "image")
    nodes = []
    for number, (operator, others, attributes, _) in enumerate(steps):
        result = own if number == len(steps) - 1 else unused(model, f"prepared_{number}")
        nodes.append(helper.make_node(operator, [value, *others], [result], **attributes))
        value = result
    before = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *before])
    graph.initializer.extend(constants)
    graph.input[0].CopyFrom(helper.make_tensor_value_info(image, TensorProto.FLOAT, ["N", *shape]))
    return [note for *_, note in steps if note]


def _behind(model: onnx.ModelProto, output: str, tail: Tail) -> str:
    """Put nodes behind the graph that make float32 (N, classes) of its output, its only one from now on; its name."""
    graph, value = model.graph, tail.taken
    for operator, constant, attributes in tail.steps:
        others = []
        if constant is not None:
            entry = numpy_helper.from_array(np.array(constant, np.float32), unused(model, "least"))
            graph.initializer.append(entry)
            others = [entry.name]
        result = unused(model, "logits")
        graph.node.append(helper.make_node(operator, [value, *others], [result], **attributes))
        value = result
    if not tail.changes and len(graph.output) == 1:
        return output
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info(value, TensorProto.FLOAT, ["N", tail.classes]))
    return value
