"""fp16 and int8 written into the default bundle's classifier: what stands in the file, and that it names the same."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

onnx = pytest.importorskip("onnx", reason="the export extra is not installed")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from firewall import Firewall  # noqa: E402
from firewall.bundle import InputSpec  # noqa: E402
from firewall.demo.source import truth  # noqa: E402
from firewall.engines import OnnxRuntimeEngine, OnnxRuntimeNetwork  # noqa: E402
from firewall.errors import DataError, EngineError  # noqa: E402
from firewall.export.precision import (  # noqa: E402
    prepare,
    to_float16,
    to_int8,
    with_half_weights,
    with_precision,
    with_whole_weights,
)
from firewall.frame import Pixels  # noqa: E402
from firewall.transforms import resize  # noqa: E402

PRODUCTS = ("Conv", "Gemm", "MatMul")


@pytest.fixture(scope="module")
def network(guard: Firewall) -> bytes:
    return guard.bundle.files[guard.bundle.manifest.classifier.file]


@pytest.fixture(scope="module")
def signs(guard: Firewall, demo_frames: list[Pixels]) -> npt.NDArray[np.uint8]:
    """The demo's signs at the classifier's size, attacked ones too."""
    spec = guard.bundle.manifest.classifier.input
    crops = []
    for sequence, pixels in enumerate(demo_frames):
        x, y, width, height = truth(sequence).box
        crops.append(resize(np.ascontiguousarray(pixels[y : y + height, x : x + width]), spec.width, spec.height))
    return np.stack(crops)[:: max(1, len(crops) // 70)]


@pytest.fixture(scope="module")
def values(guard: Firewall, signs: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    return prepare(signs, guard.bundle.manifest.classifier.input)


@pytest.fixture(scope="module")
def int8(network: bytes, values: npt.NDArray[np.float32]) -> bytes:
    """Calibrated on every second sign."""
    return to_int8(network, values[::2])


def logits(content: bytes, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return OnnxRuntimeNetwork(content, "network", threads=1)(values)


def test_what_the_network_reads_is_what_the_edge_gives_it(guard: Firewall, signs: npt.NDArray[np.uint8]) -> None:
    """Calibration sees the very values of a verdict: the engine's logits are those of the prepared images."""
    spec = guard.bundle.manifest.classifier
    prepared = prepare(signs[:20], spec.input)
    found = OnnxRuntimeEngine(guard.bundle, threads=1).classify(signs[:20])
    assert found == pytest.approx(logits(guard.bundle.files[spec.file], prepared), abs=1e-4)
    other = prepare(signs[:1], InputSpec(width=8, height=8, mean=(0.5, 0.25, 0.0), std=(0.5, 1.0, 2.0)))
    expected = (signs[0] / 255 - (0.5, 0.25, 0.0)) / (0.5, 1.0, 2.0)
    assert other[0] == pytest.approx(expected.transpose(2, 0, 1), abs=1e-6)


def test_fp16_is_all_in_float16_but_input_and_output(network: bytes, values: npt.NDArray[np.float32]) -> None:
    """Every floating weight is float16, the ends are float32; the same labels and nearly the same logits; same bytes
    when it is done again."""
    content = to_float16(network)
    graph = onnx.load_model_from_string(content).graph

    assert TensorProto.FLOAT not in {weight.data_type for weight in graph.initializer}
    assert any(weight.data_type == TensorProto.FLOAT16 for weight in graph.initializer)
    ends = [entry.type.tensor_type.elem_type for entry in (*graph.input, *graph.output)]
    assert ends == [TensorProto.FLOAT, TensorProto.FLOAT] and len(content) < 0.6 * len(network)
    expected, found = logits(network, values), logits(content, values)
    assert 0 < np.abs(found - expected).max() < 0.02 * np.abs(expected).max()
    assert (found.argmax(1) == expected.argmax(1)).mean() >= 0.99
    assert to_float16(network) == content == with_precision(network, "fp16")


def test_int8_is_what_tensorrt_accepts(int8: bytes) -> None:
    """Each product reads two dequantised tensors: int8, zero point 0, weights by output channel; its bias is float32.
    Nothing stands between a product and what follows it. Plain ONNX operators only."""
    model = onnx.load_model_from_string(int8)
    weights = {weight.name: weight for weight in model.graph.initializer}
    made = {name: node for node in model.graph.node for name in node.output}
    products = [node for node in model.graph.node if node.op_type in PRODUCTS]

    assert {node.domain for node in model.graph.node} == {""} and len(products) >= 2
    for node in products:
        activation, weight = (made[name] for name in node.input[:2])
        assert activation.op_type == weight.op_type == "DequantizeLinear"
        assert made[activation.input[0]].op_type == "QuantizeLinear"
        assert numpy_helper.to_array(weights[weight.input[0]]).dtype == np.int8
        assert numpy_helper.to_array(weights[activation.input[1]]).size == 1
        # By channel: of a Conv the first axis, of a Gemm the one that its transB says.
        scales = numpy_helper.to_array(weights[weight.input[1]]).size
        assert scales > 1 and scales in weights[weight.input[0]].dims[: 1 if node.op_type == "Conv" else 2]
        for bias in node.input[2:]:
            assert weights[bias].data_type == TensorProto.FLOAT
        assert not any(
            follower.op_type == "QuantizeLinear" and node.output[0] in follower.input for follower in model.graph.node
        )
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") and len(node.input) > 2:
            point = numpy_helper.to_array(weights[node.input[2]])
            assert point.dtype == np.int8 and not point.any()


