"""The TensorRT engine on a fake TensorRT that runs the plan's ONNX on the processor, and a fake GPU of host memory."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

onnx = pytest.importorskip("onnx", reason="the export extra is not installed")

from firewall import Firewall  # noqa: E402
from firewall.bundle import Bundle  # noqa: E402
from firewall.engines import OnnxRuntimeEngine, TensorEngine, on_processor, what_runs  # noqa: E402
from firewall.engines.device_memory import open_device  # noqa: E402
from firewall.engines.networks import detector_files  # noqa: E402
from firewall.engines.plan_cache import Plan, PlanCache, PlanKey, Profile  # noqa: E402
from firewall.engines.tensorrt_engine import TensorRTEngine  # noqa: E402
from firewall.engines.tensorrt_library import open_tensorrt  # noqa: E402
from firewall.errors import EngineError, MissingExtraError  # noqa: E402
from firewall.export.networks import Wanted  # noqa: E402
from firewall.export.tensorrt import build_plan  # noqa: E402
from firewall.frame import Pixels  # noqa: E402
from firewall.verdict import Reason  # noqa: E402
from tests.fake_cuda import FakeGpu, install_cuda  # noqa: E402
from tests.fake_tensorrt import VERSIONS, Behaviour, install_tensorrt  # noqa: E402

MOST = 6


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> FakeGpu:
    gpu = FakeGpu()
    install_cuda(monkeypatch, gpu)
    return gpu


@pytest.fixture(params=[VERSIONS[0], VERSIONS[-1]])
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def fake(gpu: FakeGpu, version: str, monkeypatch: pytest.MonkeyPatch) -> Behaviour:
    return install_tensorrt(monkeypatch, version)


@pytest.fixture
def plan(guard: Firewall, version: str) -> Callable[..., Plan]:
    """A plan in the fake's format, for the default bundle; changes are the key's."""

    def make(**changes: object) -> Plan:
        spec = guard.bundle.manifest.classifier
        network = guard.bundle.files[spec.file]
        shape = [3, spec.input.height, spec.input.width]
        shapes = {spec.input.name: [[count, *shape] for count in (1, 4, MOST)]}
        head = f'{{"shapes": {shapes}, "detailed": true, "outputs": ["{spec.output}"]}}'.replace("'", '"')
        content = f"fake {version}\n{head}\n".encode() + network
        digest = hashlib.sha256(network).hexdigest()
        fields = {"onnx": digest, "output": spec.output, "tensorrt": version, "gpu": "Orin"}
        profile = Profile(best=4, most=MOST)
        key = PlanKey.model_validate(
            {**fields, "compute_capability": "8.7", "precision": "fp32", "profile": profile, **changes}
        )
        return Plan(key, content, digest, {"float32": 10}, {})

    return make


@pytest.fixture
def engine(guard: Firewall, fake: Behaviour, plan: Callable[..., Plan]) -> TensorRTEngine:
    return TensorRTEngine(guard.bundle, plan(), open_device())


@pytest.fixture
def beside(guard: Firewall, engine: TensorRTEngine, tmp_path: Path) -> TensorRTEngine:
    """The engine, with plans of the detectors' networks in a folder that it looks in."""
    for file in detector_files(guard.bundle):
        build_plan(guard.bundle, Wanted("fp32"), file, folder=tmp_path / "beside")
    engine.folder = tmp_path / "beside"
    return engine


def noise(bundle: Bundle, count: int) -> npt.NDArray[np.uint8]:
    size = bundle.manifest.classifier.input
    return np.random.default_rng(count).integers(0, 256, (count, size.height, size.width, 3), np.uint8)


