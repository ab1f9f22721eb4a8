"""Train the small sign classifier whose labels can be proved when every value may change: `lab train certified`.

It learns from the worst that interval arithmetic can't rule out (interval bound propagation: Gowal et al. 2018), with
the initial weights, batch normalisation and short schedule of Shi et al. (NeurIPS 2021). The interval grows from 0.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from firewall.errors import UsageError
from firewall.lab.certification.guarded_training import guarded_loss
from firewall.lab.datasets import gtsrb
from firewall.lab.models.robust_networks import INTERVAL_SIZE, IntervalNetwork
from firewall.lab.training.classifiers.small_signs import begin, loaded, posed, right, write
from firewall.lab.training.loop import Schedule, Shown, fit

__all__ = ["Settings", "growing", "train_certified"]


@dataclass(frozen=True)
class Settings(Schedule):
    """What determines a run, besides the schedule.

    Args:
        eps: Largest change of a value that is trained against, at the end.
        share: Share of the loss that the worst case makes up, 0..1.
        warm: Share of the training before the interval begins to grow.
        grown: Share of the training by which it is whole.
        strength: Of the changes of pose and light.
        kept_out: Share of the tracks that are not trained on.
        convolutions: Of the network, 2 or 3.
    """

    epochs: int = 40
    learning_rate: float = 4e-3
    weight_decay: float = 1e-4
    moving_average: float = 0.995
    eps: float = 2.2 / 255
    share: float = 0.6
    warm: float = 0.05
    grown: float = 0.6
    strength: float = 1.0
    kept_out: float = gtsrb.KEPT_OUT[0]
    convolutions: int = 3

    def checked(self) -> Settings:
        """The same.

        Raises:
            UsageError: A number is out of range.
        """
        if not 0 < self.eps <= 1:
            raise UsageError(f"--eps must be above 0 and at most 1, such as 2/255, got {self.eps:g}")
        if not (math.isfinite(self.share) and 0 <= self.share <= 1):
            raise UsageError(f"--share must lie in 0..1, got {self.share:g}")
        if self.convolutions not in (2, 3):
            raise UsageError(f"--convolutions must be 2 or 3, got {self.convolutions}")
        return self


def growing(settings: Settings) -> Shown:
    """Tells the network the labels and the interval before it learns from a batch.

    Args:
        settings: Of the training.

    Returns:
        As `fit` asks for: uint8 (N, 3, H, W) -> float in 0..1.
    """

    def shown(model: nn.Module, pixels: Tensor, labels: Tensor, done: float) -> Tensor:
        network = cast(IntervalNetwork, model)
        grown = min(max((done - settings.warm) / (settings.grown - settings.warm), 0.0), 1.0)
        network.labels, network.radius = labels, settings.eps * grown
        return posed(pixels, settings.strength).contiguous(memory_format=torch.channels_last)

    return shown


def train_certified(
    data: Path,
    out: Path,
    settings: Settings,
    *,
    start: Path | None = None,
    threads: int = 1,
    workers: int = 0,
    bfloat16: bool = False,
    device: str = "cpu",
) -> dict[str, Any]:
    """Train, or go on training, export, and measure the exported file on the test images.

    Args:
        data: Folder of the data sets.
        out: Folder of the run.
        settings: Of the training.
        start: Folder of a run to begin with; None: random weights.
        threads: Of torch.
        workers: Processes that prepare images; 0: this one.
        bfloat16: Whether the passes run in bfloat16.
        device: What trains, as of `fit`.

    Returns:
        The card.

    Raises:
        UsageError: A setting is out of range, or `start` is no run.
        DataError: Data is missing or damaged, or the checkpoint belongs to other settings.
    """
    settings = settings.checked()
    torch.set_num_threads(threads)
    torch.manual_seed(settings.seed)
    model = IntervalNetwork(len(gtsrb.CLASS_NAMES), settings.convolutions)
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    refines = begin(model, start)
    fitted, held, about = loaded(data, INTERVAL_SIZE, settings.kept_out, settings.seed)
    trained = fit(
        model,
        fitted,
        len(fitted),
        settings,
        out,
        loss=guarded_loss(settings.share),
        held=lambda network: right(network, held),
        workers=workers,
        shown=growing(settings),
        bfloat16=bfloat16,
        device=device,
    )
    training = {**about, "what": "certified", "settings": asdict(settings), "refines": refines}
    return write(cast(IntervalNetwork, trained).layers, INTERVAL_SIZE, out, data, training, threads=threads)
