"""The loop that every training uses: a fixed schedule, a moving average, a checkpoint after each epoch.

A run can be killed at any moment. Started again with the same settings it ends with the same weights as a run that was
never interrupted. What is random in an epoch is drawn from the seed and the number of the epoch.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset, Sampler

from firewall.errors import DataError, UsageError

__all__ = ["CHECKPOINT", "Schedule", "Shown", "checked_device", "fit", "read_checkpoint"]

CHECKPOINT = "checkpoint.pt"

#: Images to learn from instead, of (network in training mode, images, labels, share of the training that is done).
Shown = Callable[[nn.Module, Tensor, Tensor, float], Tensor]


@dataclass(frozen=True)
class Schedule:
    """What determines a run; a resumed run must have the same.

    Args:
        epochs: Passes over the images, 1 or more.
        batch: Images in each step.
        learning_rate: The largest of the one-cycle schedule.
        weight_decay: Of AdamW.
        moving_average: Decay of the weights' moving average, which is the result.
        seed: What is random depends on it.
    """

    epochs: int = 32
    batch: int = 128
    learning_rate: float = 3e-3
    weight_decay: float = 0.02
    moving_average: float = 0.998
    seed: int = 0


def fit(
    model: nn.Module,
    dataset: Dataset[tuple[Tensor, int]] | Dataset[tuple[Tensor, Tensor]],
    length: int,
    settings: Schedule,
    out: Path,
    *,
    loss: Callable[[Tensor, Tensor], Tensor],
    held: Callable[[nn.Module], float],
    workers: int,
    shown: Shown | None = None,
    bfloat16: bool = False,
    device: str = "cpu",
) -> nn.Module:
    """Train a network.

    Writes `out/checkpoint.pt` and `out/log.jsonl` after each epoch, and continues from a checkpoint that is there.

    Args:
        model: The network, changed in place.
        dataset: `dataset[epoch, index]` gives an image and what is wanted of it (a class, or a probability of each)
            that depend on these two alone.
        length: How many indices there are.
        settings: The schedule.
        out: Folder of the run.
        loss: Of outputs and labels.
        held: The accuracy on kept-out images, for the log alone.
        workers: Processes that prepare images; 0: this one.
        shown: What is made of a batch before the network learns from it. Its random numbers must come from torch's
            global generator.
        bfloat16: Whether the passes run in bfloat16; weights and loss stay float32.
        device: What trains, see `checked_device`. A checkpoint of one device is continued by another.

    Returns:
        The moving average of the network, in evaluation mode, on the device.

    Raises:
        DataError: The checkpoint belongs to other settings, or there are fewer images than a batch has.
        UsageError: There is no such device.
    """
    place = checked_device(device)
    model.to(place)
    out.mkdir(parents=True, exist_ok=True)
    sampler = _EpochSampler(length, settings.seed)
    loader = DataLoader(
        dataset,
        settings.batch,
        sampler=sampler,
        num_workers=workers,
        persistent_workers=workers > 0,
        drop_last=True,
        pin_memory=place.type == "cuda",
    )
    if len(loader) == 0:
        raise DataError(f"{length} images are too few to train on; a batch alone is {settings.batch}")
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(settings.moving_average), use_buffers=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, total_steps=settings.epochs * len(loader), pct_start=0.15
    )
    state = {"model": model, "average": average, "optimizer": optimizer, "schedule": schedule}
    first = _resume(out / CHECKPOINT, state, settings)
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
            for number, (drawn, labels) in enumerate(_on(place, loader)):
                done = (epoch + number / len(loader)) / settings.epochs
                images = drawn if shown is None else shown(model, drawn, labels, done)
                optimizer.zero_grad()
                with torch.autocast(place.type, torch.bfloat16, enabled=bfloat16):
                    outputs = model(images)
                value = loss(outputs.float(), labels)
                value.backward()
                optimizer.step()
                schedule.step()
                average.update_parameters(model)
                total += value.item()
                progress.update(bar, advance=1, note=f"epoch {epoch + 1}/{settings.epochs} loss {value.item():.3f}")
            held_accuracy = held(average.module)
            record = {
                "epoch": epoch + 1,
                "loss": round(total / len(loader), 4),
                "held_accuracy": round(held_accuracy, 4),
                "seconds": round(time.monotonic() - started, 1),
            }
            _save(out / CHECKPOINT, state, settings, epoch + 1)
            with (out / "log.jsonl").open("a") as log:
                log.write(json.dumps(record) + "\n")
            progress.console.print(json.dumps(record), highlight=False)
    trained: nn.Module = average.module.eval()
    return trained


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The parts of a checkpoint; only tensors and plain values are unpickled.

    Args:
        path: The file.

    Returns:
        The parts by name.

    Raises:
        DataError: The file is damaged.
    """
    try:
        saved: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch names many kinds of damage by many kinds of exception
        raise DataError(f"{path} is not a readable checkpoint ({type(error).__name__}: {error})") from error
    return saved


def checked_device(name: str) -> torch.device:
    """The device of that name.

    Args:
        name: cpu, cuda, or cuda:N.

    Raises:
        UsageError: The name is another, or torch finds no such GPU.
    """
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda") or (number and not (kind == "cuda" and number.isdecimal())):
        raise UsageError(f"--device must be cpu, cuda or cuda:N, got {name!r}")
    there = torch.cuda.device_count() if kind == "cuda" and torch.cuda.is_available() else 0
    if kind == "cuda" and int(number or 0) >= there:
        raise UsageError(f"--device {name}: torch finds {there} GPUs here; use --device cpu, or install torch for CUDA")
    return torch.device(name)


def _on(place: torch.device, batches: Iterable[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
    for drawn, wanted in batches:
        yield drawn.to(place, non_blocking=True), wanted.to(place, non_blocking=True)


class _EpochSampler(Sampler[tuple[int, int]]):
    """Yields (epoch, index) in an order that depends on seed and epoch alone."""

    def __init__(self, length: int, seed: int) -> None:
        self.length, self.seed, self.epoch = length, seed, 0

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.length)
        return iter([(self.epoch, int(index)) for index in order])


def _save(path: Path, state: dict[str, Any], settings: Schedule, epoch: int) -> None:
    partial = path.with_suffix(".partial")
    saved = {name: part.state_dict() for name, part in state.items()}
    torch.save({**saved, "settings": asdict(settings), "epoch": epoch}, partial)
    partial.replace(path)  # killed at any moment, the last whole checkpoint stays


def _resume(path: Path, state: dict[str, Any], settings: Schedule) -> int:
    if not path.exists():
        return 0
    saved = read_checkpoint(path)
    if saved["settings"] != asdict(settings):
        raise DataError(
            f"{path} was made with other settings ({saved['settings']}); name another --out or remove the file"
        )
    for name, part in state.items():
        part.load_state_dict(saved[name])
    return int(saved["epoch"])
