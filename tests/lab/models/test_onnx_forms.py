"""The forms in which exporters write classifiers: each works as it is meant, or is refused in a line that says why."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from firewall.errors import DataError, FirewallError, UsageError
from firewall.host.onnxruntime import ort
from firewall.lab.measurement.edge import engine_for
from firewall.lab.models import open_classifier
from firewall.lab.models.onnx_file import specify
from firewall.lab.models.onnx_reading import read_onnx

SIDE, CLASSES = 8, 5
RNG = np.random.default_rng(4)
WEIGHTS = RNG.normal(0, 0.2, (3 * SIDE * SIDE, CLASSES)).astype(np.float32)
PIXELS = RNG.integers(0, 256, (6, SIDE, SIDE, 3), np.uint8)
EXPECTED = (PIXELS.transpose(0, 3, 1, 2).reshape(6, -1) / 255.0) @ WEIGHTS
Node = tuple[Any, ...]


def net(
    path: Path,
    steps: list[Node],
    outputs: dict[str, tuple[int, tuple[Any, ...]]],
    *,
    shape: tuple[Any, ...] = ("N", 3, SIDE, SIDE),
    kind: int = TensorProto.FLOAT,
    weights: np.ndarray = WEIGHTS,
    more: dict[str, np.ndarray] | None = None,
    metadata: dict[str, str] | None = None,
    inputs: tuple[onnx.ValueInfoProto, ...] = (),
) -> str:
    """A graph of (operator, inputs, outputs, attributes) on the input `x` and the weights `w`."""
    nodes = [
        helper.make_node(step[0], step[1].split(), step[2].split(), **(step[3] if step[3:] else {})) for step in steps
    ]
    constants = {"w": weights, "v": WEIGHTS[:, :3], **(more or {})}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", kind, shape), *inputs],
        [helper.make_tensor_value_info(name, *given) for name, given in outputs.items()],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    for key, value in (metadata or {}).items():
        model.metadata_props.add(key=key, value=value)
    path.write_bytes(model.SerializeToString())
    return str(path)


FLAT, LINEAR = ("Flatten", "x", "f"), ("MatMul", "f w", "y")
LOGITS = {"y": (TensorProto.FLOAT, ("N", CLASSES))}
SCORES = (TensorProto.FLOAT, ("N", CLASSES))


def judged(spec: str, **given: str) -> np.ndarray:
    """What the edge makes of the file; as the lab does, which says the same. One input, one output, N free."""
    found = specify(spec, given)
    ours = engine_for(found.spec, found.content, 1).classify(PIXELS)
    session = ort.InferenceSession(found.content, providers=["CPUExecutionProvider"])
    assert len(session.get_outputs()) == len(session.get_inputs()) == 1
    theirs = open_classifier(spec + "".join(f"{'&' if at else '?'}{key}={given[key]}" for at, key in enumerate(given)))
    np.testing.assert_allclose(theirs.logits(PIXELS), ours, atol=1e-3)
    return ours


def shares(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


HALF = [("Cast", "f", "fh", {"to": TensorProto.FLOAT16}), ("MatMul", "fh w", "y")]
FORMS: dict[str, Callable[[Path], str]] = {
    "channels last, as of Keras and tf2onnx": lambda p: net(
        p,
        [("Transpose", "x", "t", {"perm": [0, 3, 1, 2]}), ("Flatten", "t", "f"), LINEAR],
        LOGITS,
        shape=("N", SIDE, SIDE, 3),
    ),
    "a batch of one that is written down inside": lambda p: net(
        p,
        [("Reshape", "x s", "f"), LINEAR],
        {"y": (1, (1, CLASSES))},
        shape=(1, 3, SIDE, SIDE),
        more={"s": np.array([1, -1])},
    ),
    "places kept: (N, C, 1, 1)": lambda p: net(
        p,
        [FLAT, ("MatMul", "f w", "r"), ("Unsqueeze", "r a", "y")],
        {"y": (1, ("N", CLASSES, 1, 1))},
        more={"a": np.array([2, 3])},
    ),
    "places kept, channels last: (N, 1, 1, C)": lambda p: net(
        p,
        [FLAT, ("MatMul", "f w", "r"), ("Unsqueeze", "r a", "y")],
        {"y": (1, ("N", 1, 1, CLASSES))},
        more={"a": np.array([1, 2])},
    ),
    "float16": lambda p: net(
        p, [FLAT, LINEAR], {"y": (10, ("N", CLASSES))}, kind=TensorProto.FLOAT16, weights=WEIGHTS.astype(np.float16)
    ),
    "uint8 pixels": lambda p: net(
        p,
        [("Cast", "x", "c", {"to": 1}), ("Div", "c q", "d"), ("Flatten", "d", "f"), LINEAR],
        LOGITS,
        kind=TensorProto.UINT8,
        more={"q": np.float32(255)[None]},
    ),
    "a label and a table, as of skl2onnx": lambda p: net(
        p, [FLAT, LINEAR, ("ArgMax", "y", "label", {"axis": 1, "keepdims": 0})], {"label": (7, ("N",)), "y": SCORES}
    ),
    "the best three beside the classes": lambda p: net(
        p,
        [FLAT, LINEAR, ("TopK", "y k", "best places", {"axis": 1})],
        {"best": (1, ("N", 3)), "places": (7, ("N", 3)), "y": SCORES},
        more={"k": np.array([3])},
    ),
    "logits and their softmax": lambda p: net(
        p, [FLAT, LINEAR, ("Softmax", "y", "p", {"axis": 1})], {"p": SCORES, "y": SCORES}
    ),
    "softmax at the end, as of Ultralytics": lambda p: net(
        p,
        [FLAT, ("MatMul", "f w", "r"), ("Softmax", "r", "output0", {"axis": 1})],
        {"output0": (1, (1, CLASSES))},
        shape=(1, 3, SIDE, SIDE),
        metadata={"names": "{0: 'a', 1: 'b', 2: 'c', 3: 'd', 4: 'e'}", "task": "classify"},
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_that_work(tmp_path: Path, form: str) -> None:
    """The edge's logits are those of the network that the file was made of, in the lab as on the edge."""
    np.testing.assert_allclose(
        judged(FORMS[form](tmp_path / "net.onnx")), EXPECTED, atol=0.02 if "16" in form else 1e-4
    )


