"""Begin a detector with what a network learnt of another task: to name signs.

Nguyen H. et al. (section 4) fine-tune networks that were trained on ImageNet. No such weights are here, so the other
task is sign classification on GTSRB's "fitted" tracks, those that the default classifier was trained on; databases of
the "kept-out" part and of the test images share no track with them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import Dataset as TorchDataset

from benchmarks.papers.networks import network_of
from benchmarks.papers.resnet50 import ResNet50
from benchmarks.papers.xception import Xception
from firewall.errors import DataError
from firewall.lab.datasets import Dataset
from firewall.lab.training.loop import Schedule, fit, read_checkpoint
from firewall.transforms import resize

__all__ = ["Settings", "begin_with", "learn_signs"]

_HELD = 200


@dataclass(frozen=True)
class Settings(Schedule):
    """network: resnet50 or xception. images: how many are drawn of the data set. size: pixels a side."""

    epochs: int = 2
    batch: int = 32
    learning_rate: float = 1e-3
    moving_average: float = 0.95
    network: str = "resnet50"
    images: int = 4000
    size: int = 48


def learn_signs(data: Dataset, out: Path, settings: Settings, *, threads: int) -> nn.Module:
    """Train (or go on training) to name the classes of a data set; `out/checkpoint.pt` is for `begin_with`.

    Further images than those trained on are held out for the log; frames of one track may be among both.

    Args:
        data: The data set.
        out: Folder of the run.
        settings: Of the training.
        threads: Threads of torch.

    Raises:
        DataError: The network's features can't be separated from its head, or there are too few images.
    """
    torch.set_num_threads(threads)
    torch.manual_seed(settings.seed)
    model = network_of(settings.network)
    if not isinstance(model, ResNet50 | Xception):
        raise DataError(f"the network {settings.network} can't begin with another task; resnet50 and xception can")
    model.head = nn.Linear(model.width, len(data.class_names))
    order = np.random.default_rng(settings.seed).permutation(len(data.labels))
    chosen, held = order[: settings.images], order[settings.images : settings.images + _HELD]
    if len(held) == 0:
        raise DataError(f"{len(data.labels)} images of {data.name} are too few; more than {settings.images} are needed")
    fitted, kept = _Signs(data, chosen, settings), _Signs(data, held, settings)
    return fit(
        model,
        fitted,
        len(chosen),
        settings,
        out,
        loss=cross_entropy,
        held=lambda network: _accuracy(network, kept),
        workers=0,
    )


def begin_with(network: nn.Module, checkpoint: Path) -> None:
    """Give a network the weights of a checkpoint's moving average, except the head's.

    Args:
        network: Changed in place.
        checkpoint: Of `learn_signs`.

    Raises:
        DataError: The checkpoint is damaged or of another network.
    """
    saved = read_checkpoint(checkpoint)
    prefix = "module."
    weights = {name[len(prefix) :]: value for name, value in saved["average"].items() if name.startswith(prefix)}
    wanted = {name: value for name, value in network.state_dict().items() if not name.startswith("head.")}
    if any(name not in weights or weights[name].shape != value.shape for name, value in wanted.items()):
        raise DataError(f"{checkpoint} is of another network; make one with 'benchmarks.papers start --network NAME'")
    network.load_state_dict({name: weights[name] for name in wanted}, strict=False)


class _Signs(TorchDataset[tuple[Tensor, int]]):
    """Resized as the edge does; indices are (epoch, place among the chosen)."""

    def __init__(self, data: Dataset, chosen: np.ndarray[tuple[int], np.dtype[np.int64]], settings: Settings) -> None:
        images = [resize(data.images[int(index)], settings.size, settings.size) for index in chosen]
        self.images = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()
        self.labels = data.labels[chosen]

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, int]:
        return self.images[key[1]].float() / 255, int(self.labels[key[1]])


@torch.no_grad()
def _accuracy(network: nn.Module, signs: _Signs) -> float:
    network.eval()
    parts = [network(part.float() / 255).argmax(1) for part in signs.images.split(64)]
    return float((torch.cat(parts).numpy() == signs.labels).mean())
