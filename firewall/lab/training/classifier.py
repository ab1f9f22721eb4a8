"""Train the default sign classifier on GTSRB: resumable, the same result for the same seed and thread count.

The tracks of the training set are split once, by seed: `calibration` tracks are never trained on (thresholds are set
on them), and nothing is selected by looking at them or at the test images: the weights that count are the moving
average at the end of a fixed schedule.

Images that hold no sign can be given as *outliers*: on them the network learns to be undecided (outlier exposure,
Hendrycks et al. 2019), so that whatever a region proposal crops by mistake has a low confidence.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset, Sampler

from firewall.errors import DataError
from firewall.lab.datasets import gtsrb
from firewall.lab.models.sign_classifier import INPUT_SIZE, SignClassifier
from firewall.lab.training.augmentation import MIRROR, augment
from firewall.lab.training.outliers import partial
from firewall.transforms import resize

__all__ = ["Settings", "accuracy", "load_checkpoint", "predict", "to_batch", "train"]


@dataclass(frozen=True)
class Settings:
    """What a run is determined by; a resumed run must have the same."""

    epochs: int = 32
    batch: int = 128
    learning_rate: float = 3e-3
    weight_decay: float = 0.02
    label_smoothing: float = 0.08
    moving_average: float = 0.998
    calibration_share: float = 0.1
    outlier_share: float = 0.12
    outlier_weight: float = 0.5
    partial_share: float = 0.0
    seed: int = 0


def train(
    data: gtsrb.Gtsrb,
    out: Path,
    settings: Settings,
    *,
    outliers: list[npt.NDArray[np.uint8]] | None = None,
    start: nn.Module | None = None,
    threads: int = 2,
    workers: int = 1,
) -> SignClassifier:
    """Train on the tracks that `split_tracks` leaves, writing `out/checkpoint.pt` and `out/log.jsonl` after each epoch.

    start: network to begin with instead of random weights. If `out` holds a checkpoint of the same settings the run
    goes on from there. Returns the averaged network in evaluation mode. Raises DataError if the checkpoint belongs to
    other settings.
    """
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(threads)
    torch.manual_seed(settings.seed)
    rest, calibration = gtsrb.split_tracks(data, settings.calibration_share, settings.seed)
    fit, held = data.subset(rest), data.subset(calibration)
    outliers = outliers or []
    drawn = round(settings.outlier_share * len(fit)) if outliers else 0
    sampler = _EpochSampler(len(fit) + drawn, settings.seed)
    loader = DataLoader(
        _Augmented(fit, outliers, settings),
        settings.batch,
        sampler=sampler,
        num_workers=workers,
        persistent_workers=workers > 0,
        drop_last=True,
    )
    model = SignClassifier(len(gtsrb.CLASS_NAMES)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if start is not None:
        model.load_state_dict(start.state_dict())
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(settings.moving_average), use_buffers=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, total_steps=settings.epochs * len(loader), pct_start=0.15
    )
    state = {"model": model, "average": average, "optimizer": optimizer, "schedule": schedule}
    first = _resume(out / "checkpoint.pt", state, settings)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task("training", total=settings.epochs * len(loader), completed=first * len(loader), note="")
        for epoch in range(first, settings.epochs):
            sampler.epoch, started, total = epoch, time.monotonic(), 0.0
            torch.manual_seed(settings.seed * 100_003 + epoch)  # dropout, so that a resumed run is the same run
            model.train()
            for images, labels in loader:
                optimizer.zero_grad()
                loss = _loss(model(images), labels, settings)
                loss.backward()
                optimizer.step()
                schedule.step()
                average.update_parameters(model)
                total += loss.item()
                progress.update(bar, advance=1, note=f"epoch {epoch + 1}/{settings.epochs} loss {loss.item():.3f}")
            held_accuracy = accuracy(average.module, held)
            record = {
                "epoch": epoch + 1,
                "loss": round(total / len(loader), 4),
                "held_accuracy": round(held_accuracy, 4),
                "seconds": round(time.monotonic() - started, 1),
            }
            _save(out / "checkpoint.pt", state, settings, epoch + 1)
            with (out / "log.jsonl").open("a") as log:
                log.write(json.dumps(record) + "\n")
            progress.console.print(json.dumps(record), highlight=False)
    average.module.eval()
    return cast(SignClassifier, average.module)


def load_checkpoint(path: Path) -> tuple[nn.Module, Settings, int]:
    """The averaged network of a checkpoint in evaluation mode, its settings, and how many epochs it has had."""
    saved = _read(path)
    model = SignClassifier(len(gtsrb.CLASS_NAMES))
    average = AveragedModel(model, use_buffers=True)
    average.load_state_dict(saved["average"])
    return average.module.eval(), Settings(**saved["settings"]), int(saved["epoch"])


def to_batch(images: list[np.ndarray[Any, np.dtype[np.uint8]]]) -> Tensor:
    """Images of any size -> float (N, 3, 48, 48) in 0..1, resized as the edge does."""
    stack = np.stack([resize(image, INPUT_SIZE, INPUT_SIZE) for image in images])
    return torch.from_numpy(stack).permute(0, 3, 1, 2).float().div(255)


@torch.no_grad()
def predict(model: nn.Module, data: gtsrb.Gtsrb, batch: int = 256) -> Tensor:
    """Logits (N, 43) of all images in evaluation mode."""
    model.eval()
    return torch.cat([model(to_batch(data.images[i : i + batch])) for i in range(0, len(data), batch)])


def accuracy(model: nn.Module, data: gtsrb.Gtsrb) -> float:
    """Share of images whose top-1 class is the label."""
    return float((predict(model, data).argmax(1).numpy() == data.labels).mean())


def _loss(logits: Tensor, labels: Tensor, settings: Settings) -> Tensor:
    known = labels >= 0
    loss = nn.functional.cross_entropy(logits[known], labels[known], label_smoothing=settings.label_smoothing)
    if bool(known.all()):
        return loss
    undecided = -logits[~known].log_softmax(1).mean()  # cross-entropy with the uniform distribution
    return loss + settings.outlier_weight * undecided * (~known).float().mean() / settings.outlier_share


class _EpochSampler(Sampler[tuple[int, int]]):
    """Yields (epoch, index) in an order that depends on seed and epoch alone."""

    def __init__(self, length: int, seed: int) -> None:
        self.length, self.seed, self.epoch = length, seed, 0

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.length)
        return iter([(self.epoch, int(index)) for index in order])


class _Augmented(Dataset[tuple[Tensor, int]]):
    """One random version of an image, drawn from (seed, epoch, index) so that it doesn't depend on the worker.

    Indices past the signs draw an outlier, with label -1.
    """

    def __init__(self, signs: gtsrb.Gtsrb, outliers: list[npt.NDArray[np.uint8]], settings: Settings) -> None:
        self.signs, self.outliers = signs, outliers
        self.seed, self.partial_share = settings.seed, settings.partial_share

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, int]:
        cv2.setNumThreads(0)
        epoch, index = key
        generator = np.random.default_rng([self.seed, epoch, index])
        if index < len(self.signs):
            pixels, label = self.signs.images[index], int(self.signs.labels[index])
        elif generator.random() < self.partial_share:
            pixels, label = partial(self.signs.images[int(generator.integers(len(self.signs)))], generator), -1
        else:
            pixels, label = _crop(self.outliers[int(generator.integers(len(self.outliers)))], generator), -1
        if (label in MIRROR or label < 0) and generator.random() < 0.5:
            pixels, label = np.ascontiguousarray(pixels[:, ::-1]), MIRROR.get(label, label)
        pixels = augment(pixels, INPUT_SIZE, generator)
        return torch.from_numpy(pixels.copy()).permute(2, 0, 1).float().div(255), label


def _crop(pixels: npt.NDArray[np.uint8], generator: np.random.Generator) -> npt.NDArray[np.uint8]:
    height, width = pixels.shape[:2]
    if max(height, width) <= 160:  # a crop already, as mining gives them
        return pixels
    side = int(generator.integers(min(24, height, width), min(height, width) + 1))
    top, left = int(generator.integers(height - side + 1)), int(generator.integers(width - side + 1))
    return pixels[top : top + side, left : left + side]


def _save(path: Path, state: dict[str, Any], settings: Settings, epoch: int) -> None:
    partial = path.with_suffix(".partial")
    saved = {name: part.state_dict() for name, part in state.items()}
    torch.save({**saved, "settings": asdict(settings), "epoch": epoch}, partial)
    partial.replace(path)  # killed at any moment, the last whole checkpoint stays


def _read(path: Path) -> dict[str, Any]:
    try:
        saved: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch names many kinds of damage by many kinds of exception
        raise DataError(f"{path} is not a readable checkpoint ({type(error).__name__}: {error})") from error
    return saved


def _resume(path: Path, state: dict[str, Any], settings: Settings) -> int:
    if not path.exists():
        return 0
    saved = _read(path)
    if saved["settings"] != asdict(settings):
        raise DataError(
            f"{path} was made with other settings ({saved['settings']}); name another --out or remove the file"
        )
    for name, part in state.items():
        part.load_state_dict(saved[name])
    return int(saved["epoch"])
