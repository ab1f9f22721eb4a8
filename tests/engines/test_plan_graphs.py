"""A TensorRT plan's runs as CUDA graphs, on a fake TensorRT and a fake GPU that record what is queued and replay it."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

onnx = pytest.importorskip("onnx", reason="the export extra is not installed")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from firewall import Firewall  # noqa: E402
from firewall.engines import OnnxRuntimeEngine  # noqa: E402
from firewall.engines.device_memory import DeviceMemory, open_device  # noqa: E402
from firewall.engines.device_network import network_on_tensorrt  # noqa: E402
from firewall.engines.loaded_plan import LoadedPlan, Tensors, target_of  # noqa: E402
from firewall.engines.plan_cache import Plan, PlanKey, Profile  # noqa: E402
from firewall.engines.plan_graphs import MOST_GRAPHS, Run  # noqa: E402
from firewall.engines.tensorrt_engine import TensorRTEngine  # noqa: E402
from firewall.errors import EngineError  # noqa: E402
from firewall.export.networks import Wanted  # noqa: E402
from firewall.export.tensorrt import build_plan  # noqa: E402
from tests.fake_cuda import FakeGpu, install_pycuda  # noqa: E402
from tests.fake_tensorrt import VERSIONS, Behaviour  # noqa: E402

READ, GIVEN, MOST = 4, 3, 40
WEIGHTS = np.random.default_rng(5).normal(size=(READ, GIVEN)).astype(np.float32)

Floats = npt.NDArray[np.float32]


def network(weights: Floats = WEIGHTS) -> bytes:
    """(N, 4) -> (N, 3), a product."""
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["values", "weights"], ["answer"], name="product")],
        "product",
        [helper.make_tensor_value_info("values", TensorProto.FLOAT, ["N", READ])],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, ["N", GIVEN])],
        [numpy_helper.from_array(weights, "weights")],
    )
    opset = [helper.make_opsetid("", 17)]
    return bytes(helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString())


def plan_of(content: bytes) -> Plan:
    """A plan of it in the fake's format."""
    shapes = {"values": [[count, READ] for count in (1, 4, MOST)]}
    head = json.dumps({"shapes": shapes, "detailed": True, "outputs": ["answer"]})
    digest = hashlib.sha256(content).hexdigest()
    fields = {"onnx": digest, "output": "answer", "tensorrt": VERSIONS[-1], "gpu": "Orin", "compute_capability": "8.7"}
    key = PlanKey.model_validate({**fields, "precision": "fp32", "profile": Profile(best=4, most=MOST)})
    return Plan(key, f"fake {VERSIONS[-1]}\n{head}\n".encode() + content, digest, {"float32": 1}, {})


class Asked:
    """A plan, and memory for its input and output."""

    def __init__(self, content: bytes = network(), graphs: int = MOST_GRAPHS) -> None:
        self.memory: DeviceMemory = open_device()
        tensors = Tensors("values", (-1, READ), "answer", (-1, GIVEN))
        target = target_of(content, "answer", VERSIONS[-1], self.memory)
        self.loaded = LoadedPlan(plan_of(content), target, tensors, self.memory, file="odd.onnx", graphs=graphs)
        self.source, self.answer = self.memory.allocate(4 * MOST * READ), self.memory.allocate(4 * MOST * GIVEN)

    def __call__(self, values: Floats, source: int = 0) -> Floats:
        """As every network here does: the values go there, the answer is wiped, and fetched."""
        source, found = source or self.source, np.full((len(values), GIVEN), np.nan, np.float32)
        self.memory.to_device(source, values)
        self.memory.to_device(self.answer, found)
        self.loaded.execute(Run(values.shape, found.shape, source, self.answer))
        self.memory.to_host(found, self.answer)
        self.memory.wait()
        return found


def values_of(count: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).normal(size=(count, READ)).astype(np.float32)


def test_a_run_is_plain_once_recorded_the_second_time_and_replayed_after(gpu: FakeGpu, fake: Behaviour) -> None:
    """The order of the calls: a plain run in the same context lies before the recording; from then on one launch. Every
    answer is that of the values that came with it."""
    asked = Asked()
    for turn, graphs in ((0, 0), (1, 1), (2, 1), (3, 1)):
        gpu.calls.clear()
        fake.runs.clear()
        values = values_of(2, turn)
        assert asked(values) == pytest.approx(values @ WEIGHTS, abs=1e-5)
        assert len(asked.loaded.graphs) == graphs
        launched = [call for call in gpu.calls if "Graph" in call or "Capture" in call]
        if turn == 0:
            assert (fake.runs, launched) == (["plain"], [])
        elif turn == 1:
            # The run, two inputs plainly, and the same two replayed.
            assert fake.runs == ["plain"] * 3 + ["replayed"] * 2
            recording = ["cudaStreamBeginCapture", "cudaStreamEndCapture", "cudaGraphInstantiate", "cudaGraphDestroy"]
            assert launched == [*recording, "cudaGraphLaunch", "cudaGraphLaunch"]
        else:
            assert (fake.runs, launched) == (["replayed"], ["cudaGraphLaunch"])
            copies = ["cudaMemcpyAsync"] * 2
            assert gpu.calls == [*copies, "cudaGraphLaunch", "cudaMemcpyAsync", "cudaStreamSynchronize"]
    asked.loaded.close()
    assert gpu.graphs == {}
    asked.memory.close()
    assert gpu.memory == {}


