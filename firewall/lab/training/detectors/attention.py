"""Train the attention detector: `firewall lab train attention` (Nguyen C., thesis, chapter 3).

Both networks learn from the training images of the data set that a database was made of, and from no adversarial image
unless `hardened` asks for some. Two forms: *thesis*, g by the loss of equation 9 and then f2 on its masks alone; and
*joint*, a convolutional g and an f2 of the masked image, trained together.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import Dataset

from firewall.bundle import Seen
from firewall.detectors.attention import DISAGREEMENT
from firewall.errors import DataError
from firewall.export.onnx import export_classifier
from firewall.lab.database import Database
from firewall.lab.database.seen import seen
from firewall.lab.database.shards import write_file
from firewall.lab.datasets import open_dataset
from firewall.lab.measurement.disagreement import disagreement, measured, measured_elsewhere
from firewall.lab.models import Protected, open_classifier
from firewall.lab.models.attention_network import (
    AttentionNetwork,
    ConvolutionalAttention,
    DenseAttention,
    image_classifier,
    mask_classifier,
    trainable,
)
from firewall.lab.models.saliency import SALIENCY
from firewall.lab.training.detectors.attention_settings import Settings, Sources
from firewall.lab.training.loop import CHECKPOINT, fit, read_checkpoint

__all__ = ["Settings", "Sources", "lan_loss", "load_attention", "train"]


#: The part to learn from, by data set and the part that the database attacks. They share no image, and no track.
_LEARN = {
    ("gtsrb", "kept-out"): "fitted",
    ("gtsrb", "test"): "train",
    ("cifar10", "test"): "train",
}
#: Data sets in which left and right may be exchanged.
_MIRRORED = ("cifar10", "imagenet", "nips17")

Pixels = npt.NDArray[np.uint8]


_USUAL = Sources()


def train(
    database: Database,
    classifier: Protected,
    out: Path,
    settings: Settings,
    *,
    sources: Sources = _USUAL,
    also: Sequence[Database] = (),
    threads: int,
    workers: int = 0,
) -> dict[str, Any]:
    """Train (or go on training), measure on the eval split, write `detector.json` and `detector.onnx`.

    Args:
        database: Whose classifier is guarded, and whose images measure the detector.
        classifier: The one that the database was made on.
        out: Folder of the detector and its run.
        settings: Of the training.
        sources: Which images it learns from.
        also: Further databases to measure on.
        threads: Threads of torch.
        workers: Processes that prepare images; 0: this one.

    Returns:
        What `detector.json` says.

    Raises:
        DataError: Images aren't square RGB, the classifier gives no gradients or isn't the database's, or splits lack
            images.
    """
    card = database.card.classifier
    if classifier.sha256 != card.sha256:
        raise DataError(f"{database.folder} was made on {card.name}, not on {classifier.name}; name that --classifier")
    if (card.channels, card.height) != (3, card.width) or not classifier.differentiable:
        raise DataError("attention needs a classifier of square RGB images that gives gradients; name another")
    pixels, labels, fitted = _learnt(database, classifier, sources)
    settings = replace(
        settings, classifier=classifier.sha256, images=len(pixels), mirror=database.card.dataset.spec in _MIRRORED
    )
    torch.set_num_threads(threads)
    torch.manual_seed(settings.seed)
    learnt = _Shifted(pixels, labels, settings)
    network = _fitted(database, classifier, learnt, settings, out, sources.data, workers)
    file = out / "detector.onnx"
    export_classifier(network, file, size=card.width, labels=classifier.labels)
    info = database.info()
    report = {
        "name": "attention",
        "parameters": {"file": file.name},
        "classifier_sha256": classifier.sha256,
        "fitted": fitted.model_dump(mode="json"),
        "settings": asdict(settings),
        "trained_on": {"data": fitted.dataset, "part": fitted.part, "splits": fitted.splits, "images": len(pixels)},
        "weights": sum(weight.numel() for weight in network.parameters()),
        "database": {key: info[key] for key in ("dataset", "classifier", "normal", "adversarial", "splits", "seed")},
        "eval": measured(network, classifier, database),
        "judged": measured_elsewhere(network, classifier, database, also, fitted),
    }
    write_file(out / "detector.json", (json.dumps(report, indent=1) + "\n").encode())
    return report


def load_attention(folder: Path, classifier: Protected, data: Path | None = None) -> AttentionNetwork:
    """The trained network in a detector's folder, with g and f2 apart.

    Args:
        folder: Made by `train`.
        classifier: The one that it was trained for.
        data: Folder of the data sets and classifiers; None: the usual places.

    Returns:
        The network in evaluation mode.

    Raises:
        DataError: The folder is something else, or the detector of another classifier.
    """
    try:
        report = json.loads((folder / "detector.json").read_text(encoding="utf-8"))
        names = {field.name for field in fields(Settings)}
        settings = Settings(**{key: value for key, value in report["settings"].items() if key in names})
        sha256 = str(report["classifier_sha256"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder} holds no attention detector ({error}); train one first") from error
    if sha256 != classifier.sha256:
        raise DataError(f"{folder} was trained for another classifier than {classifier.name}; name that --classifier")
    network = _networks(settings, classifier, data)
    prefix = "module.network."
    saved = read_checkpoint(folder / CHECKPOINT)["average"]
    network.load_state_dict({name[len(prefix) :]: value for name, value in saved.items() if name.startswith(prefix)})
    return network.eval()


def _networks(settings: Settings, classifier: Protected, data: Path | None) -> AttentionNetwork:
    size, classes = classifier.width, len(classifier.labels)
    if settings.form == "thesis":
        return AttentionNetwork(DenseAttention(size), mask_classifier(classes, size), masked=False)
    reader = image_classifier(classes, size)
    if settings.start:
        reader = trainable(open_classifier(settings.start, data), size)
    return AttentionNetwork(ConvolutionalAttention(size), reader, masked=True, mirrored=settings.mirror)


def lan_loss(network: nn.Module, image: Tensor, corruption: Tensor, beta: float) -> Tensor:
    """Equations 8 and 9 for each image: L_F(F(x~), F(x)) - beta mean(A), with x~ = A eta + (1 - A) x.

    eta is drawn uniformly from 0..1 for each value, again in each call: the thesis only says that it is random. L_F is
    the cross-entropy, F(x) being the classifier's probabilities.

    Args:
        network: F.
        image: x, float (N, C, H, W) in 0..1.
        corruption: A, (N, 1 or C, H, W) in 0..1.
        beta: How much corruption is worth.

    Returns:
        (N,).
    """
    noise = torch.rand_like(image)
    with torch.no_grad():
        target = network(image).softmax(1)
    corrupted = corruption * noise + (1 - corruption) * image
    loss: Tensor = cross_entropy(network(corrupted), target, reduction="none") - beta * corruption.flatten(1).mean(1)
    return loss


def _fitted(
    database: Database,
    classifier: Protected,
    learnt: _Shifted,
    settings: Settings,
    out: Path,
    data: Path | None,
    workers: int,
) -> AttentionNetwork:
    dev = database.normal[database.where("dev")]
    if len(dev) == 0:
        raise DataError(f"{database.folder} has no normal images in its split 'dev'; attack more images")
    own = classifier.logits(dev).argmax(1)
    network = _networks(settings, classifier, data)
    if settings.form == "thesis":
        schedule = replace(settings, epochs=settings.mask_epochs, learning_rate=1e-3, weight_decay=0.0)
        latent = fit(
            _Latent(network.attention, classifier.network, settings.beta),
            learnt,
            len(learnt.labels),
            schedule,
            out / "masks",
            loss=lambda values, _: values.mean(),
            held=lambda trained: _kept(trained, classifier, dev),
            workers=workers,
        )
        network.attention = _part(latent, _Latent).attention.requires_grad_(requires_grad=False)
    whole = fit(
        _Whole(network, classifier.network, settings),
        learnt,
        len(learnt.labels),
        settings,
        out,
        loss=lambda values, labels: cross_entropy(values[:, :-1], labels) + settings.weight * values[:, -1].mean(),
        held=lambda trained: float((disagreement(_part(trained, _Whole).network, dev, own) <= DISAGREEMENT).mean()),
        workers=workers,
    )
    trained: AttentionNetwork = _part(whole, _Whole).network
    return trained


def _part(module: nn.Module, kind: type[Any]) -> Any:
    """The module, known to be of the kind that went into `fit`."""
    if not isinstance(module, kind):
        raise TypeError(f"a training gave {type(module).__name__} back, not {kind.__name__}")
    return module


class _Latent(nn.Module):
    """g under training: images -> equation 9 for each. F is no sub-module, so that no checkpoint holds it."""

    def __init__(self, attention: nn.Module, network: nn.Module, beta: float) -> None:
        super().__init__()
        self.attention, self.outer, self.beta = attention, (network,), beta

    def forward(self, image: Tensor) -> Tensor:
        return lan_loss(self.outer[0], image, self.attention(image), self.beta)


class _Whole(nn.Module):
    """Both under training: images -> f2's logits and, in a last column, the loss of the mask (0 in the form thesis)."""

    def __init__(self, network: AttentionNetwork, classifier: nn.Module, settings: Settings) -> None:
        super().__init__()
        self.network, self.outer, self.settings = network, (classifier,), settings

    def forward(self, image: Tensor) -> Tensor:
        settings, loss = self.settings, torch.zeros(len(image), 1)
        if settings.form == "joint":
            image = self._harder(image)
        corruption = self.network.attention(image)
        if settings.form == "joint":
            # Every batch's first quarter teaches the mask: the classifier costs more to run than g and f2 together.
            part = image[: -(-len(image) // 4)]
            loss = loss + self._of_mask(part.detach(), corruption[: len(part)]).mean()
        return torch.cat([self.network.read(image, corruption), loss], 1)

    def _harder(self, image: Tensor) -> Tensor:
        settings, classifier = self.settings, self.outer[0]
        attacked = int(settings.hardened * len(image))
        parts = []
        if attacked:
            point = image[:attacked].clone().requires_grad_()
            logits = classifier(point)
            (slope,) = torch.autograd.grad(cross_entropy(logits, logits.argmax(1)), point)
            parts.append(image[:attacked] + 0.03 * torch.rand(attacked, 1, 1, 1) * slope.sign())
        rest = image[attacked:]
        parts.append(rest + settings.noise * torch.rand(len(rest), 1, 1, 1) * torch.randn_like(rest))
        return torch.cat(parts).clamp(0, 1)

    def _of_mask(self, image: Tensor, corruption: Tensor) -> Tensor:
        if self.settings.teacher == "lan":
            return lan_loss(self.outer[0], image, corruption, self.settings.beta)
        taught = SALIENCY[self.settings.teacher](self.outer[0], image)
        return 10 * (1 - corruption - taught).square().flatten(1).mean(1)


class _Shifted(Dataset[tuple[Tensor, int]]):
    """An image shifted by up to `padding` pixels, mirrored where that is allowed, drawn from (seed, epoch, index)."""

    def __init__(self, pixels: Pixels, labels: npt.NDArray[np.int64], settings: Settings) -> None:
        self.pixels, self.labels, self.settings = pixels, labels, settings

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, int]:
        pixels, around = self.pixels[key[1]], self.settings.padding
        generator = np.random.default_rng([self.settings.seed, *key])
        padded = np.pad(pixels, ((around, around), (around, around), (0, 0)), mode="reflect")
        top, left = generator.integers(0, 2 * around + 1, 2)
        pixels = padded[top : top + pixels.shape[0], left : left + pixels.shape[1]]
        if self.settings.mirror and generator.random() < 0.5:
            pixels = pixels[:, ::-1]
        image = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))).float().div(255)
        return image, int(self.labels[key[1]])


