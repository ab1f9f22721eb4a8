"""Train one juror: resumable, the same result for the same seed and thread count."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import Dataset

from firewall.errors import DataError, UsageError
from firewall.frame import Pixels
from firewall.lab.datasets.families import named
from firewall.lab.models.juror import CLEAR, Juror, Kind, juror_kind
from firewall.lab.training.classifiers.variety import Variety
from firewall.lab.training.jury.adversary import Adversary
from firewall.lab.training.jury.opinions import Opinions
from firewall.lab.training.loop import Schedule, fit, read_checkpoint
from firewall.transforms import resize

__all__ = ["JurorSettings", "fit_juror", "load_juror", "predict", "sign_adversary", "train_juror"]


@dataclass(frozen=True)
class JurorSettings(Schedule):
    """What determines a run, besides the schedule.

    Args:
        kind: A key of firewall.lab.models.juror.KINDS.
        outputs: How many logits: the classes, then "not a sign".
        label_smoothing: Of the cross-entropy.
        other_share: Images without a sign drawn in each epoch, as a share of the labelled ones.
        spoilt: Of the images without a sign: the share that is half a sign, or a sign on its side or its head.
        attacked: Share of each batch that is attacked at full band, 0..1.
        smooth: Share of each batch that is attacked smoothly.
        obstructed: Share of the versions with something on the sign.
        weather: Share of the versions in bad weather.
        without: Names of obstructions, or of whole families (`firewall.lab.datasets.families`), that are not drawn, so
            that they can be measured as unseen.
        start: Checkpoint of a juror of this kind to begin with; empty: random weights.
        bfloat16: Whether passes run in bfloat16, which is faster on processors that have it.
    """

    kind: str = "robust"
    outputs: int = 44
    label_smoothing: float = 0.05
    other_share: float = 0.2
    spoilt: float = 0.0
    attacked: float = 0.4
    smooth: float = 0.25
    obstructed: float = 0.4
    weather: float = 0.2
    without: tuple[str, ...] = ()
    start: str = ""
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
    device: str = "cpu",
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
        device: What trains: cpu, cuda or cuda:N.

    Returns:
        The averaged network in evaluation mode, on the device.

    Raises:
        DataError: The checkpoint belongs to other settings, a label is out of range, or there are too few images.
        UsageError: There is no such kind or device.
    """
    if max(labels, default=0) >= settings.outputs - 1 or min(labels, default=0) < 0:
        raise DataError(
            f"labels from {min(labels)} to {max(labels)} don't fit a juror of {settings.outputs} outputs, the last of "
            f"which is what is no sign; 0 to {settings.outputs - 2} are expected"
        )
    kind = juror_kind(settings.kind)
    dataset = Opinions(
        images,
        labels,
        others,
        reject=settings.outputs - 1,
        size=kind.size,
        variety=variety,
        seed=settings.seed,
        clear=settings.kind == CLEAR,
        spoilt=settings.spoilt,
    )
    return fit_juror(
        kind,
        settings.outputs,
        dataset,
        len(images) + round(settings.other_share * len(images)),
        settings,
        out,
        adversary=sign_adversary(settings),
        label_smoothing=settings.label_smoothing,
        held=lambda model: _accuracy(model, held, kind.size),
        start=_started(settings) if settings.start else None,
        threads=threads,
        workers=workers,
        device=device,
    )


def sign_adversary(settings: JurorSettings) -> Adversary:
    """How batches are attacked under these settings."""
    smooth = 0.0 if named(settings.without).smooth else settings.smooth
    return Adversary(settings.attacked, smooth, bfloat16=settings.bfloat16)


def _started(settings: JurorSettings) -> Juror:
    first, before, _ = load_juror(Path(settings.start))
    if (before.kind, before.outputs) != (settings.kind, settings.outputs):
        raise UsageError(
            f"--start {settings.start} is a juror {before.kind} of {before.outputs} outputs; one of kind "
            f"{settings.kind} and {settings.outputs} outputs is needed"
        )
    if met := [name for name in settings.without if name not in before.without]:
        raise UsageError(
            f"--start {settings.start} is a juror that has met {', '.join(met)}, which --without leaves out; begin "
            "with random weights, or with one that was trained without"
        )
    return first


def fit_juror(
    kind: Kind,
    outputs: int,
    dataset: Dataset[tuple[Tensor, int]] | Dataset[tuple[Tensor, Tensor]],
    length: int,
    settings: Schedule,
    out: Path,
    *,
    adversary: Adversary,
    label_smoothing: float,
    held: Callable[[nn.Module], float],
    start: Juror | None = None,
    threads: int,
    workers: int,
    device: str,
) -> Juror:
    """Train a juror on any data set of images and what is wanted of them.

    Args:
        kind: What it sees, and how large it is.
        outputs: How many logits.
        dataset: As of `fit`.
        length: How many indices it has.
        settings: What determines the run, the seed among it.
        out: Folder of the run.
        adversary: What each batch goes through first.
        label_smoothing: Of the cross-entropy.
        held: The accuracy on kept-out images, for the log alone.
        start: Juror to begin with; None: random weights.
        threads: Threads of torch.
        workers: Processes that prepare images.
        device: What trains: cpu, cuda or cuda:N.

    Returns:
        The averaged network in evaluation mode, on the device.

    Raises:
        DataError: The checkpoint belongs to other settings, or there are too few images.
        UsageError: There is no such device.
    """
    torch.set_num_threads(threads)
    torch.manual_seed(settings.seed)
    network: nn.Module = Juror(kind, outputs).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if start is not None:
        network.load_state_dict(start.state_dict())
    trained = fit(
        network,
        dataset,
        length,
        settings,
        out,
        loss=lambda logits, wanted: nn.functional.cross_entropy(logits, wanted, label_smoothing=label_smoothing),
        held=held,
        workers=workers,
        shown=adversary,
        bfloat16=adversary.bfloat16,
        device=device,
    )
    return cast(Juror, trained)


def load_juror(path: Path) -> tuple[Juror, JurorSettings, int]:
    """The averaged network of a checkpoint of `train_juror`, its settings, and how many epochs it has had.

    Raises:
        DataError: The file is damaged, or a checkpoint of something else.
    """
    saved = read_checkpoint(path)
    try:
        settings = JurorSettings(**{**saved["settings"], "without": tuple(saved["settings"]["without"])})
        average = AveragedModel(Juror(juror_kind(settings.kind), settings.outputs), use_buffers=True)
        average.load_state_dict(saved["average"])
    except (KeyError, TypeError, RuntimeError, UsageError) as error:
        raise DataError(
            f"{path} is no checkpoint of 'firewall lab train juror' ({type(error).__name__}: {error})"
        ) from error
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
        Float (N, outputs), on the CPU.
    """
    place = next(network.parameters()).device
    parts = []
    for start in range(0, len(images), batch):
        stack = np.stack([resize(image, size, size) for image in images[start : start + batch]])
        parts.append(network(torch.from_numpy(stack).permute(0, 3, 1, 2).float().div(255).to(place)).cpu())
    return torch.cat(parts)


def _accuracy(network: nn.Module, held: tuple[Sequence[Pixels], Sequence[int]], size: int) -> float:
    network.eval()
    return float((predict(network, held[0], size).argmax(1).numpy() == np.asarray(held[1])).mean())
