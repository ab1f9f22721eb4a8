"""torch -> ONNX: one file, any batch, proven to say the same as the network that it was made from."""

from __future__ import annotations

import contextlib
import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import torch
from torch import nn

from firewall.errors import EngineError, UsageError
from firewall.host.causes import told
from firewall.host.onnxruntime import ort
from firewall.host.temporary import temporary_folder

__all__ = ["OPSET", "TOLERANCE", "export_classifier", "export_map"]

#: The oldest opset that the exporter writes; every ONNX Runtime and TensorRT that the project supports reads it.
OPSET = 18

#: Largest difference of a logit between torch and ONNX Runtime; fused sums in another order stay far below.
TOLERANCE = 1e-3

_BATCHES = (1, 2, 17, 77)


def export_classifier(
    model: nn.Module,
    path: Path,
    *,
    size: int,
    labels: Sequence[str],
    input_name: str = "image",
    output_name: str = "logits",
    channels: int = 3,
    images: npt.NDArray[np.uint8] | None = None,
) -> None:
    """Write `model` as the ONNX file `path`, or write nothing and raise.

    The file's input is float32 (N, channels, size, size), 0..1, three channels being RGB, N free; its output float32
    logits (N, len(labels)). Batch normalisation is folded into the convolutions. The labels are in `metadata_props`
    under `labels` as a JSON list. The same weights give the same bytes with the same versions of torch and onnx, and no
    path or name of this machine gets into the file. The model is exported in evaluation mode, on its own device, and
    left in the modes that it had.

    Args:
        model: The network.
        path: The file to write.
        size: Width and height of the input in pixels.
        labels: Name of each class.
        input_name: Name of the file's input.
        output_name: Name of the file's output.
        channels: Channels of the input, 1 or 3.
        images: uint8 (M, size, size, channels), M >= 1, on which the file is compared with the network, batches of 1,
            2, 17 and 77; random ones by default.

    Raises:
        UsageError: For a size, labels or images that don't fit the call.
        EngineError: If the network can't be exported, doesn't give len(labels) logits, or the file says anything else
            than the network.
    """
    images = _checked(size, channels, labels, images)
    with _evaluation(model):
        expected = _run_torch(model, images, len(labels))
        proto = _convert(model, images.shape[1:], input_name, output_name)
        _clean(proto, labels)
        _check_graph(proto)
        data = proto.SerializeToString(deterministic=True)
        _compare(data, images, expected, input_name, output_name)
    _write(path, data)


def _check_graph(proto: onnx.ModelProto) -> None:
    try:
        onnx.checker.check_model(proto, full_check=True)
    except onnx.checker.ValidationError as error:
        raise EngineError(f"the exported graph is not valid ONNX: {told(error)}; report the network") from error


def _write(path: Path, data: bytes) -> None:
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_bytes(data)
        partial.replace(path)  # a reader sees the old file or the whole new one
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise UsageError(f"{path} can't be written ({error.strerror}); name a file in a folder that exists") from error