def test_int8_names_the_same_signs(network: bytes, values: npt.NDArray[np.float32], int8: bytes) -> None:
    """On signs that it was not calibrated on: nearly all labels the same. Another calibration gives another file."""
    expected, found = logits(network, values[1::2]), logits(int8, values[1::2])

    assert (found.argmax(1) == expected.argmax(1)).mean() >= 0.95
    assert np.abs(found - expected).mean() < 0.05 * np.abs(expected).max()
    assert np.abs(found - expected).max() > 1e-4  # it does compute in 8 bits
    assert with_precision(network, "int8", values[::2]) == int8 != to_int8(network, values[::2] * np.float32(0.5))


def test_int8_for_the_processor_runs_in_integer_kernels(network: bytes, values: npt.NDArray[np.float32]) -> None:
    """For ONNX Runtime's CPU kernels outputs and biases are rounded too; weights take 7 bits, as with 8 the sums
    overflow on processors without VNNI, and their verdicts would be others. The labels stay."""
    content = to_int8(network, values[::2], target="cpu")
    model = onnx.load_model_from_string(content)
    assert any(weight.data_type == TensorProto.INT32 for weight in model.graph.initializer)
    whole = [weight for weight in model.graph.initializer if weight.data_type == TensorProto.INT8 and weight.dims]
    assert 32 < max(np.abs(numpy_helper.to_array(weight).astype(int)).max() for weight in whole) <= 64
    same = logits(content, values).argmax(1) == logits(network, values).argmax(1)
    assert same.mean() >= 0.95


def tiny(operator: str = "Conv", weight: float = 1.0) -> bytes:
    shape = [2, 3, 1, 1] if operator == "Conv" else [1]
    graph = helper.make_graph(
        [helper.make_node(operator, ["image", "weight"], ["logits"])],
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, 4, 4])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.full(shape, weight, np.float32), "weight")],
    )
    return bytes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10).SerializeToString()
    )


def test_what_cannot_be_converted_is_told_in_one_line() -> None:
    """Too few images, values that are not finite, nothing to quantise, a weight beyond float16, int8 without images."""
    images = np.random.default_rng(0).normal(size=(40, 3, 4, 4)).astype(np.float32)
    broken = images.copy()
    broken[0, 0, 0, 0] = np.nan
    for content, given in ((tiny(), images[:31]), (tiny(), broken), (tiny(), images.astype(np.float64))):
        with pytest.raises(DataError, match="of at least 32"):
            to_int8(content, given)
    with pytest.raises(EngineError, match="nothing to compute in int8"):
        to_int8(tiny("Mul"), images)
    with pytest.raises(EngineError, match=r"'weight' reaches 1e\+05"):
        to_float16(tiny(weight=1e5))
    with pytest.raises(DataError, match="calibration images"):
        with_precision(tiny(), "int8")
    assert with_precision(tiny(), "fp32") == tiny()


def test_half_weights_are_half_as_large_and_answer_alike(network: bytes, values: npt.NDArray[np.float32]) -> None:
    """Weights stored in float16: the same labels, logits within what rounding the weights may change."""
    smaller = with_half_weights(network)
    before, after = (OnnxRuntimeNetwork(each, "classifier", threads=1)(values) for each in (network, smaller))

    assert len(smaller) < 0.55 * len(network)
    assert (before.argmax(1) == after.argmax(1)).all()
    assert 0 < np.abs(before - after).max() < 0.01


def test_weights_that_are_stored_in_half_are_converted_as_weights(
    network: bytes, values: npt.NDArray[np.float32]
) -> None:
    """Not as values that the network computes: whole again they are the same numbers, and in 8 bits they are stored in
    8 bits, by channel."""
    smaller = with_half_weights(network)
    whole = with_whole_weights(smaller)
    graph = onnx.load_model_from_string(whole).graph
    assert {weight.data_type for weight in graph.initializer} & {TensorProto.FLOAT16} == set()
    assert "Cast" not in {node.op_type for node in graph.node}
    assert np.array_equal(logits(whole, values), logits(smaller, values))
    assert with_whole_weights(network) == network
    assert abs(len(to_int8(smaller, values[::2])) - len(to_int8(network, values[::2]))) < 20_000
    assert len(to_float16(smaller)) < 0.6 * len(network)


def test_scales_of_the_mean_are_finer(network: bytes, values: npt.NDArray[np.float32]) -> None:
    """One image that is far brighter than the others sets the scale of all, or only its share of the mean."""
    odd = values[:40].copy()
    odd[0] *= 8
    largest, mean = (_first_scale(to_int8(network, odd, averaged=averaged)) for averaged in (False, True))
    assert 0 < mean < 0.5 * largest


def _first_scale(content: bytes) -> float:
    """Of what the first convolution reads."""
    graph = onnx.load_model_from_string(content).graph
    constants = {weight.name: weight for weight in graph.initializer}
    made = {name: node for node in graph.node for name in node.output}
    product = next(node for node in graph.node if node.op_type == "Conv")
    return float(numpy_helper.to_array(constants[made[product.input[0]].input[1]]))


def test_weights_too_large_for_float16_are_refused(network: bytes) -> None:
    """An infinite weight would make a network that names everything alike."""
    model = onnx.load_model_from_string(network)
    weights = next(entry for entry in model.graph.initializer if len(entry.dims) == 4)
    weights.CopyFrom(numpy_helper.from_array(np.full(tuple(weights.dims), 1e5, np.float32), weights.name))

    with pytest.raises(DataError, match="float16 ends at 65504"):
        with_half_weights(model.SerializeToString())
