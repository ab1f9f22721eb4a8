"""Each operator of the interpreter says what ONNX Runtime says, and its gradients are those of finite differences."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from firewall.errors import DataError
from firewall.lab.models.onnx_network import OnnxNetwork, RuntimeNetwork, difference

RNG = np.random.default_rng(1)
Weights = dict[str, np.ndarray]


def floats(*shape: int) -> np.ndarray:
    return RNG.normal(0, 0.5, shape).astype(np.float32)


def whole(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def graph(nodes: list[Any], weights: Weights, opset: int = 18, shape: tuple[int, ...] = (3, 6, 7)) -> onnx.ModelProto:
    """A model from `x` (N, *shape) to `y`."""
    made = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *shape])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def one(kind: str, *names: str, weights: Weights | None = None, opset: int = 18, **attributes: Any) -> onnx.ModelProto:
    return graph([helper.make_node(kind, ["x", *names], ["y"], **attributes)], weights or {}, opset)


def unary(kind: str, **attributes: Any) -> Any:
    return pytest.param(one(kind, opset=20, **attributes), id=kind)


CONVOLUTION = {"w": floats(4, 3, 3, 2), "b": floats(4)}
NORMS = {"s": floats(3), "b": floats(3), "m": floats(3), "v": np.abs(floats(3)) + 0.1}
CASES = [
    *(unary(kind) for kind in ("Relu", "Sigmoid", "Tanh", "Softplus", "Selu", "Elu", "LeakyRelu", "Erf", "Exp", "Neg")),
    *(unary(kind) for kind in ("Abs", "HardSigmoid", "HardSwish", "Gelu", "Identity", "GlobalAveragePool")),
    *(unary(kind) for kind in ("GlobalMaxPool", "Dropout", "Softmax", "LogSoftmax", "Flatten", "Transpose")),
    pytest.param(one("Gelu", opset=20, approximate="tanh"), id="Gelu by tanh"),
    pytest.param(one("Flatten", axis=-2), id="Flatten from the end"),
    pytest.param(one("Conv", "w", "b", weights=CONVOLUTION), id="Conv"),
    pytest.param(
        one("Conv", "w", weights={"w": floats(6, 1, 3, 3)}, group=3, strides=[2, 1], pads=[1, 0, 2, 1]),
        id="Conv depthwise, uneven padding",
    ),
    pytest.param(one("Conv", "w", weights=CONVOLUTION, auto_pad="SAME_UPPER", strides=[2, 2]), id="Conv SAME_UPPER"),
    pytest.param(one("Conv", "w", weights=CONVOLUTION, auto_pad="SAME_LOWER"), id="Conv SAME_LOWER"),
    pytest.param(one("Conv", "w", weights=CONVOLUTION, auto_pad="VALID", dilations=[2, 2]), id="Conv VALID"),
    pytest.param(one("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]), id="MaxPool"),
    pytest.param(one("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[0, 1, 1, 0]), id="MaxPool uneven padding"),
    pytest.param(one("MaxPool", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1), id="MaxPool by ceil"),
    pytest.param(one("AveragePool", kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2]), id="AveragePool"),
    pytest.param(
        one("AveragePool", kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1), id="AveragePool with padding"
    ),
    pytest.param(
        one("AveragePool", kernel_shape=[3, 2], pads=[1, 0, 0, 1], strides=[1, 2]), id="AveragePool uneven padding"
    ),
    pytest.param(one("LRN", size=3, alpha=0.1, beta=0.7, bias=1.5), id="LRN"),
    pytest.param(one("BatchNormalization", "s", "b", "m", "v", weights=NORMS, epsilon=1e-3), id="BatchNormalization"),
    pytest.param(
        one("LayerNormalization", "s", "b", weights={"s": floats(6, 7), "b": floats(6, 7)}, axis=2),
        id="LayerNormalization",
    ),
    pytest.param(one("InstanceNormalization", "s", "b", weights=NORMS, epsilon=1e-3), id="InstanceNormalization"),
    pytest.param(
        one("GroupNormalization", "s", "b", weights={"s": floats(1), "b": floats(1)}, num_groups=1),
        id="GroupNormalization of opset 18, by group",
    ),
    pytest.param(
        one("GroupNormalization", "s", "b", weights=NORMS, opset=21, num_groups=3), id="GroupNormalization by channel"
    ),
    pytest.param(one("PRelu", "s", weights={"s": floats(3, 1, 1)}), id="PRelu"),
    pytest.param(one("MatMul", "w", weights={"w": floats(7, 5)}), id="MatMul"),
    *(pytest.param(one(kind, "w", weights={"w": floats(7)}), id=kind) for kind in ("Add", "Sub", "Mul", "Min", "Max")),
    pytest.param(one("Div", "w", weights={"w": np.abs(floats(7)) + 0.5}), id="Div"),
    pytest.param(one("Pow", "w", weights={"w": np.float32([2.0])}), id="Pow"),
    pytest.param(one("Sum", "w", "x", weights={"w": floats(6, 1)}), id="Sum"),
    pytest.param(one("Clip", "l", "h", weights={"l": np.float32(-0.2), "h": np.float32([0.4])}), id="Clip"),
    pytest.param(one("Clip", "", "h", weights={"h": np.float32(0.4)}), id="Clip above"),
    pytest.param(one("Clip", opset=6, min=-0.2, max=0.4), id="Clip by attributes"),
    *(pytest.param(one(kind, axes=[2, 3], keepdims=0, opset=11), id=kind) for kind in ("ReduceMean", "ReduceSum")),
    *(pytest.param(one(kind, "a", weights={"a": whole(-1)}), id=kind) for kind in ("ReduceMax", "ReduceMin")),
    pytest.param(one("ReduceMean", keepdims=0), id="ReduceMean of all"),
    pytest.param(one("ReduceProd", "a", weights={"a": whole(1)}), id="ReduceProd"),
    pytest.param(one("Reshape", "s", weights={"s": whole(0, -1, 6)}), id="Reshape"),
    pytest.param(one("Transpose", perm=[0, 2, 3, 1]), id="Transpose to the channels last"),
    pytest.param(one("Unsqueeze", "a", weights={"a": whole(0, -1)}), id="Unsqueeze"),
    pytest.param(one("Slice", "s", "e", "a", weights={"s": whole(1), "e": whole(-1), "a": whole(3)}), id="Slice"),
    pytest.param(
        one("Slice", "s", "e", "a", "t", weights={"s": whole(-1), "e": whole(-99), "a": whole(2), "t": whole(-2)}),
        id="Slice backwards",
    ),
    pytest.param(one("Gather", "i", weights={"i": whole(2, 0, -1)}, axis=1), id="Gather"),
    pytest.param(one("Gather", "i", weights={"i": np.array(1, np.int64)}, axis=1), id="Gather of one"),
    pytest.param(one("Expand", "s", weights={"s": whole(2, 1, 3, 1, 7)}), id="Expand"),
    pytest.param(one("Pad", "p", weights={"p": whole(0, 1, 0, 2, 0, 0, 1, 0)}), id="Pad"),
    pytest.param(one("Pad", "p", weights={"p": whole(0, 0, 1, 2, 0, 0, 0, 3)}, mode="reflect"), id="Pad reflect"),
    pytest.param(one("Pad", "p", weights={"p": whole(0, 0, 1, 2, 0, 0, 0, 3)}, mode="edge"), id="Pad edge"),
    pytest.param(one("Concat", "x", axis=1), id="Concat"),
    pytest.param(
        graph(
            [
                helper.make_node("Split", ["x", "p"], ["a", "b"], axis=1),
                helper.make_node("Concat", ["b", "a"], ["y"], axis=1),
            ],
            {"p": whole(1, 2)},
        ),
        id="Split",
    ),
    pytest.param(
        graph(
            [
                helper.make_node("Flatten", ["x"], ["f"]),
                helper.make_node("Gemm", ["f", "w", "b"], ["y"], transB=1, alpha=0.5, beta=2.0),
            ],
            {"w": floats(4, 126), "b": floats(4)},
        ),
        id="Gemm",
    ),
    pytest.param(
        graph(
            [  # how exporters write "flatten" for an open batch
                helper.make_node("Shape", ["x"], ["s"]),
                helper.make_node("Gather", ["s", "zero"], ["n"], axis=0),
                helper.make_node("Constant", [], ["rest"], value_ints=[-1]),
                helper.make_node("Unsqueeze", ["n", "axis"], ["first"]),
                helper.make_node("Concat", ["first", "rest"], ["shape"], axis=0),
                helper.make_node("Reshape", ["x", "shape"], ["flat"]),
                helper.make_node("Unsqueeze", ["flat", "axis"], ["wide"]),
                helper.make_node("Squeeze", ["wide", "axis"], ["narrow"]),
                helper.make_node("Cast", ["narrow"], ["y"], to=TensorProto.FLOAT),
            ],
            {"zero": np.array(0, np.int64), "axis": whole(0)},
        ),
        id="Shape, Constant, Concat, Squeeze and Cast",
    ),
    pytest.param(
        graph(
            [
                helper.make_node("Shape", ["x"], ["s"]),
                helper.make_node("Equal", ["s", "six"], ["mask"]),
                helper.make_node("Where", ["mask", "one", "s"], ["other"]),
                helper.make_node("ReduceProd", ["other", "axis"], ["p"], keepdims=0),
                helper.make_node("Cast", ["p"], ["f"], to=TensorProto.FLOAT),
                helper.make_node("Abs", ["x"], ["a"]),
                helper.make_node("Where", ["flags", "x", "a"], ["b"]),
                helper.make_node("Mul", ["b", "f"], ["y"]),
            ],
            {"six": whole(6), "one": whole(1), "axis": whole(0), "flags": np.arange(7) % 2 == 0},
        ),
        id="Equal and Where",
    ),
    pytest.param(
        graph(
            [
                helper.make_node(
                    "ConstantOfShape", ["s"], ["c"], value=helper.make_tensor("v", TensorProto.FLOAT, [1], [0.25])
                ),
                helper.make_node("Abs", ["x"], ["a"]),
                helper.make_node("Add", ["a", "c"], ["b"]),
                helper.make_node("Sqrt", ["b"], ["q"]),
                helper.make_node("Reciprocal", ["q"], ["r"]),
                helper.make_node("Log", ["r"], ["y"]),
            ],
            {"s": whole(6, 7)},
        ),
        id="ConstantOfShape, Sqrt, Reciprocal and Log",
    ),
]


@pytest.mark.parametrize("model", CASES)
def test_an_operator_says_what_onnx_runtime_says(model: onnx.ModelProto) -> None:
    """Batches of one and of five, to the last digits of float32, with gradients that are finite and not all 0."""
    network, reference = OnnxNetwork(model, "y"), RuntimeNetwork(model.SerializeToString(), "x", "y")

    for count in (1, 5):
        apart, _ = difference(network, reference, torch.from_numpy(floats(count, 3, 6, 7)))
        assert apart < 1e-5


@pytest.mark.parametrize("model", CASES)
def test_a_gradient_is_that_of_finite_differences(model: onnx.ModelProto) -> None:
    """In double precision, along a random direction, away from the kinks that chance can't hit."""
    network = OnnxNetwork(model, "y").double()
    network.shapes = {name: v.double() if v.is_floating_point() else v for name, v in network.shapes.items()}
    for node in network.nodes:
        if node.kind == "Cast":
            node.attributes["to"] = TensorProto.DOUBLE
    x = torch.from_numpy(floats(2, 3, 6, 7)).double().requires_grad_()
    weight = torch.from_numpy(RNG.normal(size=tuple(network(x).shape)))
    (gradient,) = torch.autograd.grad((network(x) * weight).sum(), x)
    direction, step = torch.from_numpy(RNG.normal(size=tuple(x.shape))), 1e-6

    with torch.no_grad():
        rise = ((network(x + step * direction) - network(x - step * direction)) * weight).sum() / (2 * step)

    assert float((gradient * direction).sum()) == pytest.approx(float(rise), rel=1e-4, abs=1e-6)


