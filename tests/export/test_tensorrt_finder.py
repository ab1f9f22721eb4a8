"""`firewall export tensorrt` for the sign finder, against the fake, and what then runs which network."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

onnx = pytest.importorskip("onnx", reason="the export extra is not installed")

from firewall.bundle import Bundle, load_bundle  # noqa: E402
from firewall.bundle.onnx_bytes import PRECISIONS, Precision  # noqa: E402
from firewall.cli import app, run  # noqa: E402
from firewall.demo.source import truth  # noqa: E402
from firewall.doctor import probes  # noqa: E402
from firewall.errors import BundleError, DataError, EngineError, UsageError  # noqa: E402
from firewall.export.networks import Wanted, plans_of  # noqa: E402
from firewall.export.tensorrt import Built, build_plan  # noqa: E402
from firewall.frame import Pixels  # noqa: E402
from firewall.regions import build as build_regions  # noqa: E402
from firewall.regions.boxes import overlaps  # noqa: E402
from tests.fake_cuda import FakeGpu, install_cuda  # noqa: E402
from tests.fake_tensorrt import VERSIONS, Behaviour, install_tensorrt  # noqa: E402
from tests.finders import bundle_with_finder  # noqa: E402
from tests.fused_bundle import fused_bundle  # noqa: E402

TYPES = {"fp32": "float32", "fp16": "float16", "int8": "int8"}


@pytest.fixture
def red(tmp_path: Path) -> Bundle:
    """The default bundle with the small finder of the tests."""
    return bundle_with_finder(tmp_path / "red")


def build(bundle: Bundle, folder: Path, precision: Precision = "fp32", **fields: Any) -> Built:
    return build_plan(bundle, Wanted(precision, **{"frame": (96, 160), **fields}), "finder", folder=folder)


@pytest.mark.parametrize(
    ("version", "precision"), [(VERSIONS[0], "fp16"), *((VERSIONS[-1], precision) for precision in PRECISIONS)]
)
def test_the_bundle_s_finder_runs_as_a_plan_in_each_precision(
    version: str,
    precision: Precision,
    gpu: FakeGpu,
    demo_frames: list[Pixels],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every multiplying layer is read back in the precision, but for the three that int8 leaves out on purpose. `build`
    on the device tensorrt takes it, and it boxes the demo's signs where the processor does."""
    behaviour = install_tensorrt(monkeypatch, version)
    bundle, frames = load_bundle(), demo_frames[:: len(demo_frames) // 32]
    size = frames[0].shape[:2]
    built = build(bundle, tmp_path, precision, frames=frames if precision == "int8" else (), frame=size)
    sizes = built.plan.key.frame
    assert sizes is not None and behaviour.builds == 1 and gpu.memory == {}
    assert sizes.least == (32, 32) and sizes.best == tuple(-(-side // 32) * 32 for side in size)
    assert sizes.most == (2048, 2048) and built.plan.layers.pop("float32", 3 if precision != "fp32" else 28) in (3, 28)
    assert set(built.plan.layers) <= {TYPES[precision]}

    monkeypatch.setenv("FIREWALL_PLANS", str(tmp_path))
    finder = build_regions("signs", device="tensorrt", bundle=bundle)
    assert finder.networks == {"finder.onnx": f"TensorRT {version} {precision}"}
    reference = build_regions("signs", threads=1, bundle=bundle)
    for place in np.linspace(0, len(demo_frames) - 1, 8).astype(int).tolist():
        found, expected = (np.array(each.find(demo_frames[place]), np.float64) for each in (finder, reference))
        assert len(found) and len(expected)
        shared = overlaps(np.array([truth(place).box], np.float64), found).max()
        assert shared >= 0.5 or overlaps(np.array([truth(place).box], np.float64), expected).max() < 0.5
        if precision != "int8":
            assert overlaps(expected, found).max(axis=1).min() > 0.9


def test_a_plan_that_fits_is_found_and_another_frame_is_another_plan(
    red: Bundle, fake: Behaviour, tmp_path: Path
) -> None:
    """And one that was altered is built again."""
    first, again = build(red, tmp_path / "plans"), build(red, tmp_path / "plans")
    assert first.rebuilt == "there was none" and again.rebuilt is None and again.plan == first.plan
    other = build(red, tmp_path / "plans", frame=(480, 640))
    assert other.path != first.path and fake.builds == 2
    first.path.write_bytes(first.path.read_bytes()[:-1])
    assert "is not the file that was built" in str(build(red, tmp_path / "plans").rebuilt) and fake.builds == 3


def test_a_plan_that_says_something_else_than_onnx_runtime_is_not_kept(
    red: Bundle, fake: Behaviour, gpu: FakeGpu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wrong numbers that are finite and change with the frame; and all that the classifier's plan is refused for."""
    network = red.files["finder.onnx"]
    honest = onnx.load_model_from_string(network)
    monkeypatch.setattr("firewall.export.tensorrt.with_precision", lambda *_, **__: _shifted(honest))
    with pytest.raises(EngineError, match=r"finder\.onnx says something else than ONNX Runtime: .* differs by 0\.5"):
        build(red, tmp_path / "plans")
    monkeypatch.undo()
    install_cuda(monkeypatch, gpu)
    fake = install_tensorrt(monkeypatch)
    for wrong, words in (("stale", "same map"), ("nan", "not finite"), ("shape", "dimension mismatch")):
        fake.wrong = wrong
        with pytest.raises(EngineError, match=words):
            build(red, tmp_path / "plans")
    fake.wrong, fake.types = "", "HALF"
    with pytest.raises(EngineError, match="than float32"):
        build(red, tmp_path / "plans")
    assert list((tmp_path / "plans").glob("*.plan")) == [] and gpu.memory == {}


def _shifted(model: Any) -> bytes:
    """The red finder with all scores half a unit higher."""
    changed = onnx.ModelProto.FromString(model.SerializeToString())
    for entry in changed.graph.initializer:
        if entry.name == "offsets":
            values = onnx.numpy_helper.to_array(entry) + np.float32(0.5)
            entry.CopyFrom(onnx.numpy_helper.from_array(values, entry.name))
    return bytes(changed.SerializeToString())


def test_what_can_not_be_built_is_told(red: Bundle, fake: Behaviour, tmp_path: Path) -> None:
    """A bundle without a finder, a frame that the finder never looks at whole, too few frames for int8, a network of
    another form."""
    for bundle, fields, error, words in (
        (load_bundle(fused_bundle()), {}, BundleError, "has no sign finder to build; name --network classifier"),
        (red, {"frame": (2160, 3840)}, UsageError, "--frame 3840x2176 is more than the finder looks at"),
        (red, {"precision": "int8", "frames": [np.zeros((40, 40, 3), np.uint8)] * 3}, DataError, "32 road .* --frames"),
        (red, {"precision": "int8"}, DataError, "int8 needs calibration images"),
    ):
        with pytest.raises(error, match=words):
            build(bundle, tmp_path / "plans", **fields)  # type: ignore[arg-type]
    model = onnx.load_model_from_string(red.files["finder.onnx"])
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 96
    fixed = Bundle(red.path, red.manifest, {**red.files, "finder.onnx": model.SerializeToString()}, red.sha256)
    with pytest.raises(EngineError, match=r"float32 \(N, 3, free, free\) with free N is needed"):
        build(fixed, tmp_path / "plans")
    assert fake.builds == 0


def command(*arguments: object) -> int:
    return run(app, [*map(str, arguments)], "firewall")


def test_the_command_builds_all_and_everything_then_runs_on_them(
    red: Bundle,
    fake: Behaviour,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Without torch: a plan of each network. `screen` and `serve` name what runs what; with a juror's or the finder's
    plan gone they don't begin: no processor in its place, and the command that builds it."""
    monkeypatch.setitem(sys.modules, "torch", None)
    plans, told, scene = tmp_path / "plans", tmp_path / "told.json", tmp_path / "scene.png"
    monkeypatch.setenv("FIREWALL_PLANS", str(plans))
    given = ("export", "tensorrt", "--bundle", red.path, "--allow-unsigned", "--json", told, "--precision", "fp32")
    assert command(*given, "--frame", "200x100", "--best-batch", 2, "--max-batch", 2) == 0
    said, found = capfd.readouterr().out, json.loads(told.read_text())
    assert "classifier in fp32 for Orin" in said and "batches of 1 to 2" in said
    assert "finder in fp32 for Orin" in said and "frames of up to 2048x2048, best at 224x128" in said
    detectors = ["juror-robust.onnx", "juror-edges.onnx", "masked.onnx", "juror-clear.onnx"]
    assert [each["network"] for each in found["plans"]] == ["classifier", "finder", "masked", *detectors]
    assert fake.builds == 7
    assert found["key"] == found["plans"][0]["key"] and found["plans"][1]["key"]["frame"]["best"] == [128, 224]

    frame = np.full((100, 200, 3), 90, np.uint8)
    frame[40:48, 80:88] = (255, 0, 0)
    Image.fromarray(frame).save(scene)
    common = ("--bundle", red.path, "--allow-unsigned", "--device", "tensorrt", "--regions", "signs")
    assert command("screen", scene, *common) == 0
    line = json.loads(capfd.readouterr().out.splitlines()[-1])
    assert line["region"] == [72, 24, 24, 40] and line["reason"] != "engine error"
    served = ("serve", "--source", scene, "--http", "off", "--output", "-", *common)
    assert command(*served) == 0
    written = capfd.readouterr()
    assert (
        f"on TensorRT {VERSIONS[-1]} fp32, regions: signs (finder.onnx on TensorRT {VERSIONS[-1]} fp32)" in written.err
    )

    for place, file in ((3, "juror-robust.onnx"), (1, "finder.onnx")):
        note = (plans / found["plans"][place]["plan"]).with_suffix(".json")
        note.unlink()
        for arguments in (("screen", scene, *common), served):
            assert command(*arguments) == 1
            written = capfd.readouterr()
            assert not written.out and file in written.err and "firewall export tensorrt" in written.err
            assert len(written.err.strip().splitlines()) == 1


def test_wrong_options_are_told(
    red: Bundle, fake: Behaviour, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, nothing built."""
    base = ("export", "tensorrt", "--bundle", red.path, "--allow-unsigned", "--out", tmp_path / "plans", "--precision")
    for arguments, words in (
        (("fp16", "--network", "jurors"), "--network must be one of classifier, finder, masked, detectors, all"),
        (("fp16", "--frames", tmp_path), "fp32 and fp16 take none, got fp16"),
        (("int8", "--frames", tmp_path), "needs --images"),
        (("int8", "--network", "finder"), "needs --frames"),
        (("int8", "--images", tmp_path), "needs --frames"),
        (("fp16", "--frame", "1280"), "--frame is WIDTHxHEIGHT"),
        (("fp16", "--frame", "0x720"), "--frame is WIDTHxHEIGHT"),
        (("fp16", "--network", "finder", "--frame", "99999x99999"), "is more than the finder looks at"),
    ):
        assert command(*base, *arguments) == 2
        assert words in capsys.readouterr().err
    assert fake.builds == 0


def test_the_doctor_says_which_networks_have_plans(
    fake: Behaviour, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None at first; then the precisions of each network of the default bundle, and no for one that has none."""
    monkeypatch.setenv("FIREWALL_PLANS", str(tmp_path / "plans"))
    ok, detail = probes._plans()
    assert not ok and "no TensorRT plans in" in detail
    build(load_bundle(), tmp_path / "plans", "fp16")
    ok, detail = probes._plans()
    names = ("classifier", "masks", "finder", "juror-robust", "juror-edges", "masked", "juror-clear")
    listed = ", ".join(f"{name}.onnx {'fp16' if name == 'finder' else 'none'}" for name in names)
    assert not ok and detail.startswith(f"{listed} in ")
    for precision in ("fp16", "fp32"):
        build_plan(load_bundle(), Wanted(precision, best=2, most=2), folder=tmp_path / "plans")  # type: ignore[arg-type]
    assert not probes._plans()[0] and "classifier.onnx fp16 and fp32" in probes._plans()[1]
    for network in plans_of(load_bundle(), "all")[2:]:
        build_plan(load_bundle(), Wanted("fp16"), network, folder=tmp_path / "plans")
    assert probes._plans()[0]
