"""torch -> ONNX, on small networks with random weights, through the real exporter and ONNX Runtime."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the export extra is not installed")
onnx = pytest.importorskip("onnx", reason="the export extra is not installed")
pytest.importorskip("onnxscript", reason="the export extra is not installed")

from torch import Tensor, nn  # noqa: E402

from firewall.errors import EngineError, FirewallError, UsageError  # noqa: E402
from firewall.export.onnx import OPSET, export_classifier  # noqa: E402
from firewall.host.onnxruntime import ort  # noqa: E402

SIZE = 12
LABELS = ("stop", "give way", "Geschwindigkeit überschritten", 'a "quoted" one')


def network(classes: int = len(LABELS)) -> nn.Sequential:
    """Convolution, batch normalisation with statistics that matter, dropout; in training mode."""
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU()),
        *(nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.BatchNorm2d(8), nn.ReLU()),
        *(nn.Flatten(), nn.Dropout(0.5), nn.Linear(8 * 36, classes)),
    )
    for _ in range(20):
        model(torch.rand(16, 3, SIZE, SIZE))
    return model


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path]:
    """A network and its file."""
    model, path = network(), tmp_path_factory.mktemp("onnx") / "classifier.onnx"
    export_classifier(model, path, size=SIZE, labels=LABELS)
    return model, path


@pytest.mark.parametrize("count", [1, 2, 17, 77])
def test_any_batch_says_what_torch_says(exported: tuple[nn.Module, Path], count: int) -> None:
    """The batch is really free, and logits are those of the network in evaluation mode."""
    model, path = exported
    images = np.random.default_rng(count).random((count, 3, SIZE, SIZE), np.float32)
    session = ort.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {"image": images})
    model.eval()
    with torch.no_grad():
        expected = model(torch.from_numpy(images)).numpy()
    model.train()
    assert logits.shape == (count, len(LABELS)) and logits.dtype == np.float32
    assert np.abs(logits - expected).max() < 1e-4


def test_file_is_plain_and_whole(exported: tuple[nn.Module, Path]) -> None:
    """Valid ONNX of one opset, fixed size, free batch, normalisation folded, labels inside, nothing left beside it."""
    path = exported[1]
    proto = onnx.load(path, load_external_data=False)
    onnx.checker.check_model(proto, full_check=True)
    assert [(entry.domain, entry.version) for entry in proto.opset_import] == [("", OPSET)]
    dimensions = proto.graph.input[0].type.tensor_type.shape.dim
    assert dimensions[0].dim_param == "batch" and [d.dim_value for d in dimensions][1:] == [3, SIZE, SIZE]
    assert not any(weight.HasField("data_location") and weight.data_location for weight in proto.graph.initializer)
    assert "BatchNormalization" not in {node.op_type for node in proto.graph.node}
    (labels,) = [entry.value for entry in proto.metadata_props if entry.key == "labels"]
    assert json.loads(labels) == list(LABELS)
    assert list(path.parent.iterdir()) == [path]


def test_file_tells_nothing_of_this_machine(exported: tuple[nn.Module, Path]) -> None:
    """No source lines, file names or folders, which the exporter writes by default."""
    data = exported[1].read_bytes()
    for trace in (b".py", b"stack_trace", b"site-packages", os.fsencode(Path(__file__).parents[2]), b"namespace"):
        assert trace not in data


def test_same_weights_same_bytes(exported: tuple[nn.Module, Path], tmp_path: Path) -> None:
    """A second process, with another hash seed, writes the same file."""
    script = (
        "import sys; from pathlib import Path; from tests.export.test_onnx import *\n"
        "export_classifier(network(), Path(sys.argv[1]), size=SIZE, labels=LABELS)"
    )
    again = tmp_path / "again.onnx"
    search = os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])
    environment = {**os.environ, "PYTHONPATH": search, "PYTHONHASHSEED": "77"}
    subprocess.run([sys.executable, "-c", script, str(again)], check=True, env=environment, timeout=300)
    assert again.read_bytes() == exported[1].read_bytes()


def test_caller_keeps_the_network_and_names_the_ends(tmp_path: Path) -> None:
    """Modes, gradients and statistics stay; names of input and output, and more images than a batch, are as given."""
    model, path = network(), tmp_path / "x.onnx"
    model[1].eval()
    modes = [module.training for module in model.modules()]
    before = {key: value.clone() for key, value in model.state_dict().items()}
    images = np.random.default_rng(0).integers(0, 256, (100, SIZE, SIZE, 3), np.uint8)
    names = {"input_name": "pixels", "output_name": "scores"}
    export_classifier(model, path, size=SIZE, labels=LABELS, images=images, **names)
    assert [module.training for module in model.modules()] == modes
    assert all(weight.requires_grad for weight in model.parameters())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    session = ort.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    assert [entry.name for entry in session.get_inputs()] == ["pixels"]
    assert [entry.name for entry in session.get_outputs()] == ["scores"]


class Constant(nn.Module):
    """Exports as what it was at the example, zeros: a branch on values that tracing can't see."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = network()

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.inner(image)
        return logits if not torch.compiler.is_compiling() else logits * 1.01


