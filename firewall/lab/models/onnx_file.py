"""An ONNX file of any user, read into a classifier to protect."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import onnx
import torch
from pydantic import ValidationError

from firewall.bundle import ClassifierSpec, InputSpec
from firewall.errors import DataError, EngineError, UsageError
from firewall.lab.models.label_file import labels_of_text, repeated
from firewall.lab.models.onnx_adapting import Adapted, adapt
from firewall.lab.models.onnx_network import OnnxNetwork, RuntimeNetwork, compare
from firewall.lab.models.onnx_reading import parse_onnx, read_onnx
from firewall.lab.models.onnx_trial import samples
from firewall.lab.models.options import Channels, Options
from firewall.lab.models.protected import Normalised, Protected

__all__ = ["Options", "Specified", "load", "open_file", "read_onnx", "specify"]


def open_file(spec: str) -> Protected:
    """Open `PATH.onnx` or `PATH.onnx.xz`, perhaps with options such as `?mean=...&std=...&size=...` behind it.

    Labels come from the file's own metadata; all options from `PATH.onnx.json` beside it and from the spec, the later
    ones winning. Another preparation of the pixels makes another classifier, with another `sha256`.

    Args:
        spec: The path, and options.

    Returns:
        The classifier.

    Raises:
        DataError: The file is no classifier of images.
        UsageError: The options can't be.
    """
    path, options = _asked(spec)
    content = read_onnx(path)
    # Where labels and numbers come from makes no other classifier.
    plain = replace(options, labels=None, preparation="", source=Options.source)
    used = {key: value for key, value in asdict(plain).items() if value != getattr(Options, key)}
    settings = json.dumps(used, sort_keys=True) if used else ""
    stem = path.name.removesuffix(".xz").removesuffix(".onnx")
    sha256 = hashlib.sha256(content + settings.encode()).hexdigest()
    return load(stem, content, options, card={"options": used}, sha256=sha256)


class Specified(NamedTuple):
    """How the edge runs a user's ONNX file.

    Args:
        spec: What a manifest says of it.
        content: The bytes for the bundle; they take RGB.
        note: What was changed, or "".
        channels: The order that the network itself takes.
    """

    spec: ClassifierSpec
    content: bytes
    note: str
    channels: Channels


def specify(spec: str, given: Mapping[str, str]) -> Specified:
    """How the edge runs a user's ONNX file.

    The bytes are the file's own where it takes float32 (N, 3, H, W) in RGB, N free, and gives only logits (N, classes).
    Other needs are met by nodes in front of it and behind it: see `onnx_adapting`.

    Args:
        spec: As of `open_file`.
        given: Further options, as behind the question mark; they win.

    Returns:
        The specification and the bytes.

    Raises:
        DataError: The file is no classifier of RGB images, or doesn't run on several at a time.
        UsageError: The options can't be.
    """
    path, options = _asked(spec)
    options = options.updated(given, "the options", Path())
    content = read_onnx(path)
    adapted, labels = _adapted(path.name, content, options)
    if adapted.channels != 3:
        raise DataError(f"{path.name} takes one channel, the edge gives RGB; put the mean of the channels before it")
    twice = repeated(labels)
    if twice:
        raise UsageError(
            f"of the labels of {path.name}, {twice}; a verdict's label would not say which: give each a name of its own"
        )
    try:
        size = InputSpec(
            name=adapted.input,
            width=adapted.width,
            height=adapted.height,
            mean=_three(adapted.mean),
            std=_three(adapted.std),
        )
        classifier = ClassifierSpec(file="classifier.onnx", input=size, output=adapted.output, labels=labels)
    except ValidationError as error:
        first = error.errors()[0]
        if first["loc"] and first["loc"][-1] in ("width", "height"):
            raise DataError(
                f"{path.name} takes {adapted.height}x{adapted.width} pixels; the edge runs networks of 8 to 2048 a side"
            ) from error
        where = ".".join(str(part) for part in first["loc"])
        raise DataError(f"{path.name} can't be run on the edge: {where}: {first['msg']}") from error
    return Specified(classifier, adapted.content, "; ".join(adapted.notes), options.channels)


def _adapted(name: str, content: bytes, options: Options) -> tuple[Adapted, tuple[str, ...]]:
    """The network in the one form that is worked with, and a label for each of its classes."""
    labels, source = options.labels, options.source
    if labels is None:
        labels, source = _stored(name, content), "its own metadata"
    adapted = adapt(name, content, options, len(labels) if labels is not None else None)
    if labels is None:
        return adapted, tuple(f"class {number}" for number in range(adapted.classes))
    if len(labels) != adapted.classes:
        raise DataError(
            f"{name} has {adapted.classes} classes, but {len(labels)} labels in {source}, from {labels[0]!r} to "
            f"{labels[-1]!r}; give one for each class, in the network's order"
        )
    return adapted, labels


def _stored(name: str, content: bytes) -> tuple[str, ...] | None:
    """The labels in an ONNX file's metadata, as our exporter and others (Ultralytics: `names`) write them."""
    stored = {entry.key: entry.value for entry in parse_onnx(name, content).metadata_props}
    task = stored.get("task", "classify")
    if "names" in stored and task != "classify":
        raise DataError(
            f"{name} is a network of Ultralytics for the task {task!r}; a classifier is needed, task 'classify'"
        )
    where = f"the metadata of {name}"
    if stored.get("labels"):
        try:
            return labels_of_text(stored["labels"], where, ".json")
        except UsageError as error:
            raise DataError(f"{error}; or give them with --labels") from error
    for value in (stored[key] for key in ("names", "class_names", "classes") if key in stored):
        with contextlib.suppress(UsageError):  # what others write there needn't be labels
            if value[:1] in ("[", "{"):
                return labels_of_text(value, where)
    return None


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
            values = json.loads(sidecar.read_text(encoding="utf-8-sig"))
        except (OSError, ValueError) as error:
            raise DataError(f"{sidecar} is not readable JSON ({error})") from error
        if not isinstance(values, dict):
            raise DataError(f"{sidecar} must hold an object such as {{'mean': [0.5], 'std': [0.5]}}")
        options = options.updated(values, str(sidecar), path.parent)
    return path, options.updated(dict(parse_qsl(query, keep_blank_values=True)), spec, Path())


