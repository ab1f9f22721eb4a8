"""Requests and answers of the Open Inference Protocol v2 with its extension for binary tensor data."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from firewall.gate.refusal import Code, ImageAnswer, Refusal
from firewall.gate.strict_json import read_json
from firewall.gate.tensors import Tensor, packed
from firewall.host.output import json_text

__all__ = [
    "HEADER_LENGTH",
    "OUTPUTS",
    "Asked",
    "answer_body",
    "read_body",
    "read_request",
    "read_tensors",
]

#: How long the JSON in front of binary data is, in bytes.
HEADER_LENGTH = "Inference-Header-Content-Length"
#: What the gate answers: name -> datatype, one element for each image.
OUTPUTS = {"label": "INT64", "label_name": "BYTES", "decision": "BYTES", "reason": "BYTES", "certified": "BYTES"}

_ID = re.compile(r"[\x20-\x7e]{0,128}")
_LENGTH = re.compile("[0-9]{1,10}")
_REFUSED_PARAMETERS = ("sequence_id", "sequence_start", "sequence_end")


@dataclass(frozen=True, slots=True)
class Asked:
    """What a client asks for.

    Attributes:
        id: The request's id; empty if it has none.
        tensor: The images.
        outputs: (name, whether as binary data), in the order of the answer.
        partial: Whether labels of some images are wanted though others are withheld.
    """

    id: str
    tensor: Tensor
    outputs: tuple[tuple[str, bool], ...]
    partial: bool


def read_body(body: bytes, header_length: str | None) -> tuple[dict[str, Any], memoryview]:
    """(JSON object, binary data) of a request or an answer.

    Args:
        body: All of it.
        header_length: The value of the header HEADER_LENGTH; None if there is none.

    Raises:
        ValueError: In one line.
    """
    length = len(body)
    if header_length is not None:
        if not _LENGTH.fullmatch(header_length) or int(header_length) > len(body):
            raise ValueError(f"has a wrong {HEADER_LENGTH}: it counts the bytes of the JSON in front of binary data")
        length = int(header_length)
    return read_json(body[:length]), memoryview(body)[length:]


def read_tensors(listed: Any, binary: memoryview) -> list[Tensor]:
    """The tensors of a request or an answer, with their binary data.

    Args:
        listed: The JSON value of `inputs` or `outputs`.
        binary: The binary data of all.

    Raises:
        ValueError: In one line.
    """
    if not isinstance(listed, list) or not all(isinstance(each, dict) for each in listed):
        raise ValueError("needs a list of tensors")
    tensors, position = [], 0
    for each in listed:
        parameters = each.get("parameters", {})
        parameters = parameters if isinstance(parameters, dict) else {}
        name = str(each.get("name", ""))[:80]
        if any(key.startswith("shared_memory") for key in parameters):
            raise ValueError(f"asks for shared memory for tensor {name!r}, which is not supported")
        size = parameters.get("binary_data_size")
        if size is None:
            data = each.get("data")
        elif type(size) is not int or not 0 <= size <= len(binary) - position or "data" in each:
            raise ValueError(f"tensor {name!r} has a binary_data_size that doesn't fit, or data beside it")
        else:
            data, position = binary[position : position + size], position + size
        try:
            tensors.append(Tensor.read(each, data))
        except ValueError as error:
            raise ValueError(f"tensor {name!r} {error}") from None
    if position != len(binary):
        raise ValueError(f"has {len(binary) - position} bytes of binary data that no tensor names")
    return tensors


def read_request(body: bytes, header_length: str | None, input_name: str) -> Asked:
    """What a client asks for.

    Args:
        body: The request's body.
        header_length: See `read_body`.
        input_name: Name of the only input.

    Raises:
        Refusal: If it is none that can be answered.
    """
    try:
        request, binary = read_body(body, header_length)
    except ValueError as error:
        raise Refusal(Code.BAD_REQUEST, f"the request {error}") from None
    identity = request.get("id", "")
    if not isinstance(identity, str) or not _ID.fullmatch(identity):
        raise Refusal(Code.BAD_REQUEST, "the request's id must be a string of at most 128 printable ASCII characters")
    try:
        parameters = _object(request.get("parameters", {}), "parameters")
        if any(parameters.get(name) for name in _REFUSED_PARAMETERS):
            raise ValueError("is part of a sequence, which is not supported: each image is judged by itself")
        tensors = read_tensors(request.get("inputs"), binary)
        if [each.name for each in tensors] != [input_name]:
            raise ValueError(f"needs exactly one input, {input_name!r}")
        outputs = _outputs(request.get("outputs"), _flag(parameters, "binary_data_output"))
        return Asked(identity, tensors[0], outputs, _flag(parameters, "partial"))
    except ValueError as error:
        raise Refusal(Code.BAD_REQUEST, f"the request {error}", request_id=identity) from None


def _outputs(listed: Any, binary: bool) -> tuple[tuple[str, bool], ...]:
    if listed is None or listed == []:
        return tuple((name, binary) for name in OUTPUTS)
    if not isinstance(listed, list) or not all(isinstance(each, dict) for each in listed):
        raise ValueError("needs outputs that are a list of objects")
    found = []
    for each in listed:
        name, parameters = each.get("name"), _object(each.get("parameters", {}), "parameters of an output")
        if not isinstance(name, str) or name not in OUTPUTS:
            raise ValueError(f"asks for an output that there isn't: no scores are given, only {', '.join(OUTPUTS)}")
        if "classification" in parameters or any(key.startswith("shared_memory") for key in parameters):
            raise ValueError("asks for classification or shared memory, which is not supported: no scores are given")
        found.append((name, _flag(parameters, "binary_data") if "binary_data" in parameters else binary))
    if len({name for name, _ in found}) != len(found):
        raise ValueError("asks for one output twice")
    return tuple(found)


def _object(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"needs {name} that are an object")
    return value


def _flag(parameters: dict[str, Any], name: str) -> bool:
    value = parameters.get(name, False)
    if not isinstance(value, bool):
        raise ValueError(f"has a parameter {name} that is neither true nor false")
    return value


def answer_body(
    model: str, version: str, identity: str, asked: Asked, images: Sequence[ImageAnswer], parameters: dict[str, Any]
) -> tuple[bytes, dict[str, str]]:
    """(body, headers) of an answer with labels.

    Args:
        model: The model's name.
        version: Its version; empty if it has none.
        identity: The request's id.
        asked: What was asked for.
        images: One answer for each image, in order.
        parameters: What else the answer says.
    """
    columns: dict[str, Any] = {
        "label": np.array([-1 if each.label is None else each.label for each in images], "<i8"),
        "label_name": [each.name for each in images],
        "decision": [each.decision for each in images],
        "reason": [each.reason for each in images],
        "certified": ["null" if each.certified is None else str(each.certified).lower() for each in images],
    }
    outputs, blobs = [], []
    for name, binary in asked.outputs:
        values = columns[name]
        output: dict[str, Any] = {"name": name, "datatype": OUTPUTS[name], "shape": [len(images)]}
        if binary:
            blobs.append(packed(values if isinstance(values, np.ndarray) else [each.encode() for each in values]))
            output["parameters"] = {"binary_data_size": len(blobs[-1])}
        else:
            output["data"] = values.tolist() if isinstance(values, np.ndarray) else values
        outputs.append(output)
    answer: dict[str, Any] = {"model_name": model}
    if version:
        answer["model_version"] = version
    answer |= {"id": identity, "parameters": parameters, "outputs": outputs}
    head = json_text(answer, compact=True).encode()
    if not blobs:
        return head, {"Content-Type": "application/json"}
    return b"".join([head, *blobs]), {"Content-Type": "application/octet-stream", HEADER_LENGTH: str(len(head))}
