"""`firewall export tensorrt` against a fake whose surface is that of the real bindings, in three versions."""

from __future__ import annotations

import ast
import json
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

onnx = pytest.importorskip("onnx", reason="the export extra is not installed")

from firewall import Firewall, engines  # noqa: E402
from firewall import export as package  # noqa: E402
from firewall.bundle import Bundle  # noqa: E402
from firewall.bundle.onnx_bytes import PRECISIONS, Precision  # noqa: E402
from firewall.cli import app, run  # noqa: E402
from firewall.engines import OnnxRuntimeEngine  # noqa: E402
from firewall.engines.plan_cache import PlanCache  # noqa: E402
from firewall.engines.tensorrt_engine import TensorRTEngine  # noqa: E402
from firewall.errors import EngineError, UsageError  # noqa: E402
from firewall.export.build_progress import interruptible  # noqa: E402
from firewall.export.layers import Layer, check_precision, multiplying  # noqa: E402
from firewall.export.networks import Wanted, profile_of  # noqa: E402
from firewall.export.tensorrt import Built, build_plan  # noqa: E402
from firewall.frame import Pixels  # noqa: E402
from firewall.transforms import resize  # noqa: E402
from tests.fake_cuda import FakeGpu, install_cuda  # noqa: E402
from tests.fake_tensorrt import VERSIONS, Behaviour, check_surface, fake_tensorrt, install_tensorrt  # noqa: E402

TYPES = {"fp32": "float32", "fp16": "float16", "int8": "int8"}


