"""Refine the sign classifier on images with two masks, so that labels survive double masking (firewall.masking).

Random masks at random places, as PatchCleanser trains its classifiers (section 5.1: two masks of cutout), a little
smaller and larger than those of the covering set. Of the classifier that is refined nothing is changed: the result is
another one, and whatever was calibrated on the old one has to be calibrated anew.
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

from firewall.bundle import ClassifierSpec, InputSpec, load_bundle
from firewall.errors import UsageError
from firewall.export.onnx import export_classifier
from firewall.lab.calibration import engine_for
from firewall.lab.datasets import gtsrb
from firewall.lab.models.sign_classifier import INPUT_SIZE, SignClassifier, from_onnx, fuse
from firewall.lab.training.classifier import AugmentedSigns, Settings, accuracy
from firewall.lab.training.loop import Schedule, fit
from firewall.masking import masks_for
from firewall.transforms import resize

__all__ = ["MaskedSettings", "train_masked"]


@dataclass(frozen=True)
class MaskedSettings(Schedule):
    """area, masks: of the covering set, see firewall.masking.masks_for. images: drawn in each epoch. plain: share of
    images without a mask."""

    epochs: int = 12
    images: int = 4000
    learning_rate: float = 1e-3
    moving_average: float = 0.99
    area: float = 0.02
    masks: int = 6
    plain: float = 0.15
    label_smoothing: float = 0.08
    calibration_share: float = 0.1


def train_masked(
    data: Path, out: Path, settings: MaskedSettings, *, start: str = "default", threads: int = 1, workers: int = 1
) -> dict[str, Any]:
    """Refine (or go on refining) the sign classifier of bundle `start` in `out`; the card.

    data: folder of GTSRB. The tracks that are kept out are the same as of the default classifier. Writes
    `classifier.onnx` and `card.json` as `firewall lab calibrate` needs them. Raises DataError for a bundle of another
    kind of network or a checkpoint of other settings, UsageError for an area or masks out of range.
    """
    if settings.images < settings.batch:
        raise UsageError(f"an epoch of {settings.images} images is less than a batch of {settings.batch}")
    torch.set_num_threads(threads)
    torch.manual_seed(settings.seed)
    masks = masks_for(INPUT_SIZE, INPUT_SIZE, settings.area, settings.masks)
    if not 0 <= settings.plain < 1:
        raise UsageError(f"the share of images without a mask must be at least 0 and below 1, got {settings.plain:g}")
    bundle = load_bundle(start)
    model = from_onnx(bundle.files[bundle.manifest.classifier.file])
    model.requires_grad_(True)
    signs = gtsrb.load_train(data)
    rest, calibration = gtsrb.split_tracks(signs, settings.calibration_share, settings.seed)
    fitted, held = signs.subset(rest), signs.subset(calibration)
    trained = fit(
        model,
        _Masked(fitted, settings, masks.boxes[0][2], masks.fill),
        settings.images,
        settings,
        out,
        loss=lambda logits, labels: nn.functional.cross_entropy(
            logits, labels, label_smoothing=settings.label_smoothing
        ),
        held=lambda network: accuracy(network, held),
        workers=workers,
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
            "refines": bundle.manifest.files[bundle.manifest.classifier.file].sha256,
            "masks": {"area": settings.area, "along_a_side": settings.masks, "pixels": masks.boxes[0][2]},
        },
        "split": {"by": "track", "seed": settings.seed, "calibration_share": settings.calibration_share},
        "test": {"images": len(test), "accuracy": float((np.concatenate(parts) == test.labels).mean())},
        "versions": {"torch": torch.__version__, "numpy": np.__version__},
    }
    (out / "card.json").write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    return card


class _Masked(Dataset[tuple[Tensor, int]]):
    """A random version of an image under two random masks; what it is depends on (seed, epoch, index) alone."""

    def __init__(self, signs: gtsrb.Gtsrb, settings: MaskedSettings, side: int, fill: int) -> None:
        self.images = AugmentedSigns(signs, [], Settings(seed=settings.seed))
        self.seed, self.plain, self.side, self.fill = settings.seed, settings.plain, side, fill / 255

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, int]:
        generator = np.random.default_rng([self.seed, 1, *key])
        image, label = self.images[key[0], int(generator.integers(len(self.images.signs)))]
        if generator.random() >= self.plain:
            for _ in range(2):
                height, width = generator.integers(self.side - 3, self.side + 2, 2)
                top = int(generator.integers(INPUT_SIZE - height + 1))
                left = int(generator.integers(INPUT_SIZE - width + 1))
                image[:, top : top + height, left : left + width] = self.fill
        return image, label
