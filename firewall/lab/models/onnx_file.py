"""An ONNX file of any user, read into a classifier to protect."""

from __future__ import annotations

import hashlib
import json
import lzma
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import onnx
import torch
from pydantic import ValidationError

from firewall.bundle import ClassifierSpec, InputSpec
from firewall.errors import DataError, EngineError, UsageError
from firewall.lab.models.onnx_network import OnnxNetwork, RuntimeNetwork, difference
from firewall.lab.models.protected import Normalised, Protected

__all__ = ["Options", "load", "open_file", "read_onnx", "specify"]

#: Largest difference of a logit from ONNX Runtime's, also as a share of the largest logit, with which gradients count.
TOLERANCE = 1e-3
_RELATIVE = 1e-4
_LARGEST = 1 << 30


@dataclass(frozen=True)
class Options:
    """How pixels become a network's input: (value * range - mean) / std for values in 0..1, a number or one a channel.

    size: (height, width), needed only where the file leaves it open. labels: None: those in the file, else numbers.
    offset: the network's class of the data set's class 0; None: 1 for 1001 classes, else 0. grey: the file takes three
    channels but its images are grey.
    """

    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    range: float = 1.0
    size: tuple[int, int] | None = None
    labels: tuple[str, ...] | None = None
    offset: int | None = None
    grey: bool = False

    def updated(self, values: Mapping[str, Any], where: str, base: Path) -> Options:
        """These with `values` from a sidecar file or from behind a question mark. Raises UsageError, naming `where`."""
        unknown = sorted(set(values) - {"mean", "std", "range", "size", "labels", "offset"})
        if unknown:
            raise UsageError(f"{where}: unknown option {unknown[0]!r}; known: mean, std, range, size, labels, offset")
        try:
            options = replace(self, **{key: _value(key, value, base) for key, value in values.items()})
        except (ValueError, TypeError, IndexError) as error:
            raise UsageError(f"{where}: an option can't be read ({error}); all but labels are numbers") from error
        if options.range <= 0 or min(options.std) <= 0 or (options.size is not None and min(options.size) < 1):
            raise UsageError(f"{where}: range, std and size must be larger than 0")
        return options


def open_file(spec: str) -> Protected:
    """`PATH.onnx` or `PATH.onnx.xz`, perhaps with `?mean=...&std=...&size=...` behind it.

    Labels come from the file's own metadata, all options from `PATH.onnx.json` beside it and from the spec, the later
    ones winning. Another preparation of the pixels is another classifier, with another `sha256`.

    Raises DataError for a file that is no classifier of images, UsageError for options that can't be.
    """
    path, options = _asked(spec)
    content = read_onnx(path)
    used = {
        key: value for key, value in asdict(replace(options, labels=None)).items() if value != getattr(Options, key)
    }
    settings = json.dumps(used, sort_keys=True) if used else ""
    stem = path.name.removesuffix(".xz").removesuffix(".onnx")
    sha256 = hashlib.sha256(content + settings.encode()).hexdigest()
    return load(stem, content, options, card={"options": used}, sha256=sha256)


def specify(spec: str, given: Mapping[str, str]) -> tuple[ClassifierSpec, bytes, str]:
    """How the edge runs a user's ONNX file: its specification, the bytes for the bundle, and a note, or "".

    spec: as of `open_file`. given: further options, as behind the question mark, which win. The bytes are the file's
    own; where it has a fixed batch size or ends in a softmax, the batch is made free and the values before the softmax
    an output. Raises DataError for a file that is no classifier of RGB images, or doesn't run on two at a time;
    UsageError for options that can't be.
    """
    path, options = _asked(spec)
    options = options.updated(given, "the options", Path())
    whole = read_onnx(path)
    model = _parsed(path.name, whole)
    channels, height, width = _input_shape(path.name, model, options)
    if channels != 3:
        raise DataError(f"{path.name} takes one channel, the edge gives RGB; put the mean of the channels before it")
    output, note = _logits(model)
    content = whole if not note and _free_batch(whole) else model.SerializeToString(deterministic=True)
    mean, std = (
        _per_channel(path.name, [v / options.range for v in values], 3) for values in (options.mean, options.std)
    )
    entry = model.graph.input[0].name
    network = Normalised(RuntimeNetwork(content, entry, output), mean, std, grey=False)
    try:
        logits = network(_samples(3, height, width))
        classes = int(logits.shape[1]) if logits.ndim == 2 else 0
        size = InputSpec(name=entry, width=width, height=height, mean=_three(mean), std=_three(std))
        labels = _labels(path.name, model, options, classes)
        return ClassifierSpec(file="classifier.onnx", input=size, output=output, labels=labels), content, note
    except EngineError as error:
        raise DataError(f"{path.name} doesn't run on batches: {error}; export it with a free batch size") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise DataError(f"{path.name} can't be run on the edge: {where}: {first['msg']}") from error


