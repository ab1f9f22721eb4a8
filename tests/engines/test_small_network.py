"""Small networks by the native runtime: ONNX Runtime's answers, for the whole default bundle; nothing else is taken."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from firewall import Firewall, native
from firewall.bundle import Bundle
from firewall.bundle import load_bundle as load
from firewall.engines import OnnxRuntimeEngine, OnnxRuntimeNetwork, open_engine
from firewall.engines.onnx_graph import read_graph
from firewall.engines.sessions import open_session
from firewall.engines.small_network import TOLERANCE, open_small
from firewall.frame import Pixels
from firewall.host.pinning import pinned, present_threads
from firewall.transforms import resize

Floats = npt.NDArray[np.float32]
SIDE = 12


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return load("default")


def reference(content: bytes) -> Callable[[Floats], Floats]:
    session = open_session(content, "network", threads=1)
    name = session.get_inputs()[0].name
    return lambda images: np.asarray(session.run(None, {name: images})[0])


def signs(count: int, side: int = 48) -> Floats:
    return np.random.default_rng(3).integers(0, 256, (count, 3, side, side)).astype(np.float32) / np.float32(255)


@pytest.mark.parametrize(
    "file", ["classifier.onnx", "masked.onnx", "juror-robust.onnx", "juror-edges.onnx", "juror-clear.onnx"]
)
def test_the_default_bundles_networks_answer_as_in_onnx_runtime(bundle: Bundle, file: str) -> None:
    """Logits within a few roundings, the same label, and the same bits alone, in a batch and by three threads."""
    onnx_runtime = reference(bundle.files[file])
    network = open_small(bundle.files[file], onnx_runtime, 48, 48)
    threaded = open_small(bundle.files[file], onnx_runtime, 48, 48, threads=3)
    assert network is not None and threaded is not None
    images = signs(21)
    expected = onnx_runtime(images)
    found, shared, alone = (np.full_like(expected, np.nan) for _ in range(3))
    network.run(images, found)
    threaded.run(images, shared)
    for place in range(len(images)):
        network.run(images[place : place + 1], alone[place : place + 1])

    assert np.abs(found - expected).max() <= 0.1 * TOLERANCE * np.abs(expected).max()
    assert np.array_equal(found.argmax(axis=1), expected.argmax(axis=1))
    assert np.array_equal(found, shared) and np.array_equal(found, alone)


def test_the_engine_reads_and_writes_where_the_network_does(
    guard: Firewall, benign_sign: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One address from the sweep to the network; and by ONNX Runtime alone the engine says the same of a sign."""
    engine = open_engine(guard.bundle, threads=1)
    assert isinstance(engine, OnnxRuntimeEngine) and engine._small is not None
    sign = resize(benign_sign, 48, 48)[np.newaxis]
    run, seen = engine._small.run, []

    def watched(images: Floats, out: Floats) -> None:
        seen.append(images.ctypes.data)
        run(images, out)

    monkeypatch.setattr(engine._small, "run", watched)
    found = engine.classify(sign)
    assert seen == [engine.tensor(1).ctypes.data]
    monkeypatch.setattr(engine, "_small", None)
    expected = engine.classify(sign)
    assert np.abs(found - expected).max() <= TOLERANCE * np.abs(expected).max()
    assert found.argmax() == expected.argmax()


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="this process may use one core alone")
def test_its_threads_are_on_the_cores_that_are_named(bundle: Bundle) -> None:
    """With `--cores`, the one that isn't the caller's on the second core; and the same bits."""
    first, second = sorted(os.sched_getaffinity(0))[:2]
    content, images = bundle.files["classifier.onnx"], signs(5)
    onnx_runtime = reference(content)
    expected = onnx_runtime(images)
    alone = open_small(content, onnx_runtime, 48, 48)
    with pinned(f"{second},{first}"):
        before = present_threads()
        network = open_small(content, onnx_runtime, 48, 48, threads=2)
        assert network is not None and alone is not None
        assert [os.sched_getaffinity(thread) for thread in present_threads() - before] == [{first}]
        found, wanted = np.full_like(expected, np.nan), np.full_like(expected, np.nan)
        network.run(images, found)
        alone.run(images, wanted)
    assert np.array_equal(found, wanted)


def test_arithmetic_that_was_asked_for_is_left_to_onnx_runtime(bundle: Bundle) -> None:
    """The lab compares how far ONNX Runtime rewrites a graph: then that is what runs it."""
    content = bundle.files["juror-clear.onnx"]
    assert OnnxRuntimeNetwork(content, "juror", threads=1)._small is not None
    assert OnnxRuntimeNetwork(content, "juror", threads=1, optimisation="basic")._small is None


