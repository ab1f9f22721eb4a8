"""The networks of Nguyen H., Kuribayashi et al., Table 6, trained once each, and what they say of every image.

One training serves both protocols. Of a database's train split a quarter of the images, drawn by image as the paper
does it, is not trained on: `held`. Frames of the same tracks were trained on, so that is the paper's "eval". Normal
images of the dev split (other tracks) are for thresholds, and a second database, which shares no track with the first,
is what the networks are judged on.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import Dataset

from benchmarks.papers.networks import network_of
from benchmarks.papers.transfer import begin_with
from firewall.errors import DataError
from firewall.export.onnx import export_classifier
from firewall.lab.database import Database
from firewall.lab.database.shards import write_file
from firewall.lab.models.normalisation import recalibrate
from firewall.lab.training.detectors.pixel_detectors import raw_loss
from firewall.lab.training.loop import Schedule, fit

__all__ = [
    "ATTACKS",
    "FAMILIES",
    "RUNS",
    "Images",
    "Run",
    "outputs_of",
    "quality_100",
    "read_images",
    "read_run",
    "train_run",
]

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

#: What is trained with and judged on.
ATTACKS = (
    *("fgsm", "deepfool", "pgd", "pgd-0.01", "pgd-0.06", "pgd-high-confidence", "gradient", "newtonfool"),
    *("l2-bim", "bim"),
)
#: Attacks that are left out of training together.
FAMILIES: dict[str, tuple[str, ...]] = {
    "fgsm": ("fgsm",),
    "deepfool": ("deepfool",),
    "newtonfool": ("newtonfool",),
    "gradient": ("gradient",),
    "pgd": ("pgd", "pgd-0.01", "pgd-0.06", "pgd-high-confidence"),
    "bim": ("bim", "l2-bim"),
}
_HELD = 0.25


@dataclass(frozen=True)
class Run(Schedule):
    """One training.

    Args:
        network: As of `networks.network_of`.
        loss: raw or softmax.
        start: Whether it begins with what the network learnt of signs.
        leave_out: A key of FAMILIES, or "".
        history: "same" for both classes; "jpeg": only adversarial images are saved at a JPEG quality of 100, as the
            paper did.
    """

    batch: int = 32
    learning_rate: float = 5e-4
    moving_average: float = 0.95
    epochs: int = 6
    network: str = "xception"
    loss: str = "raw"
    start: bool = False
    leave_out: str = ""
    history: str = "same"

    @property
    def name(self) -> str:
        """The name of its folder."""
        parts = [self.network, self.loss, "started" if self.start else "scratch"]
        parts += [f"without-{self.leave_out}"] if self.leave_out else []
        return "-".join(parts + ([] if self.history == "same" else ["jpeg-history"]))


_SMALL = Run(network="high-pass", loss="softmax", learning_rate=3e-3, moving_average=0.98)
_LARGE = Run(epochs=4)

#: In the order in which they are trained: what tells most for its time comes first.
RUNS: tuple[Run, ...] = (
    replace(_SMALL, epochs=10),
    replace(_SMALL, epochs=10, loss="raw"),
    *(replace(_SMALL, leave_out=family) for family in FAMILIES),
    replace(_SMALL, history="jpeg"),
    _LARGE,
    replace(_LARGE, loss="softmax"),
    replace(_LARGE, network="resnet50", start=True),
    replace(_LARGE, network="resnet50", start=True, loss="softmax", learning_rate=5e-5),
    replace(_LARGE, network="resnet50"),
    replace(_LARGE, network="resnet50", loss="softmax"),
    replace(_LARGE, start=True),
    replace(_LARGE, start=True, loss="softmax", learning_rate=5e-5),
)


@dataclass(frozen=True, eq=False)
class Images:
    """Benign images, uint8 (N, H, W, 3), with their tracks (N,), and the same of each attack."""

    normal: Pixels
    tracks: npt.NDArray[np.int64]
    attacks: dict[str, tuple[Pixels, npt.NDArray[np.int64]]]

    def limited(self, count: int) -> Images:
        """At most `count` of the normal images and of each attack, evenly over all."""
        some = _evenly(len(self.normal), count)
        attacks = {}
        for name, (images, tracks) in self.attacks.items():
            where = _evenly(len(images), count)
            attacks[name] = (images[where], tracks[where])
        return Images(self.normal[some], self.tracks[some], attacks)


def read_run(folder: Path) -> Run:
    """The settings of a finished run. Raises DataError if they can't be read."""
    try:
        return Run(**json.loads((folder / "run.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise DataError(
            f"{folder} holds no finished run ({type(error).__name__}); remove it and train again"
        ) from error


def read_images(database: Database, split: str | None, attacks: tuple[str, ...] = ATTACKS) -> Images:
    """The images of a split.

    Args:
        database: Any.
        split: Its name; None: all images.
        attacks: Names.

    Returns:
        The images.

    Raises:
        DataError: An attack has not been tried on all images.
    """
    inside = np.array([split in (None, entry.split) for entry in database.card.normal])
    groups = np.array([entry.group for entry in database.card.normal], np.int64)
    found = {}
    for name in attacks:
        attacked = database.attacked(name)
        if attacked.attempted < min(database.card.limit, len(database.card.normal)):
            raise DataError(
                f"{database.folder} has tried {name} on {attacked.attempted} of {len(database.card.normal)} images; "
                "finish it with 'firewall lab attack'"
            )
        places = np.array([entry.normal for entry in attacked.entries], np.int64)
        where = inside[places]
        found[name] = (attacked.images[where], groups[places[where]])
    return Images(database.normal[inside], groups[inside], found)


def held_by_image(images: Images, seed: int = 0) -> tuple[Images, Images]:
    """To train on, and held: a quarter of the images of each kind, drawn one by one, whatever track they are of."""
    generator = np.random.default_rng(seed)

    def parts(count: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        order, held = generator.permutation(count), round(count * _HELD)
        return np.sort(order[held:]), np.sort(order[:held])

    normal = parts(len(images.normal))
    attacks = {name: parts(len(pixels)) for name, (pixels, _) in images.attacks.items()}
    first, second = (
        Images(
            images.normal[normal[side]],
            images.tracks[normal[side]],
            {
                name: (pixels[attacks[name][side]], tracks[attacks[name][side]])
                for name, (pixels, tracks) in images.attacks.items()
            },
        )
        for side in (0, 1)
    )
    return first, second


def quality_100(images: Pixels) -> Pixels:
    """Saved as JPEG at quality 100 and opened again, as Pillow does it by default."""
    opened = []
    for image in images:
        file = io.BytesIO()
        Image.fromarray(image).save(file, format="JPEG", quality=100)
        opened.append(np.asarray(Image.open(file)))
    return np.stack(opened) if opened else images


def train_run(
    run: Run, fitted: Images, dev: Images, out: Path, *, start: Path | None, threads: int
) -> Callable[[Pixels], Floats]:
    """Train (or go on training) in `out / run.name`.

    Args:
        run: What is trained.
        fitted: What it is trained on.
        dev: What the log's accuracy is measured on.
        out: Folder of the runs.
        start: The checkpoint to begin with, for a run that needs one.
        threads: Threads of torch.

    Returns:
        A function of images, uint8 (N, H, W, 3), that gives the two outputs (N, 2).

    Raises:
        DataError: A start is missing, or a checkpoint belongs to other settings.
    """
    torch.set_num_threads(threads)
    torch.manual_seed(run.seed)
    network = network_of(run.network)
    if run.start:
        if start is None:
            raise DataError(f"{run.name} begins with another task; make its start with 'benchmarks.papers start'")
        begin_with(network, start)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a fifth to a quarter faster
    left_out = FAMILIES.get(run.leave_out, ())
    attacks = {name: pixels for name, (pixels, _) in fitted.attacks.items() if name not in left_out}
    if run.history == "jpeg":
        attacks = {name: quality_100(pixels) for name, pixels in attacks.items()}
    few = dev.limited(20)
    data = _Balanced(fitted.normal, attacks, run.seed)

    def right(trained: nn.Module) -> float:
        normal = outputs_of(trained, few.normal)
        attacked = np.concatenate([outputs_of(trained, pixels) for pixels, _ in few.attacks.values()])
        return float(((normal.argmax(1) == 0).mean() + (attacked.argmax(1) == 1).mean()) / 2)

    trained = fit(
        network,
        data,
        2 * len(fitted.normal),
        run,
        out / run.name,
        loss=raw_loss if run.loss == "raw" else cross_entropy,
        held=right,
        workers=0,
    )
    recalibrate(trained, data.batches(run.epochs, 8, 64))
    if not left_out and run.history == "same":  # proven on real images to say the same on the edge
        pictures = np.concatenate([few.normal, *(pixels[:4] for pixels, _ in few.attacks.values())])
        file = out / run.name / "detector.onnx"
        export_classifier(trained, file, size=pictures.shape[1], labels=("normal", "adversarial"), images=pictures)
    write_file(out / run.name / "run.json", (json.dumps(asdict(run), indent=1) + "\n").encode())
    return lambda images: outputs_of(trained, images)


@torch.no_grad()
def outputs_of(network: nn.Module, images: Pixels) -> Floats:
    """The outputs (N, 2) normal, adversarial, of images (N, H, W, 3) uint8, in evaluation mode."""
    network.eval()
    parts = [images[start : start + 128] for start in range(0, len(images), 128)]
    inputs = (torch.from_numpy(np.ascontiguousarray(part.transpose(0, 3, 1, 2))).float() / 255 for part in parts)
    found: Floats = torch.cat([torch.zeros(0, 2), *(network(values) for values in inputs)]).numpy()
    return found


class _Balanced(Dataset[tuple[Tensor, int]]):
    """Index 2 i is normal image i; 2 i + 1 an adversarial one, drawn by epoch: first the attack, then the image."""

    def __init__(self, normal: Pixels, attacks: dict[str, Pixels], seed: int) -> None:
        self._normal, self._attacks, self._seed = normal, list(attacks.values()), seed

    def __getitem__(self, place: tuple[int, int]) -> tuple[Tensor, int]:
        epoch, index = place
        generator = np.random.default_rng([self._seed, epoch, index])
        if index % 2 == 0:
            pixels = self._normal[index // 2]
        else:
            images = self._attacks[int(generator.integers(len(self._attacks)))]
            pixels = images[int(generator.integers(len(images)))]
        mirrored = pixels[:, ::-1] if generator.random() < 0.5 else pixels
        values = np.ascontiguousarray(mirrored.transpose(2, 0, 1))
        return torch.from_numpy(values).float() / 255, index % 2

    def batches(self, epoch: int, count: int, size: int) -> Iterator[Tensor]:
        """`count` batches of both classes alike, as training would have drawn them."""
        order = np.random.default_rng([self._seed, epoch]).permutation(len(self._normal) * 2)
        for start in range(0, min(count * size, len(order)), size):
            yield torch.stack([self[epoch, int(index)][0] for index in order[start : start + size]])


def _evenly(length: int, count: int) -> npt.NDArray[np.int64]:
    return np.unique(np.linspace(0, max(length - 1, 0), min(length, count)).astype(np.int64))
