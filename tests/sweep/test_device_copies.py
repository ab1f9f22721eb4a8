"""Copies made and classified on a GPU: addresses, order and the canary, with a GPU that is none (tests.fake_gpu).

On a machine with a GPU `make gpu-check` runs the last test of this file with the real one.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest

from firewall import Firewall, native
from firewall.engines import DeviceEngine, Engine, OnnxRuntimeEngine, cuda_session, open_engine
from firewall.engines.cuda_engine import CudaEngine
from firewall.errors import EngineError
from firewall.frame import Pixels
from firewall.host.onnxruntime import ort
from firewall.sweep import copies
from firewall.sweep.copies import Copies, open_copies
from firewall.sweep.device_copies import DeviceCopies
from firewall.transforms import OPERATIONS_38, apply_operations, resize
from tests.fake_gpu import FakeDeviceEngine, FakeMemory, FakeSession, FakeTransforms

MIXED = ("jpeg:75", "jpeg:30", "blur:2", "rotate:8", "scale:0.75", "scale:1.25", "jpeg:50")


def untimed(stage: str) -> Any:
    return nullcontext()


@pytest.fixture(scope="module")
def plain(guard: Firewall) -> OnnxRuntimeEngine:
    engine = open_engine(guard.bundle, threads=1)
    assert isinstance(engine, OnnxRuntimeEngine)
    return engine


@pytest.fixture
def sign(benign_sign: Pixels) -> Pixels:
    return resize(benign_sign, 48, 48)


def chain(guard: Firewall, plain: OnnxRuntimeEngine, *, most: int = 128, stale: bool = False, wrong: str = "") -> Any:
    memory = FakeMemory()
    engine = FakeDeviceEngine(plain, memory, most, stale=stale)
    assert isinstance(engine, DeviceEngine)
    transforms = FakeTransforms(memory, wrong)
    return DeviceCopies(engine, guard.bundle.manifest.classifier.input, transforms=transforms), memory


def test_one_image_goes_there_and_logits_come_back(guard: Firewall, plain: OnnxRuntimeEngine, sign: Pixels) -> None:
    """Image, then the operations in their order, each family's pixels turned into numbers, then the network, and one
    wait: nothing is copied to the device in between; the logits are those of the processor's chain, to the last bit."""
    found, memory = chain(guard, plain)
    logits = found.classify(sign, MIXED, untimed)
    assert memory.told == [
        *("to device", "jpeg", "blur", "tensor", "rotate", "tensor", "scale", "tensor", "jpeg"),
        *("classify 7", "wait"),
    ]
    expected = Copies(plain, guard.bundle.manifest.classifier.input).classify(sign, MIXED, untimed)
    assert np.array_equal(logits, expected)


def test_plans_are_made_once(guard: Firewall, plain: OnnxRuntimeEngine, sign: Pixels) -> None:
    """The second image of the same operations allocates nothing; another list of operations has memory of its own."""
    found, memory = chain(guard, plain)
    first = found.classify(sign, MIXED, untimed)
    held = len(memory._kept)
    other = found.classify(255 - sign, MIXED, untimed)
    assert len(memory._kept) == held and not np.array_equal(first, other)
    assert np.array_equal(found.classify(sign, MIXED, untimed), first)
    found.classify(sign, MIXED[:2], untimed)
    assert found.prepare(MIXED)[0] != found.prepare(MIXED[:2])[0]


def test_more_copies_than_the_engine_takes_at_a_time(guard: Firewall, plain: OnnxRuntimeEngine, sign: Pixels) -> None:
    """They are classified in parts, each where it lies."""
    found, memory = chain(guard, plain, most=16)
    logits = found.classify(sign, OPERATIONS_38, untimed)
    assert [what for what in memory.told if what.startswith("classify")] == ["classify 16", "classify 16", "classify 6"]
    assert np.allclose(logits, plain.classify(apply_operations(sign, OPERATIONS_38)), atol=1e-4)


def test_the_canary(guard: Firewall, plain: OnnxRuntimeEngine) -> None:
    """A chain that is right passes; one that answers with what it saw first, or whose kernels give other pixels, is
    refused in one line before the first frame."""
    chain(guard, plain)[0].prove(MIXED)
    chain(guard, plain)[0].prove(())
    for faults in ({"stale": True}, {"wrong": "blur"}, {"wrong": "scale"}):
        found, _ = chain(guard, plain, **faults)
        with pytest.raises(EngineError, match="other logits than those made on the processor") as caught:
            found.prove(MIXED)
        assert "\n" not in str(caught.value)


