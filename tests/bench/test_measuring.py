"""The parts of a run, with firewalls and clocks that the tests know."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from firewall import Firewall
from firewall.bench.cold_start import cold_starts, gpu_memory
from firewall.bench.device_times import device_times, sweep_batch
from firewall.bench.fixed_rate import Clock, FixedRateRun
from firewall.bench.inputs import Inputs, of_demo, of_files
from firewall.bench.loading import load
from firewall.bench.measuring import Plan, measure
from firewall.bench.picture import draw
from firewall.bench.report import FixedRate
from firewall.bench.subjects import Guarded, Tally, Unguarded
from firewall.bench.tables import render
from firewall.bundle import PatchSpec, load_bundle
from firewall.engines import OnnxRuntimeEngine
from firewall.errors import EngineError, UsageError
from firewall.frame import Frame, Pixels
from firewall.lab.calibration.bundling import rewritten
from firewall.regions import build
from firewall.screening import Stages
from tests.bench.boards import orin_nano

SMALL = Plan(samples=3, warm_up=1, fps=(), cold_starts=0, regions="whole", energy_seconds=0.1)


@pytest.fixture
def inputs(benign_sign: Pixels) -> Inputs:
    """One picture, as normal and as attacked."""
    return Inputs("a picture", {"normal": [benign_sign], "adversarial": [benign_sign[::-1].copy()]}, {}, {})


class Watched(Clock):
    """A clock that stands still but for those who wait and for `Slow`."""

    time = 1000.0

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds


class Slow:
    """Takes a fixed time for each frame."""

    def __init__(self, seconds: float, clock: Watched) -> None:
        self.seconds, self.clock = seconds, clock

    def run(self, pixels: Pixels) -> tuple[float, Stages]:
        self.clock.time += self.seconds
        return self.seconds, Stages()


def paced(inputs: Inputs, seconds: float, fps: float, deadline_ms: float | None, frames: int) -> FixedRate:
    """The figures of someone who takes so long for each frame."""
    clock, over = Watched(), []
    run = FixedRateRun(Slow(seconds, clock), inputs, fps, deadline_ms, clock)
    run.run(frames, over.append)
    found = run.result()
    assert found is not None and found.due == frames and over == sorted(over) and over[-1] <= frames
    return found


def test_a_rate_that_can_be_kept(inputs: Inputs) -> None:
    """Every frame is judged, and is as old as the work is long."""
    found = paced(inputs, 0.002, 50, None, 10)

    assert found.deadline_ms == 20 and (found.late, found.dropped, found.missed) == (0, 0, 0)
    assert {kind: figures.due for kind, figures in found.kinds.items()} == {"normal": 5, "adversarial": 5}
    assert found.age is not None and found.age.maximum == pytest.approx(2, abs=0.01)
    assert found.latency is not None and found.latency.median == pytest.approx(2)


def test_a_rate_that_can_not_be_kept(inputs: Inputs) -> None:
    """Who takes almost two and a half periods for each frame goes on with the newest, frames 0, 2, 4, 7, 9, 12, 14, 17
    and 19: all late, by what they have waited too, and the other eleven dropped."""
    found = paced(inputs, 0.049, 50, None, 20)

    judged = sum(len(kind.ages_ms) for kind in found.kinds.values())
    assert (judged, found.late, found.dropped, found.missed) == (9, 9, 11, 1)
    assert [len(kind.ages_ms) for kind in found.kinds.values()] == [5, 4]  # even ones are normal
    assert found.age is not None
    assert (found.age.minimum, found.age.maximum) == (pytest.approx(49, abs=0.01), pytest.approx(67, abs=0.01))


def test_the_last_frames_are_dropped_too(inputs: Inputs) -> None:
    """All frames become due however long one takes: of three, the second is dropped, the last is judged."""
    found = paced(inputs, 1.0, 50, None, 3)

    assert (found.late, found.dropped) == (2, 1)


def test_a_deadline_of_its_own(inputs: Inputs) -> None:
    """A deadline longer than the period is kept to, and one that is shorter than the work is missed each time."""
    for deadline, late in ((50.0, 0), (1.0, 4)):
        found = paced(inputs, 0.005, 100, deadline, 4)
        assert found.late == late and found.deadline_ms == deadline and found.dropped == 0


def test_stages_add_up() -> None:
    """What no stage accounts for is `other`; a stage that a frame did without counts 0 for it."""
    tally = Tally()

    tally.add(0.010, Stages(classify=0.004, sweep=0.003))
    tally.add(0.005, Stages(classify=0.004))

    assert tally.total == pytest.approx([10, 5])
    assert tally.stages["sweep"] == pytest.approx([3, 0]) and tally.stages["classify"] == pytest.approx([4, 4])
    assert tally.stages["other"] == pytest.approx([3, 1])


def test_without_the_firewall_the_labels_are_the_same(guard: Firewall, benign_sign: Pixels) -> None:
    """The yardstick does the classifier's whole work: it sees the images that the firewall's first look sees."""
    seen: list[npt.NDArray[np.uint8]] = []

    @dataclass
    class Spy:
        provider: str = "spy"

        def classify(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
            seen.append(images)
            return engine.classify(images)

    engine = guard.engine
    guard.engine = Spy()
    try:
        finder = build("whole")
        Unguarded(guard, finder).run(benign_sign)
        guard.screen_frame(Frame(benign_sign, "test", 0, 0.0))
    finally:
        guard.engine = engine

    assert np.array_equal(seen[0], seen[1])


def test_threads_bound_the_classifier_for_masked_images_too(tmp_path: Path) -> None:
    """A bundle that demands certificates is timed on as many threads as were told, under masks as well."""
    rewritten(load_bundle(), tmp_path / "b", {}, patches=PatchSpec(area=0.02))

    guard = load(str(tmp_path / "b"), None, True, "cpu", 1)

    assert guard.under_masks is not guard.engine and isinstance(guard.under_masks, OnnxRuntimeEngine)
    assert guard.under_masks._session.get_session_options().intra_op_num_threads == 1


def test_a_firewall_that_fails_is_not_timed(guard: Firewall, benign_sign: Pixels) -> None:
    """Withholding because the engine broke is quick, and no latency."""

    class Broken:
        provider = "broken"

        def classify(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
            raise EngineError("out of order")

    engine = guard.engine
    guard.engine = Broken()
    try:
        with pytest.raises(EngineError, match="out of order"):
            Guarded(guard, build("whole")).run(benign_sign)
    finally:
        guard.engine = engine


def test_a_run_on_a_jetson(guard: Firewall, inputs: Inputs, tmp_path: Path) -> None:
    """The board's state stands in the report, energy is measured for each window from the rails, and what is printed
    names module, power mode and energy."""
    from io import StringIO

    from rich.console import Console

    report = measure(guard, inputs, SMALL, progress=False, root=orin_nano(tmp_path))

    assert report.complete and report.platform.startswith("NVIDIA Jetson Orin Nano")
    assert report.machine["label"] == report.platform and "not" not in report.platform
    assert report.jetson is not None and report.jetson["power_mode"] == "25W" and report.jetson_events == []
    assert report.energy is not None
    assert set(report.energy) == {"idle"} | {
        f"{kind}, {state}_firewall" for kind in ("normal", "adversarial") for state in ("with", "without")
    }
    for name, window in report.energy.items():
        assert window.power == 6000 and window.total_of == ["VDD_IN"] and window.seconds >= 0.1
        assert (window.a_frame is None) == (name == "idle")
        if window.a_frame is not None:
            assert window.a_frame == pytest.approx(6 * window.seconds / window.frames)
    console = Console(file=StringIO(), width=100)
    render(report, console)
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert "25W" in printed and "JetPack 6.2.1" in printed and "mJ a frame" in printed and "not a Jetson" not in printed


def test_elsewhere_there_is_no_energy(guard: Firewall, inputs: Inputs, tmp_path: Path) -> None:
    """A machine without a board's files is not a Jetson, and gets no numbers of one."""
    report = measure(guard, inputs, SMALL, progress=False, root=tmp_path)

    assert report.platform == "not a Jetson" and report.jetson is None and report.energy is None
    assert "not Jetson" in report.machine["label"]