def test_each_shape_and_address_is_a_graph_in_a_context_of_its_own(gpu: FakeGpu, fake: Behaviour) -> None:
    """By turns, so that each changes what the one before had set: the fake stops at a replay whose context was changed.
    At most so many; the others are plain, and right too."""
    asked = Asked(graphs=3)
    other = asked.memory.allocate(4 * MOST * READ)
    for turn in range(4):
        for count, source in ((1, 0), (2, 0), (2, other), (3, 0), (4, other)):
            values = values_of(count, 10 * turn + count)
            assert asked(values, source) == pytest.approx(values @ WEIGHTS, abs=1e-5)
    assert len(asked.loaded.graphs) == 3 and fake.contexts == 1000 - 4
    assert asked.loaded.graphs.refused == ""
    asked.memory.close()
    assert gpu.graphs == {} and gpu.memory == {}


def test_without_graphs_every_run_is_plain(gpu: FakeGpu, fake: Behaviour) -> None:
    """What the benchmark compares with."""
    asked = Asked(graphs=0)
    for turn in range(4):
        asked(values_of(1, turn))
    assert fake.runs == ["plain"] * 4 and len(asked.loaded.graphs) == 0


@pytest.mark.parametrize("wrong", ["recorded", "kept", "unwritten"])
def test_a_replay_of_old_memory_is_never_released(
    wrong: str, gpu: FakeGpu, fake: Behaviour, caplog: pytest.LogCaptureFixture
) -> None:
    """One that reads what lay there when it was recorded, one that repeats its first answer, one that writes nothing:
    not used, told once, freed, and what comes out is right in that run and all after."""
    fake.wrong = wrong
    asked = Asked()
    with caplog.at_level(logging.WARNING):
        for turn in range(5):
            for count in (1, 2):
                values = values_of(count, 10 * turn + count)
                assert asked(values) == pytest.approx(values @ WEIGHTS, abs=1e-5)
    (told,) = caplog.messages
    assert told == (
        "the fp32 TensorRT plan of odd.onnx is queued kernel by kernel, not as a CUDA graph: a replay gives another "
        "answer than the run that was recorded"
    )
    assert len(asked.loaded.graphs) == 0 and gpu.graphs == {}


@pytest.mark.parametrize(
    "refused", ["record", "cudaStreamBeginCapture", "cudaStreamEndCapture", "cudaGraphInstantiate"]
)
def test_where_nothing_can_be_recorded_runs_stay_plain(
    refused: str, gpu: FakeGpu, fake: Behaviour, caplog: pytest.LogCaptureFixture
) -> None:
    """TensorRT refuses while it is recorded, or CUDA does: the stream isn't left recording, the last error is taken
    away, the reason is logged once, the answers are right, and nothing is tried again."""
    if refused == "record":
        fake.refuse = refused
    else:
        gpu.refuse = refused
    asked = Asked()
    with caplog.at_level(logging.WARNING):
        for turn in range(4):
            for count in (1, 2):
                values = values_of(count, 10 * turn + count)
                assert asked(values) == pytest.approx(values @ WEIGHTS, abs=1e-5)
    assert gpu.recording is None and gpu.graphs == {}
    reason = "stream is capturing" if refused == "record" else f"CUDA refuses {refused}"
    (told,) = caplog.messages
    assert reason in told and reason in asked.loaded.graphs.refused and "\n" not in told
    assert gpu.calls.count("cudaStreamBeginCapture") == 1
    assert gpu.calls.count("cudaGetLastError") == (refused != "cudaStreamBeginCapture")


def test_an_error_while_recording_leaves_the_stream_as_it_was(gpu: FakeGpu, fake: Behaviour) -> None:
    """Whatever the error is, it comes out, and the stream can be used."""
    memory = open_device()

    def fails() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        memory.record(fails)
    assert gpu.recording is None and gpu.graphs == {}
    with pytest.raises(EngineError, match=r"CUDA refuses cudaStreamSynchronize"):
        memory.record(memory.wait)
    assert gpu.recording is None
    memory.wait()


