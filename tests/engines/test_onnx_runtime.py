from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from firewall import Firewall
from firewall.bundle import Bundle
from firewall.engines import OnnxRuntimeEngine
from firewall.errors import EngineError


def network(operator: str = "Identity", classes: int = 3, names: tuple[str, str] = ("image", "logits")) -> bytes:
    """Mean of each channel, then one operator more."""
    nodes = [
        helper.make_node("ReduceMean", [names[0], "axes"], ["means"], keepdims=0),
        helper.make_node(operator, ["means"], [names[1]]),
    ]
    graph = helper.make_graph(
        nodes,
        "means",
        [helper.make_tensor_value_info(names[0], TensorProto.FLOAT, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info(names[1], TensorProto.FLOAT, ["n", classes])],
        [helper.make_tensor("axes", TensorProto.INT64, [2], [2, 3])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return bytes(model.SerializeToString())


@pytest.fixture
def bundle_of(guard: Firewall) -> Callable[..., Bundle]:
    """The default bundle with another network in it."""

    def make(content: bytes, **changes: object) -> Bundle:
        manifest = guard.bundle.manifest
        spec = manifest.classifier.input.model_copy(update={"width": 8, "height": 8, **changes})
        classifier = manifest.classifier.model_copy(update={"input": spec, "labels": ("r", "g", "b")})
        changed = manifest.model_copy(update={"classifier": classifier})
        return replace(guard.bundle, manifest=changed, files={classifier.file: content})

    return make


def test_pixels_are_normalised_as_the_bundle_says(bundle_of: Callable[..., Bundle]) -> None:
    """(value / 255 - mean) / std for each channel, RGB, whatever the strides of the array."""
    engine = OnnxRuntimeEngine(bundle_of(network(), mean=(0.5, 0.25, 0.0), std=(0.5, 1.0, 2.0)), threads=1)
    images = np.zeros((2, 8, 8, 3), np.uint8)
    images[1] = (255, 51, 102)

    expected = [[-1.0, -0.25, 0.0], [1.0, -0.05, 0.2]]
    assert engine.classify(images) == pytest.approx(np.array(expected), abs=1e-6)
    wide = np.zeros((2, 8, 16, 3), np.uint8)
    wide[:, :, ::2] = images
    assert engine.classify(wide[:, :, ::2]) == pytest.approx(np.array(expected), abs=1e-6)


def test_an_empty_batch_has_no_logits(bundle_of: Callable[..., Bundle]) -> None:
    """No images, no answer, no error."""
    assert OnnxRuntimeEngine(bundle_of(network())).classify(np.zeros((0, 8, 8, 3), np.uint8)).shape == (0, 3)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"not a network", "can't be loaded"),
        (network("Log"), "not finite"),  # the blank image it is tried on has mean 0
        (network(names=("picture", "logits")), "'image' -> 'logits'"),
        (network(names=("image", "scores")), "'image' -> 'logits'"),
    ],
)
def test_a_network_that_does_not_fit_its_bundle(content: bytes, words: str, bundle_of: Callable[..., Bundle]) -> None:
    """It is found out when the bundle is loaded, before the first frame, and told in one line."""
    with pytest.raises(EngineError, match=words) as caught:
        OnnxRuntimeEngine(bundle_of(content))
    assert "\n" not in str(caught.value)


def test_a_network_of_another_number_of_classes(bundle_of: Callable[..., Bundle]) -> None:
    """Logits that don't match the labels would name the wrong sign: refused."""
    content = network()
    model = onnx.load_from_string(content)
    model.graph.node[0].input[0] = "doubled"
    model.graph.node.insert(0, helper.make_node("Concat", ["image", "image"], ["doubled"], axis=1))
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 6

    with pytest.raises(EngineError, match=r"gave shape \(2, 6\), expected \(2, 3\)"):
        OnnxRuntimeEngine(bundle_of(model.SerializeToString()))


def test_a_value_that_is_not_finite_is_an_error_of_that_frame(bundle_of: Callable[..., Bundle]) -> None:
    """Infinity out of the network never becomes a label, and the next image is judged as ever."""
    engine = OnnxRuntimeEngine(bundle_of(network("Reciprocal"), mean=(-1.0, -1.0, -1.0)))
    good = np.full((1, 8, 8, 3), 51, np.uint8)
    before = engine.classify(good)
    hostile = OnnxRuntimeEngine(bundle_of(network("Reciprocal"), mean=(1.0, 1.0, 1.0)))

    with pytest.raises(EngineError, match="not finite"):
        hostile.classify(np.full((1, 8, 8, 3), 255, np.uint8))
    assert np.isfinite(hostile.classify(np.zeros((1, 8, 8, 3), np.uint8))).all()
    assert np.array_equal(engine.classify(good), before)