@pytest.fixture(scope="module")
def images(demo_signs: list[Pixels]) -> list[Pixels]:
    return demo_signs[:: len(demo_signs) // 40][:40]


def build(bundle: Bundle, folder: Path, precision: Precision = "fp16", **fields: object) -> Built:
    return build_plan(bundle, Wanted(precision, best=4, most=6, **fields), folder=folder)  # type: ignore[arg-type]


@pytest.mark.parametrize("version", VERSIONS)
def test_the_fake_has_nothing_that_the_real_bindings_lack(version: str) -> None:
    """Names, arguments and enum values, so that code which runs against it asks for no more."""
    check_surface(fake_tensorrt(version, Behaviour()), version)


def test_the_code_names_nothing_that_a_version_lacks() -> None:
    """Every attribute of the package that the sources ask for is in all three versions; what 11 has dropped, and what
    would let a plan run code on the host, is not asked for at all."""
    modules = [fake_tensorrt(version, Behaviour()) for version in VERSIONS]
    folders = [Path(engines.__file__).parent, Path(package.__file__).parent]
    files = [file for folder in folders for file in folder.glob("*.py")]
    named = 0
    for file in files:
        text = file.read_text()
        for word in ("engine_host_code_allowed", "EXPLICIT_BATCH", "IInt8", "BuilderFlag.FP16", "BuilderFlag.INT8"):
            assert word not in text, (file.name, word)
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "library":
                named += 1
                assert all(hasattr(module, node.attr) for module in modules), (file.name, node.attr)
    assert named >= 12
    flags = [set(module.BuilderFlag.__members__) for module in modules]
    assert "FP16" in flags[0] and "FP16" not in flags[-1]  # the listing does tell the generations apart
    assert len({int(module.NetworkDefinitionCreationFlag.STRONGLY_TYPED) for module in modules}) == 2


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_plan_is_built_in_each_precision_and_generation(
    version: str,
    precision: Precision,
    guard: Firewall,
    images: list[Pixels],
    gpu: FakeGpu,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every multiplying layer is read back in the precision; the engine says what ONNX Runtime says; the key names all
    that it depends on; nothing of the GPU's memory stays taken."""
    behaviour = install_tensorrt(monkeypatch, version)
    built = build(guard.bundle, tmp_path, precision, images=images if precision == "int8" else ())

    key = built.plan.key
    assert (key.tensorrt, key.gpu, key.compute_capability) == (version, "Orin", "8.7")
    assert (key.profile.least, key.profile.best, key.profile.most) == (1, 4, 6)
    assert set(built.plan.layers) == {TYPES[precision]} and sum(built.plan.layers.values()) >= 2
    assert built.path.read_bytes() == built.plan.content and behaviour.builds == 1 and behaviour.steps == [True] * 3
    assert gpu.memory == {}
    engine = TensorRTEngine.from_cache(guard.bundle, folder=tmp_path)
    other = "" if precision == "fp32" else ", thresholds set for fp32"
    assert engine.provider == f"TensorRT {version} {precision}{other}"
    size = guard.bundle.manifest.classifier.input
    signs = np.stack([resize(image, size.width, size.height) for image in images[::5]])
    assert len(signs) == 8 > key.profile.most
    expected = OnnxRuntimeEngine(guard.bundle, threads=1).classify(signs)
    allowed = {"fp32": 1e-4, "fp16": 0.02, "int8": 0.2}[precision] * np.abs(expected).max()
    assert np.abs(engine.classify(signs) - expected).max() < allowed
    engine.close()


def test_a_plan_that_fits_is_not_built_again(guard: Firewall, fake: Behaviour, tmp_path: Path) -> None:
    """The second time it is found; another precision, batch or device is another plan; timings are handed on."""
    first = build(guard.bundle, tmp_path)
    again = build(guard.bundle, tmp_path)
    assert first.rebuilt == "there was none" and again.rebuilt is None and fake.builds == 1
    assert again.path == first.path and again.plan == first.plan
    build(guard.bundle, tmp_path, "fp32")
    build_plan(guard.bundle, Wanted("fp16", best=4, most=9), folder=tmp_path)
    assert fake.builds == 3 and len(list(tmp_path.glob("*.plan"))) == 3
    assert fake.timing == [b"", b"timed ", b"timed timed "]


def test_timings_of_another_device_are_not_used(guard: Firewall, fake: Behaviour, tmp_path: Path) -> None:
    """TensorRT refuses them, and the build begins with none."""
    PlanCache(tmp_path).store_timing(VERSIONS[-1], "Orin", b"of another device")
    build(guard.bundle, tmp_path)
    assert fake.timing == [b"of another device", b""]


def test_a_plan_that_was_altered_is_rebuilt_and_never_loaded(
    guard: Firewall, fake: Behaviour, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One bit of the plan, or its note under another key: not handed to TensorRT, but built anew, and it says why."""
    built = build(guard.bundle, tmp_path)
    good = built.path.read_bytes()
    built.path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(EngineError, match="is not the file that was built"):
        TensorRTEngine.from_cache(guard.bundle, folder=tmp_path)
    again = build(guard.bundle, tmp_path)
    assert "is not the file that was built" in str(again.rebuilt) and fake.builds == 2
    assert built.path.read_bytes() == good

    note = built.path.with_suffix(".json")
    note.write_text(note.read_text().replace('"Orin"', '"Thor"'))
    assert "for another key" in str(build(guard.bundle, tmp_path).rebuilt) and fake.builds == 3


def test_other_calibration_images_make_another_int8_plan(
    guard: Firewall, fake: Behaviour, images: list[Pixels], tmp_path: Path
) -> None:
    """The key is the same, since a device that loads it doesn't have the images; the network that went in isn't."""
    build(guard.bundle, tmp_path, "int8", images=images)
    assert build(guard.bundle, tmp_path, "int8", images=images).rebuilt is None
    darker = [image // 4 for image in images]
    assert "calibration images" in str(build(guard.bundle, tmp_path, "int8", images=darker).rebuilt)
    assert fake.builds == 2 and len(list(tmp_path.glob("*.plan"))) == 1


@pytest.mark.parametrize("version", [VERSIONS[0], VERSIONS[-1]])
def test_a_builder_that_takes_another_precision_is_found_out(
    version: str, guard: Firewall, images: list[Pixels], gpu: FakeGpu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked for fp16 or int8 and built in float32, or for fp32 and built in fp16: an error, and no file."""
    fake = install_tensorrt(monkeypatch, version)
    for precision, built_in, words in (
        ("fp16", "FLOAT", r"(\d+) of \1 multiplying layers in another type than float16"),
        ("int8", "HALF", "than int8 .* --keep-float"),
        ("fp32", "HALF", "than float32"),
    ):
        fake.types = built_in
        with pytest.raises(EngineError, match=words):
            build(guard.bundle, tmp_path, precision, images=images if precision == "int8" else ())  # type: ignore[arg-type]
    assert list(tmp_path.glob("*.plan")) == [] and gpu.memory == {}


def test_what_cannot_be_read_back_is_not_kept(guard: Firewall, fake: Behaviour, tmp_path: Path) -> None:
    """An inspector that tells names alone, or none that multiplies, proves nothing."""
    fake.bare = True
    with pytest.raises(EngineError, match="can't be read back"):
        build(guard.bundle, tmp_path)
    assert list(tmp_path.glob("*.plan")) == []
    with pytest.raises(EngineError, match="no layer"):
        check_precision(multiplying('{"Layers": [{"Name": "pool", "LayerType": "CaskPooling"}]}', []), "fp16")
    for broken in ("", "[]", '{"Layers": []}', '{"Layers": 3}'):
        with pytest.raises(EngineError, match="tells no types"):
            multiplying(broken, [])


def test_layers_are_read_in_the_words_of_each_generation() -> None:
    """Weights tell the type where they are named; copies and pointwise layers don't count; part of a name is none."""
    information = json.dumps(
        {
            "Layers": [
                {"Name": "copy of c1", "LayerType": "Reformat", "Inputs": [{"Format/Datatype": "Float"}]},
                {
                    "Name": "c1 + relu",
                    "LayerType": "CaskConvolution",
                    "Inputs": [{"Format/Datatype": "Row major linear FP32 format"}],
                    "Weights": {"Type": "Half", "Count": 9},
                },
                {
                    "Name": "__myl_Conv_0",
                    "LayerType": "kgen",
                    "Metadata": "[ONNX Layer: c2]\u001e[ONNX Layer: r2]",
                    "Inputs": [{"Format/Datatype": "Four wide channel vectorized row major Int8 format"}],
                },
                {"Name": "c22", "LayerType": "kgen", "Inputs": [{"Format/Datatype": "Float"}]},
                {"Name": "g", "LayerType": "gemm", "ParameterType": "x", "Inputs": [{"Format/Datatype": "BFloat16"}]},
                {"Name": "h", "LayerType": "correlation", "Inputs": [{"Format/Datatype": "Odd"}]},
            ]
        }
    )
    found = multiplying(information, ["c1", "c2"])
    assert [layer.type for layer in found] == ["float16", "int8", "bfloat16", "unknown"]
    with pytest.raises(EngineError, match=r"3 of 4 .* \(c1 \+ relu in float16, g in bfloat16, h in unknown\)"):
        check_precision(found, "int8")
    check_precision([Layer("c1 + relu", "float32"), Layer("c2", "int8")], "int8", kept=["c1"])


def test_what_tensorrt_refuses_is_told_in_one_line(guard: Firewall, fake: Behaviour, tmp_path: Path) -> None:
    """The parser's node and words, the builder's first error, an engine that doesn't load or doesn't work."""
    for refuse, words in (
        ("parse", r"can't read classifier.onnx: node 'odd' \(DynamicQuantizeLinear\): no importer for it"),
        ("build", "can't build classifier.onnx: Could not find any implementation for node conv"),
        ("deserialize", "refuses it .* not compatible with this version"),
    ):
        fake.refuse = refuse
        with pytest.raises(EngineError, match=words) as caught:
            build(guard.bundle, tmp_path)
        assert "\n" not in str(caught.value)
    fake.refuse = ""
    for wrong, words in (
        ("stale", "same logits for different"),
        ("nan", "not finite"),
        ("shape", "dimension mismatch"),
    ):
        fake.wrong = wrong
        with pytest.raises(EngineError, match=words):
            build(guard.bundle, tmp_path)
    assert list(tmp_path.glob("*.plan")) == []


def test_a_network_that_does_not_fit_its_bundle_is_not_built(guard: Firewall, fake: Behaviour, tmp_path: Path) -> None:
    """A fixed batch, another name of the input; a further output is left out of the plan."""
    spec = guard.bundle.manifest.classifier
    for change, words in (("batch", "with free N is needed"), ("name", "its bundle says 'image'")):
        model = onnx.load_model_from_string(guard.bundle.files[spec.file])
        if change == "batch":
            model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
        else:
            for node in model.graph.node:
                node.input[:] = ["picture" if name == spec.input.name else name for name in node.input]
            model.graph.input[0].name = "picture"
        bundle = replace(guard.bundle, files={**guard.bundle.files, spec.file: model.SerializeToString()})
        with pytest.raises(EngineError, match=words):
            build(bundle, tmp_path, "fp32")
    model = onnx.load_model_from_string(guard.bundle.files[spec.file])
    extra = model.graph.output.add()
    extra.CopyFrom(model.graph.output[0])
    extra.name = next(node.output[0] for node in model.graph.node if node.op_type == "Relu")
    bundle = replace(guard.bundle, files={**guard.bundle.files, spec.file: model.SerializeToString()})
    build(bundle, tmp_path, "fp32")
    TensorRTEngine.from_cache(bundle, folder=tmp_path).close()


def test_batch_sizes_come_from_the_sweep(guard: Firewall) -> None:
    """Best at the copies that the bundle's detectors have classified; sizes that don't fit each other are refused."""
    copies = {operation for detector in guard.detectors for operation in detector.operations}
    profile = profile_of(guard.bundle)
    assert (profile.least, profile.best) == (1, max(len(copies), 1)) and profile.most >= 16
    for best, most in ((8, 4), (1, 5000)):
        with pytest.raises(UsageError, match="1 <= best <= most <= 4096"):
            profile_of(guard.bundle, best, most)


def test_ctrl_c_ends_a_build_and_keeps_nothing(
    guard: Firewall, fake: Behaviour, gpu: FakeGpu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next step is refused, so TensorRT stops; memory is freed; the error comes outside of TensorRT's calls."""
    monkeypatch.setattr("firewall.export.build_progress._GRACE", 0.0)
    join, pressed = threading.Thread.join, threading.Event()

    def press(self: threading.Thread, timeout: float | None = None) -> None:
        if self.name == "tensorrt-build" and pressed.is_set():
            pressed.clear()
            raise KeyboardInterrupt
        join(self, timeout)

    def step() -> None:
        pressed.set()
        for _ in range(100):  # until it has been heard
            if not pressed.is_set():
                return
            threading.Event().wait(0.05)

    fake.interrupt = step
    monkeypatch.setattr(threading.Thread, "join", press)
    with pytest.raises(KeyboardInterrupt):
        build(guard.bundle, tmp_path)
    assert fake.steps == [False] and list(tmp_path.iterdir()) == [] and gpu.memory == {}


def test_what_a_thread_raises_is_raised_here() -> None:
    """With its own type; and what it gives is given."""

    def fail(cancelled: threading.Event) -> int:
        raise EngineError(f"cancelled: {cancelled.is_set()}")

    with pytest.raises(EngineError, match="cancelled: False"):
        interruptible(fail)
    assert interruptible(lambda cancelled: 3) == 3


def command(*arguments: object) -> int:
    return run(app, ["export", *map(str, arguments)], "firewall")


def test_the_command_needs_no_torch_and_verify_compares_the_plans(
    guard: Firewall,
    fake: Behaviour,
    images: list[Pixels],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """On a device: two plans are built from the default bundle with torch and scipy out of reach, and compared with
    ONNX Runtime, logits, labels and verdicts; a damaged plan ends it."""
    for name in ("torch", "scipy", "sklearn"):
        for loaded in [loaded for loaded in sys.modules if loaded.partition(".")[0] == name]:
            monkeypatch.setitem(sys.modules, loaded, None)
        monkeypatch.setitem(sys.modules, name, None)
    signs, plans, told = tmp_path / "signs", tmp_path / "plans", tmp_path / "told.json"
    signs.mkdir()
    for number, image in enumerate(images):
        Image.fromarray(image).save(signs / f"{number:02d}.png")
    arguments = ("tensorrt", "--bundle", "default", "--out", plans, "--json", told)

    assert command(*arguments, "--precision", "fp16") == 0
    said, found = capsys.readouterr().out, json.loads(told.read_text())
    assert "fp16 for Orin (compute capability 8.7)" in said and "in float16" in said and "there was none" in said
    assert found["key"]["precision"] == "fp16" and (plans / found["plan"]).stat().st_size == found["bytes"]
    assert command(*arguments, "--precision", "fp32") == 0
    capsys.readouterr()

    verify = ("verify", "--images", signs, "--limit", 3, "--plans", plans, "--json", told, "--threads", 1)
    assert command(*verify) == 0
    compared = json.loads(told.read_text())["compared"]
    files = ("masks", "masked", "juror-robust", "juror-edges", "juror-clear", "finder")
    ran = [(entry["network"], entry["runtime"].split(",")[0].split()[-1]) for entry in compared]
    assert ran[:2] == [("classifier.onnx", "fp16"), ("classifier.onnx", "fp32")]
    assert set(ran[2:]) == {(f"{file}.onnx", precision) for file in files for precision in ("fp16", "fp32")}
    assert {entry["reference"].split()[0] for entry in compared} == {"onnxruntime"}
    assert compared[0]["logits"]["largest"] > compared[1]["logits"]["largest"] >= 0
    plan = plans / found["plan"]  # the classifier's
    plan.write_bytes(plan.read_bytes()[:-1])
    assert command(*verify) == 1
    error = capsys.readouterr().err
    assert "is not the file that was built" in error and error.count("\n") == 1


def test_wrong_options_are_told(
    fake: Behaviour, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another precision or package, int8 without images, images without int8: exit code 2, nothing built. A missing
    TensorRT or GPU: exit code 1 and what to install."""
    base = ("tensorrt", "--out", tmp_path / "plans", "--precision")
    for arguments, words in (
        (("fp8",), "one of fp32, fp16, int8, got 'fp8'"),
        (("fp16", "--memory", "numba"), "one of cuda.bindings, pycuda"),
        (("int8",), "needs --images"),
        (("fp16", "--images", tmp_path), "fp32 and fp16 take none"),
        (("fp16", "--best-batch", 8, "--max-batch", 4), "1 <= best <= most"),
    ):
        assert command(*base, *arguments) == 2
        assert words in capsys.readouterr().err
    assert fake.builds == 0
    install_cuda(monkeypatch, FakeGpu(count=0))
    assert command(*base, "fp16") == 1
    assert "the driver is too old, or there is none" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    assert command(*base, "fp16") == 1
    error = capsys.readouterr().err
    assert "python3-libnvinfer" in error and "perception-firewall[tensorrt]" in error and error.count("\n") == 1