def test_numbers_in_another_layout_are_answered_too(bundle: Bundle) -> None:
    """A batch whose colours lie side by side in memory is one that ONNX Runtime takes."""
    network = OnnxRuntimeNetwork(bundle.files["juror-clear.onnx"], "juror", threads=1)
    images = signs(2)
    turned = np.ascontiguousarray(images.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    assert not turned.flags.c_contiguous
    assert np.array_equal(network(images), network(turned))


def small(change: Callable[[onnx.ModelProto], None] = lambda model: None) -> bytes:
    """A network of all that is known, 12x12 pixels, weights kept in float16 among them."""
    random = np.random.default_rng(1)

    def weights(name: str, *shape: int, kind: Any = np.float32) -> onnx.TensorProto:
        return numpy_helper.from_array((random.standard_normal(shape) * 0.2).astype(kind), name)

    constants = [
        numpy_helper.from_array(np.float32(0.5), "shift"),
        numpy_helper.from_array(np.float32(2), "scale"),
        weights("a", 16, 3, 3, 3, kind=np.float16),
        weights("b", 16, 16, 3, 3),
        weights("c", 32, 1, 6, 6),
        weights("d", 7, 32),
        weights("bias", 16),
        weights("bias2", 32),
        weights("bias3", 7),
        numpy_helper.from_array(np.array([-1, 32]), "flat"),
    ]
    conv = {"kernel_shape": [3, 3], "pads": [1] * 4}
    nodes = [
        helper.make_node("Cast", ["a"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["image", "shift"], ["less"]),
        helper.make_node("Mul", ["less", "scale"], ["prepared"]),
        helper.make_node("Conv", ["prepared", "wide", "bias"], ["1"], strides=[2, 2], **conv),
        helper.make_node("Relu", ["1"], ["2"]),
        helper.make_node("Conv", ["2", "b", "bias"], ["3"], **conv),
        helper.make_node("Add", ["2", "3"], ["4"]),
        helper.make_node("Relu", ["4"], ["5"]),
        helper.make_node("Conv", ["5", "c", "bias2"], ["6"], group=16, kernel_shape=[6, 6]),
        helper.make_node("Reshape", ["6", "flat"], ["7"]),
        helper.make_node("Gemm", ["7", "d", "bias3"], ["logits"], transB=1),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, SIDE, SIDE])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 7])
    graph = helper.make_graph(nodes, "small", [image], [logits], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    change(model)
    return bytes(model.SerializeToString())


def test_what_is_known_is_run_here() -> None:
    content = small()
    network = open_small(content, reference(content), SIDE, SIDE)
    assert network is not None and network.outputs == 7 and network.image == (3, SIDE, SIDE)


def _attribute(number: int, name: str, value: Any) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        node = model.graph.node[number]
        kept = [each for each in node.attribute if each.name != name]
        del node.attribute[:]
        node.attribute.extend([*kept, helper.make_attribute(name, value)])

    return change


def _operator(number: int, name: str) -> Callable[[onnx.ModelProto], None]:
    return lambda model: setattr(model.graph.node[number], "op_type", name)


def _input(number: int, place: int, name: str) -> Callable[[onnx.ModelProto], None]:
    return lambda model: model.graph.node[number].input.__setitem__(place, name)


@pytest.mark.parametrize(
    "change",
    [
        _operator(7, "Sigmoid"),  # another operator
        _operator(1, "Add"),
        _attribute(3, "strides", [2, 1]),
        _attribute(3, "strides", [0, 0]),
        _attribute(3, "strides", [2**40, 2**40]),
        _attribute(3, "pads", [1, 1, 0, 0]),
        _attribute(5, "dilations", [2, 2]),
        _attribute(5, "auto_pad", "SAME_UPPER"),
        _attribute(8, "group", 8),
        _attribute(10, "transB", 0),
        _attribute(10, "alpha", 2.0),
        _attribute(0, "to", TensorProto.DOUBLE),
        _input(6, 0, "3"),  # a value that is read twice
        _input(1, 0, "scale"),
        _input(7, 0, "prepared"),
        lambda model: model.graph.output.append(model.graph.input[0]),
        lambda model: model.graph.input.append(model.graph.output[0]),
        lambda model: setattr(model.graph.node[4], "domain", "com.example"),
        lambda model: model.graph.initializer[4].CopyFrom(
            helper.make_tensor("c", TensorProto.DOUBLE, [1], [1.0])  # not kept as raw bytes
        ),
    ],
)
def test_whatever_else_a_file_holds_is_left_to_onnx_runtime(change: Callable[[onnx.ModelProto], None]) -> None:
    """A strange operator, attribute, type or wiring: the file isn't run here, and nothing is raised."""
    run: list[int] = []
    assert open_small(small(change), lambda images: run.append(len(images)) or images, SIDE, SIDE) is None
    assert not run  # it was not even tried


def test_what_answers_otherwise_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """The proof at loading: another answer, another shape, NaN, and a machine without fast vectors."""
    content = small()
    right = reference(content)
    assert open_small(content, lambda images: right(images) + np.float32(0.01), SIDE, SIDE) is None
    assert open_small(content, lambda images: right(images)[:, :6], SIDE, SIDE) is None
    assert open_small(content, lambda images: right(images) * np.float32(np.nan), SIDE, SIDE) is None
    assert open_small(content, right, SIDE, SIDE + 1) is None
    monkeypatch.setattr(native.load(), "fast_networks", lambda: False)
    assert open_small(content, right, SIDE, SIDE) is None


@pytest.mark.parametrize("content", [b"", b"\x00", b"no network", b"\x3a\x02\x0a\xff"])
def test_bytes_that_are_no_network_are_left_alone(content: bytes) -> None:
    assert open_small(content, lambda images: images, SIDE, SIDE) is None


def test_the_graph_is_that_of_the_file() -> None:
    """Operators, attributes and weights as the `onnx` package reads them."""
    content = small()
    model, graph = onnx.load_from_string(content), read_graph(content)
    assert [node.operator for node in graph.nodes] == [node.op_type for node in model.graph.node]
    assert [node.inputs for node in graph.nodes] == [tuple(node.input) for node in model.graph.node]
    for node, expected in zip(graph.nodes, model.graph.node, strict=True):
        assert node.attributes == {each.name: helper.get_attribute_value(each) for each in expected.attribute}
    for tensor in model.graph.initializer:
        assert np.array_equal(graph.constants[tensor.name], numpy_helper.to_array(tensor))
    assert (graph.inputs, graph.outputs) == (["image"], ["logits"])
