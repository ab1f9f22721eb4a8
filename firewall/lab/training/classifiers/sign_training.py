"""Train the default sign classifier on GTSRB: resumable, the same result for the same seed and thread count.

The tracks of the training set are split once, by seed. The `calibration` tracks are never trained on: thresholds are
set on them. Nothing is selected by looking at them or at the test images: the weights that count are the moving average
at the end of a fixed schedule.

Images without a sign can be given as *outliers*: on them the network learns to be undecided (outlier exposure,
Hendrycks et al. 2019), so that whatever a region proposal crops by mistake has a low confidence.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import Dataset

from firewall.lab.datasets import gtsrb
from firewall.lab.models.sign_classifier import INPUT_SIZE, SignClassifier
from firewall.lab.training.classifiers.augmentation import MIRROR
from firewall.lab.training.classifiers.outliers import partial
from firewall.lab.training.classifiers.variety import Variety, varied, version
from firewall.lab.training.loop import Schedule, fit, read_checkpoint
from firewall.transforms import resize

__all__ = ["AugmentedSigns", "Settings", "accuracy", "load_checkpoint", "predict", "to_batch", "train"]


@dataclass(frozen=True)
class Settings(Schedule):
    """What determines a run, besides the schedule.

    Args:
        label_smoothing: Of the cross-entropy.
        calibration_share: Share of the tracks that is kept out, 0..1.
        outlier_share: Outliers drawn in each epoch, as a share of the signs.
        outlier_weight: Weight of their loss.
        partial_share: Share of the outliers that are parts of signs.
        obstructed: Share of the versions with a shadow, a sticker, light, dirt ... on them.
        weather: Share of the versions under rain, fog, darkness ...
        without: Names of obstructions, or of whole families (`firewall.lab.datasets.families`), that are not drawn, so
            that they can be measured as unseen.
    """

    label_smoothing: float = 0.08
    calibration_share: float = 0.1
    outlier_share: float = 0.12
    outlier_weight: float = 0.5
    partial_share: float = 0.0
    obstructed: float = 0.0
    weather: float = 0.0
    without: tuple[str, ...] = ()

    def variety(self) -> Variety:
        """How the versions differ.

        Raises:
            UsageError: See `obstructions`.
        """
        return varied(self.obstructed, self.weather, self.without, MIRROR)


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
    """Train on the tracks that `split_tracks` leaves.

    Writes `out/checkpoint.pt` and `out/log.jsonl` after each epoch, and continues from a checkpoint of the same
    settings.

    Args:
        data: The training images.
        out: Folder of the run.
        settings: Of the training.
        outliers: Images without a sign, uint8 (H, W, 3) each.
        start: Network to begin with; None: random weights.
        threads: Threads of torch.
        workers: Processes that prepare images.

    Returns:
        The averaged network in evaluation mode.

    Raises:
        DataError: The checkpoint belongs to other settings.
    """
    torch.set_num_threads(threads)
    torch.manual_seed(settings.seed)
    rest, calibration = gtsrb.split_tracks(data, settings.calibration_share, settings.seed)
    signs, held = data.subset(rest), data.subset(calibration)
    outliers = outliers or []
    drawn = round(settings.outlier_share * len(signs)) if outliers else 0
    model = SignClassifier(len(gtsrb.CLASS_NAMES)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if start is not None:
        model.load_state_dict(start.state_dict())
    trained = fit(
        model,
        AugmentedSigns(signs, outliers, settings),
        len(signs) + drawn,
        settings,
        out,
        loss=lambda logits, labels: _loss(logits, labels, settings),
        held=lambda network: accuracy(network, held),
        workers=workers,
    )
    return cast(SignClassifier, trained)


def load_checkpoint(path: Path) -> tuple[nn.Module, Settings, int]:
    """The averaged network of a checkpoint.

    Args:
        path: The file.

    Returns:
        The network in evaluation mode, its settings, and how many epochs it has had.

    Raises:
        DataError: The file is damaged.
    """
    saved = read_checkpoint(path)
    model = SignClassifier(len(gtsrb.CLASS_NAMES))
    average = AveragedModel(model, use_buffers=True)
    average.load_state_dict(saved["average"])
    settings = {**saved["settings"], "without": tuple(saved["settings"].get("without", ()))}
    return average.module.eval(), Settings(**settings), int(saved["epoch"])


def to_batch(images: list[np.ndarray[Any, np.dtype[np.uint8]]]) -> Tensor:
    """Images as the network's input, resized as the edge does.

    Args:
        images: Uint8 (H, W, 3) each, of any size.

    Returns:
        Float (N, 3, 48, 48) in 0..1.
    """
    stack = np.stack([resize(image, INPUT_SIZE, INPUT_SIZE) for image in images])
    return torch.from_numpy(stack).permute(0, 3, 1, 2).float().div(255)


@torch.no_grad()
def predict(model: nn.Module, data: gtsrb.Gtsrb, batch: int = 256) -> Tensor:
    """Logits of all images, in evaluation mode.

    Args:
        model: The network.
        data: The images.
        batch: How many go through the network at a time.

    Returns:
        Float (N, 43).
    """
    model.eval()
    return torch.cat([model(to_batch(data.images[i : i + batch])) for i in range(0, len(data), batch)])


def accuracy(model: nn.Module, data: gtsrb.Gtsrb) -> float:
    """The share of images whose first class is the label.

    Args:
        model: The network.
        data: The images.

    Returns:
        0..1.
    """
    return float((predict(model, data).argmax(1).numpy() == data.labels).mean())


def _loss(logits: Tensor, labels: Tensor, settings: Settings) -> Tensor:
    known = labels >= 0
    loss = nn.functional.cross_entropy(logits[known], labels[known], label_smoothing=settings.label_smoothing)
    if bool(known.all()):
        return loss
    undecided = -logits[~known].log_softmax(1).mean()  # cross-entropy with the uniform distribution
    return loss + settings.outlier_weight * undecided * (~known).float().mean() / settings.outlier_share


class AugmentedSigns(Dataset[tuple[Tensor, int]]):
    """One random version of an image, drawn from (seed, epoch, index) so that it does not depend on the worker.

    Indices past the signs draw an outlier, with label -1.

    Args:
        signs: The images.
        outliers: Images without a sign.
        settings: Of the training.
        size: Width and height of a version in pixels.
    """

    def __init__(
        self, signs: gtsrb.Gtsrb, outliers: list[npt.NDArray[np.uint8]], settings: Settings, size: int = INPUT_SIZE
    ) -> None:
        self.signs, self.outliers, self.size = signs, outliers, size
        self.seed, self.partial_share, self.variety = settings.seed, settings.partial_share, settings.variety()

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
        pixels, _ = version(pixels, self.size, self.variety, generator)
        return torch.from_numpy(pixels.copy()).permute(2, 0, 1).float().div(255), label


def _crop(pixels: npt.NDArray[np.uint8], generator: np.random.Generator) -> npt.NDArray[np.uint8]:
    height, width = pixels.shape[:2]
    if max(height, width) <= 160:  # a crop already, as mining gives them
        return pixels
    side = int(generator.integers(min(24, height, width), min(height, width) + 1))
    top, left = int(generator.integers(height - side + 1)), int(generator.integers(width - side + 1))
    return pixels[top : top + side, left : left + side]
