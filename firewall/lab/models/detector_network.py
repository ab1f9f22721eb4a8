"""A small network that tells adversarial from normal images, or their residuals: fit for the edge."""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["DetectorNetwork"]


class DetectorNetwork(nn.Module):
    """(N, 3, H, W) -> (N, 2): normal, adversarial. About 0.1 million weights.

    The first layers keep the full resolution: perturbations live in neighbouring pixels, and pooling would average them
    away. Normalisation is by image: statistics of batches that are half adversarial would shift the boundary on a
    stream of normal images. The end takes the mean over all places, since a perturbation may sit anywhere.
    """

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        sizes = [
            (3, width, 1),
            (width, width, 1),
            (width, 2 * width, 2),
            (2 * width, 2 * width, 1),
            (2 * width, 3 * width, 2),
        ]
        layers: list[nn.Module] = []
        for inputs, outputs, stride in sizes:
            layers += [nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.GroupNorm(8, outputs), nn.ReLU()]
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(3 * width, 2)

    def forward(self, image: Tensor) -> Tensor:
        """The two outputs, before any softmax."""
        outputs: Tensor = self.head(self.layers(image).mean(dim=(2, 3)))
        return outputs