def test_asking_every_detector(guard: Firewall, inputs: Inputs) -> None:
    """Exhaustive runs classify every copy for each frame, and the firewall is as it was afterwards."""
    from dataclasses import replace

    report = measure(guard, inputs, replace(SMALL, exhaustive=True), progress=False)

    assert not guard.exhaustive
    for kind in report.full_rate.values():
        assert kind.guarded.classified >= 1 + sweep_batch(guard)


def test_interrupted_before_the_first_sample(guard: Firewall, inputs: Inputs, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is a report without latencies, no picture, and what is printed says so."""

    def interrupted(self: Guarded, pixels: Pixels) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(Guarded, "run", interrupted)

    report = measure(guard, inputs, SMALL, progress=False)

    assert not report.complete and report.stopped == "warm up"
    assert report.full_rate == {} and report.samples == 0 and report.p50 is None
    with pytest.raises(UsageError, match="nothing was measured"):
        draw(report)


@dataclass
class Memory:
    """A device whose work takes time only when it is waited for."""

    pending: float = 0.0
    log: list[str] = field(default_factory=list)

    def to_device(self, address: int, array: npt.NDArray[Any]) -> None:
        self.log.append("to device")
        self.pending += 0.004

    def to_host(self, array: npt.NDArray[Any], address: int) -> None:
        self.log.append("to host")
        self.pending += 0.002

    def wait(self) -> None:
        time.sleep(self.pending)
        self.pending = 0.0


class Queued:
    """An engine that queues its work on such a device, as TensorRTEngine does."""

    provider = "TensorRT of a test"

    def __init__(self) -> None:
        self.memory: Any = Memory()

    def classify(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        self.memory.to_device(0, images)
        time.sleep(0.001)  # queueing
        self.memory.log.append("execute")
        device = getattr(self.memory, "_memory", self.memory)
        device.pending += 0.008
        logits = np.zeros((len(images), 43), np.float32)
        self.memory.to_host(logits, 0)
        self.memory.wait()
        return logits


def test_parts_of_a_device(guard: Firewall) -> None:
    """Copies, computing and queueing are told apart for an engine on a stream; its memory is as it was afterwards."""
    engine, queued = guard.engine, Queued()
    memory = queued.memory
    guard.engine = queued
    try:
        found = device_times(guard, 5, lambda: None)
    finally:
        guard.engine = engine

    assert queued.memory is memory and memory.log == ["to device", "execute", "to host"] * 5
    assert found.batch == sweep_batch(guard) and found.reason == ""
    parts = (found.host_to_device, found.enqueue, found.compute, found.device_to_host)
    for part, least in zip(parts, (4, 1, 9, 2), strict=True):
        assert part is not None and part.samples == 5 and least <= part.minimum < 3 * least + 5


def test_parts_of_the_tensorrt_engine(guard: Firewall, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine itself, on a fake TensorRT and a fake GPU, is told apart too, and classifies as before afterwards."""
    pytest.importorskip("onnx", reason="the export extra is not installed")
    from firewall.engines.device_memory import open_device
    from firewall.engines.plan_cache import Plan as EnginePlan
    from firewall.engines.plan_cache import PlanKey
    from firewall.engines.tensorrt_engine import TensorRTEngine
    from tests.fake_cuda import FakeGpu, install_cuda
    from tests.fake_tensorrt import VERSIONS, install_tensorrt

    install_cuda(monkeypatch, FakeGpu())
    install_tensorrt(monkeypatch, VERSIONS[-1])
    spec = guard.bundle.manifest.classifier
    network, most = guard.bundle.files[spec.file], 8
    shapes = [[count, 3, spec.input.height, spec.input.width] for count in (1, 4, most)]
    head = json.dumps({"shapes": {spec.input.name: shapes}, "detailed": True, "outputs": [spec.output]})
    digest = hashlib.sha256(network).hexdigest()
    key = {"onnx": digest, "output": spec.output, "tensorrt": VERSIONS[-1], "gpu": "Orin", "precision": "fp32"}
    key |= {"compute_capability": "8.7", "profile": {"best": 4, "most": most}}  # type: ignore[dict-item]
    content = f"fake {VERSIONS[-1]}\n{head}\n".encode() + network
    plan = EnginePlan(PlanKey.model_validate(key), content, digest, {"float32": 10}, {})
    processor, engine = guard.engine, TensorRTEngine(guard.bundle, plan, open_device())
    images = np.zeros((1, spec.input.height, spec.input.width, 3), np.uint8)
    before = engine.classify(images)
    guard.engine = engine
    try:
        found = device_times(guard, 2, lambda: None)
    finally:
        guard.engine = processor

    for part in (found.host_to_device, found.enqueue, found.compute, found.device_to_host):
        assert part is not None and part.samples == 2 and part.minimum > 0
    assert np.array_equal(engine.classify(images), before)


def test_an_engine_that_does_not_tell(guard: Firewall) -> None:
    """A provider that copies inside its own call gives no parts, and the reason names it."""

    class OneCall:
        provider = "CUDAExecutionProvider"

    engine = guard.engine
    guard.engine = OneCall()  # type: ignore[assignment]
    try:
        found = device_times(guard, 5, lambda: None)
    finally:
        guard.engine = engine
    assert found.compute is None and "CUDAExecutionProvider" in found.reason


def test_a_fresh_process_that_fails(benign_sign: Pixels) -> None:
    """Its last words are the error."""
    orders = {"bundle": "nowhere", "trust": None, "allow_unsigned": None, "device": "cpu", "threads": 1}
    with pytest.raises(EngineError, match=r"fresh process ended with exit code 1: .*BundleError.*nowhere"):
        cold_starts({**orders, "regions": "whole"}, benign_sign, 1)


def test_the_memory_of_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MiB of nvidia-smi become MB; without it, or where it doesn't tell (a Jetson), there is a reason."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpu_memory() == (None, "nvidia-smi is not installed")
    program = tmp_path / "nvidia-smi"
    for answer, expected in (("1000", 1048.576), ("[N/A]", None)):
        program.write_text(f"#!/bin/sh\necho '{answer}'\n")
        program.chmod(0o755)
        assert gpu_memory()[0] == expected
    assert "Jetson" in gpu_memory()[1]


def test_the_demos_pictures() -> None:
    """Benign and attacked frames, apart and as many of each."""
    kinds = of_demo().kinds

    assert {kind: len(pictures) for kind, pictures in kinds.items()} == {"normal": 40, "adversarial": 40}
    assert all(picture.shape == (400, 640, 3) for pictures in kinds.values() for picture in pictures)


def test_pictures_of_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder may be called as the demo is; more pictures than are held are taken evenly and the rest is counted; a
    kind that wasn't given says how to give it."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "demo"
    folder.mkdir()
    for number in range(230):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(folder / f"{number:03d}.png")

    found = of_files(Path("demo"))

    assert len(found.kinds["normal"]) == 200 and found.left_out == {"normal": 30}
    assert found.kinds["normal"][-1][0, 0, 0] == 229
    assert "--adversarial" in found.why_not["adversarial"]


def test_a_video_is_no_picture(tmp_path: Path) -> None:
    """Frames that are gone once they were read can't be judged again and again."""
    (tmp_path / "clip.mp4").write_bytes(b"\0\0\0\x18ftypmp42")
    with pytest.raises(UsageError, match=r"clip\.mp4"):
        of_files(tmp_path / "clip.mp4")