def test_which_copies_are_taken(guard: Firewall, plain: OnnxRuntimeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the GPU where the engine reads its memory and the runtime can use it, once they are proven; those of the
    processor otherwise."""
    spec = guard.bundle.manifest.classifier.input
    assert isinstance(open_copies(plain, spec, MIXED), Copies) and guard.copies.where == "processor"
    memory = FakeMemory()
    engine = FakeDeviceEngine(plain, memory)
    monkeypatch.setattr(native, "cuda", lambda: native.CudaSupport(True, False, "no GPU"))
    assert isinstance(open_copies(engine, spec, MIXED), Copies)

    monkeypatch.setattr(native, "cuda", lambda: native.CudaSupport(True, True, ""))
    make = copies.DeviceCopies
    monkeypatch.setattr(copies, "DeviceCopies", lambda *given: make(*given, transforms=FakeTransforms(memory)))
    found = open_copies(engine, spec, MIXED)
    assert found.where == "GPU" and memory.told.count("classify 7") == 6


def verdicts(guard: Firewall, images: list[Pixels]) -> list[object]:
    return [(verdict.released, verdict.label, verdict.scores) for verdict in map(guard.screen, images)]


def cuda_engine_of(guard: Firewall, monkeypatch: pytest.MonkeyPatch, reads: str = "address", **options: Any) -> Any:
    """CudaEngine on a session that is faked, with the options that it was opened with."""
    memory, opened = FakeMemory(), {}
    spec = guard.bundle.manifest.classifier
    session = ort.InferenceSession(guard.bundle.files[spec.file], providers=["CPUExecutionProvider"])

    def fake(content: bytes, what: str, **given: Any) -> FakeSession:
        opened.update(given)
        return FakeSession(session, memory, reads)

    monkeypatch.setattr(cuda_session, "open_session", fake)
    return CudaEngine(guard.bundle, memory, **options), memory, opened


def test_the_cuda_engine_queues_on_one_stream(
    guard: Firewall, plain: Engine, sign: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The session is given our stream; a batch is copied there, run, and its logits are copied back before the one
    wait; batches above the largest go in parts; what comes out is what the processor says."""
    engine, memory, opened = cuda_engine_of(guard, monkeypatch)
    assert opened["device"] == "cuda" and opened["cuda"]["user_compute_stream"] == str(memory.stream)
    assert opened["cuda"]["enable_cuda_graph"] == "1"
    memory.told.clear()
    images = apply_operations(sign, OPERATIONS_38)
    logits = engine.classify(images)
    assert memory.told == ["to device", "to device", "network", "to host", "wait"]
    assert np.allclose(logits, plain.classify(images), atol=1e-4)
    engine.most = 16
    assert np.allclose(engine.classify(images), logits, atol=1e-4)
    with pytest.raises(EngineError, match="1 to 16 images"):
        engine.classify_at(1, 17)


def test_a_replay_that_reads_what_was_recorded_is_refused(guard: Firewall, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two images in turns: a graph that replays old input gives the second the first one's logits."""
    with pytest.raises(EngineError, match="same logits for different images"):
        cuda_engine_of(guard, monkeypatch, "recorded")
    engine, _, opened = cuda_engine_of(guard, monkeypatch, "recorded", graphs=False)
    assert opened["cuda"]["enable_cuda_graph"] == "0" and not engine._network.session.graphs


def test_graphs_are_of_one_address_and_one_size(guard: Firewall, sign: Pixels, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each gets a number of its own, and beyond the most of them no graph at all; the answers stay right."""
    engine, memory, _ = cuda_engine_of(guard, monkeypatch)
    images = apply_operations(sign, OPERATIONS_38)
    for count in (*range(1, 21), 3, 20):
        assert np.allclose(engine.classify(images[:count]), guard.engine.classify(images[:count]), atol=1e-4)
    assert len(engine._network.session.graphs) == 16
    spec = guard.bundle.manifest.classifier.input
    both = DeviceCopies(engine, spec, transforms=FakeTransforms(memory))
    both.prove(MIXED)


def test_an_answer_that_was_not_written(guard: Firewall, sign: Pixels, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not the answer to the image before."""
    engine, memory, _ = cuda_engine_of(guard, monkeypatch)
    engine.classify(sign[None])
    session = engine._network.session
    monkeypatch.setattr(session, "run_with_iobinding", lambda binding, options: memory.queue("-", lambda: None))
    with pytest.raises(EngineError, match="not finite"):
        engine.classify(sign[None])


def test_on_a_gpu(guard: Firewall, demo_frames: list[Pixels]) -> None:
    """The real chain: the bundle loads on CUDA, which proves it, and gives the processor's verdicts."""
    try:
        on_gpu = Firewall.load("default", device="cuda", exhaustive=True)
    except EngineError as error:
        pytest.skip(str(error))
    on_cpu = Firewall.load("default", threads=1, exhaustive=True)
    for frame in demo_frames[::20]:
        one, two = on_cpu.screen(frame), on_gpu.screen(frame)
        assert (one.released, one.label) == (two.released, two.label)
