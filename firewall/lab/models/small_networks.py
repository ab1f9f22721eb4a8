"""Small classifiers of digits, CIFAR-10 and signs, to attack and to certify, of a size for a CPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

__all__ = ["ARCHITECTURES", "Architecture", "alexnet", "lenet", "sign_small", "two_layer", "vgg"]


@dataclass(frozen=True)
class Architecture:
    """A network and what it is trained on.

    Args:
        build: Number of classes -> the network, float (N, channels, size, size) in 0..1 -> logits.
        channels: 1 or 3.
        size: Height and width of its input, in pixels.
        dataset: What it is trained on.
    """

    build: Callable[[int], nn.Module]
    channels: int
    size: int
    dataset: str


def lenet(classes: int) -> nn.Module:
    """LeNet-5 (LeCun et al. 1998) with rectified units and max-pooling. 61,706 parameters for 10 classes."""
    return nn.Sequential(
        *(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
        *(nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, classes)),
    )


def two_layer(classes: int) -> nn.Module:
    """One hidden layer of 500 rectified units on the bare pixels: the kind that certificates can be computed for."""
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 500), nn.ReLU(), nn.Linear(500, classes))


def sign_small(classes: int) -> nn.Module:
    """Two convolutions with a stride instead of pooling, and two linear layers: signs for flow certificates."""
    return nn.Sequential(
        *(nn.Conv2d(3, 16, 4, stride=2, padding=1), nn.ReLU()),
        *(nn.Conv2d(16, 32, 4, stride=2, padding=1), nn.ReLU(), nn.Flatten()),
        *(nn.Linear(2048, 128), nn.ReLU(), nn.Linear(128, classes)),
    )


def alexnet(classes: int) -> nn.Module:
    """AlexNet (Krizhevsky et al. 2012) for 32x32 pixels: five convolutions, the first with 5x5 kernels, overlapping
    pooling, dropout before the fully connected layers. Batch normalisation stands for its local response
    normalisation. 0.90 million parameters for 10 classes."""
    pool = nn.MaxPool2d(3, stride=2, padding=1)
    return nn.Sequential(
        _Centred(),
        *(*_convolution(3, 24, 5), pool, *_convolution(24, 64), pool),
        *(*_convolution(64, 96), *_convolution(96, 96), *_convolution(96, 96), pool, nn.Flatten()),
        *(nn.Dropout(0.3), nn.Linear(96 * 16, 384), nn.ReLU(), nn.Dropout(0.3), nn.Linear(384, 192), nn.ReLU()),
        nn.Linear(192, classes),
    )


def vgg(classes: int) -> nn.Module:
    """VGG (Simonyan and Zisserman 2015) for 32x32 pixels: pairs of 3x3 convolutions, each pair followed by pooling,
    with batch normalisation. 0.56 million parameters for 10 classes."""
    return nn.Sequential(
        _Centred(),
        *(*_convolution(3, 24), *_convolution(24, 24), nn.MaxPool2d(2)),
        *(*_convolution(24, 48), *_convolution(48, 48), nn.MaxPool2d(2)),
        *(*_convolution(48, 96), *_convolution(96, 96), nn.MaxPool2d(2), nn.Flatten()),
        *(nn.Dropout(0.3), nn.Linear(96 * 16, 256), nn.ReLU(), nn.Dropout(0.3), nn.Linear(256, classes)),
    )


class _Centred(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        """0..1 -> -2..2."""
        return (image - 0.5) * 4.0


def _convolution(inputs: int, outputs: int, side: int = 3) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(inputs, outputs, side, padding=side // 2, bias=False)
    return convolution, nn.BatchNorm2d(outputs), nn.ReLU()


#: Architectures by name as `firewall lab train classifier --architecture` knows them.
ARCHITECTURES: dict[str, Architecture] = {
    "lenet": Architecture(lenet, 1, 28, "mnist"),
    "two-layer": Architecture(two_layer, 1, 28, "mnist"),
    "sign-small": Architecture(sign_small, 3, 32, "gtsrb"),
    "alexnet": Architecture(alexnet, 3, 32, "cifar10"),
    "vgg": Architecture(vgg, 3, 32, "cifar10"),
}
