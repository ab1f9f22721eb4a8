"""Train the small sign classifier that randomized smoothing smooths: `firewall lab train smoothed`.

It learns from images with Gaussian noise (Cohen, Rosenfeld, Kolter 2019), two copies of each, which it shall name
alike: the consistency term of Jeong and Shin (NeurIPS 2020). Noise of all levels first, then a short run at the level
that is certified costs less than one training for each.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from firewall.errors import UsageError
from firewall.lab.datasets import gtsrb
from firewall.lab.models.robust_networks import NOISE_SIZE, noise_network
from firewall.lab.training.classifiers.small_signs import begin, loaded, posed, right, write
from firewall.lab.training.loop import Schedule, Shown, fit

__all__ = ["Run", "Settings", "consistent_loss", "noisy", "train_on_noise", "train_smoothed", "with_noise"]

#: Training images that the scales of eight bits are chosen by.
_SCALES = 256


@dataclass(frozen=True)
class Settings(Schedule):
    """What determines a run, besides the schedule.

    Args:
        sigma: Standard deviation of the noise, in units of the range of a value; 0: none, for a classifier that a
            denoiser is put before.
        varied: Whether each image has noise of its own level, between 0 and sigma.
        consistency: Weight of the term by which two noisy copies shall be named alike.
        strength: Of the changes of pose and light.
        kept_out: Share of the tracks that are not trained on.
        width: Of the network, see `noise_network`.
        blocks: Of the network.
    """

    epochs: int = 30
    learning_rate: float = 4e-3
    moving_average: float = 0.995
    sigma: float = 0.25
    varied: bool = False
    consistency: float = 5.0
    strength: float = 1.0
    kept_out: float = gtsrb.KEPT_OUT[0]
    width: int = 48
    blocks: int = 0

    def checked(self) -> Settings:
        """The same.

        Raises:
            UsageError: A number is out of range.
        """
        if not 0 <= self.sigma <= 2:
            raise UsageError(f"--sigma must lie in 0..2, as a share of a value's range, got {self.sigma:g}")
        if not (math.isfinite(self.consistency) and self.consistency >= 0):
            raise UsageError(f"--consistency must be 0 or more, got {self.consistency:g}")
        return self


@dataclass(frozen=True)
class Run:
    """What a training runs on, and what is made of it; nothing that the weights depend on but `start`.

    Args:
        start: Folder of a run to begin with; None: random weights.
        threads: Of torch.
        workers: Processes that prepare images; 0: this one.
        bfloat16: Whether the passes run in bfloat16.
        device: What trains, as of `fit`.
        int8: Whether the exported network computes in eight bits.
    """

    start: Path | None = None
    threads: int = 1
    workers: int = 0
    bfloat16: bool = False
    device: str = "cpu"
    int8: bool = True


def train_smoothed(data: Path, out: Path, settings: Settings, run: Run) -> dict[str, Any]:
    """Train, or go on training, export, and measure the exported file on the test images without noise.

    Args:
        data: Folder of the data sets.
        out: Folder of the run.
        settings: Of the training.
        run: What it runs on.

    Returns:
        The card.

    Raises:
        UsageError: A setting is out of range, or `start` is no run.
        DataError: Data is missing or damaged, or the checkpoint belongs to other settings.
    """
    settings = settings.checked()
    torch.manual_seed(settings.seed)
    model = noise_network(len(gtsrb.CLASS_NAMES), settings.width, settings.blocks)
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    loss = consistent_loss(settings.consistency)
    return train_on_noise(model, data, out, settings, run, loss=loss, shown=noisy(settings), about={"what": "smoothed"})


def train_on_noise(
    model: nn.Module,
    data: Path,
    out: Path,
    settings: Settings,
    run: Run,
    *,
    loss: Callable[[Tensor, Tensor], Tensor],
    shown: Shown,
    about: dict[str, Any],
    whole: Callable[[nn.Module], nn.Module] = lambda network: network,
) -> dict[str, Any]:
    """Train a network of 48x48 pixels on signs with noise, export it, and measure the file on the test images.

    Args:
        model: The network, which gives logits in evaluation mode.
        data: Folder of the data sets.
        out: Folder of the run.
        settings: Of the training.
        run: What it runs on.
        loss: As of `fit`.
        shown: As of `fit`.
        about: What the card says of the training, besides data and settings.
        whole: Trained network -> the one that is exported, float (N, 3, 48, 48) in 0..1 -> logits.

    Returns:
        The card.

    Raises:
        UsageError: `start` is no run, or there is no such device.
        DataError: Data is missing or damaged, or the checkpoint belongs to other settings.
    """
    torch.set_num_threads(run.threads)
    refines = begin(model, run.start)
    fitted, held, signs = loaded(data, NOISE_SIZE, settings.kept_out, settings.seed)
    trained = fit(
        model,
        fitted,
        len(fitted),
        settings,
        out,
        workers=run.workers,
        loss=loss,
        held=lambda network: right(network, held, settings.sigma),
        shown=shown,
        bfloat16=run.bfloat16,
        device=run.device,
    )
    training = {**signs, **about, "settings": asdict(settings), "refines": refines, "int8": run.int8}
    torch.manual_seed(settings.seed)
    scales = noisy(settings)(trained, fitted.pixels[:: max(1, len(fitted) // _SCALES)], fitted.labels, 1.0)
    floats = scales.contiguous(memory_format=torch.contiguous_format).numpy() if run.int8 else None
    return write(whole(trained), NOISE_SIZE, out, data, training, threads=run.threads, scales=floats)


def noisy(settings: Settings) -> Shown:
    """What is made of a batch before the network learns from it.

    Args:
        settings: Of the training.

    Returns:
        As `fit` asks for: uint8 (N, 3, H, W) -> float, as `with_noise` gives them.
    """

    def shown(_model: nn.Module, pixels: Tensor, _labels: Tensor, _done: float) -> Tensor:
        return with_noise(posed(pixels, settings.strength), settings)

    return shown


def with_noise(images: Tensor, settings: Settings) -> Tensor:
    """Two noisy copies of each image, with torch's own random numbers; one where copies needn't be named alike.

    Args:
        images: Float (N, 3, H, W) in 0..1.
        settings: Of the training.

    Returns:
        Float (N or 2 N, 3, H, W), all images with noise and then all of them with other noise of the same levels,
        clipped to 0..1 as the engine's input is.
    """
    copies = 2 if settings.consistency > 0 else 1
    level = torch.full((len(images), 1, 1, 1), settings.sigma, device=images.device)
    if settings.varied:
        level = level * torch.rand_like(level)
    repeated = images.repeat(copies, 1, 1, 1)
    noise = torch.randn_like(repeated) * level.repeat(copies, 1, 1, 1)
    return (repeated + noise).clamp(0, 1).contiguous(memory_format=torch.channels_last)


def consistent_loss(weight: float) -> Callable[[Tensor, Tensor], Tensor]:
    """The cross-entropy of all copies, and how far two differ.

    Args:
        weight: Of the difference: the mean Kullback-Leibler divergence of each copy's probabilities from their mean.

    Returns:
        A function of logits (2 N, classes) and labels (N,); with a weight of 0 of logits (N, classes) too.
    """

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        named = functional.cross_entropy(logits, labels.repeat(len(logits) // len(labels)))
        if weight == 0:
            return named
        logs = logits.log_softmax(1).reshape(2, len(labels), -1)
        mean = logs.exp().mean(0)
        apart = (mean * (mean.clamp_min(1e-12).log() - logs.mean(0))).sum(1).mean()
        return named + weight * apart

    return loss