def test_labels_of_ultralytics_are_found(tmp_path: Path) -> None:
    """Its metadata hold a Python dictionary; a network for another of its tasks is refused."""
    path = tmp_path / "net.onnx"
    spec = FORMS["softmax at the end, as of Ultralytics"](path)
    assert specify(spec, {}).spec.labels == ("a", "b", "c", "d", "e")
    net(path, [FLAT, LINEAR], LOGITS, metadata={"names": "{0: 'a'}", "task": "detect"})
    with pytest.raises(DataError, match="'detect'"):
        specify(spec, {})


@pytest.mark.parametrize("split", [False, True])
def test_probabilities_become_logarithms(tmp_path: Path, split: bool) -> None:
    """A softmax with something behind it, or taken apart: its logarithms are the logits but for a constant an image."""
    apart = [("Exp", "r", "e"), ("ReduceSum", "e a", "s"), ("Div", "e s", "y")]
    whole = [("Softmax", "r", "p", {"axis": 1}), ("Reshape", "p k", "y")]
    more = {"a": np.array([1]), "k": np.array([-1, CLASSES])}
    spec = net(tmp_path / "net.onnx", [FLAT, ("MatMul", "f w", "r"), *(apart if split else whole)], LOGITS, more=more)
    np.testing.assert_allclose(shares(judged(spec)), shares(EXPECTED), atol=1e-4)
    assert "probabilities" in specify(spec, {}).note


def features(path: Path, labels: list[str] | None = None) -> str:
    """Features first, then the classes."""
    outputs = {"features": (1, ("N", 3)), "y": SCORES}
    return net(
        path,
        [FLAT, ("MatMul", "f v", "features"), LINEAR],
        outputs,
        metadata={"labels": json.dumps(labels)} if labels else None,
    )


def test_of_several_outputs_one_is_named_or_fits(tmp_path: Path) -> None:
    """--output names it; where there are labels, the one that has as many; else it is refused with names and shapes."""
    spec = features(tmp_path / "net.onnx")
    np.testing.assert_allclose(judged(spec, output="y"), EXPECTED, atol=1e-4)
    with pytest.raises(DataError, match=r"2 outputs: features float32 \(N, 3\), y float32 \(N, 5\).*--output"):
        specify(spec, {})
    with pytest.raises(UsageError, match=r"no output 'z'; it has features"):
        specify(spec, {"output": "z"})
    labelled = features(tmp_path / "labelled.onnx", ["a", "b", "c", "d", "e"])
    np.testing.assert_allclose(judged(labelled), EXPECTED, atol=1e-4)
    assert "'y' is taken" in specify(labelled, {}).note
    with pytest.raises(DataError, match=r"none of them is float32 \(N, 2\)"):
        specify(features(tmp_path / "two.onnx", ["a", "b"]), {})


