"""The sign finder as a TensorRT plan, on a fake TensorRT that runs it on the processor, and a fake GPU."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", reason="the export extra is not installed")

from firewall.engines.device_memory import open_device
from firewall.engines.frame_network import OnnxRuntimeFrames, TensorRTFrames
from firewall.engines.plan_cache import FrameSizes, Plan, PlanCache, PlanKey, Profile
from firewall.errors import EngineError
from firewall.regions.finder_map import CHANNELS
from firewall.regions.sign_finder import SignFinder
from tests.fake_cuda import FakeGpu
from tests.fake_tensorrt import VERSIONS, Behaviour
from tests.finders import SPEC, red_finder, street

SIZES = FrameSizes(least=(32, 32), best=(128, 224), most=(416, 416))


@pytest.fixture
def plan() -> Callable[..., Plan]:
    """A plan in the fake's format, for the red finder; changes are the key's."""

    def make(content: bytes = red_finder(), **changes: object) -> Plan:
        fields = {
            "onnx": hashlib.sha256(content).hexdigest(),
            "output": SPEC.output,
            "tensorrt": VERSIONS[-1],
            "gpu": "Orin",
            "compute_capability": "8.7",
            "precision": "fp32",
            "profile": Profile(best=1, most=1),
            "frame": SIZES,
        }
        key = PlanKey.model_validate({**fields, **changes})
        shapes = [[1, 3, *size] for size in (SIZES.least, SIZES.best, SIZES.most)]
        head = json.dumps({"shapes": {SPEC.input: shapes}, "detailed": True, "outputs": [SPEC.output]})
        written = f"fake {VERSIONS[-1]}\n{head}\n".encode() + content
        return Plan(key, written, hashlib.sha256(content).hexdigest(), {"float32": 1}, {})

    return make


def opened(plan: Plan, content: bytes = red_finder()) -> TensorRTFrames:
    return TensorRTFrames(SPEC, content, plan, open_device(), CHANNELS)


def on(network: TensorRTFrames) -> SignFinder:
    return SignFinder(SPEC, red_finder(), "finder.onnx", network=network)


def test_it_boxes_what_onnx_runtime_boxes(gpu: FakeGpu, fake: Behaviour, plan: Callable[..., Plan]) -> None:
    """Frames of many sizes by turns, growing and shrinking: the same boxes and the same map; nothing that an earlier,
    larger frame left is seen; close gives all memory back."""
    network = opened(plan())
    finder, reference = on(network), SignFinder(SPEC, red_finder(), "finder.onnx", threads=1)
    assert finder.networks == {"finder.onnx": f"TensorRT {VERSIONS[-1]} fp32"}
    random = np.random.default_rng(0)
    for height, width in ((101, 203), (400, 400), (33, 40), (128, 224), (1, 1), (400, 77), (101, 203)):
        noise = random.integers(0, 256, (height, width, 3), np.uint8)
        for frame in (street(height, width, [(8, 8)]), noise, street(height, width)):
            assert finder.find(frame) == reference.find(frame)
            assert np.array_equal(finder._map(), reference._map())
    network.close()
    assert gpu.memory == {}


def test_a_frame_beyond_the_plan_s_sizes_withholds(fake: Behaviour, plan: Callable[..., Plan]) -> None:
    """Not run in another size and not on another device: one line that says what to build; the next frame is judged."""
    finder, frame = on(opened(plan())), street(101, 203, [(40, 48)])
    for shape in ((90, 500), (500, 90)):
        with pytest.raises(EngineError, match=r"takes frames of 32x32 to 416x416, .* --frame WIDTHxHEIGHT") as caught:
            finder.find(street(*shape))
        assert "\n" not in str(caught.value)
        assert len(finder.find(frame)) == 1


def test_every_failure_is_an_error_and_no_old_answer(gpu: FakeGpu, fake: Behaviour, plan: Callable[..., Plan]) -> None:
    """What isn't written is refused, though the frame before was answered; a refused shape; CUDA's errors."""
    finder, frame = on(opened(plan())), street(101, 203, [(40, 48)])
    assert len(finder.find(frame)) == 1
    for wrong, words in (("nan", "not finite"), ("shape", "failed on an input of shape .*: Static dimension mismatch")):
        fake.wrong = wrong
        with pytest.raises(EngineError, match=words):  # a shape that is a graph is not asked about again
            finder.find(street(133, 203) if wrong == "shape" else frame)
    fake.wrong = ""
    for function in ("cudaMemcpyAsync", "cudaStreamSynchronize"):
        gpu.refuse = function
        with pytest.raises(EngineError, match=f"CUDA refuses {function}"):
            finder.find(frame)
    gpu.refuse = ""
    assert len(finder.find(frame)) == 1


@pytest.mark.parametrize("function", ["cudaMallocHost", "cudaMalloc"])
def test_a_frame_that_memory_does_not_suffice_for_withholds(
    function: str, gpu: FakeGpu, fake: Behaviour, plan: Callable[..., Plan]
) -> None:
    """Each time, without asking again and again; smaller frames are judged on, in the memory that there is, and nothing
    is written beyond its end."""
    finder, small, large = on(opened(plan())), street(101, 203, [(40, 48)]), street(400, 400, [(80, 80)])
    gpu.refuse = function
    held = list[int]()
    for _ in range(3):
        with pytest.raises(EngineError, match=rf"no memory for frames of this size: CUDA refuses {function}") as caught:
            finder.find(large)
        assert "\n" not in str(caught.value)
        assert len(finder.find(small)) == 1
        held.append(len(gpu.memory))
    assert len(set(held)) == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"onnx": "0" * 64}, "was built for onnx "),
        ({"tensorrt": "10.0.1"}, "was built for tensorrt "),
        ({"gpu": "Thor"}, "was built for gpu "),
        ({"compute_capability": "9.0"}, "was built for compute_capability "),
        ({"frame": None}, "of no size of frames"),
        ({"frame": FrameSizes(least=(32, 32), best=(128, 224), most=(480, 416))}, "not those of its key"),
    ],
)
def test_a_plan_for_something_else_is_not_used(
    changes: dict[str, object], words: str, fake: Behaviour, plan: Callable[..., Plan]
) -> None:
    """Another network, version, GPU, or other frames than its key says."""
    with pytest.raises(EngineError, match=words):
        opened(plan(**changes))


def test_a_plan_that_does_not_work_is_refused_when_it_is_opened(fake: Behaviour, plan: Callable[..., Plan]) -> None:
    """Tensors other than the bundle's; one map for all frames; no finite numbers."""
    four = red_finder(channels=4)
    with pytest.raises(EngineError, match="its bundle says"):
        opened(plan(four), four)
    for wrong, words in (("stale", "same map for different frames"), ("nan", "not finite")):
        fake.wrong = wrong
        with pytest.raises(EngineError, match=words):
            opened(plan())


