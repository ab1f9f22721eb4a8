"""Signs of one size to train small networks for proofs on, and the folder that such a network is written to.

A batch is turned, scaled, shifted and lit at random as a whole, which takes a small part of what it takes one by one:
the networks are small, and their trainings would wait for their images otherwise.
"""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import Dataset

from firewall.bundle import ClassifierSpec, InputSpec
from firewall.errors import DataError, UsageError
from firewall.export.onnx import export_classifier
from firewall.export.precision import to_int8
from firewall.lab.datasets import gtsrb
from firewall.lab.measurement.edge import engine_for
from firewall.lab.training.classifiers.augmentation import MIRROR
from firewall.lab.training.loop import CHECKPOINT, read_checkpoint
from firewall.transforms import resize

__all__ = ["SmallSigns", "begin", "loaded", "posed", "right", "write"]

#: The exported network, in the folder of a run.
_FILE = "classifier.onnx"


class SmallSigns(Dataset[tuple[Tensor, int]]):
    """Signs, uint8 (3, size, size), mirrored at random where the mirror image has a class.

    Which are depends on (seed, epoch, index) alone.

    Args:
        signs: The images.
        size: Height and width, in pixels.
        seed: What mirroring depends on.
    """

    def __init__(self, signs: gtsrb.Gtsrb, size: int, seed: int = 0) -> None:
        small = np.stack([resize(image, size, size) for image in signs.images])
        self.pixels = torch.from_numpy(small).permute(0, 3, 1, 2).contiguous()
        self.labels, self.seed = torch.from_numpy(signs.labels), seed

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, int]:
        pixels, label = self.pixels[key[1]], int(self.labels[key[1]])
        if label in MIRROR and np.random.default_rng([self.seed, *key]).random() < 0.5:
            return pixels.flip(2), MIRROR[label]
        return pixels, label


def loaded(data: Path, size: int, share: float, seed: int) -> tuple[SmallSigns, SmallSigns, dict[str, Any]]:
    """The training images, split by track.

    Args:
        data: Folder of the data sets.
        size: Height and width, in pixels.
        share: Of the tracks that are kept out.
        seed: What the choice depends on.

    Returns:
        The images to train on, the kept-out ones, and what a card says of them.

    Raises:
        DataError: Files are missing or damaged.
    """
    signs = gtsrb.load_train(data)
    rest, kept = gtsrb.split_tracks(signs, share, seed)
    fitted = signs.subset(rest)
    about = {"data": "GTSRB", "images": len(fitted), "tracks": len(np.unique(fitted.tracks)), "kept_out_share": share}
    return SmallSigns(fitted, size, seed), SmallSigns(signs.subset(kept), size), about


def posed(pixels: Tensor, strength: float = 1.0) -> Tensor:
    """Each image turned, scaled, shifted and lit at random, with torch's own random numbers.

    Args:
        pixels: Uint8 (N, 3, H, W).
        strength: Of the changes; 0: none.

    Returns:
        Float (N, 3, H, W) in 0..1.
    """
    images = pixels.float() / 255
    if strength == 0:
        return images
    count = len(images)

    def drawn(most: float, *shape: int) -> Tensor:
        return (torch.rand(count, *shape, device=images.device) * 2 - 1) * (most * strength)

    angle, scale = drawn(math.radians(10)), torch.exp(drawn(0.16))
    turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], 1).reshape(count, 2, 2)
    places = torch.cat([turn * scale[:, None, None] * torch.exp(drawn(0.06, 1, 2)), drawn(0.12, 2, 1)], dim=2)
    grid = functional.affine_grid(places, list(images.shape), align_corners=False)
    images = functional.grid_sample(images, grid, padding_mode="border", align_corners=False)
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    images = (images - mean) * torch.exp(drawn(0.4, 1, 1, 1)) + mean * torch.exp(drawn(0.4, 1, 1, 1))
    return (images * torch.exp(drawn(0.1, 3, 1, 1))).clamp(0, 1)


def begin(model: nn.Module, start: Path | None) -> str | None:
    """Begin with the weights of another run of the same network.

    Args:
        model: Changed in place.
        start: Folder of that run; None: the weights stay.

    Returns:
        The SHA-256 of that run's network.

    Raises:
        UsageError: The folder holds no run, or one that isn't finished.
        DataError: The run is of another network.
    """
    if start is None:
        return None
    for name in (CHECKPOINT, _FILE):
        if not (start / name).is_file():
            raise UsageError(f"--start {start} has no {name}; name the folder of a finished run of the same command")
    average = AveragedModel(model, use_buffers=True)
    try:
        average.load_state_dict(read_checkpoint(start / CHECKPOINT)["average"])
    except RuntimeError as error:
        raise DataError(f"{start} is a run of another network; name the folder of a run of the same command") from error
    model.load_state_dict(average.module.state_dict())
    return hashlib.sha256((start / _FILE).read_bytes()).hexdigest()


@torch.no_grad()
def right(model: nn.Module, signs: SmallSigns, noise: float = 0.0, batch: int = 256) -> float:
    """The share of images that a network names correctly, each once with noise.

    Args:
        model: The network.
        signs: The images.
        noise: Standard deviation.
        batch: Images at a time.

    Returns:
        0..1.
    """
    model.eval()
    device = next(model.parameters()).device
    hits, generator = 0, torch.Generator().manual_seed(0)
    for start in range(0, len(signs), batch):
        images = signs.pixels[start : start + batch].float() / 255
        if noise:
            images = (images + noise * torch.randn(images.shape, generator=generator)).clamp(0, 1)
        hits += int((model(images.to(device)).argmax(1).cpu() == signs.labels[start : start + batch]).sum())
    return hits / len(signs)


def write(
    model: nn.Module,
    size: int,
    out: Path,
    data: Path,
    training: dict[str, Any],
    *,
    threads: int,
    scales: npt.NDArray[np.float32] | None = None,
) -> dict[str, Any]:
    """Export a trained network and measure the exported file on the test images.

    Args:
        model: The network, in evaluation mode.
        size: Height and width of its input, in pixels.
        out: Folder of the run.
        data: Folder of the data sets.
        training: What the card says of the training.
        threads: Of the engine.
        scales: Float32 (N, 3, size, size), images to choose the scales of eight bits by; None: it stays in float32.

    Returns:
        The card, which is in the folder too.

    Raises:
        DataError: The test images are missing or damaged.
    """
    file = out / _FILE
    export_classifier(model, file, size=size, labels=gtsrb.CLASS_NAMES)
    if scales is not None:
        file.write_bytes(to_int8(file.read_bytes(), scales, target="cpu"))
    content = file.read_bytes()
    spec = ClassifierSpec(file=file.name, input=InputSpec(width=size, height=size), labels=gtsrb.CLASS_NAMES)
    engine, test = engine_for(spec, content, threads), gtsrb.load_test(data)
    small = np.stack([resize(image, size, size) for image in test.images])
    parts = [engine.classify(small[at : at + 64]).argmax(axis=1) for at in range(0, len(small), 64)]
    card = {
        "classifier": spec.model_dump(mode="json"),
        "sha256": hashlib.sha256(content).hexdigest(),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "training": training,
        "test": {"images": len(test), "accuracy": float((np.concatenate(parts) == test.labels).mean())},
        "versions": {"torch": torch.__version__, "numpy": np.__version__},
    }
    partial = out / "card.partial"
    partial.write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    partial.replace(out / "card.json")
    return card