def test_heads_of_the_same_width_are_no_guess(tmp_path: Path) -> None:
    """Auxiliary heads, as of torchvision's Inception and GoogLeNet: labels don't tell which; names do."""
    steps = [FLAT, LINEAR, ("Neg", "y", "aux")]
    spec = net(tmp_path / "net.onnx", steps, {"aux": SCORES, "y": SCORES}, metadata={"labels": '["a","b","c","d","e"]'})
    with pytest.raises(DataError, match=r"more than one of them .*--output"):
        specify(spec, {})
    named = net(
        tmp_path / "n.onnx",
        [FLAT, ("MatMul", "f w", "logits"), ("Neg", "logits", "aux")],
        {"aux": SCORES, "logits": SCORES},
    )
    np.testing.assert_allclose(judged(named), EXPECTED, atol=1e-4)


def zipmap(path: Path) -> str:
    """As skl2onnx writes it unless told otherwise."""
    spec = net(path, [FLAT, LINEAR, ("ArgMax", "y", "label", {"axis": 1, "keepdims": 0})], {"label": (7, ("N",))})
    model = onnx.load(path)
    model.opset_import.add(domain="ai.onnx.ml", version=3)
    model.graph.node.append(
        helper.make_node(
            "ZipMap", ["y"], ["probabilities"], domain="ai.onnx.ml", classlabels_int64s=list(range(CLASSES))
        )
    )
    kind = helper.make_sequence_type_proto(helper.make_map_type_proto(7, helper.make_tensor_type_proto(1, None)))
    model.graph.output.append(helper.make_value_info("probabilities", kind))
    path.write_bytes(model.SerializeToString())
    return spec


REFUSED: dict[str, tuple[Callable[[Path], str], str]] = {
    "zipmap": (
        zipmap,
        r"sequence of maps.*zipmap",
    ),
    "several inputs": (
        lambda p: net(p, [FLAT, LINEAR], LOGITS, inputs=(helper.make_tensor_value_info("speed", 1, ("N", 1)),)),
        r"2 inputs: x float32 \(N, 3, 8, 8\), speed float32 \(N, 1\)",
    ),
    "a table of features": (
        lambda p: net(p, [("MatMul", "x w", "y")], LOGITS, shape=("N", 192)),
        r"float32 \(N, 192\).*Flatten",
    ),
    "float64": (lambda p: net(p, [FLAT, LINEAR], LOGITS, kind=11, weights=WEIGHTS.astype(np.float64)), "x float64"),
    "int32": (
        lambda p: net(p, [("Cast", "x", "c", {"to": 1}), ("Flatten", "c", "f"), LINEAR], LOGITS, kind=6),
        "x int32",
    ),
    "four channels": (lambda p: net(p, [FLAT, LINEAR], LOGITS, shape=("N", 4, 8, 8)), "with 4 channels"),
    "no channels told": (
        lambda p: net(p, [FLAT, LINEAR], LOGITS, shape=("N", "C", "H", "W")),
        "open number of channels",
    ),
    "no size told": (lambda p: net(p, [FLAT, LINEAR], LOGITS, shape=("N", 3, "H", "W")), r"--size 224x224"),
    "one number an image": (
        lambda p: net(p, [FLAT, LINEAR], {"y": (1, ("N", 1))}, weights=WEIGHTS[:, :1]),
        "one value an image",
    ),
    "no classes": (
        lambda p: net(p, [FLAT, LINEAR], {"y": (1, ("N", 0))}, weights=WEIGHTS[:, :0]),
        "one value a class|one a class",
    ),
    "a class for each place": (lambda p: net(p, [("Relu", "x", "y")], {"y": (1, ("N", 3, 8, 8))}), r"\(N, 3, 8, 8\)"),
    "labels alone": (
        lambda p: net(p, [FLAT, LINEAR, ("ArgMax", "y", "label", {"axis": 1, "keepdims": 0})], {"label": (7, ("N",))}),
        r"label int64 \(N,\)",
    ),
    "the best three, sorted": (
        lambda p: net(
            p,
            [FLAT, ("MatMul", "f w", "r"), ("TopK", "r k", "best places", {"axis": 1}), ("Softmax", "best", "y")],
            {"y": (1, ("N", 3)), "places": (7, ("N", 3))},
            more={"k": np.array([3])},
        ),
        r"sorted, y \(N, 3\).*TopK",
    ),
    "too few labels": (
        lambda p: net(p, [FLAT, LINEAR], LOGITS, metadata={"labels": '["a", "b"]'}),
        r"has 5 classes, but 2 labels in its own metadata, from 'a' to 'b'",
    ),
    "two of one name": (
        lambda p: net(p, [FLAT, LINEAR], LOGITS, metadata={"labels": '["a", "b", "a", "c", "d"]'}),
        "classes 0 and 2 are all named 'a'",
    ),
    "a batch that is a part of the answer": (
        lambda p: net(p, [FLAT, ("MatMul", "f w", "r"), ("Softmax", "r", "y", {"axis": 0})], LOGITS),
        "comes with others",
    ),
    "a batch that can't be made free": (
        lambda p: net(
            p, [("Reshape", "x s", "f"), LINEAR], LOGITS, more={"s": np.array([2, 96])}, weights=WEIGHTS[:96]
        ),
        r"one row of values for each|other values for an image|runs on one image, but not",
    ),
}


