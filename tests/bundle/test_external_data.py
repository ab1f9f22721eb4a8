"""ONNX files whose weights lie elsewhere are found without the onnx package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from firewall.bundle import load_bundle, write_bundle
from firewall.bundle.onnx_bytes import has_external_data
from firewall.errors import BundleError

onnx = pytest.importorskip("onnx", reason="the export extra is not installed")


def tensor(*, external: bool) -> Any:
    made = onnx.numpy_helper.from_array(np.ones(3, np.float32), "w")
    if external:
        made.ClearField("raw_data")
        made.data_location = onnx.TensorProto.EXTERNAL
        made.external_data.add(key="location", value="../../secret")
    return made


def network(where: str, *, external: bool) -> bytes:
    """A network that has the tensor in one of the places where tensors can be."""
    held = tensor(external=external)
    helper = onnx.helper
    inner = helper.make_graph([], "inner", [], [], [held])
    constant = helper.make_node("Constant", [], ["c"], value=held)
    nodes: dict[str, Any] = {
        "initializer": None,
        "constant": constant,
        "subgraph": helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner),
        "function": None,
        "sparse": None,
    }
    node = nodes[where]
    graph = helper.make_graph([node] if node else [], "g", [], [], [held] if where == "initializer" else [])
    if where == "sparse":
        graph.sparse_initializer.add().values.CopyFrom(held)
    model = helper.make_model(graph)
    if where == "function":
        imports = [helper.make_opsetid("", 18)]
        model.functions.append(helper.make_function("own", "F", [], ["c"], [constant], imports))
    return bytes(model.SerializeToString())


@pytest.mark.parametrize("where", ["initializer", "constant", "subgraph", "function", "sparse"])
def test_external_data_is_found_wherever_it_is(where: str) -> None:
    """In weights, constants, branches, functions and sparse tensors; the same network with its own data is fine."""
    assert has_external_data(network(where, external=True), "x.onnx")
    assert not has_external_data(network(where, external=False), "x.onnx")


def test_a_bundle_with_external_data_does_not_load(tmp_path: Path) -> None:
    """Not even if its hashes fit: nothing has hashed what the file points at."""
    made = load_bundle()
    files = {**made.files, "classifier.onnx": network("initializer", external=True)}
    with pytest.raises(BundleError, match="save the network as one file"):
        write_bundle(tmp_path / "b", files, **made.manifest.model_dump(exclude={"files"}))


def test_what_can_not_be_read_to_the_end_is_refused() -> None:
    """Cut off anywhere within a field, endless numbers, field 0, a key that another reader might cut down."""
    whole = network("subgraph", external=True)
    for content in (whole[:-1], b"\xff" * 20, b"\x02\x00", b"\xba\x80\x80\x80\x10\x00", b"\x3b"):
        with pytest.raises(BundleError, match="is not a readable ONNX file"):
            has_external_data(content, "x.onnx")
    # A graph, or a node in one, that is a number or four bytes instead of a message.
    for content in (b"\x38\x05", b"\x3d\x00\x00\x00\x00", b"\x3a\x02\x08\x05"):
        with pytest.raises(BundleError, match=r"field \d of a (model|graph) is no message"):
            has_external_data(content, "x.onnx")
    nested = b""
    for _ in range(100):
        attribute = b"\x32" + _length(nested) + nested
        node = b"\x2a" + _length(attribute) + attribute
        nested = b"\x0a" + _length(node) + node
    with pytest.raises(BundleError, match="too deep"):
        has_external_data(b"\x3a" + _length(nested) + nested, "x.onnx")


def _length(content: bytes) -> bytes:
    value, out = len(content), b""
    while value >= 0x80:
        out, value = out + bytes([value & 0x7F | 0x80]), value >> 7
    return out + bytes([value])
