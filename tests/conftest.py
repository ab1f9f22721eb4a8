"""What many tests need: the default bundle, loaded once, and signs that it knows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from firewall import Firewall
from firewall.demo.source import DemoReader, truth
from firewall.frame import Pixels
from tests.browser import browser, complaints, page
from tests.clock import Clock
from tests.fake_cuda import FakeGpu, install_cuda
from tests.fake_tensorrt import Behaviour, install_tensorrt
from tests.fused_bundle import fused_bundle
from tests.in_ci import pytest_make_collect_report, pytest_runtest_makereport

__all__ = ["browser", "complaints", "page", "pytest_make_collect_report", "pytest_runtest_makereport"]

#: Real data stands beside the checkout in CI; tests that want it skip elsewhere.
SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def guard() -> Firewall:
    """A bundle with a fusion, tracks and drift, on one thread; see tests.fused_bundle."""
    return Firewall.load(fused_bundle(), threads=1)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The firewall's clock stands still unless the test moves it: what is late and what is not is the same on a busy
    machine."""
    clock = Clock()
    for module in ("screening", "decision.look"):
        monkeypatch.setattr(f"firewall.{module}.time", clock)
    return clock


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> FakeGpu:
    """A GPU that isn't there, behind packages of CUDA that aren't either; see tests.fake_cuda."""
    gpu = FakeGpu()
    install_cuda(monkeypatch, gpu)
    return gpu


@pytest.fixture
def fake(gpu: FakeGpu, monkeypatch: pytest.MonkeyPatch) -> Behaviour:
    """How a TensorRT on that GPU behaves; see tests.fake_tensorrt."""
    return install_tensorrt(monkeypatch)


@pytest.fixture(scope="session")
def demo_frames() -> list[Pixels]:
    """Every frame of the demo, once through."""
    return [pixels for pixels, _ in DemoReader({"fps": "0", "loop": "0"})]


@pytest.fixture(scope="session")
def benign_sign(guard: Firewall) -> Pixels:
    """A crop of a rendered sign that the default bundle releases. Only the demo's first frames are drawn for it."""
    for sequence, (pixels, _) in enumerate(DemoReader({"fps": "0", "loop": "0"})):
        if truth(sequence).attack is None and guard.screen(crop := _sign(sequence, pixels)).released:
            return crop
    pytest.fail("the default bundle releases no sign of the demo")


@pytest.fixture(scope="session")
def demo_signs(demo_frames: list[Pixels]) -> list[Pixels]:
    """Crops of all signs of the demo that nobody attacked, of 24 pixels and more."""
    crops = [_sign(sequence, pixels) for sequence, pixels in enumerate(demo_frames) if truth(sequence).attack is None]
    return [crop for crop in crops if min(crop.shape[:2]) >= 24]


def _sign(sequence: int, pixels: Pixels) -> Pixels:
    """The sign in a frame of the demo, with a tenth of its width on each side."""
    x, y, width, height = truth(sequence).box
    margin = width // 10
    return np.ascontiguousarray(
        pixels[max(0, y - margin) : y + height + margin, max(0, x - margin) : x + width + margin]
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first: a worker that began with one at the end would leave the others idle."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
