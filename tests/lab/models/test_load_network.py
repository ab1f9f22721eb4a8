"""Any ONNX network of one input and one output as a torch module, to attack the detectors by their own gradients."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

import firewall
from firewall.errors import DataError
from firewall.export.rounded import in_float
from firewall.host.onnxruntime import ort
from firewall.lab.models import load_network
from tests.fused_bundle import fused_bundle

BUNDLE = Path(firewall.__file__).parent / "assets" / "default_bundle"
#: All but the finder's, which nobody attacks: it resizes maps, and that has no gradient here.
JUDGES = (file for file in BUNDLE.glob("*.onnx") if file.name != "finder.onnx")
FILES = sorted([*JUDGES, *(fused_bundle() / name for name in ("image-cnn.onnx", "residual.onnx"))])


def runtime(content: bytes, values: np.ndarray) -> np.ndarray:
    """The one output of ONNX Runtime."""
    session = ort.InferenceSession(content, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {session.get_inputs()[0].name: values})[0])


def exported(nodes: list[tuple[str, list[str], list[str]]], **shapes: list[object]) -> bytes:
    """A graph from the inputs among `shapes` to the outputs, whose names begin with y; no weights."""
    entries = [
        helper.make_tensor_value_info(name, TensorProto.INT64 if name.startswith("y_int") else TensorProto.FLOAT, shape)
        for name, shape in shapes.items()
    ]
    graph = helper.make_graph(
        [helper.make_node(*node) for node in nodes],
        "test",
        [entry for entry in entries if not entry.name.startswith("y")],
        [entry for entry in entries if entry.name.startswith("y")],
    )
    return bytes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8).SerializeToString()
    )


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_network_of_the_default_bundle_is_the_same_in_torch(file: Path) -> None:
    """Classifier, masked classifier and detectors, whatever their channels: within 1e-4 of ONNX Runtime, for one image
    and for several, with finite gradients that reach every image. What is rounded has none: its twin has."""
    content = file.read_bytes()
    if in_float(content) is not content:
        with pytest.raises(DataError, match="no gradients for the operators DequantizeLinear, QuantizeLinear"):
            load_network(content)
        content = in_float(content, rounding=False)
    network = load_network(content)
    session = ort.InferenceSession(content, providers=["CPUExecutionProvider"])
    shape = session.get_inputs()[0].shape[1:]
    generator = np.random.default_rng(3)
    for count in (1, 5):
        values = generator.random((count, *shape), np.float32)
        point = torch.from_numpy(values).requires_grad_()
        found = network(point)
        np.testing.assert_allclose(found.detach().numpy(), runtime(content, values), atol=1e-4)
        (gradient,) = torch.autograd.grad(found[:, 0].sum(), point)
        assert bool(torch.isfinite(gradient).all())
        assert bool(gradient.flatten(1).any(dim=1).all())
    assert not network.training
    assert not [weight for weight in network.parameters() if weight.requires_grad]


def test_the_bundle_has_the_networks_that_the_test_is_about() -> None:
    """A classifier of three channels, and the residual detector of six."""
    assert {"classifier.onnx", "residual.onnx"} <= {file.name for file in FILES}


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 6, 9])
def test_any_number_of_channels_and_any_size(channels: int) -> None:
    """Groups and instances are normalised as ONNX Runtime does it, also where the file leaves the size open."""
    generator = np.random.default_rng(channels)
    weights = {name: generator.normal(size=8).astype(np.float32) for name in ("s", "b")}
    weights["w"] = generator.normal(size=(8, channels, 3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("GroupNormalization", ["c", "s", "b"], ["g"], num_groups=4),
        helper.make_node("Relu", ["g"], ["r"]),
        helper.make_node("InstanceNormalization", ["r", "s", "b"], ["i"]),
        helper.make_node("MaxPool", ["i"], ["y"], kernel_shape=[3, 3]),
    ]
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", channels, "h", "w_"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    content = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=9).SerializeToString()
    values = torch.rand(3, channels, 20, 14)
    np.testing.assert_allclose(load_network(content)(values).numpy(), runtime(content, values.numpy()), atol=1e-4)


def test_a_network_of_features_instead_of_pixels() -> None:
    """(N, F) in, (N, F) out."""
    content = exported([("Tanh", ["x"], ["y"])], x=["n", 7], y=["n", 7])
    values = torch.randn(4, 7)
    torch.testing.assert_close(load_network(content)(values), values.tanh())


def test_an_instance_of_one_pixel_is_its_bias() -> None:
    """torch's own layer refuses a map of one pixel; ONNX defines it: the value less its mean is 0."""
    graph = helper.make_graph(
        [helper.make_node("InstanceNormalization", ["x", "s", "b"], ["z"]), helper.make_node("Add", ["z", "x"], ["y"])],
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2, 1, 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2, 1, 1])],
        [numpy_helper.from_array(np.float32([3, 4]), "s"), numpy_helper.from_array(np.float32([0.5, -1]), "b")],
    )
    content = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8).SerializeToString()
    found = load_network(content)(torch.zeros(1, 2, 1, 1))
    assert found.flatten().tolist() == [0.5, -1.0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"PK\x03\x04", "ZIP archive", id="no ONNX file"),
        pytest.param(
            exported([("Add", ["x", "z"], ["y"])], x=["n", 3], z=["n", 3], y=["n", 3]),
            r"inputs x float32 \(n, 3\), z float32 \(n, 3\); one",
            id="two inputs",
        ),
        pytest.param(
            exported([("Relu", ["x"], ["y"]), ("Neg", ["x"], ["y2"])], x=["n", 3], y=["n", 3], y2=["n", 3]),
            "outputs y float32",
            id="two outputs",
        ),
        pytest.param(exported([("ArgMax", ["x"], ["y_int"])], x=["n", 3], y_int=[1, 3]), "int64", id="whole numbers"),
        pytest.param(exported([("Round", ["x"], ["y"])], x=["n", 3], y=["n", 3]), "Round", id="unknown operator"),
        pytest.param(
            exported([("Sub", ["x", "x"], ["y"])], x=["n", 3], y=["n", 3]), "gradients are zero", id="no gradients"
        ),
    ],
)
def test_what_cannot_be_attacked_is_refused_in_one_line(content: bytes, message: str) -> None:
    """The error names what is there and what is needed."""
    with pytest.raises(DataError, match=message) as caught:
        load_network(content)
    assert "\n" not in str(caught.value)