def test_it_says_what_onnx_runtime_says(guard: Firewall, engine: TensorRTEngine, version: str) -> None:
    """One image, as many as the plan takes, more (in parts), none; with gaps between them too."""
    reference = OnnxRuntimeEngine(guard.bundle, threads=1)
    assert engine.provider == f"TensorRT {version} fp32" and isinstance(engine, TensorEngine)
    for count in (1, MOST, 2 * MOST + 1):
        images = noise(guard.bundle, count)
        assert engine.classify(images) == pytest.approx(reference.classify(images), abs=1e-5)
    images = noise(guard.bundle, 5)
    assert np.array_equal(engine.classify(images[::2]), engine.classify(images)[::2])
    assert engine.classify(images[:0]).shape == (0, len(guard.bundle.manifest.classifier.labels))


def test_what_is_written_in_place_or_on_the_device_is_classified(guard: Firewall, engine: TensorRTEngine) -> None:
    """A sweep fills the page-locked tensor, or device memory on the engine's stream; no other copy is made."""
    spec = guard.bundle.manifest.classifier.input
    images = noise(guard.bundle, MOST)
    values = ((images / 255 - spec.mean) / spec.std).transpose(0, 3, 1, 2).astype(np.float32)
    expected = engine.classify(images)

    engine.tensor(MOST)[...] = values
    assert engine.run(MOST) == pytest.approx(expected, abs=1e-4)
    address = engine.memory.allocate(values.nbytes)
    engine.memory.to_device(address, np.ascontiguousarray(values))
    assert engine.classify_at(address, MOST) == pytest.approx(expected, abs=1e-4)
    for count in (0, MOST + 1):
        with pytest.raises(EngineError, match=f"1 to {MOST} images at a time, got {count}"):
            engine.classify_at(address, count)


def test_a_firewall_on_it_gives_the_same_verdicts(
    guard: Firewall, beside: TensorRTEngine, demo_frames: list[Pixels], version: str
) -> None:
    """To the label, the reason and nearly the same scores; every network runs there, none on the processor."""
    other = Firewall(guard.bundle, beside)
    runs = what_runs(other.bundle, other.engine, other.under_masks, other.networks)
    assert sorted(runs) == ["classifier.onnx", "image-cnn.onnx", "residual.onnx"] and set(runs.values()) == {
        f"TensorRT {version} fp32"
    }
    assert on_processor(runs, other.engine.provider) == ""
    for pixels in demo_frames[:60:20]:
        crop = np.ascontiguousarray(pixels[:160, :160])
        one, two = guard.screen(crop), other.screen(crop)
        assert (one.released, one.label, one.reason) == (two.released, two.label, two.reason)
        assert one.scores == pytest.approx(two.scores, abs=1e-3)


def test_every_failure_is_an_error_and_no_old_answer(
    guard: Firewall, beside: TensorRTEngine, fake: Behaviour, gpu: FakeGpu
) -> None:
    """What isn't written is refused, even though the batch before was answered; a refused shape; CUDA's errors; images
    of another size. A firewall withholds."""
    images, engine = noise(guard.bundle, 3), beside
    engine.classify(images)
    other = Firewall(guard.bundle, engine)
    for wrong, words in (("nan", "not finite"), ("shape", "failed on 3 images: Static dimension mismatch")):
        fake.wrong = wrong
        with pytest.raises(EngineError, match=words):
            engine.classify(images)
        gpu.refuse = "cudaGraphLaunch" if wrong == "shape" else ""  # one image is a graph, which has its shape
        verdict = other.screen(np.ascontiguousarray(images[0]))
        assert not verdict.released and verdict.reason is Reason.ENGINE_ERROR
    fake.wrong = ""
    for function in ("cudaMemcpyAsync", "cudaStreamSynchronize"):
        gpu.refuse = function
        with pytest.raises(EngineError, match=f"CUDA refuses {function}"):
            engine.classify(images)
    gpu.refuse = ""
    with pytest.raises(EngineError, match="takes uint8"):
        engine.classify(images[:, :-1])
    assert np.isfinite(engine.classify(images)).all()


