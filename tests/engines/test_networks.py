"""The networks beside a bundle's classifier: opened where it runs, on its one stream, and nowhere else in silence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="the export extra is not installed")

from onnx import TensorProto, helper  # noqa: E402

from firewall import Firewall  # noqa: E402
from firewall.bundle import Bundle, load_bundle  # noqa: E402
from firewall.bundle.onnx_bytes import is_classical  # noqa: E402
from firewall.engines import Networks, OnnxRuntimeEngine, cuda_session, on_processor, what_runs  # noqa: E402
from firewall.engines.cuda_engine import CudaEngine  # noqa: E402
from firewall.engines.device_network import DeviceNetwork, detector_tensors, network_on_cuda  # noqa: E402
from firewall.engines.networks import detector_files  # noqa: E402
from firewall.engines.sessions import CPU, CUDA  # noqa: E402
from firewall.engines.tensorrt_engine import TensorRTEngine  # noqa: E402
from firewall.errors import EngineError, UsageError  # noqa: E402
from firewall.export.networks import Wanted, plans_of, subject_of  # noqa: E402
from firewall.export.on_device import open_finders, open_plans  # noqa: E402
from firewall.export.tensorrt import build_plan  # noqa: E402
from firewall.export.verification import verify  # noqa: E402
from firewall.frame import Pixels  # noqa: E402
from firewall.host.onnxruntime import ort  # noqa: E402
from tests.fake_cuda import FakeGpu  # noqa: E402
from tests.fake_gpu import FakeMemory, FakeSession  # noqa: E402
from tests.fake_tensorrt import VERSIONS, Behaviour  # noqa: E402
from tests.jurors import bundle_with, constant_network, juror  # noqa: E402


@pytest.fixture(scope="module")
def default() -> Bundle:
    """The bundle that is shipped: three jurors, a classifier for masked images, a finder."""
    return load_bundle()


def trees(features: int = 4) -> bytes:
    """Two leaves: what neither TensorRT nor the CUDA provider has code for."""
    node = helper.make_node(
        *("TreeEnsembleRegressor", ["values"], ["score"]),
        domain="ai.onnx.ml",
        n_targets=1,
        nodes_treeids=[0] * 3,
        nodes_nodeids=[0, 1, 2],
        nodes_featureids=[0] * 3,
        nodes_modes=["BRANCH_LEQ", "LEAF", "LEAF"],
        nodes_values=[0.5, 0.0, 0.0],
        nodes_truenodeids=[1, 0, 0],
        nodes_falsenodeids=[2, 0, 0],
        target_treeids=[0, 0],
        target_nodeids=[1, 2],
        target_ids=[0, 0],
        target_weights=[1.0, 2.0],
    )
    graph = helper.make_graph(
        [node],
        "trees",
        [helper.make_tensor_value_info("values", TensorProto.FLOAT, ["N", features])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["N", 1])],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())


def on_cuda(bundle: Bundle, monkeypatch: pytest.MonkeyPatch, reads: str = "address") -> tuple[CudaEngine, FakeMemory]:
    """The classifier on a CUDA provider that is faked; all sessions that are opened from now on are, too."""
    memory = FakeMemory()

    def fake(content: bytes, what: str, **given: Any) -> FakeSession:
        assert given["cuda"]["user_compute_stream"] == str(memory.stream)
        return FakeSession(ort.InferenceSession(content, providers=["CPUExecutionProvider"]), memory, reads)

    monkeypatch.setattr(cuda_session, "open_session", fake)
    return CudaEngine(bundle, memory), memory


def test_on_cuda_every_network_is_there_and_queues_on_one_stream(
    default: Bundle, demo_frames: list[Pixels], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Jurors, and the classifier of masked images: the verdicts are the processor's. A juror's answer costs one copy
    there, one graph, one copy back and one wait."""
    engine, memory = on_cuda(default, monkeypatch)
    guard = Firewall(default, engine, exhaustive=True)
    runs = what_runs(default, engine, guard.under_masks, guard.networks)
    jurors = [f"juror-{name}.onnx" for name in ("robust", "edges", "clear")]
    assert {*jurors, "masked.onnx"} <= set(runs) and set(runs.values()) == {CUDA}
    assert on_processor(runs, engine.provider) == ""
    processor = Firewall(default, OnnxRuntimeEngine(default, threads=1), exhaustive=True)
    for pixels in demo_frames[:60:20]:
        crop = np.ascontiguousarray(pixels[:160, :160])
        one, two = processor.screen(crop), guard.screen(crop)
        assert (one.released, one.label, one.reason) == (two.released, two.label, two.reason)
        assert one.scores == pytest.approx(two.scores, abs=1e-3)
    memory.told.clear()
    guard.networks["juror-robust.onnx"](np.zeros((1, 3, 48, 48), np.float32))
    assert memory.told == ["to device", "to device", "network", "to host", "wait"]


