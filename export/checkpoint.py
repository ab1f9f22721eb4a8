"""From a checkpoint of `firewall lab train classifier` to the network that is exported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from firewall.errors import DataError
from firewall.host.causes import told
from firewall.lab.datasets import cifar10, gtsrb
from firewall.lab.models.sign_classifier import INPUT_SIZE, fuse
from firewall.lab.models.small_networks import ARCHITECTURES
from firewall.lab.training.classifiers.sign_training import load_checkpoint
from firewall.lab.training.classifiers.small_classifiers import Grey
from firewall.lab.training.loop import CHECKPOINT, read_checkpoint

__all__ = ["Trained", "read_trained"]

_LABELS = {"mnist": tuple("0123456789"), "cifar10": tuple(cifar10.CLASS_NAMES)}


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained classifier.

    Attributes:
        network: Float (N, 3, size, size), RGB, 0..1 -> logits (N, len(labels)), in evaluation mode, whatever it does to
            the values first being inside.
        architecture: Name of the architecture.
        size: As in `jpeg_sweep`.
        labels: Name of each class.
        dataset: What it was trained on, as `open_dataset` names it.
    """

    network: nn.Module
    architecture: str
    size: int
    labels: tuple[str, ...]
    dataset: str

    @torch.no_grad()
    def logits(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """(N, len(labels)) of values (N, 3, size, size) in 0..1, computed by torch."""
        parts = torch.from_numpy(values).split(64)
        result: npt.NDArray[np.float32] = torch.cat([self.network(part) for part in parts]).numpy()
        return result


def read_trained(path: Path) -> Trained:
    """The averaged network of a checkpoint file, or of the one in a training run's folder.

    Only tensors and plain values are read from it.

    Raises:
        DataError: If it is damaged, or no classifier's.
    """
    file = path / CHECKPOINT if path.is_dir() else path
    if not file.is_file():
        raise DataError(f"{file} is missing; name a folder or checkpoint.pt of 'firewall lab train classifier'")
    saved = read_checkpoint(file)
    settings: Any = saved.get("settings") if isinstance(saved, Mapping) else None
    architecture = settings.get("architecture") if isinstance(settings, Mapping) else None
    try:
        if architecture in ARCHITECTURES:
            return _small(str(architecture), saved)
        if isinstance(settings, Mapping) and "calibration_share" in settings:
            network = fuse(load_checkpoint(file)[0])
            return Trained(network, "sign", INPUT_SIZE, tuple(gtsrb.CLASS_NAMES), "gtsrb")
    except (RuntimeError, KeyError, TypeError) as error:  # what torch raises for weights that don't fit
        raise DataError(f"{file} doesn't hold the weights that its settings promise ({told(error)})") from error
    raise DataError(f"{file} is no checkpoint of a classifier; name one of 'firewall lab train classifier'")


def _small(name: str, saved: Mapping[str, Any]) -> Trained:
    architecture = ARCHITECTURES[name]
    dataset = str(saved["settings"]["dataset"])
    labels = _LABELS[dataset]
    average = AveragedModel(architecture.build(len(labels)), use_buffers=True)
    average.load_state_dict(saved["average"])
    network = average.module.eval()
    return Trained(
        (Grey(network) if architecture.channels == 1 else network).eval(), name, architecture.size, labels, dataset
    )
