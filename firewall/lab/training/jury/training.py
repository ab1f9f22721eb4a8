"""Train one juror: resumable, the same result for the same seed and thread count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from firewall.frame import Pixels
from firewall.lab.models.juror import Juror, juror_kind
from firewall.lab.training.jury.adversary import Adversary
from firewall.lab.training.jury.opinions import Opinions, Variety
from firewall.lab.training.loop import Schedule, fit, read_checkpoint
from firewall.transforms import resize

__all__ = ["JurorSettings", "load_juror", "predict", "train_juror"]


@dataclass(frozen=True)
class JurorSettings(Schedule):
    """What determines a run, besides the schedule.

    Args:
        kind: A key of firewall.lab.models.juror.KINDS.
        outputs: How many logits: the classes, then "not a sign".
        label_smoothing: Of the cross-entropy.
        other_share: Images without a sign drawn in each epoch, as a share of the labelled ones.
        attacked: Share of each batch that is attacked at full band, 0..1.
        smooth: Share of each batch that is attacked smoothly.
        obstructed: Share of the versions with something on the sign.
        weather: Share of the versions in bad weather.
        without: Names of obstructions that are not drawn, so that they can be measured as unseen.
        bfloat16: Whether passes run in bfloat16, which is faster on processors that have it.
    """

    kind: str = "robust"
    outputs: int = 44
    label_smoothing: float = 0.05
    other_share: float = 0.2
    attacked: float = 0.4
    smooth: float = 0.25
    obstructed: float = 0.4
    weather: float = 0.2
    without: tuple[str, ...] = ()
    bfloat16: bool = False


def train_juror(
    images: Sequence[Pixels],
    labels: Sequence[int],
    others: Sequence[Pixels],
    out: Path,
    settings: JurorSettings,
    *,
    variety: Variety,
    held: tuple[Sequence[Pixels], Sequence[int]],
    threads: int = 2,
    workers: int = 1,
) -> Juror:
    """Train on labelled images and on what is no sign.

    Writes `out/checkpoint.pt` and `out/log.jsonl` after each epoch, and continues from a checkpoint of the same
    settings.

    Args:
        images: Uint8 (H, W, 3) each.
        labels: The class of each, below outputs - 1.
        others: Crops without a sign.
        out: Folder of the run.
        settings: Of the training.
        variety: How versions differ; must follow from the settings.
        held: Images and labels that are kept out, for the log alone.
        threads: Threads of torch.
        workers: Processes that prepare images.

    Returns:
        The averaged network in evaluation mode.

    Raises:
        DataError: The checkpoint belongs to other settings.
        UsageError: There is no such kind.
    """
    torch.set_num_threads(threads)
    torch.manual_seed(settings.seed)
    kind = juror_kind(settings.kind)
    network: nn.Module = Juror(kind, settings.outputs).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    dataset = Opinions(
        images, labels, others, reject=settings.outputs - 1, size=kind.size, variety=variety, seed=settings.seed
    )
    adversary = Adversary(settings.attacked, settings.smooth, bfloat16=settings.bfloat16)
    trained = fit(
        network,
        dataset,
        len(images) + round(settings.other_share * len(images)),
        settings,
        out,
        loss=lambda logits, wanted: _loss(logits, wanted, settings.label_smoothing),
        held=lambda model: _accuracy(model, held, kind.size),
        workers=workers,
        shown=adversary,
        bfloat16=settings.bfloat16,
    )
    return cast(Juror, trained)


def load_juror(path: Path) -> tuple[Juror, JurorSettings, int]:
    """The averaged network of a checkpoint, its settings, and how many epochs it has had.

    Raises:
        DataError: The file is damaged.
    """
    saved = read_checkpoint(path)
    settings = JurorSettings(**saved["settings"])
    average = AveragedModel(Juror(juror_kind(settings.kind), settings.outputs), use_buffers=True)
    average.load_state_dict(saved["average"])
    return cast(Juror, average.module.eval()), settings, int(saved["epoch"])


@torch.no_grad()
def predict(network: nn.Module, images: Sequence[Pixels], size: int, batch: int = 256) -> Tensor:
    """Logits of crops as the edge shows them to a juror.

    Args:
        network: In evaluation mode.
        images: Uint8 (H, W, 3) each.
        size: Width and height of its input in pixels.
        batch: How many go through the network at a time.

    Returns:
        Float (N, outputs).
    """
    parts = []
    for start in range(0, len(images), batch):
        stack = np.stack([resize(image, size, size) for image in images[start : start + batch]])
        parts.append(network(torch.from_numpy(stack).permute(0, 3, 1, 2).float().div(255)))
    return torch.cat(parts)


def _accuracy(network: nn.Module, held: tuple[Sequence[Pixels], Sequence[int]], size: int) -> float:
    network.eval()
    return float((predict(network, held[0], size).argmax(1).numpy() == np.asarray(held[1])).mean())


def _loss(logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    return nn.functional.cross_entropy(logits, labels, label_smoothing=smoothing)