def test_only_what_lies_in_the_cache_whole_is_opened(
    gpu: FakeGpu, fake: Behaviour, plan: Callable[..., Plan], tmp_path: Path
) -> None:
    """Of two plans the one for the larger frames; nothing there, another precision or damage is an error that names the
    network and leaves nothing allocated."""

    def load(**given: object) -> TensorRTFrames:
        return TensorRTFrames.from_cache(SPEC, red_finder(), "finder.onnx", CHANNELS, folder=tmp_path, **given)  # type: ignore[arg-type]

    cache, stored = PlanCache(tmp_path), plan()
    with pytest.raises(EngineError, match=r"^finder\.onnx: .*'firewall export tensorrt'"):
        load()
    small = plan(frame=FrameSizes(least=(32, 32), best=(128, 224), most=(128, 224)))
    for each in (stored, small):
        path = cache.store(each.key, each.content, network=each.network, layers={}, made={})
    network = load()
    assert network.plan.key == stored.key
    network.close()
    assert gpu.memory == {}
    with pytest.raises(EngineError, match="no fp16 TensorRT plan"):
        load(precision="fp16")
    path = tmp_path / f"{stored.key.name}.plan"
    path.write_bytes(stored.content + b"\0")
    with pytest.raises(EngineError, match="is not the file that was built"):
        load()
    assert gpu.memory == {}


def test_on_onnx_runtime_any_size_is_read() -> None:
    """One buffer for frames of one size, zeros at first."""
    network = OnnxRuntimeFrames(SPEC, red_finder(), "finder.onnx", threads=1)
    frame = network.frame(64, 96)
    assert frame.shape == (1, 3, 64, 96) and not frame.any() and network.frame(64, 96) is frame
    frame[...] = 1
    assert network.run().shape == (1, CHANNELS, 8, 12)
    assert not network.frame(32, 32).any()
