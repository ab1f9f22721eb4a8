"""A precision written into an ONNX file, so that nothing is left for a builder to decide.

fp16: every weight and every value between input and output is float16; input and output stay float32.

int8: explicit Q/DQ. What each convolution and matrix product reads is rounded to 8 bits by a `QuantizeLinear` and
`DequantizeLinear` pair: activations with one scale that images were run for, weights with one for each output channel,
all symmetric (zero point 0); biases stay float32. TensorRT's parser asks for just that: it refuses dynamic
quantisation, zero points other than 0, and int32 biases.

Scales: Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference",
2018; placement: TensorRT's developer guide, "Working with Quantized Types". Both conversions are ONNX Runtime's.
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from firewall.bundle import InputSpec
from firewall.bundle.onnx_bytes import Precision
from firewall.errors import DataError, EngineError, MissingExtraError
from firewall.export.rounded import in_float
from firewall.host.causes import told

__all__ = [
    "LEAST_IMAGES",
    "Target",
    "prepare",
    "to_float16",
    "to_int8",
    "with_half_weights",
    "with_precision",
    "with_whole_weights",
]

#: Which runtime's integer kernels the pairs are placed for.
Target = Literal["tensorrt", "cpu"]

#: Fewer images say too little about how large activations get.
LEAST_IMAGES = 32

#: Tensors of fewer values are not worth a node in the graph.
_LARGE_TENSOR = 256
_MULTIPLYING = ("Conv", "ConvTranspose", "Gemm", "MatMul")
#: Images, and values, that are run at once to see how large activations get.
_BATCH, _MOST_VALUES = 32, 1 << 23


def with_precision(
    content: bytes,
    precision: Precision,
    values: npt.NDArray[np.float32] | None = None,
    *,
    kept: Sequence[str] = (),
    averaged: bool = False,
) -> bytes:
    """The ONNX file for TensorRT in a precision; fp32 is the file itself.

    Args:
        content: The ONNX file. One in the processor's int8 is rounded as before, in that precision; for int8 its
            weights stay as they were rounded, and its other scales are made again.
        precision: What the result computes in.
        values: As in `to_int8`, for int8.
        kept: As in `to_int8`, for int8.
        averaged: As in `to_int8`, for int8.
    """
    content = in_float(content, rounding=precision != "int8")
    if precision == "fp32":
        return content
    if precision == "fp16":
        return to_float16(content)
    if values is None:
        raise DataError("int8 needs calibration images: benign ones, like those that the device will see")
    return to_int8(content, values, kept=kept, averaged=averaged)


def prepare(images: npt.NDArray[np.uint8], spec: InputSpec) -> npt.NDArray[np.float32]:
    """What a bundle's network reads for uint8 images (N, H, W, 3): float32 (N, 3, H, W), (value / 255 - mean) / std."""
    values = (images.astype(np.float64) / 255 - np.array(spec.mean)) / np.array(spec.std)
    return np.ascontiguousarray(values.transpose(0, 3, 1, 2), np.float32)


def to_float16(content: bytes) -> bytes:
    """The network of an ONNX file, computing in float16 between a float32 input and a float32 output.

    Raises:
        EngineError: If it can't be converted, or if a weight is too large for float16 (65,504).
    """
    onnx, convert = _float16()
    model = _with_whole_weights(onnx.load_model_from_string(content))
    _forget_shapes(model)
    for weight in model.graph.initializer:
        if weight.data_type == onnx.TensorProto.FLOAT:
            values = onnx.numpy_helper.to_array(weight)
            if values.size and not np.abs(values).max() <= np.finfo(np.float16).max:
                raise EngineError(
                    f"weight {weight.name!r} reaches {np.abs(values).max():.3g}, float16 ends at 65,504; "
                    "use fp32 or int8"
                )
    with _quiet(), _conversion("fp16"):
        converted = convert(model, keep_io_types=True)
    return _written(converted)


