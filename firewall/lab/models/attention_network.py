"""The networks of the attention detector (Nguyen C., thesis, chapter 3): g makes masks, f2 reads them.

g gives the *corruption mask* A of equation 8, where 1 marks a value that noise may replace. The attention is 1 - A:
high where corrupting matters.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import interpolate

from firewall.errors import DataError
from firewall.lab.models.protected import Protected

__all__ = [
    "AttentionNetwork",
    "ConvolutionalAttention",
    "DenseAttention",
    "image_classifier",
    "mask_classifier",
    "trainable",
]


class DenseAttention(nn.Module):
    """g of the thesis: three fully connected layers. The thesis gives no widths; two hidden layers are our reading.

    Args:
        size: Height and width of the image, in pixels.
        hidden: Units of each hidden layer.
    """

    def __init__(self, size: int, hidden: int = 256) -> None:
        super().__init__()
        values = 3 * size * size
        self.layers = nn.Sequential(
            *(nn.Flatten(), nn.Linear(values, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()),
            *(nn.Linear(hidden, values), nn.Sigmoid(), nn.Unflatten(1, (3, size, size))),
        )

    def forward(self, image: Tensor) -> Tensor:
        """The corruption mask A in 0..1, (N, 3, size, size), of an image of the same shape in 0..1."""
        mask: Tensor = self.layers((image - 0.5) * 4.0)
        return mask


class ConvolutionalAttention(nn.Module):
    """A convolutional g: it treats every place alike. Computed at a quarter of the size and enlarged.

    Args:
        size: Height and width of the image, in pixels.
        width: Channels of the first layer.
    """

    def __init__(self, size: int, width: int = 16) -> None:
        super().__init__()
        self.size = size
        self.layers = nn.Sequential(
            *(nn.Conv2d(3, width, 5, 2, 2), nn.ReLU(), nn.Conv2d(width, 2 * width, 3, 2, 1), nn.ReLU()),
            *(nn.Conv2d(2 * width, 2 * width, 3, 1, 1), nn.ReLU(), nn.Conv2d(2 * width, 1, 1)),
        )

    def forward(self, image: Tensor) -> Tensor:
        """The corruption mask A in 0..1, (N, 1, size, size), of an image (N, 3, size, size) in 0..1."""
        coarse: Tensor = self.layers((image - 0.5) * 4.0).sigmoid()
        return interpolate(coarse, size=(self.size, self.size), mode="bilinear", align_corners=False)


def mask_classifier(classes: int, size: int, channels: int = 3) -> nn.Module:
    """f2 of the thesis: LeNet-5 (LeCun et al. 1998) on a mask.

    Args:
        classes: How many logits.
        size: Height and width of the mask, 16 or more.
        channels: Of the mask.

    Returns:
        A network, float (N, channels, size, size) in 0..1 -> (N, classes).
    """
    side = (size // 2 - 4) // 2
    return nn.Sequential(
        *(_Scaled(), nn.Conv2d(channels, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
        *(nn.Linear(16 * side * side, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, classes)),
    )


def image_classifier(classes: int, size: int, width: int = 16) -> nn.Module:
    """An f2 of the masked image, built unlike the classifiers to protect: average pooling and a linear last layer.

    Args:
        classes: How many logits.
        size: Height and width of the image, 8 or more.
        width: Channels of the first layer.

    Returns:
        A network, float (N, 3, size, size) in 0..1 -> (N, classes).
    """
    layers: list[nn.Module] = [_Scaled()]
    for inputs, outputs in ((3, width), (width, 2 * width), (2 * width, 4 * width), (4 * width, 4 * width)):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
        if outputs != inputs:
            layers.append(nn.AvgPool2d(2))
    return nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.3), nn.Linear(4 * width * (size // 8) ** 2, classes))


class _Scaled(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        """0..1 -> -2..2."""
        return (image - 0.5) * 4.0


class AttentionNetwork(nn.Module):
    """f2 behind g: image (N, 3, size, size) in 0..1 -> logits (N, classes).

    Args:
        attention: g.
        classifier: f2.
        masked: f2 is given the image times the attention, instead of the attention alone as in the thesis.
        mirrored: The mirror image is classified too and the logits are averaged; a perturbation made for f1 transfers
            to it less.
    """

    def __init__(self, attention: nn.Module, classifier: nn.Module, *, masked: bool, mirrored: bool = False) -> None:
        super().__init__()
        self.attention, self.classifier, self.masked, self.mirrored = attention, classifier, masked, mirrored

    def read(self, image: Tensor, corruption: Tensor) -> Tensor:
        """f2's logits (N, classes), given an image (N, 3, H, W) and its corruption mask A."""
        logits: Tensor = self.classifier(image * (1 - corruption) if self.masked else 1 - corruption)
        return logits

    def forward(self, image: Tensor) -> Tensor:
        """f2(g(x)), (N, classes)."""
        logits = self.read(image, self.attention(image))
        if self.mirrored:
            mirror = image.flip(3)
            logits = (logits + self.read(mirror, self.attention(mirror))) / 2
        return logits


def trainable(protected: Protected, size: int) -> nn.Module:
    """The network of a classifier with its weights as parameters, to be trained further as f2.

    Args:
        protected: The classifier.
        size: Height and width that are needed, in pixels.

    Returns:
        Its network; every weight wants a gradient.

    Raises:
        DataError: It gives no gradients, or takes other images than (3, size, size).
    """
    if not protected.differentiable or (protected.channels, protected.height, protected.width) != (3, size, size):
        raise DataError(
            f"--start {protected.name} takes {protected.channels} channels of {protected.height}x{protected.width} "
            f"and gradients {'can' if protected.differentiable else 'cannot'} be had; 3 channels of {size}x{size} and "
            "gradients are needed: name another classifier"
        )
    network = protected.network
    for module in network.modules():
        for name, buffer in list(module.named_buffers(recurse=False)):
            if name.startswith("weight_"):  # of a network that was read from an ONNX file
                delattr(module, name)
                module.register_parameter(name, nn.Parameter(buffer))
    return network.requires_grad_(requires_grad=True)
