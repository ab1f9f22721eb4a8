"""Train the sign classifier on images with two masks, so that labels survive double masking (decision.masking).

Random masks at random places, as PatchCleanser trains its classifiers (section 5.1: two masks of cutout), a little
smaller and larger than those of the covering set; towards the end of the training the worst of several pairs, since a
certificate needs all of them (after Saha et al., *Revisiting Image Classifier Training for Improved Certified Robust
Defense against Adversarial Patches*, 2023, who choose the worst masks greedily). It refines a given classifier or
starts with random weights. Either way the result is another classifier: repeat all calibration that was done for the
old one.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from firewall.bundle import ClassifierSpec, InputSpec
from firewall.decision.masking import masks_for
from firewall.errors import UsageError
from firewall.export.onnx import export_classifier
from firewall.lab.datasets import gtsrb
from firewall.lab.measurement.edge import engine_for
from firewall.lab.models.classifier_folder import load_card
from firewall.lab.models.sign_classifier import INPUT_SIZE, SignClassifier, from_onnx, fuse
from firewall.lab.training.classifiers.sign_training import AugmentedSigns, Settings, accuracy
from firewall.lab.training.loop import Schedule, fit
from firewall.transforms import resize

__all__ = ["MaskedSettings", "Masking", "train_masked"]


@dataclass(frozen=True)
class MaskedSettings(Schedule):
    """What determines a run, besides the schedule.

    Args:
        images: Images drawn in each epoch.
        area: Of the patches, as a share of the image: see decision.masking.masks_for.
        masks: Masks along a side of the covering set.
        plain: Share of images without a mask, 0..1, below 1.
        worst: Pairs of masks of which the worst is shown, 1 or more.
        easy: Share of the training after which the worst pairs are shown.
        label_smoothing: Of the cross-entropy.
        calibration_share: Share of the tracks that is kept out.
    """

    epochs: int = 12
    images: int = 4000
    learning_rate: float = 1e-3
    moving_average: float = 0.99
    area: float = 0.02
    masks: int = 6
    plain: float = 0.15
    worst: int = 1
    easy: float = 0.6
    label_smoothing: float = 0.08
    calibration_share: float = 0.1


def train_masked(
    data: Path, out: Path, settings: MaskedSettings, *, start: str = "default", threads: int = 1, workers: int = 1
) -> dict[str, Any]:
    """Train (or go on training) the masked classifier.

    The tracks that are kept out are those of the default classifier. Writes `classifier.onnx` and `card.json`, which
    `firewall lab calibrate` needs.

    Args:
        data: Folder of GTSRB.
        out: Folder of the classifier and its run.
        settings: Of the training.
        start: The classifier to refine: a bundle, a classifier's folder or an ONNX file; 'none' starts with random
            weights.
        threads: Threads of torch.
        workers: Processes that prepare images.

    Returns:
        The card.

    Raises:
        DataError: `start` is another kind of network, or a checkpoint belongs to other settings.
        UsageError: A setting is out of range.
    """
    if settings.images < settings.batch:
        raise UsageError(f"an epoch of {settings.images} images is less than a batch of {settings.batch}")
    torch.set_num_threads(threads)
    torch.manual_seed(settings.seed)
    masks = masks_for(INPUT_SIZE, INPUT_SIZE, settings.area, settings.masks)
    if not 0 <= settings.plain < 1:
        raise UsageError(f"the share of images without a mask must be at least 0 and below 1, got {settings.plain:g}")
    if settings.worst < 1:
        raise UsageError(f"at least 1 pair of masks has to be looked at, got {settings.worst}")
    model, refines = _begin(start)
    signs = gtsrb.load_train(data)
    rest, calibration = gtsrb.split_tracks(signs, settings.calibration_share, settings.seed)
    fitted, held = signs.subset(rest), signs.subset(calibration)
    trained = fit(
        model,
        _Drawn(fitted, settings.seed),
        settings.images,
        settings,
        out,
        loss=lambda logits, labels: nn.functional.cross_entropy(
            logits, labels, label_smoothing=settings.label_smoothing
        ),
        held=lambda network: accuracy(network, held),
        workers=workers,
        shown=Masking(settings, masks.boxes[0][2], masks.fill / 255),
    )
    file = out / "classifier.onnx"
    export_classifier(fuse(cast(SignClassifier, trained)), file, size=INPUT_SIZE, labels=gtsrb.CLASS_NAMES)
    content = file.read_bytes()
    spec = ClassifierSpec(
        file=file.name, input=InputSpec(width=INPUT_SIZE, height=INPUT_SIZE), labels=gtsrb.CLASS_NAMES
    )
    engine, test = engine_for(spec, content, threads), gtsrb.load_test(data)
    small = [resize(image, INPUT_SIZE, INPUT_SIZE) for image in test.images]
    parts = [engine.classify(np.stack(small[at : at + 64])).argmax(axis=1) for at in range(0, len(small), 64)]
    card = {
        "classifier": spec.model_dump(mode="json"),
        "sha256": hashlib.sha256(content).hexdigest(),
        "training": {
            "data": "GTSRB",
            "images": len(fitted),
            "tracks": len(np.unique(fitted.tracks)),
            "epochs": settings.epochs,
            "images_an_epoch": settings.images,
            "refines": refines,
            "masks": {
                "area": settings.area,
                "along_a_side": settings.masks,
                "pixels": masks.boxes[0][2],
                "worst_of": settings.worst,
            },
        },
        "split": {"by": "track", "seed": settings.seed, "calibration_share": settings.calibration_share},
        "test": {"images": len(test), "accuracy": float((np.concatenate(parts) == test.labels).mean())},
        "versions": {"torch": torch.__version__, "numpy": np.__version__},
    }
    (out / "card.json").write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    return card


def _begin(start: str) -> tuple[SignClassifier, str | None]:
    """The network to start from, and the SHA-256 of its file if there is one."""
    if start == "none":
        return SignClassifier(len(gtsrb.CLASS_NAMES)), None
    _, _, content = load_card(Path(start))
    return from_onnx(content).requires_grad_(True), hashlib.sha256(content).hexdigest()


class _Drawn(Dataset[tuple[Tensor, int]]):
    """A random version of a random image; what it is depends on (seed, epoch, index) alone."""

    def __init__(self, signs: gtsrb.Gtsrb, seed: int) -> None:
        self.images, self.seed = AugmentedSigns(signs, [], Settings(seed=seed)), seed

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, int]:
        index = int(np.random.default_rng([self.seed, 1, *key]).integers(len(self.images.signs)))
        return self.images[key[0], index]


class Masking:
    """Hides parts of a batch of images, as `fit` asks for.

    Args:
        settings: Of the training.
        side: Of a mask of the covering set, in pixels.
        fill: Value under a mask, 0..1.
    """

    def __init__(self, settings: MaskedSettings, side: int, fill: float) -> None:
        self.settings, self.side, self.fill = settings, side, fill

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor, done: float) -> Tensor:
        """The images (N, 3, H, W) under two masks each, except for the share that is shown plain."""
        shown = self._hidden(images)
        if self.settings.worst > 1 and done >= self.settings.easy:
            model.eval()
            with torch.no_grad():
                highest = nn.functional.cross_entropy(model(shown), labels, reduction="none")
                for _ in range(self.settings.worst - 1):
                    other = self._hidden(images)
                    loss = nn.functional.cross_entropy(model(other), labels, reduction="none")
                    shown = torch.where((loss > highest)[:, None, None, None], other, shown)
                    highest = torch.maximum(highest, loss)
            model.train()
        plain = torch.rand(len(images)) < self.settings.plain
        return torch.where(plain[:, None, None, None], images, shown)

    def _hidden(self, images: Tensor) -> Tensor:
        """Under two random masks each."""
        count, _, height, width = images.shape
        hidden = torch.zeros(count, height, width, dtype=torch.bool)
        for _ in range(2):
            tall, tops = self._runs(count, height)
            wide, lefts = self._runs(count, width)
            down, across = torch.arange(height)[None, :], torch.arange(width)[None, :]
            rows = (down >= tops[:, None]) & (down < (tops + tall)[:, None])
            columns = (across >= lefts[:, None]) & (across < (lefts + wide)[:, None])
            hidden |= rows[:, :, None] & columns[:, None, :]
        return images.masked_fill(hidden[:, None], self.fill)

    def _runs(self, count: int, length: int) -> tuple[Tensor, Tensor]:
        """Lengths and beginnings of random masks on an axis."""
        runs = torch.randint(self.side - 3, self.side + 2, (count,))
        return runs, (torch.rand(count) * (length - runs + 1)).long()
