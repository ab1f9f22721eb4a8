"""A model server behind the gate: what its model takes, and the labels it gives, checked before they are believed."""

from __future__ import annotations

import asyncio
import base64
import io
import math
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote

import numpy as np
import numpy.typing as npt
from PIL import Image

from firewall.frame import Pixels
from firewall.gate.http_client import Answer, HttpClient
from firewall.gate.pictures import Layout, Scale
from firewall.gate.protocol import HEADER_LENGTH, read_body, read_tensors
from firewall.gate.refusal import Code, Refusal
from firewall.gate.strict_json import read_json
from firewall.gate.tensors import Tensor, numbers, packed
from firewall.host.output import json_text

__all__ = ["Model", "Upstream"]

_SCORES = ("FP16", "FP32", "FP64")
_LABELS = ("UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64")
_INPUTS = ("UINT8", "FP32", "BYTES")
_FRESH = 1.0  # seconds that readiness is believed
_METADATA_TIME = 5.0


@dataclass(frozen=True, slots=True)
class Model:
    """What an upstream says its model takes and gives.

    Attributes:
        input: Name of its only input.
        datatype: UINT8, FP32 or BYTES.
        shape: Of the input; -1 where any size goes.
        layout: Where the channels are.
        output: Name of the output that is read.
        gives: Scores of all classes, or the label itself.
        kind: Datatype of the output.
        versions: Its versions.
        binary: Whether it takes and gives binary data.
    """

    input: str
    datatype: str
    shape: tuple[int, ...]
    layout: Layout
    output: str
    gives: Literal["scores", "labels"]
    kind: str
    versions: tuple[str, ...]
    binary: bool

    def tensor(self, images: Sequence[Pixels], scale: Scale) -> tuple[tuple[int, ...], Any]:
        """(shape, array or elements of BYTES) of some images.

        Raises:
            Refusal: If the model doesn't take them.
        """
        if self.datatype == "BYTES":
            shape = (len(images), 1) if len(self.shape) == 2 else (len(images),)
            values: Any = [_png(each) for each in images]
        else:
            if len({each.shape for each in images}) > 1:
                raise Refusal(Code.BAD_REQUEST, "the upstream takes images of one size in one request")
            pixels = np.stack(images)
            values = pixels if self.datatype == "UINT8" else scale.floats_of(pixels)
            if self.layout == "NCHW":
                values = np.ascontiguousarray(values.transpose(0, 3, 1, 2))
            if len(self.shape) == 3:
                if len(images) > 1:
                    raise Refusal(Code.BAD_REQUEST, "the upstream takes one image in one request")
                values = values[0]
            shape = values.shape
        if not _fits(shape, self.shape):
            raise Refusal(
                Code.BAD_REQUEST,
                f"the upstream's model takes {self.datatype} of shape {list(self.shape)} ({self.layout}), and these "
                f"images would be {list(shape)}; send images of its size",
            )
        return shape, values


