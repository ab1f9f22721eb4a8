"""Export sends nothing and keeps nothing but where it is told to; what is edge is in tests/contracts."""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import pytest
from PIL import Image

pytest.importorskip("torch", reason="the lab extra is not installed")

from firewall.bundle.signature import generate
from firewall.export.onnx import export_classifier
from tests.lab.coloured_shapes import SIZE, shapes, trained
from tests.tracing import require_strace, silent, traced

FIREWALL = (sys.executable, "-m", "firewall")


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder."""
    return tmp_path_factory.mktemp("q")


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_export_is_silent(folder: Path) -> None:
    """A bundle of an ONNX file, calibrated and signed, and its comparison with torch."""
    require_strace()
    out, benign = folder / "out", folder / "benign"
    for path in (out, benign):
        path.mkdir()
    for number, image in enumerate((shapes(320, seed=4)[0] * 255).round().byte().permute(0, 2, 3, 1).numpy()):
        Image.fromarray(image).save(benign / f"{number:03d}.png")
    export_classifier(copy.deepcopy(trained()).eval(), folder / "net.onnx", size=SIZE, labels=tuple("abcdef"))
    generate(out / "k")
    written = ("--out", out / "bundle", "--name", "shapes", "--version", 1, "--key", out / "k")
    for number, step in enumerate(
        (
            ("export", "bundle", "--classifier", folder / "net.onnx", "--images", benign, *written),
            ("export", "verify", "--bundle", out / "bundle", "--images", benign, "--limit", 3, "--threads", 1),
        )
    ):
        (below := folder / str(number)).mkdir()
        trace = traced(below, *FIREWALL, *step)
        silent(trace, out, below / "tmp", Path("/dev/shm"))
        assert trace.left == [], step


@pytest.mark.timeout(200)
def test_torchs_exporter_is_silent(folder: Path) -> None:
    """torch.onnx and onnxscript import ONNX Runtime by themselves, and torch makes a folder that is named after the
    user: also one who has no name (a number without an entry, as in a container) can export."""
    require_strace()
    code = (
        "import pwd\ndef nobody(number): raise KeyError(number)\npwd.getpwuid = nobody\n"
        "import torch, onnxscript, sys\nfrom pathlib import Path\n"
        "from firewall.export.onnx import export_classifier\nfrom torch import nn\n"
        "net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 3)).eval()\n"
        "export_classifier(net, Path(sys.argv[1]), size=8, labels=('a', 'b', 'c'))\n"
    )
    (out := folder / "out").mkdir()
    trace = traced(folder, sys.executable, "-c", code, out / "net.onnx")
    silent(trace, out, folder / "tmp", Path("/dev/shm"))
    assert (out / "net.onnx").is_file() and trace.left == []