def with_half_weights(content: bytes) -> bytes:
    """The network of an ONNX file with its weights stored in float16, half as large; it computes in float32 as before.

    Each weight goes through a `Cast`, which runtimes fold when they load the file. Small tensors, such as biases, stay.

    Args:
        content: The ONNX file.

    Returns:
        The new file.

    Raises:
        DataError: A weight is too large for float16.
    """
    model = onnx.load_model_from_string(content)
    casts, kept = [], []
    for entry in model.graph.initializer:
        values = numpy_helper.to_array(entry)
        if values.dtype != np.float32 or values.size < _LARGE_TENSOR:
            kept.append(entry)
            continue
        with np.errstate(over="ignore"):
            half = values.astype(np.float16)
        if not np.isfinite(half).all():
            raise DataError(f"the weights {entry.name!r} reach {np.abs(values).max():g}; float16 ends at 65504")
        kept.append(numpy_helper.from_array(half, f"{entry.name}_half"))
        casts.append(helper.make_node("Cast", [f"{entry.name}_half"], [entry.name], to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.initializer.extend(kept)
    model.graph.node.extend(nodes)
    written: bytes = model.SerializeToString(deterministic=True)
    return written


def with_whole_weights(content: bytes) -> bytes:
    """Undo `with_half_weights`: the weights' values stay as they are. Another network is returned as it is."""
    model = onnx.load_model_from_string(content)
    before = len(model.graph.node)
    whole = _with_whole_weights(model)
    if len(whole.graph.node) == before:
        return content
    written: bytes = whole.SerializeToString(deterministic=True)
    return written


def to_int8(
    content: bytes,
    values: npt.NDArray[np.float32],
    *,
    target: Target = "tensorrt",
    kept: Sequence[str] = (),
    averaged: bool = False,
) -> bytes:
    """The network of an ONNX file with 8-bit convolutions and matrix products.

    Args:
        content: The ONNX file.
        values: float32 (N, ...), what its one input would be for N >= 32 benign images; the scales are the largest
            absolute values that occur with them.
        target: "cpu" also rounds what the products give, to unsigned bytes with a zero point of their own, and the
            biases; only then ONNX Runtime has integer kernels on a processor. TensorRT refuses that. Weights take 7
            bits there: with 8 sums overflow on processors without VNNI, which would give other verdicts.
        kept: Names of nodes that stay in float32.
        averaged: The scales are the mean of each image's largest absolute values instead, and what is larger is cut
            off: finer steps for networks that read whole frames, where a single lamp is far brighter than all else.

    Raises:
        DataError: For too few or unfit values.
        EngineError: If the network can't be converted or has no node of a name in `kept`.
    """
    onnx, quantization = _quantization()
    model = _with_whole_weights(onnx.load_model_from_string(content))
    inputs = [entry.name for entry in model.graph.input]
    if len(inputs) != 1:
        raise EngineError(f"the network has inputs {inputs}; one is needed")
    if values.dtype != np.float32 or len(values) < LEAST_IMAGES or not np.isfinite(values).all():
        raise DataError(
            f"int8 is calibrated on {values.dtype} values of {len(values)} images; finite float32 values of at least "
            f"{LEAST_IMAGES} are needed"
        )
    unknown = set(kept) - {node.name for node in model.graph.node}
    if unknown:
        raise EngineError(f"the network has no node {min(unknown)!r}; nothing is kept")
    _forget_shapes(model)

    base: Any = quantization.CalibrationDataReader
    step = 1 if averaged else max(1, min(_BATCH, _MOST_VALUES // max(1, values[0].size)))

    class Reader(base):  # type: ignore[misc]  # it has no types
        def __init__(self) -> None:
            self.parts = iter(range(0, len(values), step))

        def get_next(self) -> dict[str, Any] | None:
            start = next(self.parts, None)
            return None if start is None else {inputs[0]: values[start : start + step]}

    symmetric = target == "tensorrt"
    options: dict[str, Any] = {
        "ActivationSymmetric": symmetric,
        "WeightSymmetric": True,
        "QuantizeBias": not symmetric,
        "CalibMovingAverage": averaged,
    }
    if symmetric:
        # A pair between a product and the activation behind it would keep TensorRT from computing both in one go.
        options["OpTypesToExcludeOutputQuantization"] = list(_MULTIPLYING)
    kind = quantization.QuantType
    with tempfile.TemporaryDirectory() as folder, _quiet(), _conversion("int8"):
        path = Path(folder) / "int8.onnx"
        quantization.quantize_static(
            model,
            str(path),
            Reader(),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=list(_MULTIPLYING) if symmetric else None,
            nodes_to_exclude=list(kept),
            per_channel=True,
            reduce_range=not symmetric,
            activation_type=kind.QInt8 if symmetric else kind.QUInt8,
            weight_type=kind.QInt8,
            calibrate_method=quantization.CalibrationMethod.MinMax,
            extra_options=options,
        )
        converted = onnx.load_model_from_string(path.read_bytes())
    if not any(node.op_type == "DequantizeLinear" for node in converted.graph.node):
        raise EngineError(f"the network has none of {', '.join(_MULTIPLYING)}; there is nothing to compute in int8")
    return _written(converted)


def _with_whole_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """What is stored in float16 and cast to float32 becomes a float32 weight; only so the converters see it as one."""
    half = {entry.name: entry for entry in model.graph.initializer if entry.data_type == TensorProto.FLOAT16}
    nodes, whole = [], {}
    for node in model.graph.node:
        single = [field.i for field in node.attribute if field.name == "to"] == [TensorProto.FLOAT]
        if node.op_type == "Cast" and node.input[0] in half and single:
            values = numpy_helper.to_array(half[node.input[0]]).astype(np.float32)
            whole[node.output[0]] = numpy_helper.from_array(values, node.output[0])
        else:
            nodes.append(node)
    if whole:
        read = {name for node in nodes for name in node.input} | {entry.name for entry in model.graph.output}
        kept = [entry for entry in model.graph.initializer if entry.name in read]
        del model.graph.initializer[:], model.graph.node[:]
        model.graph.initializer.extend([*kept, *whole.values()])
        model.graph.node.extend(nodes)
    return model


def _written(model: Any) -> bytes:
    _forget_shapes(model)
    model.ClearField("doc_string")
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _forget_shapes(model: Any) -> None:
    """Shapes inside the graph are what an exporter inferred; the quantiser trips over them, readers infer their own."""
    del model.graph.value_info[:]


def _float16() -> tuple[Any, Any]:
    with _needed():
        import onnx

        from firewall.host.onnxruntime import ort_module

        float16 = ort_module("transformers.float16")
    return onnx, float16.convert_float_to_float16


def _quantization() -> tuple[Any, Any]:
    with _needed(), _quiet():
        import onnx

        from firewall.host.onnxruntime import ort_module

        quantization = ort_module("quantization")
    return onnx, quantization


@contextlib.contextmanager
def _needed() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"writing fp16 or int8 into a network needs the package {error.name!r}: pip install "
            "'perception-firewall[tensorrt]', or on a Jetson, which has TensorRT from JetPack, pip install onnx"
        ) from error


@contextlib.contextmanager
def _conversion(precision: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # the converters raise whatever a graph they don't know leads to
        raise EngineError(
            f"the network can't be converted to {precision}: {told(error)}; use another precision"
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The converters warn of their own doings, through the root logger too; what matters is checked instead."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        root.setLevel(level)