def _fits(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    return len(shape) == len(wanted) and all(there in (-1, size) for size, there in zip(shape, wanted, strict=True))


def _png(pixels: Pixels) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()


class Upstream:
    """One model of a server that speaks the Open Inference Protocol v2. Whatever it does wrong is a Refusal."""

    def __init__(
        self,
        client: HttpClient,
        name: str,
        classes: int,
        scale: Scale,
        *,
        layout: Layout | None = None,
        output: str | None = None,
    ) -> None:
        """Name the model; nothing is asked yet.

        Args:
            client: Reaches the server.
            name: The model's name.
            classes: How many classes it has to have: the bundle's.
            scale: What its floats stand for.
            layout: Where its channels are; None: its metadata tell.
            output: The output to read; None: its only one.
        """
        self._client, self._name, self._classes, self._scale = client, name, classes, scale
        self._layout, self._output = layout, output
        self._path = f"/v2/models/{quote(name, safe='')}"
        self._model: Model | None = None
        self._asking = asyncio.Lock()
        self._ready, self._asked_at = False, -math.inf

    @property
    def name(self) -> str:
        """The model's name."""
        return self._name

    def close(self) -> None:
        """Close what is kept open, in the event loop."""
        self._client.close()

    async def ready(self) -> bool:
        """Whether the server says that the model is ready, and its metadata can be used. Believed for a second."""
        async with self._asking:
            if time.monotonic() - self._asked_at > _FRESH:
                self._ready = await self._is_ready()
                self._asked_at = time.monotonic()
            return self._ready

    async def _is_ready(self) -> bool:
        try:
            deadline = time.monotonic() + _METADATA_TIME
            answer = await self._client.request("GET", f"{self._path}/ready", deadline=deadline)
            # KServe answers 200 and says in the body whether it is.
            says = read_json(answer.body).get("ready", True) if answer.body.strip() else True
            if answer.status != 200 or says not in (True, "true", "True"):
                return False
            await self.model()
        except (Refusal, ValueError):
            return False
        return True

    async def metadata(self) -> dict[str, Any]:
        """`versions` and `inputs`, as the protocol's model metadata have them."""
        model = await self.model()
        tensor = {"name": model.input, "datatype": model.datatype, "shape": list(model.shape)}
        return {"versions": list(model.versions), "inputs": [tensor]}

    async def model(self) -> Model:
        """What the model takes and gives; asked for once, and after something went wrong.

        Raises:
            Refusal: If it can't be had, or the gate can't guard such a model.
        """
        if self._model is None:
            deadline = time.monotonic() + _METADATA_TIME
            server = _object(await self._client.request("GET", "/v2", deadline=deadline))
            about = _object(await self._client.request("GET", self._path, deadline=deadline))
            extensions = server.get("extensions", [])
            binary = isinstance(extensions, list) and "binary_tensor_data" in extensions
            self._model = self._described(about, binary)
        return self._model

    def _described(self, about: dict[str, Any], binary: bool) -> Model:
        def unfit(message: str) -> Refusal:
            return Refusal(Code.UPSTREAM_MODEL, f"the upstream's model {self._name!r} {message}")

        try:
            inputs = [Tensor.read({**each, "shape": [0]}, each["shape"]) for each in about["inputs"]]
            outputs = [Tensor.read({**each, "shape": [0]}, each["shape"]) for each in about["outputs"]]
        except (KeyError, TypeError, ValueError):
            raise unfit("has metadata that name no inputs and outputs with their shapes") from None
        if about.get("name") != self._name:
            raise unfit("has metadata of another name")
        if len(inputs) != 1 or inputs[0].datatype not in _INPUTS:
            raise unfit(f"must have one input, of datatype {', '.join(_INPUTS)}")
        (tensor,) = inputs
        chosen = [each for each in outputs if self._output in (None, each.name)]
        if len(chosen) != 1:
            names = ", ".join(each.name for each in outputs)
            raise unfit(f"has the outputs {names}; name the one with scores or labels: --upstream-output NAME")
        (output,) = chosen
        shape, given = _shape(tensor.data), _shape(output.data)
        if shape is None or given is None:
            raise unfit("has metadata with shapes that are none")
        if output.datatype not in _SCORES + _LABELS:
            raise unfit(f"gives {output.datatype}; labels are whole numbers, scores floats")
        gives: Literal["scores", "labels"] = "scores" if output.datatype in _SCORES else "labels"
        if gives == "scores" and (len(given) not in (1, 2) or given[-1] not in (-1, self._classes)):
            raise Refusal(
                Code.UPSTREAM_CLASSES,
                f"the upstream's model {self._name!r} gives scores of shape {list(given)}, and the bundle has "
                f"{self._classes} classes; guard it with a bundle of its own classes",
            )
        versions = about.get("versions") or []
        return Model(
            tensor.name,
            tensor.datatype,
            shape,
            self._channels(shape, tensor.datatype, unfit),
            output.name,
            gives,
            output.datatype,
            tuple(str(each) for each in versions) if isinstance(versions, list) else (),
            binary,
        )

    def _channels(self, shape: tuple[int, ...], datatype: str, unfit: Any) -> Layout:
        if datatype == "BYTES":
            if len(shape) > 2:
                raise unfit(f"takes BYTES of shape {list(shape)}; encoded images are [-1] or [-1, 1]")
            return "NHWC"
        if len(shape) not in (3, 4):
            raise unfit(f"takes {datatype} of shape {list(shape)}; images are [N, H, W, 3] or [N, 3, H, W]")
        first, last = shape[-3] == 3, shape[-1] == 3
        possible: set[Layout] = {
            *(("NCHW",) if shape[-3] in (3, -1) else ()),
            *(("NHWC",) if shape[-1] in (3, -1) else ()),
        }
        layout = self._layout or (None if first == last else "NCHW" if first else "NHWC")
        if layout is None or layout not in possible:
            raise unfit(f"takes shape {list(shape)}; say where its channels are: --upstream-layout NHWC or NCHW")
        return layout

    async def labels(self, images: Sequence[Pixels], deadline: float) -> list[int]:
        """One class for each image.

        Args:
            images: (H, W, 3) uint8 RGB each.
            deadline: `time.monotonic()` by which the answer must be there.

        Returns:
            The classes, 0-based.

        Raises:
            Refusal: If anything is wrong with the server or its answer.
        """
        try:
            model = await self.model()
            identity = secrets.token_hex(16)  # never the client's: two clients may use the same
            body, headers = self._request(model, images, identity)
            answer = await self._client.request(
                "POST", f"{self._path}/infer", body=body, headers=headers, deadline=deadline
            )
            return self._labels(model, answer, identity, len(images))
        except Refusal as refusal:
            if refusal.code is not Code.BAD_REQUEST:
                self._model, self._asked_at = None, -math.inf  # another model may be there by now
            raise

    def _request(self, model: Model, images: Sequence[Pixels], identity: str) -> tuple[bytes, dict[str, str]]:
        shape, values = model.tensor(images, self._scale)
        tensor: dict[str, Any] = {"name": model.input, "datatype": model.datatype, "shape": list(shape)}
        asked: dict[str, Any] = {"name": model.output}
        blob = b""
        if model.binary:
            blob = packed(values)
            tensor["parameters"] = {"binary_data_size": len(blob)}
            asked["parameters"] = {"binary_data": True}
        elif model.datatype == "BYTES":
            tensor["parameters"] = {"content_type": "base64"}
            tensor["data"] = [base64.b64encode(each).decode() for each in values]
        else:
            tensor["data"] = values.reshape(-1).tolist()
        head = json_text({"id": identity, "inputs": [tensor], "outputs": [asked]}, compact=True).encode()
        if not model.binary:
            return head, {"Content-Type": "application/json"}
        return head + blob, {"Content-Type": "application/octet-stream", HEADER_LENGTH: str(len(head))}

    def _labels(self, model: Model, answer: Answer, identity: str, count: int) -> list[int]:
        _check_status(answer)
        try:
            content, binary = read_body(answer.body, answer.headers.get(HEADER_LENGTH.lower()))
            outputs = read_tensors(content.get("outputs"), binary)
        except ValueError as error:
            raise Refusal(Code.UPSTREAM_GARBAGE, f"the upstream's answer {error}") from None
        if content.get("model_name") != self._name:
            raise Refusal(Code.UPSTREAM_MODEL, "the upstream answered for another model")
        if content.get("id") != identity:
            raise Refusal(Code.UPSTREAM_ID, "the upstream's answer has another id than the request")
        found = [each for each in outputs if each.name == model.output]
        if len(found) != 1 or found[0].datatype != model.kind:
            raise Refusal(Code.UPSTREAM_SHAPE, f"the upstream's answer has no one output {model.output!r} as described")
        return self._read(model, found[0], count)

    def _read(self, model: Model, output: Tensor, count: int) -> list[int]:
        shape = output.shape
        rows: list[tuple[int, ...]] = [(count, self._classes)] if model.gives == "scores" else [(count,), (count, 1)]
        if count == 1 and len(model.shape) == 3:  # a model of single images
            rows += [(self._classes,)] if model.gives == "scores" else [()]
        if shape not in rows:
            alike = model.gives == "scores" and shape and len(shape) <= 2 and shape[:-1] == rows[0][:-1]
            code = Code.UPSTREAM_CLASSES if alike else Code.UPSTREAM_SHAPE
            raise Refusal(code, f"the upstream answered {list(shape)} for {count} images of {self._classes} classes")
        try:
            values = numbers(output)
        except ValueError as error:
            raise Refusal(Code.UPSTREAM_GARBAGE, f"the upstream's output {error}") from None
        if model.gives == "labels":
            labels = [int(each) for each in values.reshape(-1)]
            if not all(0 <= label < self._classes for label in labels):
                raise Refusal(Code.UPSTREAM_CLASSES, "the upstream answered a class that the bundle doesn't have")
            return labels
        return _best(values.reshape(count, self._classes).astype(np.float64))


def _best(scores: npt.NDArray[np.float64]) -> list[int]:
    if not np.isfinite(scores).all():
        raise Refusal(Code.UPSTREAM_VALUES, "the upstream answered scores that are not finite")
    best = scores.argmax(axis=1)
    if ((scores == scores.max(axis=1, keepdims=True)).sum(axis=1) != 1).any():
        raise Refusal(Code.UPSTREAM_VALUES, "the upstream answered scores without one that is the highest")
    return [int(each) for each in best]


def _shape(value: Any) -> tuple[int, ...] | None:
    if not isinstance(value, list) or not value or not all(type(each) is int and each >= -1 for each in value):
        return None
    return tuple(value)


def _check_status(answer: Answer) -> None:
    if 300 <= answer.status < 400:
        raise Refusal(Code.UPSTREAM_REDIRECT, f"the upstream redirects (HTTP {answer.status}), which is not followed")
    if answer.status != 200:
        raise Refusal(Code.UPSTREAM_STATUS, f"the upstream answered HTTP {answer.status}")


def _object(answer: Answer) -> dict[str, Any]:
    _check_status(answer)
    try:
        return read_json(answer.body)
    except ValueError as error:
        raise Refusal(Code.UPSTREAM_GARBAGE, f"the upstream's metadata {error}") from None