class FixedBatch(nn.Module):
    """Ties the batch to two."""

    def forward(self, image: Tensor) -> Tensor:
        return image.mean((2, 3)).reshape(2, 3) if len(image) == 2 else image.mean((2, 3))


class NotANumber(nn.Module):
    """Gives NaN."""

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = image.mean((2, 3)) * torch.nan
        return logits


class Branching(nn.Module):
    """Can't be traced: what it does depends on the pixels."""

    def forward(self, image: Tensor) -> Tensor:
        return image.mean((2, 3)) * (1.0 if float(image.sum()) > 1 else 2.0)


@pytest.mark.parametrize(
    ("model", "labels", "named"),
    [
        (network(5), LABELS, "4 labels"),
        (nn.Identity(), LABELS, "4 labels"),
        (nn.Linear(5, 4), LABELS, "doesn't run"),
        (Constant(), LABELS, "differ"),
        (FixedBatch(), LABELS[:3], "batch|exported"),
        (NotANumber(), LABELS[:3], "finite"),
        (Branching(), LABELS[:3], "can't be exported"),
    ],
)
def test_networks_that_can_not_be_exported(
    model: nn.Module, labels: tuple[str, ...], named: str, tmp_path: Path
) -> None:
    """One line of error and no file: wrong number of classes, other results, a fixed batch, NaN, untraceable."""
    with pytest.raises(EngineError, match=named) as caught:
        export_classifier(model, tmp_path / "x.onnx", size=SIZE, labels=labels)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("size", "labels", "images"),
    [
        (0, LABELS, None),
        (SIZE, (), None),
        (SIZE, "stop", None),
        (SIZE, ("stop", "stop", "go", "slow"), None),
        (SIZE, LABELS, np.zeros((2, 3, SIZE, SIZE), np.uint8)),
        (SIZE, LABELS, np.zeros((2, SIZE, SIZE, 3), np.float32)),
        (SIZE, LABELS, np.zeros((0, SIZE, SIZE, 3), np.uint8)),
    ],
)
def test_calls_that_do_not_fit(size: int, labels: tuple[str, ...], images: object, tmp_path: Path) -> None:
    """Sizes, labels and images that can't be meant are refused before anything is exported."""
    with pytest.raises(UsageError) as caught:
        export_classifier(network(), tmp_path / "x.onnx", size=size, labels=labels, images=images)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_failure_keeps_the_old_file(exported: tuple[nn.Module, Path], tmp_path: Path) -> None:
    """A failed export leaves the file that was there; a folder that doesn't exist is named."""
    path = tmp_path / "x.onnx"
    path.write_bytes(b"old")
    with pytest.raises(EngineError):
        export_classifier(NotANumber(), path, size=SIZE, labels=LABELS[:3])
    assert path.read_bytes() == b"old"
    with pytest.raises(FirewallError, match="missing"):
        export_classifier(exported[0], tmp_path / "missing" / "x.onnx", size=SIZE, labels=LABELS)