def _learnt(database: Database, classifier: Protected, sources: Sources) -> tuple[Pixels, npt.NDArray[np.int64], Seen]:
    """Images (N, H, W, 3) at the classifier's size, the classifier's classes of them, and the record of them."""
    own = database.card.dataset
    part = _LEARN.get((own.spec, own.part))
    if sources.images == "data-set" and part is not None:
        try:
            found = open_dataset(own.spec, sources.data, part=part)
        except DataError as error:
            Console(stderr=True).print(f"firewall: {error}; learning from {database.folder} alone", soft_wrap=True)
        else:
            order = np.random.default_rng(0).permutation(len(found))[: sources.limit or None]
            pixels = np.stack([classifier.prepare(found.images[index]) for index in order])
            groups = " ".join(map(str, np.unique(found.groups[order])))
            return pixels, found.labels[order] + classifier.offset, Seen(dataset=own.spec, part=part, groups=groups)
    inside = np.flatnonzero(database.where("train"))[: sources.limit or None]
    labels = np.array([database.card.normal[index].label for index in inside], np.int64) + classifier.offset
    return database.normal[inside], labels, seen(database, ("train",))


def _kept(latent: nn.Module, classifier: Protected, images: Pixels) -> float:
    """Share of the images whose class the classifier keeps under g's corruption: for the log."""
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        batch = torch.from_numpy(images).permute(0, 3, 1, 2).float().div(255)
        mask = _part(latent, _Latent).attention(batch)
        corrupted = mask * torch.rand_like(batch) + (1 - mask) * batch
        same = classifier.network(corrupted).argmax(1) == classifier.network(batch).argmax(1)
    return float(same.float().mean())
