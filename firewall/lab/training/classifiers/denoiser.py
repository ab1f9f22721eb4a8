"""Train a denoiser to put before a sign classifier that never saw noise: `firewall lab train denoiser`.

Denoised smoothing (Salman, Sun, Yang, Kapoor, Kolter, NeurIPS 2020): denoiser and classifier together are smoothed, and
the classifier's weights stay as they are. The denoiser first learns to give the image without its noise (mean squared
error), then to have the classifier name a noisy copy as it names the clean image (their stability loss: the
cross-entropy between the two; the image's own label isn't used). As in `smoothed_classifier` each image has two noisy
copies, which shall be named alike; with `consistency` 0 there is one, and the loss is the paper's alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from firewall.errors import DataError, UsageError
from firewall.lab.datasets import gtsrb
from firewall.lab.models.opening import open_classifier
from firewall.lab.models.protected import Protected
from firewall.lab.models.robust_networks import NOISE_SIZE, Denoiser
from firewall.lab.training.classifiers.small_signs import posed
from firewall.lab.training.classifiers.smoothed_classifier import (
    Run,
    Settings,
    consistent_loss,
    train_on_noise,
    with_noise,
)
from firewall.lab.training.loop import checked_device

__all__ = ["Denoised", "DenoiserSettings", "Lessons", "train_denoiser"]


@dataclass(frozen=True)
class DenoiserSettings(Settings):
    """What determines a run.

    Args:
        restoring: Share of the training in which the denoiser learns from the mean squared error alone, 0..1.
        classifier: SHA-256 of the classifier's file: a run goes on with the same one only. `train_denoiser` sets it.
    """

    epochs: int = 12
    learning_rate: float = 3e-3
    restoring: float = 0.3
    classifier: str = ""

    def checked(self) -> DenoiserSettings:
        """The same.

        Raises:
            UsageError: A number is out of range.
        """
        super().checked()
        if self.sigma == 0:
            raise UsageError("--sigma must be above 0: without noise there is nothing to take out")
        if not 0 <= self.restoring <= 1:
            raise UsageError(f"--restoring must be a share from 0 to 1, got {self.restoring:g}")
        return self


def train_denoiser(data: Path, out: Path, classifier: str, settings: DenoiserSettings, run: Run) -> dict[str, Any]:
    """Train, or go on training, write denoiser and classifier as one ONNX file, and measure it on the test images.

    Args:
        data: Folder of the data sets.
        out: Folder of the run; what `train smoothed` leaves in its own is in it.
        classifier: As `open_classifier` takes it: signs of 48x48 pixels, with gradients.
        settings: Of the training.
        run: What it runs on.

    Returns:
        The card.

    Raises:
        UsageError: A setting is out of range, or `start` is no run.
        DataError: The classifier can't be used, data is missing or damaged, or a checkpoint is of other settings.
    """
    settings = settings.checked()
    place = checked_device(run.device)
    protected = _usable(classifier, open_classifier(classifier, data))
    settings = replace(settings, classifier=protected.sha256)
    torch.manual_seed(settings.seed)
    model = Denoised(Denoiser(), protected.network.to(place))
    lessons = Lessons(settings)
    about = {
        "what": "denoised",
        "classifier": protected.name,
        "denoiser_parameters": sum(parameter.numel() for parameter in model.parameters()),
    }
    return train_on_noise(
        model, data, out, settings, run, loss=lessons.loss, shown=lessons.shown, about=about, whole=_whole
    )


class Denoised(nn.Module):
    """A denoiser before a classifier. The denoiser alone is trained, saved and averaged.

    Args:
        denoiser: The denoiser.
        classifier: Float (N, 3, H, W) in 0..1 -> logits, in evaluation mode; no weight wants a gradient.
    """

    def __init__(self, denoiser: Denoiser, classifier: nn.Module) -> None:
        super().__init__()
        self.denoiser = denoiser
        self._classifier = (classifier,)  # in a tuple it is no part of this module, for torch
        #: Whether `forward` gives the images instead of logits: what is learned from while images are restored.
        self.restoring = False

    @property
    def classifier(self) -> nn.Module:
        """The classifier."""
        return self._classifier[0]

    def forward(self, images: Tensor) -> Tensor:
        """Float (N, 3, H, W) in 0..1 -> logits (N, classes), or (N, 3, H, W) while images are restored."""
        cleaned: Tensor = self.denoiser(images)
        return cleaned if self.restoring else self.classifier(cleaned)


class Lessons:
    """What a denoiser learns from: `shown` and `loss` are for `fit`, which calls them in turn, batch by batch.

    Args:
        settings: Of the training.
    """

    def __init__(self, settings: DenoiserSettings) -> None:
        self._settings, self._stable = settings, consistent_loss(settings.consistency)
        self._wanted = torch.zeros(0)

    def shown(self, model: nn.Module, pixels: Tensor, _labels: Tensor, done: float) -> Tensor:
        """Noisy copies of each image; what is wanted of them is kept for `loss`.

        Args:
            model: The `Denoised` network.
            pixels: Uint8 (N, 3, H, W).
            done: Share of the training that is done.

        Returns:
            Float, as `with_noise` gives them.

        Raises:
            TypeError: `model` is another network.
        """
        if not isinstance(model, Denoised):
            raise TypeError(f"a Denoised network is needed, got {type(model).__name__}")
        clean = posed(pixels, self._settings.strength)
        model.restoring = done < self._settings.restoring
        with torch.no_grad():
            self._wanted = clean if model.restoring else model.classifier(clean).argmax(1)
        return with_noise(clean, self._settings)

    def loss(self, outputs: Tensor, _labels: Tensor) -> Tensor:
        """How far the outputs for the batch that was shown last are from what is wanted.

        Args:
            outputs: Restored images (N or 2 N, 3, H, W), or logits (N or 2 N, classes).

        Returns:
            The mean squared error of a value; or the stability loss, with the term of consistency.
        """
        if outputs.ndim == 4:
            return functional.mse_loss(outputs, self._wanted.repeat(len(outputs) // len(self._wanted), 1, 1, 1))
        return self._stable(outputs, self._wanted)


def _usable(name: str, found: Protected) -> Protected:
    """The classifier.

    Raises:
        DataError: It is of another size, of other classes, or without gradients.
    """
    if (found.height, found.width, found.channels) != (NOISE_SIZE, NOISE_SIZE, 3):
        raise DataError(
            f"--classifier {name} takes images of {found.height}x{found.width}x{found.channels}; the denoiser's are "
            f"{NOISE_SIZE}x{NOISE_SIZE}x3: name a classifier of that input, such as 'default'"
        )
    if found.labels != gtsrb.CLASS_NAMES:
        raise DataError(
            f"--classifier {name} has {len(found.labels)} classes that are not GTSRB's {len(gtsrb.CLASS_NAMES)}, which "
            "the denoiser learns on; name a classifier of these, such as 'default'"
        )
    if not found.differentiable:
        raise DataError(
            f"--classifier {name} has no gradients to train by ({found.card.get('gradients')}); name one in float32, "
            "such as a run of 'lab train smoothed --float32'"
        )
    return found


def _whole(trained: nn.Module) -> nn.Module:
    """The trained denoiser and the classifier as one network, with all weights its own."""
    if not isinstance(trained, Denoised):
        raise TypeError(f"a Denoised network is needed, got {type(trained).__name__}")
    return nn.Sequential(trained.denoiser.as_run(), trained.classifier)
