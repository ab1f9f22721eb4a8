"""Train detectors of pixels: `firewall lab train image-cnn` and `firewall lab train residual`.

Both are a network with two outputs, normal and adversarial, on the image (Nguyen H., Kuribayashi et al., section 4) or
on its residual (Sun et al.), trained on the train split of a database. Classes are balanced: each epoch draws as many
benign as adversarial images, and each attack as often as the others.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from firewall.bundle import Seen
from firewall.errors import DataError, UsageError
from firewall.export.onnx import export_classifier
from firewall.lab.database import Database
from firewall.lab.database.seen import record, seen, seen_groups
from firewall.lab.database.shards import write_file
from firewall.lab.measurement import metrics
from firewall.lab.models.detector_network import by_name
from firewall.lab.training.detectors.pixel_images import Balanced, Settings, Split, as_input, joined, read_split
from firewall.lab.training.loop import fit

__all__ = ["Settings", "fitted", "raw_loss", "scores", "train"]

Pixels = npt.NDArray[np.uint8]


#: Raw outputs beyond this pull no further: the paper's loss has no lower bound, and a network would only grow.
_FAR = 10.0


def raw_loss(outputs: Tensor, labels: Tensor) -> Tensor:
    """The paper's loss without the final softmax (equation 3 as its text describes it): - y adv - (1 - y) norm.

    As printed it is unbounded below, so outputs count only up to 10. The output of the other class is pulled down in
    the same way, or both would rise together.

    Args:
        outputs: (N, 2), normal and adversarial.
        labels: Int64 (N,), 0 or 1.

    Returns:
        A scalar.
    """
    own = outputs.gather(1, labels[:, None])[:, 0]
    other = outputs.gather(1, 1 - labels[:, None])[:, 0]
    return (other.clamp(min=-_FAR) - own.clamp(max=_FAR)).mean()


def train(
    database: Database,
    out: Path,
    settings: Settings,
    *,
    threads: int,
    more: Sequence[Database] = (),
    workers: int = 0,
) -> dict[str, Any]:
    """Train (or go on training), measure on the eval split, write `detector.json` and `detector.onnx`.

    Grey images are taken as RGB with three equal channels, as the edge does.

    Args:
        database: To train and measure on.
        out: Folder of the detector and its run.
        settings: Of the training.
        threads: Threads of torch.
        more: Further databases of the same classifier, all of whose images are trained on.
        workers: Processes that prepare images; 0: this one.

    Returns:
        What `detector.json` says.

    Raises:
        DataError: Images are not square, a split lacks benign or adversarial images, or a further database is of
            another classifier or holds images of the splits dev or eval.
        UsageError: A network, an attack or a rate that can't be.
    """
    height, width, channels = (int(side) for side in database.info()["size"])
    if height != width or channels not in (1, 3):
        raise DataError(f"{database.folder} holds images of {height}x{width}x{channels}; square RGB or grey is needed")
    for rate in (settings.rate, *settings.also) if settings.detector == "residual" else ():
        kept = 1 - rate if settings.reading == "removed" else rate
        if 0 < kept < 1 and height * math.sqrt(kept) < 1:
            raise UsageError(
                f"at --rate {rate:g}, read as {settings.reading}, images of {height}x{width} would be made smaller "
                "than one pixel; name a rate that keeps more, or use larger images"
            )
    present = dict.fromkeys(name for one in (database, *more) for name in one.card.attacks)
    absent = [name for name in (*settings.attacks, *settings.leave_out) if name not in present]
    if absent:
        raise UsageError(f"{database.folder} has no attack {', '.join(absent)}; it has {', '.join(present)}")
    learnt = _learnt_from(database, more)
    parts = {name: read_split(database, name) for name in ("train", "dev", "eval")}
    parts["train"] = joined([parts["train"], *(read_split(further, None) for further in more)])
    fitting, held = parts["train"].only(settings), parts["dev"].only(settings)
    for name, part in (("train", fitting), ("dev", held), ("eval", parts["eval"])):
        if not len(part.normal) or not part.attacks:
            kind = "adversarial" if len(part.normal) else "normal"
            raise DataError(f"{database.folder} has no {kind} images in its split {name!r}; attack more images")
    network = fitted(fitting, held, out, settings, threads=threads, workers=workers)
    file = out / "detector.onnx"
    pictures = None  # residuals have signs, so the exported file is compared on random ones
    if settings.detector == "image-cnn":
        pictures = np.concatenate([parts["eval"].normal[:40], *(some[:4] for some in parts["eval"].attacks.values())])
    export_classifier(
        network, file, size=height, labels=("normal", "adversarial"), channels=settings.channels, images=pictures
    )
    info = database.info()
    parameters: dict[str, Any] = {"file": file.name}
    if settings.detector == "residual":
        parameters |= {"rate": settings.rate, "reading": settings.reading}
        if settings.also:
            parameters["also"] = list(settings.also)
    report = {
        "name": settings.detector,
        "parameters": parameters,
        "classifier_sha256": database.card.classifier.sha256,
        "fitted": learnt.model_dump(mode="json"),
        "settings": asdict(settings),
        "trained_with": {name: len(images) for name, images in fitting.attacks.items()},
        "weights": sum(weight.numel() for weight in network.parameters()),
        "database": {key: info[key] for key in ("dataset", "classifier", "normal", "adversarial", "splits", "seed")},
        "more": [
            {key: entry[key] for key in ("dataset", "normal", "adversarial", "seed")}
            for entry in (further.info() for further in more)
        ],
        "eval": _measured(network, parts["eval"], settings),
    }
    write_file(out / "detector.json", (json.dumps(report, indent=1) + "\n").encode())
    return report


def fitted(
    fitting: Split,
    held: Split,
    out: Path,
    settings: Settings,
    *,
    threads: int = 1,
    workers: int = 0,
) -> nn.Module:
    """A network trained on a split.

    Each epoch draws every benign image once and as many adversarial ones. Goes on where a run in `out` was stopped.

    Args:
        fitting: What it is trained on.
        held: What its accuracy in the log is measured on.
        out: Folder of the run.
        settings: Of the training.
        threads: Threads of torch.
        workers: Processes that prepare images; 0: this one.

    Returns:
        The network in evaluation mode.
    """
    torch.set_num_threads(threads)
    torch.manual_seed(settings.seed)
    network = by_name(settings.network, settings.channels)
    return fit(
        network,
        Balanced(fitting, settings),
        2 * len(fitting.normal),
        settings,
        out,
        loss=raw_loss if settings.loss == "raw" else cross_entropy,
        held=lambda trained: _measured(trained, held, settings)["balanced_accuracy"],
        workers=workers,
    )


def _learnt_from(database: Database, more: Sequence[Database]) -> Seen:
    """The record of what is trained on. Raises DataError if that is a track, or an image, that is judged on."""
    learnt = seen(database, ("train",))
    own = database.card
    judged = [entry for entry in (*own.normal, *database.reserve_entries) if entry.split != "train"]
    sources, groups = {entry.source for entry in judged}, {entry.group for entry in judged}
    for further in more:
        card = further.card
        if card.classifier.sha256 != own.classifier.sha256:
            raise DataError(f"{further.folder} was made on another classifier than {database.folder}; leave it out")
        theirs = seen_groups([record(card, card.normal)], own.dataset)
        if not theirs:  # tracks that are numbered otherwise can't be compared with those that are measured on
            raise DataError(f"{further.folder} is of another data set or part than {database.folder}; leave it out")
        shared = [entry.source for entry in card.normal if entry.source in sources or entry.group in groups]
        if shared:
            raise DataError(
                f"{further.folder} holds {shared[0]}, which is of a track that {database.folder} has in its split dev "
                "or eval; leave it out, or attack another part of the data set"
            )
        learnt = learnt.model_copy(
            update={"groups": " ".join(map(str, sorted(theirs | set(map(int, learnt.groups.split())))))}
        )
    return learnt


def _measured(network: nn.Module, split: Split, settings: Settings) -> dict[str, Any]:
    """Accuracy at the network's own boundary, balanced over the two classes, and figures by attack."""
    normal = scores(network, split.normal, settings)
    result: dict[str, Any] = {
        "normal": {"n": len(normal), "false_positive_rate": float((normal > 0).mean())},
        "attacks": {},
    }
    hits = []
    for attack, images in split.attacks.items():
        found = scores(network, images, settings)
        hits.append(found > 0)
        separation = metrics.separate(normal, found, rates=(), resamples=200)
        result["attacks"][attack] = {
            "n": len(found),
            "true_positive_rate": float((found > 0).mean()),
            "auroc": separation.auroc.value,
            "auroc_ci95": [separation.auroc.low, separation.auroc.high],
            "eer": separation.eer.value,
            "seen": settings.seen(attack),
        }
    every = np.concatenate(hits)
    right = int((normal <= 0).sum() + every.sum())
    result["accuracy"] = right / (len(normal) + len(every))
    result["balanced_accuracy"] = float(((normal <= 0).mean() + every.mean()) / 2)
    return result


@torch.no_grad()
def scores(network: nn.Module, images: Pixels, settings: Settings) -> npt.NDArray[np.float64]:
    """The adversarial minus the normal output.

    Args:
        network: The detector's.
        images: Uint8 (N, H, W, 3), N 1 or more.
        settings: Of the training.

    Returns:
        (N,), higher = more suspicious.
    """
    network.eval()
    parts = [images[start : start + 256] for start in range(0, len(images), 256)]
    outputs = torch.cat([network(torch.from_numpy(as_input(part, settings))) for part in parts])
    return (outputs[:, 1] - outputs[:, 0]).double().numpy()
