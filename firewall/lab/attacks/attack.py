"""What an attack is, and how it may touch the network that it attacks."""

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
        """What the attack aims at. `criterion.met(logits of the stored images, labels)` says where it succeeded."""

    @property
    def needs_gradient(self) -> bool:
        """False for black-box attacks: they only look at a network's outputs, which may come from outside torch."""

    @property
    def labels_only(self) -> bool:
        """True for decision-based attacks: of the outputs they only look at which classes come first."""

    @property
    def chunk(self) -> int:
        """How many images are to be attacked together.

        An image's random numbers hang on its place in the batch, and some attacks are fitted on the whole batch: a
        data set cut into these chunks gives the same result whoever attacks them, and in whatever order.
        """

    def run(self, model: nn.Module, images: Tensor, labels: Tensor, seed: int) -> Tensor:
        """Change `images` so that what `model` makes of them meets the criterion for `labels`.

        images: float (N, C, H, W) in 0..1, C = 1 or 3. labels: int64 (N,), the classes to move away from. seed: what
        every random choice depends on; the same seed and batch give the same result on the same machine. Returns a
        new tensor of the shape of `images`, in 0..1, not rounded to uint8; it need not succeed everywhere, see
        `survivors`.

        The network is run in evaluation mode and is left as it was: weights, buffers, gradients and modes.
        Raises DataError for images or labels that don't fit, EngineError if the network gives no usable logits or
        gradients.
        """


class WhiteBox:
    """What attacks by gradient have in common; a class that wants another chunk says so."""

    needs_gradient: ClassVar[bool] = True
    labels_only: ClassVar[bool] = False
    chunk: ClassVar[int] = 32


class ScoreBased:
    """What black-box attacks have in common that look at the network's outputs."""

    needs_gradient: ClassVar[bool] = False
    labels_only: ClassVar[bool] = False
    chunk: ClassVar[int] = 32


class DecisionBased:
    """What black-box attacks have in common that look at the first label alone."""

    needs_gradient: ClassVar[bool] = False
    labels_only: ClassVar[bool] = True
    chunk: ClassVar[int] = 32


@contextmanager
def under_attack(model: nn.Module, images: Tensor, labels: Tensor, *, gradients: bool = True) -> Iterator[Logits]:
    """The network as a checked function of images, in evaluation mode, without gradients for its weights.

    Inside, gradients are on (or off, as `gradients` says) whatever the caller has switched. On the way out every
    module's mode and every weight's `requires_grad` is what it was. Raises DataError if `images` or `labels` are not
    as `Attack.run` asks.
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
