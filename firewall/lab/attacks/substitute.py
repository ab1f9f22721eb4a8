"""The substitute-network black box: learn a network from the attacked one's labels, then attack what was learnt."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from firewall.errors import UsageError
from firewall.lab.attacks.attack import DecisionBased, Logits, under_attack
from firewall.lab.attacks.criteria import Criterion
from firewall.lab.attacks.fgsm import Fgsm
from firewall.lab.attacks.pgd import Pgd

__all__ = ["Substitute", "drawings", "learning"]

_FGSM = Fgsm(eps=0.1)


@dataclass(frozen=True)
class Substitute(DecisionBased):
    """Transfer from a substitute network. Black box by labels.

    Papernot et al.: "Practical black-box attacks against machine learning", 2017, as used by Sun et al. (residual). The
    network is asked for the first label of some seed images. A small network of another architecture learns those
    answers. Then, for each known image x with label y, x + reach * sign(gradient of the substitute's logit y) is a new
    image that the network is asked about, and so on: every round doubles the known images. The inner attack's result on
    the substitute is the result, whether it transfers or not.

    Args:
        seeds: `images`: the first `count` of the batch. `drawn`: simple drawings, for an attacker who has no images.
        count: How many seed images, 1 or more; Sun et al. have 200 images or 100 drawings.
        rounds: Rounds of augmentation, 0 or more.
        epochs: Epochs of training in each round, 1 or more.
        reach: Length of the augmentation step, in units of the full range 0..1, above 0: Papernot's lambda, which Sun
            et al. call tau; 0.1 in both.
        turn: After so many rounds the step's sign changes (Papernot's tau), so that images don't leave the box; 1 or
            more.
        inner: The attack on the substitute; FGSM in both papers.
        name: The kind of attack, as cards have it.

    Raises:
        UsageError: A parameter is out of its range.
    """

    seeds: Literal["images", "drawn"] = "images"
    count: int = 200
    rounds: int = 3
    epochs: int = 10
    reach: float = 0.1
    turn: int = 3
    inner: Fgsm | Pgd = _FGSM
    name: str = "substitute"

    chunk: ClassVar[int] = 256

    def __post_init__(self) -> None:
        if self.seeds not in ("images", "drawn") or min(self.count, self.epochs, self.turn) < 1 or self.rounds < 0:
            raise UsageError(
                f"substitute: seeds {self.seeds}, count {self.count}, rounds {self.rounds}, epochs {self.epochs}, turn "
                f"{self.turn}; allowed are seeds images or drawn, count, epochs and turn >= 1, rounds >= 0"
            )
        if not 0 < self.reach <= 1:
            raise UsageError(f"substitute: reach is {self.reach}; it must lie in 0..1, above 0")

    @property
    def criterion(self) -> Criterion:
        """That of the inner attack."""
        return self.inner.criterion

    def run(self, model: nn.Module, images: Tensor, labels: Tensor, seed: int) -> Tensor:
        """See Attack.run. The substitute depends on the seed and on the whole batch."""
        with under_attack(model, images, labels, gradients=False) as logits:
            images = images.detach()
            if len(images) == 0:
                return images.clone()
            substitute = self.learn(logits, images, seed)
        return self.inner.run(substitute, images, labels, seed)

    def learn(self, logits: Logits, images: Tensor, seed: int) -> nn.Module:
        """A network that has learnt to answer as the attacked one does; of its answers only labels are used.

        Args:
            logits: The attacked network, as `under_attack` gives it.
            images: Float (N, C, H, W) in 0..1, N 1 or more.
            seed: What is random depends on it.

        Returns:
            The substitute: float (N, C, H, W) in, logits out.
        """
        generator = torch.Generator().manual_seed(seed)
        known = drawings(self.count, images, generator) if self.seeds == "drawn" else images[: self.count]
        rounds = learning(logits, known, generator, self.rounds, self.epochs, self.reach, self.turn)
        *_, substitute = rounds
        return substitute


def learning(
    logits: Logits,
    known: Tensor,
    generator: torch.Generator,
    rounds: int,
    epochs: int,
    reach: float,
    turn: int,
    most: int | None = None,
) -> Iterator[nn.Module]:
    """The substitute after training on the known images, and after each round of augmentation.

    Args:
        logits: The attacked network, as `under_attack` gives it.
        known: Float (N, C, H, W) in 0..1, N 1 or more.
        generator: What is drawn depends on it.
        rounds: As of Substitute.
        epochs: As of Substitute.
        reach: As of Substitute.
        turn: As of Substitute.
        most: Largest number of known images, drawn at random, that are augmented in each round (reservoir sampling,
            Papernot et al., section 5.2: queries don't double in every round); None: all.

    Yields:
        The same network `rounds` + 1 times; it goes on learning when the next is asked for.
    """
    classes = logits(known[:1]).shape[1]
    answers = _asked(logits, known)
    substitute = _network(known.shape[1], classes, generator).to(known.device)
    adam = torch.optim.Adam(substitute.parameters(), lr=2e-3)
    for number in range(rounds + 1):
        with torch.enable_grad():
            for _ in range(epochs):
                for part in torch.randperm(len(known), generator=generator).to(known.device).split(32):
                    adam.zero_grad()
                    cross_entropy(substitute(known[part]), answers[part]).backward()
                    adam.step()
        yield substitute
        if number < rounds:
            way = reach * (-1) ** (number // turn)
            few = most is not None and most < len(known)
            chosen = torch.randperm(len(known), generator=generator)[:most] if few else torch.arange(len(known))
            start, names = known[chosen.to(known.device)], answers[chosen.to(known.device)]
            new = (start + way * _slopes(substitute, start, names).sign()).clamp(0, 1)
            known, answers = torch.cat([known, new]), torch.cat([answers, _asked(logits, new)])


def _asked(logits: Logits, images: Tensor) -> Tensor:
    """The network's first labels."""
    return torch.cat([logits(part).argmax(1) for part in images.split(256)])


def _slopes(substitute: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """The row of the substitute's Jacobian that belongs to each image's label."""
    parts = []
    with torch.enable_grad():
        for part, names in zip(images.split(256), labels.split(256), strict=True):
            point = part.clone().requires_grad_()
            own = substitute(point).gather(1, names[:, None])
            parts.append(torch.autograd.grad(own.sum(), point)[0])
    return torch.cat(parts)


class _Centred(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        return (image - 0.5) * 4.0


def _network(channels: int, classes: int, generator: torch.Generator) -> nn.Sequential:
    """Two convolutions and two dense layers, random by this generator and not by torch's global one."""
    with torch.device("meta"):  # made without drawing numbers; they are drawn below
        network = nn.Sequential(
            *(_Centred(), nn.Conv2d(channels, 16, 5, stride=2, padding=2), nn.ReLU()),
            *(nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU(), nn.AdaptiveMaxPool2d(7), nn.Flatten()),
            *(nn.Linear(32 * 49, 128), nn.ReLU(), nn.Linear(128, classes)),
        )
    network.to_empty(device="cpu")
    with torch.no_grad():
        for weight in network.parameters():
            if weight.ndim > 1:
                bound = math.sqrt(6 / weight[0].numel())
                weight.copy_((2 * torch.rand(weight.shape, generator=generator) - 1) * bound)
            else:
                weight.zero_()
    return network


def drawings(count: int, like: Tensor, generator: torch.Generator) -> Tensor:
    """What someone draws who knows what the images show but has none: shapes with a rim and strokes inside.

    Args:
        count: How many.
        like: Float (N, C, H, W): the shape, type and device of the images to imitate.
        generator: What is drawn depends on it.

    Returns:
        Float (count, C, H, W) in 0..1.
    """
    channels, height, width = like.shape[1:]
    rows = torch.linspace(-1, 1, height)[:, None].expand(height, width)
    columns = torch.linspace(-1, 1, width).expand(height, width)
    pictures = []
    for _ in range(count):
        ground, rim, face, ink = torch.rand(4, channels, 1, 1, generator=generator)
        draw = torch.rand(16, generator=generator).tolist()
        down, right = rows - 0.4 * (draw[0] - 0.5), columns - 0.4 * (draw[1] - 0.5)
        distances = (
            torch.hypot(down, right),  # a disc, a square, a triangle on its base, one on its tip
            torch.maximum(down.abs(), right.abs()),
            torch.maximum(down, 0.87 * right.abs() - 0.5 * down) * 1.3,
            torch.maximum(-down, 0.87 * right.abs() + 0.5 * down) * 1.3,
        )
        distance = distances[int(4 * draw[2])]
        size = 0.5 + 0.45 * draw[3]
        picture = torch.where(distance < size, rim, ground)
        picture = torch.where(distance < size * (0.6 + 0.3 * draw[4]), face, picture)
        for stroke in range(1 + int(3 * draw[5])):
            angle, offset = math.pi * draw[6 + 2 * stroke], 0.6 * (draw[7 + 2 * stroke] - 0.5)
            across = (down * math.cos(angle) + right * math.sin(angle) - offset).abs()
            picture = torch.where((across < 0.08 + 0.08 * draw[14]) & (distance < 0.6 * size), ink, picture)
        pictures.append(picture + 0.03 * torch.randn(picture.shape, generator=generator))
    return torch.stack(pictures).clamp(0, 1).to(like)