@pytest.mark.parametrize(
    "changes", [{"onnx": "0" * 64}, {"tensorrt": "10.0.1"}, {"gpu": "Thor"}, {"compute_capability": "9.0"}]
)
def test_a_plan_for_something_else_is_not_loaded(
    changes: dict[str, object], guard: Firewall, fake: Behaviour, plan: Callable[..., Plan]
) -> None:
    """Another network, version, GPU or capability: told before TensorRT sees a byte of it."""
    fake.refuse = "deserialize"
    with pytest.raises(EngineError, match=f"was built for {next(iter(changes))} "):
        TensorRTEngine(guard.bundle, plan(**changes), open_device())


def test_a_plan_that_is_not_what_it_says_is_refused(
    guard: Firewall, fake: Behaviour, plan: Callable[..., Plan]
) -> None:
    """Tensors or batch sizes other than the bundle's and the key's; an engine that tells no images apart."""
    spec = guard.bundle.manifest.classifier
    labels = guard.bundle.manifest.model_copy(
        update={"classifier": spec.model_copy(update={"labels": (*spec.labels, "one more")})}
    )
    with pytest.raises(EngineError, match="its bundle says"):
        TensorRTEngine(replace(guard.bundle, manifest=labels), plan(), open_device())
    with pytest.raises(EngineError, match="not those of its key"):
        TensorRTEngine(guard.bundle, plan(profile=Profile(best=4, most=MOST + 1)), open_device())
    fake.wrong = "stale"
    with pytest.raises(EngineError, match="same logits for different images"):
        TensorRTEngine(guard.bundle, plan(), open_device())


def test_only_what_lies_in_the_cache_whole_is_opened(
    guard: Firewall, fake: Behaviour, gpu: FakeGpu, plan: Callable[..., Plan], tmp_path: Path
) -> None:
    """From the cache it runs, and close gives all memory back; nothing there, or damage, is an error that leaves
    nothing allocated."""
    cache, stored = PlanCache(tmp_path), plan()
    with pytest.raises(EngineError, match="'firewall export tensorrt'"):
        TensorRTEngine.from_cache(guard.bundle, folder=tmp_path)
    path = cache.store(stored.key, stored.content, network=stored.network, layers={}, made={})
    engine = TensorRTEngine.from_cache(guard.bundle, precision="fp32", folder=tmp_path)
    assert engine.plan.key == stored.key and gpu.memory
    engine.close()
    assert gpu.memory == {}
    with pytest.raises(EngineError, match="no fp16 TensorRT plan"):
        TensorRTEngine.from_cache(guard.bundle, precision="fp16", folder=tmp_path)
    path.write_bytes(stored.content + b"\0")
    with pytest.raises(EngineError, match="is not the file that was built"):
        TensorRTEngine.from_cache(guard.bundle, folder=tmp_path)
    assert gpu.memory == {}


def test_which_tensorrt_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """10.3 to 11; older and newer ones are refused by name; none: what to install on a Jetson and elsewhere; one whose
    libraries don't load: its words."""
    install_tensorrt(monkeypatch)
    for version, fits in (("10.3.0", True), ("11.9.1", True), ("8.6.2", False), ("10.2.0", False), ("12.0", False)):
        monkeypatch.setattr(sys.modules["tensorrt"], "__version__", version)
        if fits:
            assert open_tensorrt().__version__ == version
        else:
            with pytest.raises(EngineError, match=f"TensorRT {version} is not supported"):
                open_tensorrt()
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(MissingExtraError, match=r"JetPack brings it.*perception-firewall\[tensorrt\]"):
        open_tensorrt()


def test_a_tensorrt_whose_library_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the bindings alone fail: in one line, and not as if the package were missing."""
    (tmp_path / "tensorrt.py").write_text("raise ImportError('libnvonnxparser.so.11: cannot open\\nshared object')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    with pytest.raises(EngineError, match=r"can't be loaded: libnvonnxparser\.so\.11: cannot open shared object"):
        open_tensorrt()