def load(
    name: str, content: bytes, options: Options, *, card: dict[str, Any] | None = None, sha256: str | None = None
) -> Protected:
    """The classifier in an ONNX file's bytes, with gradients where torch gives the same as ONNX Runtime.

    Args:
        name: How it was asked for.
        content: The file's bytes.
        options: How its pixels are prepared.
        card: What is known of it.
        sha256: Of the file that defines it; None: of `content`.

    Returns:
        The classifier.

    Raises:
        DataError: The file is no classifier of images.
        UsageError: The options don't fit it.
    """
    adapted, labels = _adapted(name, content, options)
    reference = RuntimeNetwork(adapted.content, adapted.input, adapted.output)
    grey = options.grey and adapted.channels == 3
    preparation = (adapted.mean, adapted.std, grey)
    runtime = Normalised(reference, adapted.mean, adapted.std, grey=grey).eval()
    channels = 1 if grey else adapted.channels
    pixels = torch.from_numpy(samples(channels, adapted.height, adapted.width))
    network, reason = _differentiable(adapted.model, adapted.output, runtime, pixels, preparation)
    notes = "; ".join(adapted.notes)
    return Protected(
        name=name,
        sha256=sha256 or hashlib.sha256(content).hexdigest(),
        labels=labels,
        channels=channels,
        height=adapted.height,
        width=adapted.width,
        offset=options.offset if options.offset is not None else int(adapted.classes == 1001),
        network=(runtime if network is None else network).requires_grad_(requires_grad=False),
        differentiable=network is not None,
        card={**(card or {}), "gradients": reason, **({"notes": notes} if notes else {})},
    )


def _differentiable(
    model: onnx.ModelProto,
    output: str,
    runtime: Normalised,
    images: torch.Tensor,
    preparation: tuple[tuple[float, ...], tuple[float, ...], bool],
) -> tuple[Normalised | None, str]:
    """The network in torch and what proves it; or None and why there is none."""
    mean, std, grey = preparation
    try:
        network = Normalised(OnnxNetwork(model, output), mean, std, grey=grey).eval()
        compare(network, runtime, images)
    except (DataError, EngineError) as error:
        return None, f"none: {error}"
    return network, "by torch, within 0.001 of ONNX Runtime's logits"
