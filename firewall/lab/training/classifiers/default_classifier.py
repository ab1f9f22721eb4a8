"""From GTSRB to the default classifier's folder: `classifier.onnx`, `card.json` and the run that made them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from firewall.bundle import ClassifierSpec, InputSpec
from firewall.export.onnx import export_classifier
from firewall.frame import Pixels
from firewall.lab.datasets import gtsrb
from firewall.lab.datasets.packs import load_images
from firewall.lab.measurement.edge import Measured, engine_for, measure
from firewall.lab.models.sign_classifier import INPUT_SIZE, fuse
from firewall.lab.training.classifiers.outliers import mine, mine_scenes
from firewall.lab.training.classifiers.sign_training import Settings, load_checkpoint, train
from firewall.transforms import SWEEP_16

__all__ = ["Settings", "train_and_export"]


def train_and_export(
    data: Path,
    out: Path,
    outliers: Sequence[Path],
    settings: Settings,
    *,
    start: Path | None = None,
    scenes: int = 300,
    threads: int,
    workers: int,
) -> dict[str, Any]:
    """Train (or go on training), export, and measure the exported file on the test images.

    Args:
        data: Folder of GTSRB.
        out: Folder of the classifier and its run.
        outliers: Packs or folders of images without signs. The network learns that these images, and what the region
            finder proposes in them and in `scenes` rendered road scenes, are no signs.
        scenes: Rendered road scenes in which the region finder looks.
        settings: Of the training.
        start: Checkpoint to refine; None: random weights.
        threads: Threads of torch.
        workers: Processes that prepare images.

    Returns:
        The card: what `lab calibrate` needs (file, input, labels, split) and the accuracy on the test images, plain and
        over the 16-quality sweep.

    Raises:
        DataError: Data is missing or damaged, or a checkpoint belongs to other settings.
    """
    signs, test = gtsrb.load_train(data), gtsrb.load_test(data)
    others: list[Pixels] = [image for path in outliers for image in load_images(path)]
    if others:
        others += mine([image for image in others if min(image.shape[:2]) >= 100]) + mine_scenes(scenes)
    first = None if start is None else load_checkpoint(start)[0]
    model = train(signs, out, settings, outliers=others, start=first, threads=threads, workers=workers)
    file = out / "classifier.onnx"
    export_classifier(fuse(model), file, size=INPUT_SIZE, labels=gtsrb.CLASS_NAMES)
    content = file.read_bytes()
    spec = ClassifierSpec(
        file=file.name, input=InputSpec(width=INPUT_SIZE, height=INPUT_SIZE), labels=gtsrb.CLASS_NAMES
    )
    operations = [f"jpeg:{quality}" for quality in SWEEP_16]
    measured = measure(
        engine_for(spec, content), test.images, operations, width=INPUT_SIZE, height=INPUT_SIZE, label="testing"
    )
    _, calibration = gtsrb.split_tracks(signs, settings.calibration_share, settings.seed)
    card = {
        "classifier": spec.model_dump(mode="json"),
        "sha256": hashlib.sha256(content).hexdigest(),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "training": {
            "data": "GTSRB",
            "images": int((~calibration).sum()),
            "tracks": len(np.unique(signs.tracks[~calibration])),
            "outliers": len(others),
            "epochs": settings.epochs,
            "refines": None if start is None else start.name,
        },
        "split": {"by": "track", "seed": settings.seed, "calibration_share": settings.calibration_share},
        "test": _accuracy(measured, test),
        "versions": {"torch": torch.__version__, "numpy": np.__version__},
    }
    (out / "card.json").write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    return card


def _accuracy(measured: Measured, test: gtsrb.Gtsrb) -> dict[str, float]:
    right = measured.labels == test.labels
    labels = measured.variants.argmax(axis=2)
    return {
        "images": len(test),
        "accuracy": float(right.mean()),
        "mean accuracy over the 16-quality sweep": float((labels == test.labels[:, None]).mean()),
        "same label at all 16 qualities": float((labels == measured.labels[:, None]).all(axis=1).mean()),
        "accuracy at JPEG quality 25": float((labels[:, -1] == test.labels).mean()),
    }