def test_a_run_that_nothing_can_be_proved_of_stays_plain(gpu: FakeGpu, fake: Behaviour) -> None:
    """A network that answers the same to everything shows no old memory. So it is not recorded."""
    asked = Asked(network(np.zeros((READ, GIVEN), np.float32)))
    for turn in range(4):
        assert asked(values_of(1, turn)).tolist() == [[0.0] * GIVEN]
    assert len(asked.loaded.graphs) == 0 and "cudaStreamBeginCapture" not in gpu.calls
    assert asked.loaded.graphs.refused == ""


def test_where_memory_does_not_suffice_for_one_more_context_a_graph_is_given_up(
    gpu: FakeGpu, fake: Behaviour, caplog: pytest.LogCaptureFixture
) -> None:
    """Its context takes the other runs; that is logged, and all answers are right."""
    fake.contexts = 2
    asked = Asked()
    for turn in range(4):
        for count in (1, 2, 3):
            values = values_of(count, 10 * turn + count)
            assert asked(values) == pytest.approx(values @ WEIGHTS, abs=1e-5)
    assert len(asked.loaded.graphs) == 1 and len(gpu.graphs) == 1
    (told,) = caplog.messages
    assert "gets no memory to run in (Requested amount of GPU memory could not be allocated)" in told


def test_a_launch_that_fails_is_an_error(gpu: FakeGpu, fake: Behaviour) -> None:
    """Nothing is run plainly in its place: whoever asked withholds."""
    asked = Asked()
    for turn in range(3):
        asked(values_of(1, turn))
    gpu.refuse = "cudaGraphLaunch"
    with pytest.raises(EngineError, match="CUDA refuses cudaGraphLaunch"):
        asked(values_of(1))
    gpu.refuse = ""
    assert asked(values_of(1)) == pytest.approx(values_of(1) @ WEIGHTS, abs=1e-5)


def test_a_juror_is_replayed_while_it_is_proved(gpu: FakeGpu, fake: Behaviour) -> None:
    """`prove` runs two inputs in turns: from the third run on they are replays, compared with the processor."""
    juror = network_on_tensorrt(network(), "odd.onnx", plan_of(network()), open_device())
    assert fake.runs[-6:] == ["replayed"] * 6
    for count in (1, 5, MOST + 2):
        for turn in range(4):
            values = values_of(count, turn)
            assert juror(values) == pytest.approx(values @ WEIGHTS, abs=1e-5)
    assert fake.runs[-1] == "replayed"


def test_pycuda_records_nothing_and_says_so_once(
    fake: Behaviour, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its runs are plain."""
    install_pycuda(monkeypatch, FakeGpu())
    monkeypatch.setattr("firewall.engines.device_memory.BACKENDS", ("pycuda",))
    asked = Asked()
    for turn in range(4):
        values = values_of(2, turn)
        assert asked(values) == pytest.approx(values @ WEIGHTS, abs=1e-5)
    assert asked.memory.backend == "pycuda" and set(fake.runs) == {"plain"}
    (told,) = caplog.messages
    assert "PyCUDA records no CUDA graphs; cuda-python does: pip install" in told
    for work in (asked.memory.replay, asked.memory.forget):
        with pytest.raises(EngineError, match="there is no CUDA graph 1"):
            work(1)


@pytest.mark.parametrize("refused", ["", "record"])
def test_the_check_of_a_gpu_compares_graphs_with_plain_runs(
    refused: str, guard: Firewall, gpu: FakeGpu, fake: Behaviour, tmp_path: Path
) -> None:
    """Each size of batch: its logits, both times, and why it was not recorded."""
    fake.refuse = refused
    path = Path(__file__).parents[2] / "benchmarks" / "gpu" / "networks.py"
    spec = importlib.util.spec_from_file_location("gpu_networks", path)
    assert spec is not None and spec.loader is not None
    check = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(check)
    build_plan(guard.bundle, Wanted("fp32", best=4, most=6), "classifier", folder=tmp_path)
    engine = TensorRTEngine.from_cache(guard.bundle, folder=tmp_path)
    rows = check.replayed(guard.bundle, [OnnxRuntimeEngine(guard.bundle, threads=1), engine], rounds=2)
    assert [row["images"] for row in rows] == [1, 6]
    for row in rows:
        assert row["apart"] == pytest.approx(0, abs=1e-5) and row["graph_ms"] > 0 and row["plain_ms"] > 0
        assert row["recorded"] is (refused == "") and ("capturing" in row["refused"]) is (refused != "")
    assert ("replayed" in fake.runs) is (refused == "")
    assert json.dumps(rows)
