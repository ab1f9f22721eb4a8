"""What an attack takes and returns, and how it may touch the network that it attacks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from firewall.errors import DataError, EngineError
from firewall.lab.attacks.criteria import Criterion

__all__ = ["Attack", "DecisionBased", "Logits", "ScoreBased", "WhiteBox", "under_attack"]

#: Images (N, C, H, W) -> logits (N, classes), checked.
Logits = Callable[[Tensor], Tensor]


class Attack(Protocol):
    """A frozen dataclass of an attack's parameters. Two that are equal do the same.

    `dataclasses.asdict` gives the parameters, criterion included, in types that JSON has.
    """

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def name(self) -> str:
        """The kind of attack, such as `pgd`; the registry's names tell configurations apart."""

    @property
    def criterion(self) -> Criterion:
        """What counts as success: `criterion.met(logits of the stored images, labels)`."""

    @property
    def needs_gradient(self) -> bool:
        """False for black-box attacks, which need the network's outputs alone; it may run outside torch."""

    @property
    def labels_only(self) -> bool:
        """True for decision-based attacks: of the outputs they use only which classes come first."""

    @property
    def chunk(self) -> int:
        """How many images are attacked together.

        Random numbers depend on an image's place in the batch, and some attacks are fitted to the whole batch. A data
        set that is cut into chunks of this size gives the same result whoever attacks them, and in whatever order.
        """

    def run(self, model: nn.Module, images: Tensor, labels: Tensor, seed: int) -> Tensor:
        """Change images so that the network's outputs meet the criterion.

        Args:
            model: The network: float (N, C, H, W) in 0..1 in, logits (N, classes) out. It runs in evaluation mode and
                is left as it was: weights, buffers, gradients and modes.
            images: Float (N, C, H, W) in 0..1, C = 1 or 3.
            labels: Int64 (N,), the classes to move away from.
            seed: What every random choice depends on; the same seed and batch give the same result on the same machine.

        Returns:
            A new float tensor of the shape of `images`, in 0..1, not rounded to 8 bits. The attack need not succeed on
            every image: see `rounding.survivors`.

        Raises:
            DataError: The images or labels don't fit each other or the network.
            EngineError: The network gives no usable logits or gradients.
        """


class WhiteBox:
    """What attacks by gradient have in common; a class that wants another chunk says so."""

    needs_gradient: ClassVar[bool] = True
    labels_only: ClassVar[bool] = False
    chunk: ClassVar[int] = 32


class ScoreBased:
    """What black-box attacks have in common that use the network's outputs."""

    needs_gradient: ClassVar[bool] = False
    labels_only: ClassVar[bool] = False
    chunk: ClassVar[int] = 32


class DecisionBased:
    """What black-box attacks have in common that use the first label alone."""

    needs_gradient: ClassVar[bool] = False
    labels_only: ClassVar[bool] = True
    chunk: ClassVar[int] = 32


@contextmanager
def under_attack(model: nn.Module, images: Tensor, labels: Tensor, *, gradients: bool = True) -> Iterator[Logits]:
    """The network as a checked function of images, in evaluation mode, without gradients for its weights.

    On the way out every module's mode and every weight's `requires_grad` is what it was.

    Args:
        model: The network.
        images: Float (N, C, H, W) in 0..1: what will be attacked.
        labels: Int64 (N,), 0 or more.
        gradients: Whether gradients are recorded inside, whatever the caller has switched.

    Yields:
        A function from images (N, C, H, W) to logits (N, classes).

    Raises:
        DataError: `images` or `labels` are not as `Attack.run` asks, or a label is not among the network's classes.
        EngineError: The network gives something else than finite logits, or no gradients where they are needed.
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
        if batch.requires_grad and not values.requires_grad:
            raise EngineError("the network gives no gradients; only attacks that need none can be run on it")
        return values

    try:
        model.eval()
        for weight, _ in weights:
            weight.requires_grad_(False)
        with torch.set_grad_enabled(gradients):
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
