"""The sign finder in fp32, fp16 and int8, by the command that a user runs: it finds the same signs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="the export extra is not installed")

from firewall.bundle import load_bundle  # noqa: E402
from firewall.bundle.onnx_bytes import precision_of  # noqa: E402
from firewall.frame import Pixels  # noqa: E402
from firewall.regions import build, overlaps  # noqa: E402
from tests.lab.evaluation.test_scenes import pack  # noqa: E402
from tests.lab.in_process import lab  # noqa: E402

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def frames(demo_frames: list[Pixels]) -> list[Pixels]:
    """40 frames of the demo."""
    return [demo_frames[place] for place in np.linspace(0, len(demo_frames) - 1, 40).astype(int)]


@pytest.fixture(scope="module")
def scenes(frames: list[Pixels], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack(tmp_path_factory.mktemp("scenes") / "drawn.npz", [(pixels, []) for pixels in frames])


def met(expected: list[tuple[int, ...]], found: list[tuple[int, ...]]) -> int:
    """How many of the expected regions have one of the found ones at their place."""
    if not expected or not found:
        return 0
    shared = overlaps(np.array(expected, np.float64), np.array(found, np.float64))
    return int((shared.max(axis=1) >= 0.75).sum())


@pytest.mark.parametrize(
    ("precision", "least", "smallest", "largest"),
    [("fp32", 1.0, 1.9, 2.1), ("fp16", 0.98, 0.9, 1.05), ("int8", 0.9, 0.5, 0.75)],
)
def test_each_precision_finds_the_same_signs(
    tmp_path: Path,
    frames: list[Pixels],
    scenes: Path,
    precision: str,
    least: float,
    smallest: float,
    largest: float,
) -> None:
    """The bundle says what its finder computes in, the file does, its length is what that takes, and regions lie where
    they lay: to the pixel in fp32, whose weights are the same numbers."""
    more = ("--scenes", scenes) if precision == "int8" else ()
    made = lab("add-finder", "--finder", "default", "--out", tmp_path / "new", "--precision", precision, *more)
    assert made.returncode == 0, made.stderr
    old, new = load_bundle(), load_bundle(tmp_path / "new")
    assert new.manifest.finder is not None and old.manifest.finder is not None
    before, content = old.files[old.manifest.finder.file], new.files[new.manifest.finder.file]
    assert new.manifest.finder.precision == precision == precision_of(content, "finder")
    assert new.manifest.finder.threshold == old.manifest.finder.threshold
    assert smallest < len(content) / len(before) < largest and len(content) < 1_500_000
    _computes_in(content, precision)
    one, other = (build("signs", threads=1, bundle=bundle, limit=20) for bundle in (old, new))
    pairs = [(one.find(pixels), other.find(pixels)) for pixels in frames[1::2]]
    count = sum(len(expected) for expected, _ in pairs)
    assert count >= 15
    if precision == "fp32":
        assert all(expected == found for expected, found in pairs)
    assert sum(met(expected, found) for expected, found in pairs) >= least * count
    assert sum(met(found, expected) for expected, found in pairs) >= least * sum(len(found) for _, found in pairs)


def _computes_in(content: bytes, precision: str) -> None:
    graph = onnx.load_model_from_string(content).graph
    types = Counter(weight.data_type for weight in graph.initializer if len(weight.dims) == 4)
    products = [node for node in graph.node if node.op_type == "Conv"]
    kind = {"fp32": onnx.TensorProto.FLOAT, "fp16": onnx.TensorProto.FLOAT16, "int8": onnx.TensorProto.INT8}[precision]
    # In int8 the two that see the frame, and the one that gives the map, stay in float32.
    assert types[kind] >= len(products) - 3 >= 20
    assert precision == "int8" or len(types) == 1


@pytest.mark.parametrize(
    ("precision", "frames_of", "more", "words"),
    [
        ("fp64", 0, (), "fp32, fp16, int8"),
        ("int8", 0, (), "--scenes"),
        ("fp16", 40, (), "nothing else does"),
        ("int8", 40, ("--frames", "2:0"), "at least 32 road frames to set its scales on, got 20"),
        ("int8", 40, ("--frames", "2:9"), "2:9"),
    ],
)
def test_wrong_use_is_one_line(
    tmp_path: Path, scenes: Path, precision: str, frames_of: int, more: tuple[str, ...], words: str
) -> None:
    """No such precision, no frames, frames for nothing, too few of them: nothing is written."""
    given = ("--scenes", scenes) if frames_of else ()
    command = ("add-finder", "--finder", "default", "--out", tmp_path / "new", "--precision", precision)
    refused = lab(*command, *given, *more)
    assert refused.returncode != 0 and words in refused.stderr and not (tmp_path / "new").exists()
    assert len(refused.stderr.strip().splitlines()) == 1 and "Traceback" not in refused.stderr


def test_what_was_rounded_is_not_rounded_again(tmp_path: Path) -> None:
    """A finder that computes in fp16 is no int8 or fp32 one: one line says so. To fp16 again changes nothing."""
    first = lab("add-finder", "--finder", "default", "--out", tmp_path / "half", "--precision", "fp16")
    assert first.returncode == 0, first.stderr
    refused = lab("add-finder", "--finder", tmp_path / "half", "--out", tmp_path / "new", "--precision", "fp32")
    assert refused.returncode != 0 and "computes in fp16, and can't be turned into fp32" in refused.stderr
    again = lab("add-finder", "--finder", tmp_path / "half", "--out", tmp_path / "again", "--precision", "fp16")
    assert again.returncode == 0, again.stderr
    assert load_bundle(tmp_path / "again").files["finder.onnx"] == load_bundle(tmp_path / "half").files["finder.onnx"]