def test_masked_images_are_classified_where_the_others_are(default: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a network of its own, with its own weights, on the same GPU."""
    engine, memory = on_cuda(default, monkeypatch)
    spec = default.manifest.masked_classifier
    assert spec is not None
    masked = Networks(default, engine).classifier(spec)
    assert isinstance(masked, CudaEngine) and masked.memory is memory
    images = np.random.default_rng(0).integers(0, 256, (40, 48, 48, 3), np.uint8)
    expected = OnnxRuntimeEngine(default, threads=1, spec=spec).classify(images)
    assert masked.classify(images) == pytest.approx(expected, abs=1e-3)
    assert not np.allclose(engine.classify(images), expected, atol=0.1)


def test_a_juror_that_answers_with_what_it_read_before_is_refused(
    default: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A graph that replays old input; answers that are not written; wrong shapes; more rows than fit at once."""
    content = default.files["juror-edges.onnx"]
    _, memory = on_cuda(default, monkeypatch)
    network = network_on_cuda(content, "edges", memory)  # type: ignore[arg-type]
    values = np.random.default_rng(1).random((130, 3, 48, 48), np.float32)
    together = network(values)
    assert len(together) == 130 and together[:1] == pytest.approx(network(values[:1]), abs=1e-3)
    assert network(values[:0]).shape == (0, 44)
    for wrong in (values[:, :2], values[:1].astype(np.float64), values[:1, :, 1:]):
        with pytest.raises(EngineError, match=r"edges failed: it takes float32 \(N, 3, 48, 48\)"):
            network(wrong)
    monkeypatch.setattr(network, "_queue", lambda count, source, answer: None)
    with pytest.raises(EngineError, match="edges gave no finite number"):
        network(values[:1])

    monkeypatch.undo()
    monkeypatch.setattr(
        cuda_session,
        "open_session",
        lambda content, what, **_: FakeSession(ort.InferenceSession(content), memory, "recorded"),
    )
    with pytest.raises(EngineError, match="edges gives another answer on the GPU than on the processor"):
        network_on_cuda(content, "edges", memory)  # type: ignore[arg-type]


def test_classical_networks_stay_on_the_processor_and_that_is_told(
    guard: Firewall, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trees have no code on a GPU: no plan is wanted of them, and the start says where they run."""
    labels = len(guard.bundle.manifest.classifier.labels)
    files = {"juror-a.onnx": constant_network([0.0] * labels), "trees.onnx": trees()}
    bundle = bundle_with(tmp_path / "b", [juror("juror-a"), juror("juror-b", file="trees.onnx")], files)
    assert detector_files(bundle) == ["juror-a.onnx"] and plans_of(bundle, "detectors") == ["juror-a.onnx"]
    assert is_classical(files["trees.onnx"], "trees") and not is_classical(files["juror-a.onnx"], "a")
    engine, _ = on_cuda(bundle, monkeypatch)
    beside = Networks(bundle, engine)
    assert isinstance(beside.network("juror-a.onnx"), DeviceNetwork)
    network = beside.network("trees.onnx")
    assert network.provider == CPU and network(np.ones((2, 4), np.float32)).tolist() == [[2.0], [2.0]]
    runs = what_runs(bundle, engine, engine, beside.opened)
    assert on_processor(runs, engine.provider) == ", on the processor: trees.onnx"
    assert on_processor(runs, CPU) == ""


def test_what_a_gpu_can_not_be_given_memory_for_is_refused(guard: Firewall, tmp_path: Path) -> None:
    """A side that is free, a batch that isn't: told with the shape and what to do."""
    for place, value in ((0, 1), (2, "height")):
        model = onnx.load_model_from_string(constant_network([0.0] * 5))
        side = model.graph.input[0].type.tensor_type.shape.dim[place]
        side.Clear()
        setattr(side, "dim_value" if isinstance(value, int) else "dim_param", value)
        content = model.SerializeToString()
        with pytest.raises(EngineError, match="first side has to be free and the others fixed") as caught:
            detector_tensors(content, "odd.onnx")
        assert "--device cpu" in str(caught.value) and "\n" not in str(caught.value)


def plans_in(bundle: Bundle, folder: Path, precision: str = "fp32", *networks: str) -> None:
    for network in networks or plans_of(bundle, "all"):
        build_plan(bundle, Wanted(precision, frame=(96, 160)), network, folder=folder)  # type: ignore[arg-type]


def test_a_plan_that_is_missing_is_named_with_what_builds_it(
    default: Bundle, fake: Behaviour, gpu: FakeGpu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each network in turn; once all are there they all run on TensorRT, whoever asks for masks too."""
    monkeypatch.setenv("FIREWALL_PLANS", str(tmp_path))
    plans_in(default, tmp_path, "fp16", "classifier")
    wanted = ("juror-robust.onnx", "juror-edges.onnx", "masked.onnx", "juror-clear.onnx")
    assert {*wanted, "classifier", "finder", "masked"} == set(plans_of(default, "all"))
    for network in wanted:
        with pytest.raises(EngineError, match=f"^{network}.* of bundle .*no .*plan") as caught:
            Firewall.load("default", device="tensorrt")
        assert "'firewall export tensorrt --bundle" in str(caught.value) and "--precision fp16'" in str(caught.value)
        plans_in(default, tmp_path, "fp16", network)
    guard = Firewall.load("default", device="tensorrt")
    runs = what_runs(default, guard.engine, guard.under_masks, guard.networks)
    assert len(runs) == 5 and all(runner.startswith(f"TensorRT {VERSIONS[-1]} fp16") for runner in runs.values())
    spec = default.manifest.masked_classifier
    assert spec is not None
    with pytest.raises(EngineError, match=r"^masks\.onnx of bundle .*no .*plan"):
        Networks(default, guard.engine).classifier(spec)
    plans_in(default, tmp_path, "fp16", "masked")
    masked = Networks(default, guard.engine).classifier(spec)
    assert isinstance(masked, TensorRTEngine) and masked.most == 36


def test_of_several_precisions_the_classifier_s_own_is_taken(
    default: Bundle, fake: Behaviour, gpu: FakeGpu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless FIREWALL_PRECISION names one; a network with a plan in one precision alone runs in that."""
    for precision in ("fp16", "fp32"):
        plans_in(default, tmp_path, precision, "classifier", "juror-robust.onnx")
    plans_in(default, tmp_path, "fp16", "juror-edges.onnx")
    engine = TensorRTEngine.from_cache(default, precision="fp32", folder=tmp_path)
    beside = Networks(default, engine)
    robust, edges = (beside.network(f"juror-{name}.onnx") for name in ("robust", "edges"))
    assert robust.provider.endswith("fp32") and edges.provider.endswith("fp16")
    monkeypatch.setenv("FIREWALL_PRECISION", "fp16")
    assert Networks(default, engine).network("juror-robust.onnx").provider.endswith("fp16")
    monkeypatch.setenv("FIREWALL_PRECISION", "fp8")
    with pytest.raises(UsageError, match="FIREWALL_PRECISION must be one of"):
        Networks(default, engine).network("juror-robust.onnx")


def test_a_juror_s_plan_that_says_something_else_is_not_kept(
    default: Bundle, fake: Behaviour, gpu: FakeGpu, tmp_path: Path
) -> None:
    """What it answers is compared with the processor before it is stored, and again when it is loaded."""
    for wrong, words in (("stale", "another answer"), ("nan", "no finite number"), ("shape", "failed on 1 images")):
        fake.wrong = wrong
        with pytest.raises(EngineError, match=words):
            plans_in(default, tmp_path, "fp32", "juror-clear.onnx")
    assert list(tmp_path.glob("*.plan")) == [] and gpu.memory == {}
    fake.wrong = ""
    plans_in(default, tmp_path, "fp32", "classifier", "juror-clear.onnx")
    fake.wrong = "stale"
    with pytest.raises(EngineError, match="same logits for different images"):
        TensorRTEngine.from_cache(default, folder=tmp_path)


def test_int8_of_a_juror_is_scaled_by_what_it_is_asked(
    default: Bundle, fake: Behaviour, gpu: FakeGpu, demo_frames: list[Pixels], tmp_path: Path
) -> None:
    """The benign images, as the juror sees them: 0..1, its own size, one row for each image."""
    images = [np.ascontiguousarray(pixels[:90, :90]) for pixels in demo_frames[:33]]
    subject = subject_of(default, "juror-robust.onnx", Wanted("int8", images=images))
    values = subject.values()
    assert values is not None and values.shape == (33, 3, 48, 48)
    assert 0 <= values.min() < 0.5 < values.max() <= 1
    assert subject_of(default, "juror-robust.onnx", Wanted("fp16")).values() is None


def test_verify_compares_the_finder_s_plan(
    default: Bundle, fake: Behaviour, gpu: FakeGpu, demo_frames: list[Pixels], tmp_path: Path
) -> None:
    """Its map, its boxes and the verdicts on them, with the bundle's golden frames; one that says something else is
    found. Where there is no plan of it, that is said."""
    assert "has no plan of this sign finder" in _no_finder(default, tmp_path)
    plans_in(default, tmp_path, "fp16")
    engines, missing = open_plans(default, folder=tmp_path)
    finders, none = open_finders(default, folder=tmp_path)
    assert len(engines) == len(finders) == 1 and missing == none == ""
    images = demo_frames[20:21]
    told = verify(default, images, threads=1, plans=engines, finders=finders)
    for each in told:
        each.check()
    last = told[-1]
    assert last.network == "finder.onnx" and last.runtime.endswith("fp16") and last.boxes > 0  # type: ignore[union-attr]
    assert last.frames == 2  # type: ignore[union-attr]

    run = finders[0].run
    finders[0].run = lambda: run() + np.float32(3)  # type: ignore[method-assign]
    *_, lying = verify(default, images, threads=1, finders=finders)
    with pytest.raises(EngineError, match=r"finder\.onnx on TensorRT .* a number of its map differs"):
        lying.check()
    assert lying.apart


def _no_finder(bundle: Bundle, folder: Path) -> str:
    plans_in(bundle, folder, "fp16", "classifier")
    return open_finders(bundle, folder=folder)[1]
