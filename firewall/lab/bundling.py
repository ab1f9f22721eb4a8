"""A trained classifier's folder and normal images -> a calibrated bundle."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from firewall.bundle import MANIFEST, Bundle, ClassifierSpec, load_bundle
from firewall.errors import DataError
from firewall.frame import Pixels
from firewall.lab.calibration import DETECTORS, calibrate
from firewall.lab.database import Database
from firewall.lab.datasets import gtsrb
from firewall.lab.datasets.packs import load_images
from firewall.lab.training.trained import load_trained

__all__ = ["calibrate_folder", "calibration_tracks", "load_card"]


def load_card(folder: Path) -> tuple[dict[str, Any], ClassifierSpec, bytes]:
    """The card of a classifier's folder, the classifier's specification, and its ONNX file.

    folder: made by 'firewall lab train classifier', or a bundle's, or `default`.
    """
    if str(folder) == "default" or (folder / MANIFEST).is_file():
        bundle = load_bundle(folder)
        classifier = bundle.manifest.classifier
        return {"split": bundle.manifest.calibration.split}, classifier, bundle.files[classifier.file]
    try:
        card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
        spec = ClassifierSpec.model_validate(card["classifier"])
        return card, spec, (folder / spec.file).read_bytes()
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"{folder} is not a classifier's folder ({error}); make one with 'firewall lab train'"
        ) from error


def calibration_tracks(root: Path, split: dict[str, Any]) -> gtsrb.Gtsrb:
    """The GTSRB training tracks that a classifier with this `split` was not trained on."""
    signs = gtsrb.load_train(root)
    _, mask = gtsrb.split_tracks(signs, float(split["calibration_share"]), int(split["seed"]))
    return signs.subset(mask)


def calibrate_folder(
    folder: Path,
    out: Path,
    *,
    detectors: Sequence[str],
    gtsrb_root: Path | None,
    images: Path | None,
    database: Path | None = None,
    rate: float,
    sweep: int,
    name: str,
    citations: Sequence[str] = (),
) -> Bundle:
    """Calibrate on GTSRB's calibration tracks, on any normal images, or on a database's normal images but those of its
    eval split, and write the bundle to `out`. detectors: names, and folders of trained ones.

    A detector that was trained on the same database has seen the normal images of its train split: its threshold is
    then set partly on images that it was fitted to, and more normal images than asked for may be withheld. Count on the
    rate measured on the eval split, not on the one that was asked for.
    """
    card, spec, content = load_card(folder)
    normal: list[Pixels]
    labels: npt.NDArray[np.int64] | None = None
    tracks: int | None = None
    if gtsrb_root is not None:
        data = calibration_tracks(gtsrb_root, card["split"])
        normal, labels, tracks = data.images, data.labels, len(np.unique(data.tracks))
        description = f"GTSRB training images of {tracks} tracks kept out of training, correctly classified"
    elif images is not None:
        normal = load_images(images)
        description = f"{len(normal)} images of {images.name}"
    elif database is not None:
        opened = Database(database)
        kept = ~opened.where("eval")
        normal = list(opened.normal[kept])
        description = (
            f"{len(normal)} normal images of the splits train and dev of a database of {opened.card.dataset.spec}"
        )
    else:
        raise DataError("no normal images were named")
    folders = [name for name in detectors if name not in DETECTORS and Path(name).is_dir()]
    return calibrate(
        spec,
        content,
        normal,
        out,
        detectors=[name for name in detectors if name not in folders],
        trained=[load_trained(Path(name)) for name in folders],
        data=description,
        labels=labels,
        tracks=tracks,
        rate=rate,
        sweep=sweep,
        name=name,
        citations=citations,
        split=card.get("split"),
    )
