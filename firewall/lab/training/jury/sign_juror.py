"""From GTSRB and road scenes to a juror's folder: `juror.onnx`, `card.json` and the run that made them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from firewall.errors import DataError
from firewall.export.onnx import export_classifier
from firewall.export.precision import with_half_weights
from firewall.frame import Pixels, Region
from firewall.lab.datasets import gtsrb
from firewall.lab.datasets.packs import load_images, open_pack
from firewall.lab.models.juror import CLEAR, juror_kind
from firewall.lab.training.classifiers.augmentation import MIRROR
from firewall.lab.training.classifiers.variety import Variety, varied
from firewall.lab.training.jury.scenes import crops_without_sign
from firewall.lab.training.jury.training import JurorSettings, predict, train_juror
from firewall.lab.training.loop import checked_device

__all__ = [
    "HELD_SCENES",
    "NOT_A_SIGN",
    "SignLot",
    "sign_variety",
    "train_on_lot",
    "train_sign_juror",
    "without_sign",
]

#: What the last output of a juror is called.
NOT_A_SIGN = "not a sign"
#: Every so many-th frame of a pack of scenes with boxes, from the first on, is kept for judging and never trained on.
HELD_SCENES = 5


#: Images, uint8 (H, W, 3) each, and their classes, int64 (N,).
Labelled = tuple[Sequence[Pixels], npt.NDArray[np.int64]]


@dataclass(frozen=True, eq=False)
class SignLot:
    """What a juror of signs is trained and judged on.

    Args:
        fitted: Signs to learn from.
        held: Signs of tracks that were kept out.
        others: Crops without a sign, uint8 (h, w, 3) each.
        tracks: Of how many tracks `fitted` is.
        test: Further signs that the card tells the accuracy on; None for none.
    """

    fitted: Labelled
    held: Labelled
    others: Sequence[Pixels]
    tracks: int
    test: Labelled | None = None


def train_sign_juror(
    data: Path,
    out: Path,
    scenes: Sequence[Path],
    settings: JurorSettings,
    *,
    threads: int,
    workers: int,
    device: str = "cpu",
) -> dict[str, Any]:
    """Train (or go on training), export, and measure on tracks that were kept out and on the test images.

    Args:
        data: Folder of GTSRB.
        out: Folder of the juror and its run.
        scenes: Packs of road scenes with the signs' boxes, or packs and folders of images without any sign.
        settings: Of the training.
        threads: Threads of torch.
        workers: Processes that prepare images.
        device: What trains: cpu, cuda or cuda:N.

    Returns:
        The card.

    Raises:
        DataError: Data is missing or damaged, or a checkpoint belongs to other settings.
        UsageError: The kind, the device or an obstruction that is left out is unknown.
    """
    checked_device(device)
    juror_kind(settings.kind)
    sign_variety(settings)
    signs, test = gtsrb.load_train(data), gtsrb.load_test(data)
    rest, kept = gtsrb.split_tracks(signs, *gtsrb.KEPT_OUT)
    fitted, held = signs.subset(rest), signs.subset(kept)
    others = [crop for path in scenes for crop in without_sign(path)]
    lot = SignLot(
        (fitted.images, fitted.labels),
        (held.images, held.labels),
        others,
        len(np.unique(fitted.tracks)),
        (test.images, test.labels),
    )
    return train_on_lot(lot, out, settings, threads=threads, workers=workers, device=device)


def train_on_lot(
    lot: SignLot, out: Path, settings: JurorSettings, *, threads: int, workers: int, device: str = "cpu"
) -> dict[str, Any]:
    """As `train_sign_juror`, on images that have been read already.

    Args:
        lot: The images.
        out: Folder of the juror and its run.
        settings: Of the training.
        threads: Threads of torch.
        workers: Processes that prepare images.
        device: What trains: cpu, cuda or cuda:N.

    Returns:
        The card.

    Raises:
        DataError: A checkpoint belongs to other settings, or there are too few images.
        UsageError: The kind, the device or an obstruction that is left out is unknown.
    """
    network = train_juror(
        lot.fitted[0],
        lot.fitted[1].tolist(),
        lot.others,
        out,
        settings,
        variety=sign_variety(settings),
        held=(lot.held[0], lot.held[1].tolist()),
        threads=threads,
        workers=workers,
        device=device,
    )
    size, file = juror_kind(settings.kind).size, out / "juror.onnx"
    export_classifier(network, file, size=size, labels=(*gtsrb.CLASS_NAMES, NOT_A_SIGN))
    content = with_half_weights(file.read_bytes())
    file.write_bytes(content)
    judged = {"kept-out tracks": lot.held} | ({} if lot.test is None else {"test": lot.test})
    card = {
        "juror": {"kind": settings.kind, "file": file.name, "width": size, "height": size},
        "sha256": hashlib.sha256(content).hexdigest(),
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "training": {
            "data": "GTSRB",
            "images": len(lot.fitted[0]),
            "tracks": lot.tracks,
            "crops without a sign": len(lot.others),
            "epochs": settings.epochs,
            "refines": settings.start or None,
            **({"without": list(settings.without)} if settings.without else {}),
        },
        "split": {"by": "track", "seed": gtsrb.KEPT_OUT[1], "calibration_share": gtsrb.KEPT_OUT[0]},
        "accuracy": {
            name: {
                "images": len(images),
                "accuracy": float((predict(network, images, size).argmax(1).numpy() == labels).mean()),
            }
            for name, (images, labels) in judged.items()
        },
        "versions": {"torch": torch.__version__, "numpy": np.__version__},
    }
    (out / "card.json").write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    return card


def sign_variety(settings: JurorSettings) -> Variety:
    """How the versions of signs differ under these settings.

    Raises:
        UsageError: What is left out is unknown, or no obstruction is left.
    """
    found = varied(settings.obstructed, settings.weather, settings.without, MIRROR)
    if settings.kind == CLEAR:  # a patch that the augmentation lays on a sign would go unnoticed
        found = replace(found, without=(*found.without, "occlude"))
    return found


def without_sign(path: Path) -> list[Pixels]:
    """Crops without a sign from a pack or folder; where the pack has boxes, away from these and not of held scenes.

    Args:
        path: A pack with or without the column `boxes` (JSON, [class, left, top, right, bottom] each), or a folder of
            images without signs.

    Returns:
        Uint8 (h, w, 3) each.

    Raises:
        DataError: There is no such pack or folder, its boxes can't be read, or there is no room beside them.
    """
    columns = open_pack(path)[1] if path.suffix == ".npz" else {}
    images: Sequence[Pixels] = load_images(path)
    boxes: list[list[Region]] = [[]] * len(images)
    if "boxes" in columns:
        used = [index for index in range(len(images)) if index % HELD_SCENES]
        boxes = [_boxes(columns["boxes"][index], path) for index in used]
        images = [images[index] for index in used]
    crops = crops_without_sign(images, boxes)
    if not crops:
        raise DataError(f"{path} gives no crop without a sign; name larger images, or some without signs")
    return crops


def _boxes(text: Any, path: Path) -> list[Region]:
    try:
        found = [
            (int(x0), int(y0), int(x1) - int(x0), int(y1) - int(y0)) for _, x0, y0, x1, y1 in json.loads(str(text))
        ]
    except (ValueError, TypeError) as error:
        raise DataError(f"{path}: a frame's boxes are not [class, left, top, right, bottom] each: {error}") from error
    return [box for box in found if min(box[2:]) > 0]
