"""A network in the processor's int8 as one of float32 operations: the same answers, and what builders can read."""

from __future__ import annotations

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="the export extra is not installed")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from firewall.bundle import load_bundle  # noqa: E402
from firewall.errors import DataError  # noqa: E402
from firewall.export.precision import with_precision  # noqa: E402
from firewall.export.rounded import in_float  # noqa: E402
from firewall.frame import Pixels  # noqa: E402
from firewall.host.onnxruntime import ort  # noqa: E402
from firewall.transforms import resize  # noqa: E402


@pytest.fixture(scope="module")
def shipped() -> bytes:
    """The default bundle's classifier of masked images, in int8 for processors."""
    return load_bundle().files["masks.onnx"]


@pytest.fixture(scope="module")
def values(demo_signs: list[Pixels]) -> np.ndarray:
    """Signs as that network reads them, plain and with a grey mask."""
    signs = np.stack([resize(sign, 48, 48) for sign in demo_signs[::8]])
    masked = signs.copy()
    masked[:, 20:32, 12:24] = 127
    return np.ascontiguousarray(np.concatenate([signs, masked]).transpose(0, 3, 1, 2).astype(np.float32) / 255)


def answers(content: bytes, values: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(content, providers=["CPUExecutionProvider"])
    found: np.ndarray = session.run(None, {session.get_inputs()[0].name: values})[0]
    return found


def operators(content: bytes) -> set[str]:
    return {node.op_type for node in onnx.load_model_from_string(content).graph.node}


def test_what_is_rounded_as_before_answers_as_before(shipped: bytes, values: np.ndarray) -> None:
    """Most answers are the same to the last bits, the others one step of the last rounding apart; without rounding they
    are several steps apart, so this would be seen."""
    expected = answers(shipped, values)
    apart = np.abs(answers(in_float(shipped), values) - expected).max(axis=1)
    assert np.median(apart) < 1e-4 and apart.max() < 0.3
    assert not operators(in_float(shipped)) & {"QuantizeLinear", "DequantizeLinear"}
    plainly = answers(in_float(shipped, rounding=False), values)
    assert 1e-3 < np.median(np.abs(plainly - expected).max(axis=1)) < 0.5
    assert (plainly.argmax(axis=1) == expected.argmax(axis=1)).mean() > 0.95


def test_tensorrt_gets_no_int8_that_it_refuses(shipped: bytes, values: np.ndarray) -> None:
    """No unsigned bytes and no biases of 32 bits, whatever the precision; in int8 its scales are made again."""
    expected = answers(shipped, values).argmax(axis=1)
    for precision in ("fp32", "fp16", "int8"):
        content = with_precision(shipped, precision, np.tile(values, (4, 1, 1, 1)))  # type: ignore[arg-type]
        kinds = {entry.data_type for entry in onnx.load_model_from_string(content).graph.initializer}
        assert not kinds & {TensorProto.UINT8, TensorProto.INT32}
        assert ("QuantizeLinear" in operators(content)) == (precision == "int8")
        assert (answers(content, values).argmax(axis=1) == expected).mean() > 0.95


def test_a_network_without_it_stays_as_it_is() -> None:
    content = load_bundle().files["juror-robust.onnx"]
    assert in_float(content) is content


def pair(scale: list[float], zero: int) -> bytes:
    """x rounded to unsigned bytes and back."""
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["bytes"]),
        helper.make_node("DequantizeLinear", ["bytes", "scale", "zero"], ["y"]),
    ]
    shape = np.array(scale, np.float32) if len(scale) > 1 else np.float32(scale[0])
    given = [numpy_helper.from_array(np.asarray(shape), "scale")]
    given.append(numpy_helper.from_array(np.full_like(np.asarray(shape), zero, np.uint8), "zero"))
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 3]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "pair", values[:1], values[1:], given)
    opsets = [helper.make_opsetid("", 17)]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())


def test_halves_and_ends_are_rounded_as_onnx_says() -> None:
    """To even, and clipped at both ends of a byte, about the zero point."""
    content = pair([0.5], 4)
    x = np.array([[0.25, 0.75, 1.25], [-9, -2, -1.75], [125.5, 126, 300]], np.float32)
    expected = answers(content, x)
    assert expected.tolist() == [[0, 1, 1], [-2, -2, -2], [125.5, 125.5, 125.5]]
    assert np.array_equal(answers(in_float(content), x), expected)
    assert answers(in_float(content, rounding=False), x)[1:].tolist() == [[-2, -2, -1.75], [125.5, 125.5, 125.5]]


def test_other_rounding_is_told_in_one_line() -> None:
    with pytest.raises(DataError, match=r"^node 'y' \(DequantizeLinear\) rounds in a way that isn't known[^\n]*$"):
        in_float(pair([0.5, 0.25, 0.125], 4))