def export_map(
    model: nn.Module,
    path: Path,
    *,
    multiple: int,
    stride: int,
    outputs: int,
    white: float = 1.0,
    input_name: str = "image",
    output_name: str = "map",
) -> None:
    """Write a fully convolutional `model` as the ONNX file `path`, or write nothing and raise.

    The file's input is float32 (N, 3, H, W), RGB 0..white, N free, H and W any multiples of `multiple`; its output
    float32 (N, outputs, H / stride, W / stride). Else as `export_classifier`.

    Args:
        model: The network.
        path: The file to write.
        multiple: What the input's sides are multiples of, in pixels.
        stride: Pixels of the input to a place of the output, along each side.
        outputs: Channels of the output.
        white: What white is in the input.
        input_name: Name of the file's input.
        output_name: Name of the file's output.

    Raises:
        UsageError: The file can't be written.
        EngineError: If the network can't be exported, gives another shape, or the file says anything else than the
            network.
    """
    generator = np.random.default_rng(0)
    tried = [
        generator.integers(0, 256, (count, high * multiple, wide * multiple, 3), np.uint8)
        for count, high, wide in ((1, 1, 1), (2, 3, 2), (1, 5, 7))
    ]
    with _evaluation(model):
        free = {0: torch.export.Dim("batch"), 2: multiple * torch.export.Dim("h"), 3: multiple * torch.export.Dim("w")}
        proto = _convert(model, tried[1].shape[1:], input_name, output_name, free)
        _clean(proto, None)
        for entry in (*proto.graph.input, *proto.graph.output):
            sides = entry.type.tensor_type.shape.dim
            for side, name in zip((sides[0], *sides[2:]), ("batch", "height", "width"), strict=True):
                side.dim_param = name if entry.name == input_name or name == "batch" else f"map_{name}"
        _check_graph(proto)
        data = proto.SerializeToString(deterministic=True)
        for images in tried:
            shape = (len(images), outputs, images.shape[1] // stride, images.shape[2] // stride)
            _compare_maps(model, data, _input(images) * np.float32(white), shape, input_name, output_name)
    _write(path, data)


def _checked(
    size: int, channels: int, labels: Sequence[str], images: npt.NDArray[np.uint8] | None
) -> npt.NDArray[np.uint8]:
    if size < 1 or channels < 1:
        raise UsageError(f"the input has {size} pixels a side and {channels} channels; both must be at least 1")
    if isinstance(labels, str) or len(labels) == 0 or len(set(labels)) != len(labels):
        raise UsageError("the labels must be a list of names, at least one, each of them once")
    if images is None:
        images = np.random.default_rng(0).integers(0, 256, (max(_BATCHES), size, size, channels), np.uint8)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != (size, size, channels) or len(images) == 0:
        raise UsageError(
            f"the images to compare on are {images.dtype} {images.shape}; "
            f"uint8 (M, {size}, {size}, {channels}) with M >= 1 is needed"
        )
    return images


@contextlib.contextmanager
def _evaluation(model: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        yield
    finally:
        for module, training in modes:
            module.training = training


def _run_torch(model: nn.Module, images: npt.NDArray[np.uint8], classes: int) -> npt.NDArray[np.float32]:
    device = next((weight.device for weight in model.parameters()), torch.device("cpu"))
    try:
        with torch.no_grad():
            parts = [model(torch.from_numpy(_input(part)).to(device)).cpu() for part in _batches(images)]
    except Exception as error:  # a network's forward may raise anything
        raise EngineError(f"the network doesn't run on images of {images.shape[1:]}: {told(error)}") from error
    if any(part.ndim != 2 or part.shape[1] != classes or part.dtype != torch.float32 for part in parts):
        raise EngineError(
            f"the network gives {parts[0].dtype} {tuple(parts[0].shape)}; {classes} labels need float32 (N, {classes})"
        )
    logits = torch.cat(parts).numpy()
    if not np.isfinite(logits).all():
        raise EngineError("the network gives logits that are not finite numbers; train it again before exporting it")
    return logits


def _convert(
    model: nn.Module,
    shape: tuple[int, ...],
    input_name: str,
    output_name: str,
    free: dict[int, torch.export.Dim] | None = None,
) -> onnx.ModelProto:
    device = next((weight.device for weight in model.parameters()), torch.device("cpu"))
    height, width, channels = shape
    example = torch.zeros(2, channels, height, width, device=device)
    temporary_folder("TORCHINDUCTOR_CACHE_DIR")  # else one that is named after the user, who may have no name
    with _quiet():
        try:
            program = torch.onnx.export(
                model,
                (example,),
                dynamo=True,
                dynamic_shapes=(free or {0: torch.export.Dim("batch")},),
                input_names=[input_name],
                output_names=[output_name],
                opset_version=OPSET,
                verbose=False,
            )
        except Exception as error:  # the exporter wraps whatever a network's forward raises
            raise EngineError(f"the network can't be exported to ONNX: {told(error)}") from error
    if program is None:
        raise EngineError("the exporter gave no graph; use a torch whose exporter is dynamo's (2.6 or newer)")
    proto = program.model_proto
    written = {entry.domain: entry.version for entry in proto.opset_import}
    if written != {"": OPSET}:
        raise EngineError(f"the exporter wrote opsets {written} instead of {OPSET}; use operators of plain ONNX only")
    return proto


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter logs and warns of its own doings (torchvision that isn't there); what matters is checked instead."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _clean(proto: onnx.ModelProto, labels: Sequence[str] | None) -> None:
    """Leave out the exporter's notes, which hold source lines and paths, and put the labels in."""
    graph = proto.graph
    for part in (proto, graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        del part.metadata_props[:]
        part.ClearField("doc_string")
    # Shapes inside the graph are what the exporter inferred; the quantiser trips over them, readers infer their own.
    del graph.value_info[:]
    if labels is not None:
        proto.metadata_props.add(key="labels", value=json.dumps(list(labels), ensure_ascii=False))


def _compare_maps(
    model: nn.Module,
    data: bytes,
    images: npt.NDArray[np.float32],
    shape: tuple[int, ...],
    input_name: str,
    output_name: str,
) -> None:
    device = next((weight.device for weight in model.parameters()), torch.device("cpu"))
    options = ort.SessionOptions()
    options.log_severity_level = 4  # its messages come as exceptions
    try:
        with torch.no_grad():
            expected = model(torch.from_numpy(images).to(device)).cpu().numpy()
        session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        found = np.asarray(session.run([output_name], {input_name: images})[0])
    except Exception as error:  # the network's forward and ONNX Runtime raise many types of their own
        raise EngineError(f"the exported file or its network can't be run: {told(error)}") from error
    if expected.shape != shape or found.shape != shape:
        raise EngineError(f"the network gives shape {expected.shape}, the file {found.shape}; {shape} is needed")
    difference = float(np.abs(found - expected).max())
    if not difference < TOLERANCE:
        raise EngineError(
            f"the exported file's map differs from the network's by {difference:.3g}, {TOLERANCE} allowed"
        )


def _compare(
    data: bytes, images: npt.NDArray[np.uint8], expected: npt.NDArray[np.float32], input_name: str, output_name: str
) -> None:
    options = ort.SessionOptions()
    options.log_severity_level = 4  # its messages come as exceptions
    try:
        session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        parts = [session.run([output_name], {input_name: _input(part)})[0] for part in _batches(images)]
    except Exception as error:  # ONNX Runtime raises many types of its own
        raise EngineError(f"ONNX Runtime can't run the exported file: {told(error)}") from error
    logits = np.concatenate([np.asarray(part) for part in parts])
    if logits.shape != expected.shape:
        raise EngineError(f"the exported file gives shape {logits.shape}, the network {expected.shape}")
    difference = float(np.abs(logits - expected).max())
    if not difference < TOLERANCE:
        raise EngineError(
            f"logits of the exported file differ from the network's by {difference:.3g}, {TOLERANCE} allowed"
        )
    changed = int((logits.argmax(1) != expected.argmax(1)).sum())
    if changed:
        raise EngineError(
            f"the exported file names another class than the network on {changed} of {len(logits)} images"
        )


def _batches(images: npt.NDArray[np.uint8]) -> Iterator[npt.NDArray[np.uint8]]:
    """All images, in batches of the sizes that have to work, images repeated as needed."""
    for count in _BATCHES:
        yield np.resize(images, (count, *images.shape[1:]))
    for start in range(max(_BATCHES), len(images), max(_BATCHES)):
        yield images[start : start + max(_BATCHES)]


def _input(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    batch = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2), np.float32)
    batch /= np.float32(255)
    return batch