@pytest.mark.parametrize("form", REFUSED)
def test_forms_that_are_refused(tmp_path: Path, form: str) -> None:
    """One line that says what was seen, with names, types in words and shapes, and what to do."""
    make, words = REFUSED[form]
    with pytest.raises(FirewallError, match=words) as refusal:
        specify(make(tmp_path / "net.onnx"), {})
    line = str(refusal.value)
    assert "\n" not in line and "net.onnx" in line and "onnx?size" not in line and "of type" not in line


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", r"empty \(0 bytes\)"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "git lfs pull"),
        (b"PK\x03\x04" + bytes(40), "ZIP"),
        (b"\x80\x04\x95" + bytes(40), "pickle"),
        (b"\x89HDF\r\n\x1a\n" + bytes(40), "HDF5"),
        (b"\x1c\x00\x00\x00TFL3" + bytes(40), "TensorFlow Lite"),
        (b"Not found", "text that begins with 'Not found'"),
        (b'{"message": "Not Found"}', "JSON"),
        (b"\x1f\x8b\x08" + bytes(40), "gzip"),
        (b"\x00\xff" * 99, "cut off or damaged"),
    ],
)
def test_files_that_are_no_onnx(tmp_path: Path, content: bytes, words: str) -> None:
    """It says what the bytes are."""
    (tmp_path / "net.onnx").write_bytes(content)
    with pytest.raises(DataError, match=words):
        specify(str(tmp_path / "net.onnx"), {})


def changed(path: Path, change: Callable[[onnx.ModelProto], object]) -> str:
    """A file that works, changed."""
    spec = net(path, [FLAT, LINEAR], LOGITS)
    model = onnx.load(path)
    change(model)
    path.write_bytes(model.SerializeToString())
    return spec


def elsewhere(model: onnx.ModelProto) -> None:
    weight = model.graph.initializer[0]
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="net.onnx.data")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda model: setattr(model, "ir_version", 99), "IR version 99, onnxruntime .* reads up to"),
        (lambda model: setattr(model.opset_import[0], "version", 99), "opset 99, onnxruntime .* reads up to"),
        (lambda model: setattr(model.graph.node[0], "op_type", "Fancy"), "doesn't know the operator Fancy"),
        (
            lambda model: (
                setattr(model.graph.node[0], "domain", "my.ops"),
                model.opset_import.add(domain="my.ops", version=1),
            ),
            "doesn't know the operator Flatten of my.ops",
        ),
        (elsewhere, r"other files \(net\.onnx\.data\)"),
        (lambda model: model.graph.initializer[0].dims.__setitem__(0, 7), "net.onnx"),
    ],
)
def test_the_cause_comes_first(tmp_path: Path, change: Callable[[onnx.ModelProto], object], words: str) -> None:
    """Newer IR or opset, unknown operators, weights elsewhere, shapes that don't fit: the cause and its own advice,
    never that of a fixed batch size, and no C++."""
    with pytest.raises(DataError, match=words) as refusal:
        specify(changed(tmp_path / "net.onnx", change), {})
    line = str(refusal.value)
    assert "free batch" not in line and "::" not in line and "ONNXRuntimeError" not in line and len(line) < 400


def test_a_file_that_is_cut_off_a_folder_and_none(tmp_path: Path) -> None:
    """Each is named."""
    path = Path(net(tmp_path / "net.onnx", [FLAT, LINEAR], LOGITS))
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(DataError, match="cut off or damaged"):
        specify(str(path), {})
    with pytest.raises(DataError, match="is a folder"):
        read_onnx(tmp_path)
    with pytest.raises(DataError, match="No such file"):
        read_onnx(tmp_path / "none.onnx")
