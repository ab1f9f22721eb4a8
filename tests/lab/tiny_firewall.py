"""Firewalls around the small classifier of coloured shapes, with detectors of every kind."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from torch import Tensor, nn

from firewall.bundle import Bundle, Calibration, ClassifierSpec, DetectorSpec, InputSpec, write_bundle
from tests.lab.coloured_shapes import CLASSES, SIZE, correctly_classified, logits_of, shapes, trained

__all__ = [
    "confidence",
    "juror",
    "model_file",
    "network_file",
    "shape_folder",
    "statistics_network",
    "tiny_firewall",
    "victims",
]

LABELS = tuple(f"{number:05d}" for number in range(CLASSES))


def model_file(
    nodes: Sequence[onnx.NodeProto], constants: Mapping[str, npt.ArrayLike], shape: Sequence[Any], outputs: int
) -> bytes:
    """An ONNX file of nodes that lead from `x` to `y`."""
    graph = helper.make_graph(
        list(nodes),
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", outputs])],
        [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(made.SerializeToString())


@cache
def network_file(seed: int = 0, levels: int = 0, more: int = 0) -> bytes:
    """The ONNX file of `trained(seed)`.

    Args:
        seed: Of the network.
        levels: It sees so many levels of each value: its gradient is zero wherever it is defined. 0: all.
        more: Classes behind the others, with the opposite of the first classes' weights.
    """
    network, constants, nodes = trained(seed), {}, []
    here = "x"
    if levels:
        constants["levels"] = np.float32(levels)
        for kind, inputs, name in (
            ("Mul", ["x", "levels"], "many"),
            ("Floor", ["many"], "whole"),
            ("Div", ["whole", "levels"], "coarse"),
        ):
            nodes.append(helper.make_node(kind, inputs, [name]))
        here = "coarse"
    for number, layer in enumerate(network):
        weights = [f"{number}.{name}" for name in ("a", "b", "c", "d")]
        after = "y" if number == len(network) - 1 else f"layer{number}"
        if isinstance(layer, nn.Conv2d):
            reach = int(layer.padding[0])
            constants.update(zip(weights, _arrays(layer.weight, layer.bias), strict=False))
            nodes.append(
                helper.make_node(
                    "Conv", [here, *weights[:2]], [after], pads=[reach] * 4, strides=[int(layer.stride[0])] * 2
                )
            )
        elif isinstance(layer, nn.BatchNorm2d):
            values = _arrays(layer.weight, layer.bias, layer.running_mean, layer.running_var)
            constants.update(zip(weights, values, strict=True))
            nodes.append(helper.make_node("BatchNormalization", [here, *weights], [after], epsilon=layer.eps))
        elif isinstance(layer, nn.Linear):
            rows = [np.concatenate([values, -values[:more]]) for values in _arrays(layer.weight, layer.bias)]
            constants.update(zip(weights, rows, strict=False))
            nodes.append(helper.make_node("Gemm", [here, *weights[:2]], [after], transB=1))
        elif isinstance(layer, nn.Dropout):
            continue
        else:
            nodes.append(helper.make_node("Relu" if isinstance(layer, nn.ReLU) else "Flatten", [here], [after]))
        here = after
    return model_file(nodes, constants, ["N", 3, SIZE, SIZE], CLASSES + more)


def _arrays(*values: Tensor | None) -> list[npt.NDArray[np.float32]]:
    return [value.detach().numpy() for value in values if value is not None]


def statistics_network(length: int) -> bytes:
    """The statistics detector's network: a feature (N, length) to a score (N, 1)."""
    weights = np.random.default_rng(4).normal(size=(length, 1)).astype(np.float32)
    return model_file([helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": weights}, ["N", length], 1)


def confidence(threshold: float = 1e3) -> DetectorSpec:
    """A detector that withholds next to nothing, unless another threshold is given."""
    parameters = {"median": 2.0, "below": 1.0, "above": 1.0}
    return DetectorSpec(name="confidence", parameters=parameters, threshold=threshold)


@cache
def _limit(seed: int) -> float:
    """The 99 % quantile of log-odds against the right class on fresh images: the threshold of a juror."""
    images, labels = shapes(400, seed=3)
    logits = logits_of(trained(seed), images)
    own = logits.gather(1, labels[:, None])[:, 0]
    odds = logits.scatter(1, labels[:, None], -torch.inf).logsumexp(1) - own
    return float(odds.quantile(0.99))


def juror(name: str, seed: int = 1) -> DetectorSpec:
    """A juror whose threshold withholds one benign image in a hundred."""
    parameters = {"file": f"{name}.onnx", "width": SIZE, "height": SIZE}
    return DetectorSpec(name=name, parameters=parameters, threshold=_limit(seed))


def tiny_firewall(
    path: Path, detectors: Sequence[DetectorSpec], files: Mapping[str, bytes] | None = None, **changes: Any
) -> Bundle:
    """A bundle around the classifier of coloured shapes."""
    return write_bundle(
        path,
        {"classifier.onnx": network_file(), **(files or {})},
        name="tiny",
        created="-",
        classifier=ClassifierSpec(
            file="classifier.onnx", input=InputSpec(name="x", width=SIZE, height=SIZE), output="y", labels=LABELS
        ),
        detectors=tuple(detectors),
        calibration=Calibration(data="coloured shapes", images=400, false_positive_rate=0.01),
        **changes,
    )


def victims(count: int) -> list[tuple[npt.NDArray[np.uint8], int]]:
    """Images that the classifier gets right, uint8 (16, 16, 3), with their labels."""
    images, labels = correctly_classified()
    pixels = images.mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return [(np.array(pixel), int(label)) for pixel, label in zip(pixels[:count], labels[:count], strict=True)]


def shape_folder(root: Path, count: int = 8) -> Path:
    """The same as a data set: a folder for each class."""
    for number, (pixels, label) in enumerate(victims(count)):
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        place = root / LABELS[label] / f"{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(file.getvalue())
    return root
