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
from dataclasses import asdict
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from firewall.bundle import ClassifierSpec, InputSpec
from firewall.decision.masking import Masks, masks_for
from firewall.errors import UsageError
from firewall.export.onnx import export_classifier
from firewall.export.precision import prepare, to_int8
from firewall.lab.datasets import gtsrb
from firewall.lab.measurement.edge import engine_for
from firewall.lab.models.classifier_folder import load_card
from firewall.lab.models.masked_network import MaskedNetwork, refined, restored
from firewall.lab.models.sign_classifier import INPUT_SIZE, SignClassifier, from_onnx, fuse
from firewall.lab.training.classifiers.hiding import MaskedSettings, Masking
from firewall.lab.training.classifiers.sign_training import AugmentedSigns, Settings, accuracy
from firewall.lab.training.loop import fit
from firewall.transforms import resize

__all__ = ["NETWORKS", "MaskedSettings", "Masking", "train_masked"]

#: Kinds of network, see MaskedSettings.network.
NETWORKS = ("sign", "masks")
#: Images from which a refined network's normalisations get their statistics.
_SEEN = 384
#: Images under masks from which an 8-bit network's scales come.
_SCALED = 256


def train_masked(
    data: Path,
    out: Path,
    settings: MaskedSettings,
    *,
    start: str = "default",
    int8: bool = False,
    threads: int = 1,
    workers: int = 1,
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
        int8: Whether `classifier.onnx` computes in 8 bits, for the processor; `whole.onnx` is then the network as it
            was trained, which another training can start from.
        threads: Threads of torch.
        workers: Processes that prepare images.

    Returns:
        The card.

    Raises:
        DataError: `start` is another kind of network, or a checkpoint belongs to other settings.
        UsageError: A setting is out of range.
    """
    _check(settings)
    torch.set_num_threads(threads)
    torch.manual_seed(settings.seed)
    size = settings.size
    masks = masks_for(size, size, settings.area, settings.masks)
    signs = gtsrb.load_train(data)
    rest, calibration = gtsrb.split_tracks(signs, settings.calibration_share, settings.seed)
    fitted, held = signs.subset(rest), signs.subset(calibration)
    drawn = _Drawn(fitted, settings)
    model, refines = _begin(start, settings, drawn)
    teachers = [_sign_classifier("default")[0]] if settings.distil > 0 else []
    masking = Masking(settings, masks.boxes[0][2], masks.fill / 255, settings.least or None, teachers)
    trained = fit(
        model,
        drawn,
        settings.images,
        settings,
        out,
        loss=masking.loss,
        held=(lambda network: accuracy(network, held))
        if isinstance(model, SignClassifier)
        else (lambda network: _kept(network, held, masks)),
        workers=workers,
        shown=masking,
        bfloat16=settings.bfloat16,
    )
    file = out / "classifier.onnx"
    export_classifier(fuse(trained), file, size=size, labels=gtsrb.CLASS_NAMES)
    content = file.read_bytes()
    spec = ClassifierSpec(
        file=file.name,
        input=InputSpec(width=size, height=size),
        labels=gtsrb.CLASS_NAMES,
        precision="int8" if int8 else "fp32",
    )
    if int8:
        (out / "whole.onnx").write_bytes(content)
        content = _in_int8(content, fitted, masks, spec.input)
        file.write_bytes(content)
    engine, test = engine_for(spec, content, threads), gtsrb.load_test(data)
    small = [resize(image, size, size) for image in test.images]
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
            **({} if settings.network == "sign" else {"settings": asdict(settings)}),
        },
        "split": {"by": "track", "seed": settings.seed, "calibration_share": settings.calibration_share},
        "test": {"images": len(test), "accuracy": float((np.concatenate(parts) == test.labels).mean())},
        "versions": {"torch": torch.__version__, "numpy": np.__version__},
    }
    (out / "card.json").write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    return card


def _check(settings: MaskedSettings) -> None:
    """Raises UsageError for a setting that is out of range."""
    if settings.images < settings.batch:
        raise UsageError(f"an epoch of {settings.images} images is less than a batch of {settings.batch}")
    if not 0 <= settings.plain < 1:
        raise UsageError(f"the share of images without a mask must be at least 0 and below 1, got {settings.plain:g}")
    if settings.worst < 1:
        raise UsageError(f"at least 1 pair of masks has to be looked at, got {settings.worst}")
    for name in ("pairs", "central", "long", "distil", "obstructed", "weather"):
        share = getattr(settings, name)
        if not 0 <= share <= 1:
            raise UsageError(f"--{name} must be a share from 0 to 1, got {share:g}")
    if settings.network not in NETWORKS:
        raise UsageError(f"--network must be {' or '.join(NETWORKS)}, got {settings.network!r}")
    if settings.network == "sign" and (settings.size != INPUT_SIZE or settings.extra):
        raise UsageError(
            f"the network sign reads {INPUT_SIZE} pixels and has no extra blocks; --size and --extra are for "
            "--network masks"
        )
    if settings.network == "masks":
        MaskedNetwork(2, settings.size, settings.extra)  # says which there are
    largest = masks_for(settings.size, settings.size, settings.area, settings.masks).boxes[0][2]
    if not 0 <= settings.least <= largest:
        raise UsageError(f"--least must be at most the covering set's mask of {largest} pixels, got {settings.least}")


def _begin(start: str, settings: MaskedSettings, drawn: _Drawn) -> tuple[nn.Module, str | None]:
    """The network to start from, and the SHA-256 of its file if there is one."""
    classes = len(gtsrb.CLASS_NAMES)
    if start == "none":
        own = settings.network == "masks"
        return MaskedNetwork(classes, settings.size, settings.extra) if own else SignClassifier(classes), None
    if settings.network == "sign":
        return _sign_classifier(start)
    _, _, content = load_card(Path(start))
    model = restored(content) or from_onnx(content)
    seen = torch.stack([drawn[0, index][0] for index in range(_SEEN)])
    side = model.size if isinstance(model, MaskedNetwork) else INPUT_SIZE
    seen = nn.functional.interpolate(seen, (side, side), mode="bilinear", antialias=True)
    return refined(model, seen, settings.size, settings.extra), hashlib.sha256(content).hexdigest()


def _sign_classifier(name: str) -> tuple[SignClassifier, str]:
    _, _, content = load_card(Path(name))
    return from_onnx(content).requires_grad_(True), hashlib.sha256(content).hexdigest()


def _in_int8(content: bytes, signs: gtsrb.Gtsrb, masks: Masks, spec: InputSpec) -> bytes:
    """The network in 8 bits; what stands before its first convolution, such as a normalisation, stays in float32."""
    generator, shown = np.random.default_rng(0), []
    for index in generator.choice(len(signs), min(_SCALED, len(signs)), replace=False).tolist():
        number = int(generator.integers(len(masks)))
        shown.append(masks.covered(resize(signs.images[index], spec.width, spec.height), number, number))
    nodes = onnx.load_model_from_string(content).graph.node
    before = [node.name for node in takewhile(lambda node: node.op_type != "Conv", nodes)]
    return to_int8(content, prepare(np.stack(shown), spec), target="cpu", kept=before)


@torch.no_grad()
def _kept(model: nn.Module, held: gtsrb.Gtsrb, masks: Masks) -> float:
    """Share of the tracks whose middle image keeps the right label under every mask."""
    model.eval()
    size, kept = masks.boxes[-1][0] + masks.boxes[-1][2], []
    for track in np.unique(held.tracks).tolist():
        of_track = np.flatnonzero(held.tracks == track)
        index = int(of_track[len(of_track) // 2])
        pixels = resize(held.images[index], size, size)
        shown = np.stack([masks.covered(pixels, number, number) for number in range(len(masks))])
        logits = model(torch.from_numpy(shown).permute(0, 3, 1, 2).float().div(255))
        kept.append(bool((logits.argmax(1) == int(held.labels[index])).all()))
    return float(np.mean(kept))


class _Drawn(Dataset[tuple[Tensor, int]]):
    """A random version of a random image; what it is depends on (seed, epoch, index) alone."""

    def __init__(self, signs: gtsrb.Gtsrb, settings: MaskedSettings) -> None:
        self.seed = settings.seed
        how = Settings(seed=settings.seed, obstructed=settings.obstructed, weather=settings.weather)
        self.images = AugmentedSigns(signs, [], how, settings.size)

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, int]:
        index = int(np.random.default_rng([self.seed, 1, *key]).integers(len(self.images.signs)))
        return self.images[key[0], index]
