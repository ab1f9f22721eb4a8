"""The bytes of a user's ONNX file, and a diagnosis where they are something else."""

from __future__ import annotations

import lzma
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import onnx

from firewall.errors import DataError
from firewall.host.causes import shortened

__all__ = ["described", "kind_of", "parse_onnx", "read_onnx"]

_LARGEST = 1 << 30
#: How other files begin (or, at an offset, go on), and what each is.
_OTHERS: tuple[tuple[int, bytes, str], ...] = (
    (0, b"version https://git-lfs", "is a pointer of Git LFS, not the file itself; fetch it with 'git lfs pull'"),
    (0, b"PK\x03\x04", "is a ZIP archive (PyTorch, TorchScript or Keras?); export the network to ONNX"),
    (0, b"\x80\x02", "is a pickle (PyTorch?), which is not opened; export the network to ONNX"),
    (0, b"\x80\x04", "is a pickle (PyTorch?), which is not opened; export the network to ONNX"),
    (0, b"\x80\x05", "is a pickle (scikit-learn?), which is not opened; export the network to ONNX"),
    (0, b"\x89HDF", "is an HDF5 file (Keras?); export the network to ONNX, with tf2onnx"),
    (4, b"TFL3", "is a TensorFlow Lite file; export the network to ONNX, with tf2onnx"),
    (4, b"ORTM", "is in ONNX Runtime's own format (.ort); give the ONNX file that it was made from"),
    (0, b"ftrt", "is a TensorRT plan; give the ONNX file that it was built from"),
    (0, b"\x1f\x8b", "is packed with gzip; unpack it"),
    (0, b"\xfd7zXZ", "is packed with xz; unpack it, or let its name end in .xz"),
    (0, b"BZh", "is packed with bzip2; unpack it"),
    (0, b"\x28\xb5\x2f\xfd", "is packed with zstandard; unpack it"),
)


def read_onnx(path: Path) -> bytes:
    """The bytes of an ONNX file, unpacked if its name ends in .xz.

    Args:
        path: The file.

    Returns:
        Its bytes, at most 1 GiB.

    Raises:
        DataError: It can't be read or is too large.
    """
    if path.is_dir():
        raise DataError(f"the classifier {path} is a folder; name the ONNX file in it")
    try:
        with path.open("rb") if path.suffix != ".xz" else lzma.open(path) as file:
            content: bytes = file.read(_LARGEST + 1)
    except (OSError, EOFError, lzma.LZMAError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        raise DataError(f"the classifier {path} can't be read ({reason}); name an ONNX file") from error
    if len(content) > _LARGEST:
        raise DataError(f"the classifier {path} is larger than {_LARGEST >> 30} GiB; no bundle holds it")
    return content


def parse_onnx(name: str, content: bytes) -> onnx.ModelProto:
    """The model in an ONNX file that is whole.

    Args:
        name: Names it in errors.
        content: The file's bytes.

    Returns:
        The model.

    Raises:
        DataError: The bytes are something else, and what, or the weights lie in other files.
    """
    try:
        model = onnx.load_model_from_string(content)
        if not model.graph.node or not model.graph.output:
            raise ValueError("no graph")
    except Exception as error:  # protobuf raises types of its own
        raise DataError(f"{name} is not a readable ONNX file: it {_what(content)}") from error
    elsewhere = sorted({file for graph in _graphs(model.graph) for file in _elsewhere(graph)})
    if elsewhere:
        raise DataError(
            f"the weights of {name} lie in other files ({shortened(', '.join(elsewhere), 80)}), which no hash covers; "
            "save the network as one file (onnx.load, then onnx.save without save_as_external_data)"
        )
    return model


def described(entries: Iterable[onnx.ValueInfoProto]) -> str:
    """Names, types and shapes of inputs or outputs, such as "scores float32 (N, 43)".

    Args:
        entries: Of a graph.

    Returns:
        For a message; "none" if there is none.
    """
    return ", ".join(f"{entry.name} {kind_of(entry)} {_shape(entry)}".rstrip() for entry in entries) or "none"


def kind_of(entry: onnx.ValueInfoProto) -> str:
    """The type of an input's or output's numbers.

    Args:
        entry: Of a graph.

    Returns:
        numpy's name, such as "float32"; for what is no tensor, what it is.
    """
    form = entry.type.WhichOneof("value")
    if form != "tensor_type":
        maps = form == "sequence_type" and entry.type.sequence_type.elem_type.WhichOneof("value") == "map_type"
        return "sequence of maps (ZipMap)" if maps else str(form).removesuffix("_type").replace("_", " ")
    name = str(onnx.TensorProto.DataType.Name(entry.type.tensor_type.elem_type)).lower()
    return {"float": "float32", "double": "float64"}.get(name, name)


def _shape(entry: onnx.ValueInfoProto) -> str:
    if entry.type.WhichOneof("value") != "tensor_type" or not entry.type.tensor_type.HasField("shape"):
        return ""
    sides = [str(side.dim_value or side.dim_param or "?") for side in entry.type.tensor_type.shape.dim]
    return f"({', '.join(sides)}{',' if len(sides) == 1 else ''})"


def _what(content: bytes) -> str:
    if not content:
        return "is empty (0 bytes); copy or export it again"
    for offset, mark, what in _OTHERS:
        if content[offset:].startswith(mark):
            return what
    start = content[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        return "is a web page; download the file itself (a link to its raw content)"
    if start.startswith((b"{", b"[")):
        return "is JSON text; give the ONNX file"
    if start and all(32 <= byte < 127 or byte in b"\t\r\n" for byte in start):
        return f"is text that begins with {re.sub(rb'[^ -~]+', b' ', content[:30]).decode()!r}; give the ONNX file"
    return f"is cut off or damaged, or another format ({len(content)} bytes); copy or export it again"


def _graphs(graph: onnx.GraphProto) -> Iterable[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from _graphs(inner)


def _elsewhere(graph: onnx.GraphProto) -> list[str]:
    """The files that tensors of a graph lie in."""
    tensors: list[Any] = [*graph.initializer]
    tensors += [item.t for node in graph.node for item in node.attribute if item.HasField("t")]
    outside = [tensor for tensor in tensors if tensor.data_location == onnx.TensorProto.EXTERNAL]
    places = [{entry.key: entry.value for entry in tensor.external_data} for tensor in outside]
    return [place.get("location", "of no name") for place in places]
