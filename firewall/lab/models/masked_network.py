"""A sign classifier that is made for masks: it sees which pixels are hidden, and signs in the dark as in the light.

A grey mask on a dark sign is the brightest thing in the picture. So the network is also given the picture normalised
over its *visible* pixels, those in the middle counting most, with nothing where it is hidden, and a channel that says
what is visible. All of it is computed from the masked picture alone, inside the network: whatever a mask hides has no
influence, as the proof of firewall.decision.masking needs.
"""

from __future__ import annotations

from collections import Counter
from typing import cast

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn
from torch.nn import functional

from firewall.errors import DataError, UsageError
from firewall.lab.models.sign_classifier import Residual, SignClassifier, convolution, fuse

__all__ = ["SIZES", "MaskedNetwork", "refined", "restored"]

#: Widths and heights of the input that there are, in pixels.
SIZES = (48, 64)
#: Value of a hidden pixel, 0..1, as `PatchSpec.fill` has it by default.
_FILL = 128 / 255
#: Spread of the weights of the middle, as a share of the width.
_SPREAD = 0.25
#: Least standard deviation that is divided by: about 2 grey values.
_LEAST = 0.008


class MaskedNetwork(nn.Module):
    """Input: float (N, 3, size, size), RGB, 0..1, hidden pixels 128 / 255. Output: logits (N, classes).

    Args:
        classes: How many logits.
        size: Width and height of the input in pixels, one of SIZES.
        extra: Residual blocks added at each of the two lower resolutions.

    Raises:
        UsageError: There is no network of that size.
    """

    window: Tensor

    def __init__(self, classes: int = 43, size: int = 48, extra: int = 0) -> None:
        super().__init__()
        if size not in SIZES:
            raise UsageError(f"the network for masks reads {' or '.join(map(str, SIZES))} pixels, got {size}")
        if extra < 0:
            raise UsageError(f"the network for masks can't have {extra} more blocks; 0 or more")
        self.size = size
        self.features = nn.Sequential(
            convolution(7, 32, 5, stride=2),
            convolution(32, 32, 3),
            convolution(32, 64, 3, stride=2),
            Residual(64),
            *(Residual(64) for _ in range(extra)),
            convolution(64, 128, 3, stride=2),
            Residual(128),
            *(Residual(128) for _ in range(extra)),
        )
        pool = nn.Conv2d(128, 256, size // 8, groups=128, bias=False)
        self.pool = nn.Sequential(pool, nn.BatchNorm2d(256), nn.ReLU())
        self.head = nn.Sequential(nn.Flatten(), nn.Dropout(0.2), nn.Linear(256, classes))
        across = (torch.arange(size) + 0.5) / size - 0.5
        bell = torch.exp(-(across**2) / (2 * _SPREAD**2))
        self.register_buffer("window", (bell[:, None] * bell[None, :])[None, None])

    def forward(self, image: Tensor) -> Tensor:
        """Logits (N, classes) of float (N, 3, size, size) in 0..1."""
        logits: Tensor = self.head(self.pool(self.features(self.prepared(image))))
        return logits

    def prepared(self, image: Tensor) -> Tensor:
        """What the first convolution reads, (N, 7, size, size): the image, the normalised image, what is visible."""
        # 0 at the fill, 1 from the next grey value on; clamped instead of compared, so that it exports to any runtime.
        visible = ((image - _FILL).abs().amax(1, keepdim=True) * 510 - 0.5).clamp(0, 1)
        weight = visible * self.window
        total = weight.sum((2, 3), keepdim=True) + 1e-3
        grey = image.mean(1, keepdim=True)
        mean = (grey * weight).sum((2, 3), keepdim=True) / total
        variance = ((grey - mean) ** 2 * weight).sum((2, 3), keepdim=True) / total
        normal = ((image - mean) / (variance + _LEAST**2).sqrt()).clamp(-3, 3) * visible
        return torch.cat([(image - 0.5) * 4.0, normal, visible], 1)

    @property
    def extra(self) -> int:
        """Residual blocks more at each of the two lower resolutions."""
        return sum(isinstance(block, Residual) for block in self.features) // 2 - 1

    def layers(self, extra: int) -> list[nn.Sequential]:
        """The convolutions with their normalisations, in their order, as if there were only so many extra blocks."""
        return _layers([*self.features, self.pool], extra)


def _convolution(layer: nn.Sequential) -> nn.Conv2d:
    return cast(nn.Conv2d, layer[0])


def _layers(blocks: list[nn.Module], extra: int) -> list[nn.Sequential]:
    found: list[nn.Sequential] = []
    seen = Counter[int]()
    for block in blocks:
        if isinstance(block, Residual):
            width = _convolution(block.second).out_channels
            seen[width] += 1
            if seen[width] <= extra + 1:
                found += [block.first, block.second]
        elif isinstance(block, nn.Sequential):
            found.append(block)
    return found


@torch.no_grad()
def refined(model: SignClassifier | MaskedNetwork, images: Tensor, size: int, extra: int) -> MaskedNetwork:
    """A network for masks that says at first what a given classifier says.

    Normalisations get the statistics of `images`, so that training goes on as if they had never been folded. New
    channels have weight 0 at first, and so have the second halves of new blocks.

    Args:
        model: Of `sign_classifier.from_onnx` or of `restored`: normalisations folded.
        images: Float (N, 3, S, S) in 0..1, S being the model's size; 256 or more are enough.
        size: Of the result, see `MaskedNetwork`.
        extra: Of the result, at least as many as the model has.

    Returns:
        The network, in training mode.

    Raises:
        UsageError: Of a size or number of blocks that there isn't.
    """
    there = model.extra if isinstance(model, MaskedNetwork) else 0
    if extra < there:
        raise UsageError(f"the classifier to start from has {there} extra blocks; --extra must be at least that")
    network = MaskedNetwork(cast(nn.Linear, model.head[2]).out_features, size, extra)
    old = _layers([*model.features, model.pool], there)
    outputs: dict[int, Tensor] = {}
    hooks = [
        layer[0].register_forward_hook(lambda _, __, found, number=number: outputs.__setitem__(number, found))
        for number, layer in enumerate(old)
    ]
    model.eval()(images)
    for hook in hooks:
        hook.remove()
    layers = network.layers(there)
    for number, (layer, source) in enumerate(zip(layers, old, strict=True)):
        weight, bias = _convolution(source).weight, _convolution(source).bias
        if layer is network.pool:
            side = size // 8
            spread = functional.interpolate(weight, (side, side), mode="bilinear", align_corners=False)
            weight = spread * (weight.shape[-1] / side) ** 2
        own, norm = _convolution(layer).weight, cast(nn.BatchNorm2d, layer[1])
        own.zero_()
        own[:, : weight.shape[1]] = weight
        variance, mean = torch.var_mean(outputs[number], (0, 2, 3), correction=0)
        moved = {"running_mean": mean if bias is None else mean - bias, "running_var": variance}
        norm.load_state_dict({**norm.state_dict(), **moved, "weight": (variance + norm.eps).sqrt(), "bias": mean})
    known = {id(layer) for layer in layers}
    for block in network.features:
        if isinstance(block, Residual) and id(block.second) not in known:
            cast(nn.BatchNorm2d, block.second[1]).weight.zero_()
    network.head.load_state_dict(model.head.state_dict())
    return network


def restored(content: bytes) -> MaskedNetwork | None:
    """The torch network of an exported network for masks.

    Args:
        content: The ONNX file's bytes.

    Returns:
        The network in evaluation mode, normalisations folded; None if the file holds another network.

    Raises:
        DataError: The file is not readable.
    """
    try:
        graph = onnx.load_model_from_string(content).graph
    except Exception as error:  # protobuf raises types of its own
        raise DataError(f"the classifier is not a readable ONNX file ({type(error).__name__})") from error
    weights = {entry.name: torch.from_numpy(np.array(numpy_helper.to_array(entry))) for entry in graph.initializer}
    if not {"features.0.0.weight", "pool.0.weight", "head.2.bias"} <= weights.keys():
        return None
    size = 8 * weights["pool.0.weight"].shape[-1]
    blocks = sum(name.endswith(".first.0.weight") for name in weights)
    if weights["features.0.0.weight"].shape[1] != 7 or size not in SIZES or blocks % 2:
        return None
    model = fuse(MaskedNetwork(weights["head.2.bias"].shape[0], size, blocks // 2 - 1))
    wanted = model.state_dict()
    if any(name != "window" and (name not in weights or weights[name].shape != wanted[name].shape) for name in wanted):
        return None
    model.load_state_dict({name: weights.get(name, wanted[name]) for name in wanted})
    return model.eval()