def test_unknown_operators_are_named() -> None:
    """No gradients for a graph with operators that aren't here: all of them are listed, with their domain."""
    nodes = [
        helper.make_node("Round", ["x"], ["a"]),
        helper.make_node("FusedConv", ["a"], ["y"], domain="com.microsoft"),
    ]
    with pytest.raises(DataError, match=r"Round, com\.microsoft\.FusedConv"):
        OnnxNetwork(graph(nodes, {}), "y")


def test_a_network_can_be_copied_and_sent_to_another_process() -> None:
    """Both kinds survive copying and pickling, in use and not; weights don't want gradients."""
    model = one("Conv", "w", "b", weights=CONVOLUTION)
    x = torch.from_numpy(floats(2, 3, 6, 7))
    for network in (OnnxNetwork(model, "y"), RuntimeNetwork(model.SerializeToString(), "x", "y")):
        expected = network(x)
        for other in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):  # noqa: S301  (our own bytes)
            torch.testing.assert_close(other(x), expected)
        assert not list(network.parameters())


def test_what_does_not_depend_on_the_image_is_computed_once() -> None:
    """Constant parts of the graph, and parts that the output doesn't need, are gone after loading."""
    nodes = [
        helper.make_node("Mul", ["w", "w"], ["ww"]),
        helper.make_node("Add", ["x", "ww"], ["y"]),
        helper.make_node("Relu", ["x"], ["unused"]),
    ]
    assert [node.kind for node in OnnxNetwork(graph(nodes, {"w": floats(7)}), "y").nodes] == ["Add"]


def test_a_forward_only_network_refuses_gradients() -> None:
    """An attack that wants a gradient is told, instead of moving by a gradient of nothing."""
    network = RuntimeNetwork(one("Relu").SerializeToString(), "x", "y")

    with pytest.raises(DataError, match="black-box"):
        network(torch.zeros(1, 3, 6, 7, requires_grad=True))
