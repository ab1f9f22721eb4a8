"""The default classifier to protect: a small residual network for traffic signs at 48x48 pixels."""

from __future__ import annotations

import copy
from typing import TypeVar

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from firewall.errors import DataError

__all__ = ["INPUT_SIZE", "Residual", "SignClassifier", "convolution", "from_onnx", "fuse"]

#: Width and height of the network's input in pixels.
INPUT_SIZE = 48


class SignClassifier(nn.Module):
    """Input: float (N, 3, 48, 48), RGB, 0..1 (the normalisation is inside). Output: logits (N, classes).

    0.49 million parameters, about 33 million multiply-adds for each image.

    Args:
        classes: How many logits.
    """

    def __init__(self, classes: int = 43) -> None:
        super().__init__()
        self.features = nn.Sequential(
            convolution(3, 32, 5, stride=2),
            convolution(32, 32, 3),
            convolution(32, 64, 3, stride=2),
            Residual(64),
            convolution(64, 128, 3, stride=2),
            Residual(128),
        )
        # A sign's meaning hangs on *where* its strokes are, so the 6x6 map is read through learned spatial weights
        # (a depthwise convolution as large as the map) instead of an average.
        self.pool = nn.Sequential(nn.Conv2d(128, 256, 6, groups=128, bias=False), nn.BatchNorm2d(256), nn.ReLU())
        self.head = nn.Sequential(nn.Flatten(), nn.Dropout(0.2), nn.Linear(256, classes))

    def forward(self, image: Tensor) -> Tensor:
        """Logits (N, classes) of float (N, 3, 48, 48) in 0..1."""
        logits: Tensor = self.head(self.pool(self.features((image - 0.5) * 4.0)))
        return logits


def convolution(inputs: int, outputs: int, side: int, stride: int = 1) -> nn.Sequential:
    """A convolution of `side` x `side`, batch normalisation and ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, side, stride=stride, padding=side // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class Residual(nn.Module):
    """Two convolutions of 3 x 3 beside the identity.

    Args:
        width: Channels in and out.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = convolution(width, width, 3)
        self.second = nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        return torch.relu(x + self.second(self.first(x)))


_Network = TypeVar("_Network", bound=nn.Module)


def fuse(model: _Network) -> _Network:
    """A copy with every batch normalisation folded into the convolution before it.

    This is the form that is exported, so that the weights of the ONNX file are again those of a torch network.

    Args:
        model: A trained network.

    Returns:
        The copy, in evaluation mode.
    """
    fused = copy.deepcopy(model).eval()
    for block in fused.modules():
        if isinstance(block, nn.Sequential) and len(block) >= 2 and isinstance(block[1], nn.BatchNorm2d):
            convolution = block[0]
            if isinstance(convolution, nn.Conv2d):
                block[0] = fuse_conv_bn_eval(convolution, block[1])
            block[1] = nn.Identity()
    return fused


def from_onnx(content: bytes) -> SignClassifier:
    """The torch network of an exported default classifier.

    Args:
        content: The ONNX file's bytes.

    Returns:
        The network in evaluation mode.

    Raises:
        DataError: The file is not one of these networks.
    """
    try:
        graph = onnx.load_model_from_string(content).graph
    except Exception as error:  # protobuf raises types of its own
        raise DataError(f"the classifier is not a readable ONNX file ({type(error).__name__})") from error
    weights = {entry.name: torch.from_numpy(np.array(numpy_helper.to_array(entry))) for entry in graph.initializer}
    classes = weights["head.2.bias"].shape[0] if "head.2.bias" in weights else 43
    model = fuse(SignClassifier(classes))
    wanted = model.state_dict()
    if any(name not in weights or weights[name].shape != value.shape for name, value in wanted.items()):
        raise DataError(
            "the classifier's ONNX file doesn't hold the default sign classifier's weights, so there are no gradients "
            "to attack it with; use a bundle built by 'firewall lab train classifier'"
        )
    model.load_state_dict({name: weights[name] for name in wanted})
    return model.eval()
