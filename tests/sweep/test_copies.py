"""The copies of an image are written where the network reads them, and are the same to the last bit."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest

from firewall import Firewall
from firewall.engines import Engine, OnnxRuntimeEngine, TensorEngine, open_engine
from firewall.errors import EngineError
from firewall.frame import Pixels
from firewall.screening import Stages
from firewall.sweep import copies as module
from firewall.sweep.copies import Copies
from firewall.transforms import (
    OPERATIONS_38,
    SWEEP_76,
    apply_operations,
    apply_operations_normalised,
    jpeg_sweep_normalised,
    resize,
)

JPEG_76 = [f"jpeg:{quality}" for quality in SWEEP_76]
MIXED = ["jpeg:75", "blur:2", "rotate:8", "jpeg:30", "scale:0.75", "scale:1.25", "jpeg:30"]


class Plain:
    """An engine that takes pixels only."""

    def __init__(self, engine: Engine) -> None:
        self.provider, self.classify = engine.provider, engine.classify


@pytest.fixture
def engine(guard: Firewall) -> OnnxRuntimeEngine:
    """One of its own: nothing has been written to its memory yet."""
    made = open_engine(guard.bundle, threads=1)
    assert isinstance(made, OnnxRuntimeEngine) and isinstance(made, TensorEngine)
    return made


@pytest.fixture
def sign(benign_sign: Pixels) -> Pixels:
    return resize(benign_sign, 48, 48)


@pytest.mark.parametrize("operations", [OPERATIONS_38, MIXED, ["jpeg:75"]])
def test_numbers_are_those_of_the_pixels(sign: Pixels, operations: Sequence[str]) -> None:
    """(value / 255 - mean) / std of each copy that `apply_operations` gives, in float32, in the order asked."""
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    found = apply_operations_normalised(sign, operations, mean, std)
    assert found.dtype == np.float32 and found.shape == (len(operations), 3, 48, 48)

    pixels = apply_operations(sign, operations).transpose(0, 3, 1, 2)
    scale = (1 / (255 * np.array(std))).astype(np.float32)[:, None, None]
    shift = (-np.array(mean) / np.array(std)).astype(np.float32)[:, None, None]
    assert np.array_equal(found, pixels * scale + shift)
    exact = (pixels / 255 - np.array(mean)[:, None, None]) / np.array(std)[:, None, None]
    assert np.abs(found - exact).max() < 1e-6
    place = operations.index("jpeg:75")
    assert np.array_equal(found[place], jpeg_sweep_normalised(sign, [75], mean, std)[0])


@pytest.mark.parametrize("operations", [OPERATIONS_38, JPEG_76, MIXED])
def test_the_same_logits_either_way(guard: Firewall, engine: Engine, sign: Pixels, operations: Sequence[str]) -> None:
    """Written in place or handed over as pixels: equal to the last bit, so thresholds and verdicts are too."""
    spec = guard.bundle.manifest.classifier.input
    stages = Stages()
    direct = Copies(engine, spec).classify(sign, operations, stages.timed)

    assert np.array_equal(direct, Copies(Plain(engine), spec).classify(sign, operations, Stages().timed))
    assert set(stages) == {"sweep", "classify"}


def test_the_sweep_writes_into_the_memory_that_the_network_reads(
    guard: Firewall, engine: OnnxRuntimeEngine, sign: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One address, from the sweep's `out` to the value that ONNX Runtime has bound; classify, which converts pixels,
    isn't called; and what is written there by hand is what the network answers to."""
    monkeypatch.setattr(
        engine, "_small", None
    )  # ONNX Runtime's own way; the other: tests/engines/test_small_network.py
    written: list[npt.NDArray[np.float32]] = []
    sweep = module.apply_operations_normalised

    def watched(*arguments: object, out: npt.NDArray[np.float32]) -> object:
        written.append(out)
        return sweep(*arguments, out=out)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "apply_operations_normalised", watched)
    monkeypatch.setattr(engine, "classify", lambda images: pytest.fail("pixels were converted"))
    copies = Copies(engine, guard.bundle.manifest.classifier.input)
    bound: list[int] = []
    bind = engine._session.io_binding

    def watched_binding() -> object:
        binding = bind()
        accept = binding.bind_ortvalue_input
        binding.bind_ortvalue_input = lambda name, value: (bound.append(value.data_ptr()), accept(name, value))
        return binding

    monkeypatch.setattr(engine._session, "io_binding", watched_binding)
    logits = copies.classify(sign, JPEG_76, Stages().timed)
    assert bound == [written[0].ctypes.data] == [engine.tensor(76).ctypes.data]

    engine.tensor(76)[:] = engine.tensor(76)[::-1].copy()
    assert np.array_equal(engine.run(76), logits[::-1])
    copies.classify(sign, JPEG_76, Stages().timed)
    assert len(bound) == 1  # bound once for each size of batch


def test_nothing_is_copied_on_the_way(guard: Firewall, engine: OnnxRuntimeEngine, sign: Pixels) -> None:
    """While 76 copies are made and classified, less memory is taken in Python than a single copy would need as floats;
    by way of pixels it is more than all of them."""
    spec = guard.bundle.manifest.classifier.input
    one = 3 * 48 * 48 * 4

    def most(copies: Copies) -> int:
        copies.classify(sign, JPEG_76, Stages().timed)
        tracemalloc.start()
        copies.classify(sign, JPEG_76, Stages().timed)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    answer = 2 * 76 * 43 * 4 + 8192  # the logits, once while they are checked and once as the result
    assert most(Copies(engine, spec)) < one + answer
    assert most(Copies(Plain(engine), spec)) > 76 * 3 * 48 * 48


def test_an_answer_is_not_overwritten_by_the_next(engine: OnnxRuntimeEngine, sign: Pixels) -> None:
    """Logits are the caller's to keep; and a larger batch doesn't disturb a smaller one before or after it."""
    images = apply_operations(sign, OPERATIONS_38)
    first = engine.classify(images[:3])
    kept = first.copy()
    everything = engine.classify(images)
    assert np.array_equal(first, kept) and np.allclose(everything[:3], kept, atol=1e-4)
    assert np.array_equal(engine.classify(images[:3]), kept)


def test_an_answer_that_was_not_written_is_refused(
    engine: OnnxRuntimeEngine, sign: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a run left the output as it was, the answer to the images before would come back: it is an error instead."""
    engine.classify(sign[None])
    monkeypatch.setattr(engine._small, "run", lambda images, out: None)
    with pytest.raises(EngineError, match="not finite"):
        engine.classify(sign[None])
    monkeypatch.setattr(engine, "_small", None)
    monkeypatch.setattr(engine._session, "run_with_iobinding", lambda binding: None)
    with pytest.raises(EngineError, match="not finite"):
        engine.classify(sign[None])
