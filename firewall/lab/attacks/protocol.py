"""What an attack is, and how it may touch the network that it attacks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor, nn

from firewall.errors import DataError, EngineError

__all__ = ["Attack", "Logits", "under_attack"]

#: Images (N, C, H, W) -> logits (N, classes), checked.
Logits = Callable[[Tensor], Tensor]


class Attack(Protocol):
    """A frozen dataclass of an attack's parameters. Two that are equal do the same."""

    @property
    def name(self) -> str:
        """The kind of attack, such as `pgd`; the registry's names tell configurations apart."""

    def run(self, model: nn.Module, images: Tensor, labels: Tensor, seed: int) -> Tensor:
        """Change `images` so that `model` names another class than `labels`.

        images: float (N, C, H, W) in 0..1. labels: int64 (N,), the true classes. seed: what every random choice
        depends on; the same seed and batch give the same result on the same machine. Returns a new tensor of the
        shape of `images`, in 0..1, not rounded to uint8; it need not fool the network everywhere, see `survivors`.

        The network is run in evaluation mode and is left as it was: weights, buffers, gradients and modes.
        Raises DataError for images or labels that don't fit, EngineError if the network gives no usable logits.
        """


@contextmanager
def under_attack(model: nn.Module, images: Tensor, labels: Tensor) -> Iterator[Logits]:
    """The network as a checked function of images, in evaluation mode, without gradients for its weights.

    Inside, gradients are on even if the caller has switched them off. On the way out every module's mode and every
    weight's `requires_grad` is what it was. Raises DataError if `images` or `labels` are not as `Attack.run` asks.
    """
    _check(images, labels)
    modes = [(module, module.training) for module in model.modules()]
    weights = [(weight, weight.requires_grad) for weight in model.parameters()]
    least_classes = int(labels.max()) + 1 if len(labels) else 1

    def logits(batch: Tensor) -> Tensor:
        values: Tensor = model(batch)
        if values.ndim != 2 or len(values) != len(batch):
            raise EngineError(f"the network gave shape {tuple(values.shape)} for {len(batch)} images; logits are 2-D")
        if values.shape[1] < least_classes:
            raise DataError(f"label {least_classes - 1} is not among the network's {values.shape[1]} classes 0..")
        if not bool(torch.isfinite(values).all()):
            raise EngineError("the network gave logits that are not finite numbers; it can't be attacked")
        return values

    try:
        model.eval()
        for weight, _ in weights:
            weight.requires_grad_(False)
        with torch.enable_grad():
            yield logits
    finally:
        for module, training in modes:
            module.training = training
        for weight, needed in weights:
            weight.requires_grad_(needed)


def _check(images: Tensor, labels: Tensor) -> None:
    if images.ndim != 4 or not images.is_floating_point():
        raise DataError(f"images are {images.dtype} {tuple(images.shape)}; an attack takes float (N, C, H, W)")
    if labels.shape != images.shape[:1] or labels.dtype != torch.int64:
        raise DataError(f"labels are {labels.dtype} {tuple(labels.shape)}; {len(images)} images need int64 (N,)")
    if len(images) and not (float(images.min()) >= 0.0 and float(images.max()) <= 1.0):
        raise DataError(f"images lie in {float(images.min()):.3g}..{float(images.max()):.3g}; scale them to 0..1")
    if len(labels) and int(labels.min()) < 0:
        raise DataError(f"label {int(labels.min())} is negative; classes count from 0")