def _free_batch(content: bytes) -> bool:
    graph = onnx.load_model_from_string(content).graph
    shapes = [entry.type.tensor_type.shape.dim for entry in (*graph.input, *graph.output)]
    return len(graph.input) == 1 and all(shape and not shape[0].dim_value for shape in shapes)


def _three(values: tuple[float, ...]) -> tuple[float, float, float]:
    first, second, third = values
    return first, second, third


def _asked(spec: str) -> tuple[Path, Options]:
    """The file that `spec` names, and the options of its sidecar and behind the question mark."""
    name, _, query = spec.partition("?") if not Path(spec).is_file() else (spec, "", "")
    path, options = Path(name), Options()
    sidecar = path.with_name(path.name + ".json")
    values: dict[str, Any] = {}
    if sidecar.is_file():
        try:
            values = json.loads(sidecar.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(f"{sidecar} is not readable JSON ({error})") from error
        if not isinstance(values, dict):
            raise DataError(f"{sidecar} must hold an object such as {{'mean': [0.5], 'std': [0.5]}}")
        options = options.updated(values, str(sidecar), path.parent)
    return path, options.updated(dict(parse_qsl(query, keep_blank_values=True)), spec, Path())


def read_onnx(path: Path) -> bytes:
    """The bytes of an ONNX file, unpacked if its name ends in .xz."""
    try:
        if path.suffix != ".xz":
            return path.read_bytes()
        with lzma.open(path) as file:
            return file.read(_LARGEST)
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise DataError(f"the classifier {path} can't be read ({error})") from error


def load(
    name: str, content: bytes, options: Options, *, card: dict[str, Any] | None = None, sha256: str | None = None
) -> Protected:
    """The classifier in `content`, with gradients where torch says the same as ONNX Runtime."""
    model = _parsed(name, content)
    channels, height, width = _input_shape(name, model, options)
    output, notes = _logits(model)
    content = model.SerializeToString(deterministic=True)
    reference = RuntimeNetwork(content, model.graph.input[0].name, output)
    shift = _per_channel(name, [value / options.range for value in options.mean], channels)
    scale = _per_channel(name, [value / options.range for value in options.std], channels)
    grey = options.grey and channels == 3
    runtime = Normalised(reference, shift, scale, grey=grey).eval()
    samples = _samples(1 if grey else channels, height, width)
    try:
        logits = runtime(samples)
    except EngineError as error:
        raise DataError(
            f"{name} doesn't run on images of {channels} channels, {height}x{width} pixels, two at a time: {error}; "
            "export it with a free batch size, or give its input size as size=HxW"
        ) from error
    if logits.ndim != 2 or logits.shape[0] != len(samples) or not logits.is_floating_point():
        raise DataError(f"{name} gives {tuple(logits.shape)} for {len(samples)} images; logits (N, classes) are needed")
    classes = int(logits.shape[1])
    network, reason = _differentiable(model, output, runtime, samples, (shift, scale, grey))
    return Protected(
        name=name,
        sha256=sha256 or hashlib.sha256(content).hexdigest(),
        labels=_labels(name, model, options, classes),
        channels=1 if grey else channels,
        height=height,
        width=width,
        offset=options.offset if options.offset is not None else int(classes == 1001),
        network=(runtime if network is None else network).requires_grad_(requires_grad=False),
        differentiable=network is not None,
        card={**(card or {}), "gradients": reason, **({"notes": notes} if notes else {})},
    )


def _differentiable(
    model: onnx.ModelProto,
    output: str,
    runtime: Normalised,
    samples: torch.Tensor,
    preparation: tuple[tuple[float, ...], tuple[float, ...], bool],
) -> tuple[Normalised | None, str]:
    """The network in torch and what proves it; or None and why there is none."""
    mean, std, grey = preparation
    try:
        network = Normalised(OnnxNetwork(model, output), mean, std, grey=grey).eval()
        apart, largest = difference(network, runtime, samples)
    except (DataError, EngineError) as error:
        return None, f"none: {error}"
    if not apart <= max(TOLERANCE, _RELATIVE * largest):
        return None, f"none: torch and ONNX Runtime differ by {apart:.2g}"
    return network, "by torch, within 0.001 of ONNX Runtime's logits"


def _parsed(name: str, content: bytes) -> onnx.ModelProto:
    try:
        model = onnx.load_model_from_string(content)
        if not model.graph.node:
            raise ValueError("no graph")
    except Exception as error:  # protobuf raises types of its own
        raise DataError(f"{name} is not a readable ONNX file ({type(error).__name__})") from error
    if any(entry.data_location == onnx.TensorProto.EXTERNAL for entry in model.graph.initializer):
        raise DataError(f"the weights of {name} lie in other files; save the network as one file")
    weights = {entry.name for entry in model.graph.initializer}
    inputs = [entry for entry in model.graph.input if entry.name not in weights]
    if len(inputs) != 1:
        raise DataError(f"{name} has {len(inputs)} inputs; an image classifier has one")
    # Older files list their weights among the inputs; and a batch of one, written down, would be the only one allowed.
    del model.graph.input[:]
    model.graph.input.append(inputs[0])
    for entry in (*model.graph.input, *model.graph.output):
        if entry.type.tensor_type.shape.dim:
            entry.type.tensor_type.shape.dim[0].dim_param = "N"
    del model.graph.value_info[:]
    return model


def _input_shape(name: str, model: onnx.ModelProto, options: Options) -> tuple[int, int, int]:
    kind = model.graph.input[0].type.tensor_type
    shape = [entry.dim_value for entry in kind.shape.dim]
    if kind.elem_type != onnx.TensorProto.FLOAT or len(shape) != 4:
        raise DataError(
            f"{name} takes {len(shape)} dimensions of type {kind.elem_type}; float32 (N, C, H, W) is needed"
        )
    if shape[1] not in (1, 3):
        where = "last, (N, H, W, C)" if shape[3] in (1, 3) else f"{shape[1] or 'open'}"
        raise DataError(f"{name} has its channels {where}; export it with the layout (N, C, H, W) and C 1 or 3")
    height, width = (shape[axis] or (options.size or (0, 0))[axis - 2] for axis in (2, 3))
    if min(height, width) < 1:
        raise DataError(f"{name} leaves its input size open; give it, such as {name}.onnx?size=224")
    if options.size is not None and options.size != (height, width):
        raise UsageError(f"{name} takes {height}x{width} pixels, not size={options.size[0]}x{options.size[1]}")
    return shape[1], height, width


def _logits(model: onnx.ModelProto) -> tuple[str, str]:
    """The output to take: "logits", else the first one; and what precedes it if it is a softmax, since the gradient of
    probabilities vanishes where the network is sure."""
    graph = model.graph
    names = [entry.name for entry in graph.output]
    name = "logits" if "logits" in names else names[0]
    makers = {output: node for node in graph.node for output in node.output}
    node = makers.get(name)
    while node is not None and node.op_type == "Identity":
        node = makers.get(node.input[0])
    if node is None or node.op_type != "Softmax":
        return name, ""
    graph.output.append(onnx.helper.make_tensor_value_info(node.input[0], onnx.TensorProto.FLOAT, None))
    return node.input[0], "the file ends in a softmax; what is attacked are the logits before it"


def _per_channel(name: str, values: Sequence[float], channels: int) -> tuple[float, ...]:
    if len(values) not in (1, channels):
        raise UsageError(f"{name} has {channels} channels, but {len(values)} numbers of mean or std were given")
    return tuple(values) * (channels // len(values))


def _samples(channels: int, height: int, width: int) -> torch.Tensor:
    """Noise and smooth images to compare on, always the same."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(2, channels, height, width, generator=generator)
    coarse = torch.rand(2, channels, 4, 4, generator=generator)
    return torch.cat([noise, torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")])


def _labels(name: str, model: onnx.ModelProto, options: Options, classes: int) -> tuple[str, ...]:
    labels: Sequence[str] | None = options.labels
    if labels is None:
        stored = next((entry.value for entry in model.metadata_props if entry.key == "labels"), None)
        try:
            labels = [str(label) for label in json.loads(stored)] if stored else None
        except (ValueError, TypeError) as error:
            raise DataError(f"the labels in the metadata of {name} are not a JSON list ({error})") from error
    if labels is not None and len(labels) != classes:
        raise DataError(f"{name} has {classes} classes, but {len(labels)} labels")
    return tuple(labels) if labels else tuple(f"class {number}" for number in range(classes))


def _value(key: str, value: Any, base: Path) -> Any:
    if key in ("mean", "std"):
        return tuple(float(part) for part in _parts(value, ","))
    if key == "size":
        sides = [int(part) for part in _parts(value, "x")]
        return sides[0], sides[-1]
    if key == "labels":
        return tuple(str(label) for label in value) if isinstance(value, list) else _lines(base / value)
    return int(value) if key == "offset" else float(value)


def _parts(value: Any, mark: str) -> Sequence[Any]:
    if isinstance(value, str):
        return value.split(mark)
    return value if isinstance(value, list) else [value]


def _lines(path: Path) -> tuple[str, ...]:
    try:
        return tuple(path.read_text(encoding="utf-8").splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the labels {path} can't be read ({error}); a line a class is needed") from error
