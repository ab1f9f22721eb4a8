"""A feed-forward network as a list of layers that bounds can be taken back through, read from an ONNX file.

Convolutions, linear layers, rectified units, max-pooling without padding, and what only renames values: that is LeNet,
the small networks here, and most small classifiers. The weights are the file's, computed with in float64.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from firewall.errors import DataError, UsageError
from firewall.host.causes import told

__all__ = ["Affine", "Convolution", "Layer", "Layers", "MaxPool", "Rectified", "open_layers"]

_KNOWN = "convolutions, linear layers, ReLU and max-pooling without padding in one chain"


@dataclass(frozen=True, eq=False)
class Convolution:
    """A convolution.

    Args:
        weight: (out, in, kh, kw).
        bias: (out,).
        stride: (down, across).
        padding: (down, across).
    """

    weight: Tensor
    bias: Tensor
    stride: tuple[int, int]
    padding: tuple[int, int]

    def forward(self, x: Tensor) -> Tensor:
        """(N, in, H, W) -> (N, out, H', W')."""
        return functional.conv2d(x, self.weight, self.bias, self.stride, self.padding)

    def back(self, rows: Tensor, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Linear functions of the output as linear functions of the input.

        Args:
            rows: (R, out, H', W'), on the output.
            shape: Of the input, (in, H, W).

        Returns:
            (R, in, H, W), and constants (R,).
        """
        kernel = self.weight.shape[2:]
        given = [(rows.shape[2 + i] - 1) * self.stride[i] - 2 * self.padding[i] + kernel[i] for i in (0, 1)]
        extra = [shape[1 + i] - given[i] for i in (0, 1)]
        back = functional.conv_transpose2d(rows, self.weight, None, self.stride, self.padding, tuple(extra))
        return back, (rows.sum(dim=(2, 3)) * self.bias).sum(dim=1)

    def back_from(
        self, rows: Tensor, shape: tuple[int, ...], corner: tuple[int, int]
    ) -> tuple[Tensor, Tensor, tuple[int, int]]:
        """As `back`, of functions of a window of the output, by the window of the input that they depend on.

        Args:
            rows: (R, out, h', w'), on the window.
            shape: Of the whole input, (in, H, W).
            corner: The window's top and left.

        Returns:
            (R, in, h, w), constants (R,), and the top and left of the input's window.
        """
        spread = functional.conv_transpose2d(rows, self.weight, None, self.stride)
        starts = [corner[i] * self.stride[i] - self.padding[i] for i in (0, 1)]
        first = [max(0, -start) for start in starts]  # what lies before is padding
        last = [max(first[i], min(spread.shape[2 + i], shape[1 + i] - starts[i])) for i in (0, 1)]
        inside = spread[:, :, first[0] : last[0], first[1] : last[1]]
        constants = (rows.sum(dim=(2, 3)) * self.bias).sum(dim=1)
        return inside, constants, (starts[0] + first[0], starts[1] + first[1])


@dataclass(frozen=True, eq=False)
class Affine:
    """A linear layer of flattened input.

    Args:
        weight: (out, in).
        bias: (out,).
    """

    weight: Tensor
    bias: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """(N, ...) -> (N, out)."""
        return x.flatten(1) @ self.weight.T + self.bias

    def back(self, rows: Tensor, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """As of Convolution."""
        return (rows @ self.weight).reshape(len(rows), *shape), rows @ self.bias


@dataclass(frozen=True)
class Rectified:
    """max(x, 0)."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        return x.clamp(min=0)


@dataclass(frozen=True)
class MaxPool:
    """The largest value of each window; windows may not overlap the border.

    Args:
        kernel: (down, across).
        stride: (down, across).
    """

    kernel: tuple[int, int]
    stride: tuple[int, int]

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H', W')."""
        return functional.max_pool2d(x, self.kernel, self.stride)


Layer = Convolution | Affine | Rectified | MaxPool


@dataclass(frozen=True, eq=False)
class Layers:
    """A network as a chain of layers.

    Args:
        layers: In their order.
        input: (channels, height, width) of images in 0..1.
        shapes: Of each layer's input.
        classes: How many logits.
        name: For messages.
    """

    layers: tuple[Layer, ...]
    input: tuple[int, int, int]
    shapes: tuple[tuple[int, ...], ...]
    classes: int
    name: str

    @staticmethod
    def of(layers: list[Layer], size: tuple[int, int, int], name: str = "network") -> Layers:
        """A network of these layers.

        Args:
            layers: In their order.
            size: (channels, height, width) of images.
            name: For messages.

        Returns:
            The network.

        Raises:
            DataError: The layers don't fit each other or the input.
        """
        shapes, value = [], torch.zeros((1, *size), dtype=torch.float64)
        try:
            for layer in layers:
                shapes.append(tuple(value.shape[1:]))
                value = layer.forward(value)
        except RuntimeError as error:
            raise DataError(f"{name} can't be run on an image of {size}: {str(error).splitlines()[0]}") from error
        if value.ndim != 2 or value.shape[1] < 2:
            raise DataError(f"{name} gives {tuple(value.shape[1:])}; logits of two classes or more are needed")
        return Layers(tuple(layers), size, tuple(shapes), value.shape[1], name)

    def logits(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) in 0..1, of the weights' type -> (N, classes)."""
        for layer in self.layers:
            images = layer.forward(images)
        return images

    def single(self) -> Layers:
        """The same network in float32, for attacks."""
        return replace(self, layers=tuple(_single(layer) for layer in self.layers))


def _single(layer: Layer) -> Layer:
    if isinstance(layer, (Convolution, Affine)):
        return replace(layer, weight=layer.weight.float(), bias=layer.bias.float())
    return layer


def open_layers(spec: str) -> Layers:
    """The network in an ONNX file.

    Args:
        spec: The file, or a folder of `firewall lab train classifier`.

    Returns:
        The network, in float64.

    Raises:
        UsageError: The file isn't there.
        DataError: The network has layers that bounds can't be taken through.
    """
    path = Path(spec)
    path = path / "classifier.onnx" if path.is_dir() else path
    if path.suffix != ".onnx" or not path.is_file():
        raise UsageError(f"the network {path} is not there; name an ONNX file or a folder of 'lab train classifier'")
    import onnx
    from onnx import numpy_helper

    try:
        graph = onnx.load(str(path)).graph
        values = {entry.name: numpy_helper.to_array(entry) for entry in graph.initializer}
        entry = next(value for value in graph.input if value.name not in values)
        _, channels, height, width = (dimension.dim_value for dimension in entry.type.tensor_type.shape.dim)
    except Exception as error:  # onnx names damage by many kinds of exception
        raise DataError(f"{path} is not a readable ONNX file of images ({type(error).__name__}: {error})") from error
    layers: list[Layer] = []
    last = entry.name
    for node in graph.node:
        if list(node.input[:1]) != [last]:
            if node.op_type == "Constant":
                values[node.output[0]] = np.asarray(numpy_helper.to_array(node.attribute[0].t))
                continue
            raise DataError(f"{path} is no chain of layers (at {node.op_type} {node.name}); certified are {_KNOWN}")
        options = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
        if node.op_type == "ReduceMean" and not layers and channels == 3:
            channels = 1  # a network of grey images behind an input of three equal channels
        elif node.op_type not in ("Flatten", "Reshape", "Identity", "Dropout"):
            layers.append(_layer(node, values, options, path))
        last = node.output[0]
    found = Layers.of(layers, (int(channels), int(height), int(width)), path.parent.name or path.stem)
    _compare(found, path, entry.name, entry.type.tensor_type.shape.dim[1].dim_value)
    return found


def _compare(network: Layers, path: Path, name: str, channels: int) -> None:
    """Bounds are of the layers that were read; so these must say what the file says, whatever else is in it.

    Raises:
        DataError: They say something else, or no numbers.
    """
    from firewall.host.onnxruntime import ort

    images = np.random.default_rng(0).random((8, *network.input))
    images[0], images[1] = 0.0, 1.0
    given = np.repeat(images, channels // network.input[0], axis=1).astype(np.float32)
    try:
        session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        outputs = [session.run(None, {name: one[None]}) for one in given]  # some files take one image at a time
        said = np.concatenate([first for first, *_ in outputs])
    except Exception as error:  # ONNX Runtime raises many types of its own
        raise DataError(f"{path} can't be run, so its bounds would be of nothing: {told(error)}") from error
    ours = network.logits(torch.from_numpy(given[:, : network.input[0]].astype(np.float64))).numpy()
    scale = 1 + np.abs(ours).max()
    if len(outputs[0]) != 1 or said.shape != ours.shape or not np.abs(said - ours).max() <= 1e-3 * scale:
        raise DataError(
            f"{path} gives other logits than its layers as they were read, or more than one output; bounds of these "
            f"layers would not hold for it; certified are {_KNOWN}"
        )


def _layer(node: Any, values: dict[str, Any], options: dict[str, Any], path: Path) -> Layer:
    """One layer of an ONNX graph. Raises DataError for one that bounds can't be taken through."""

    def weights() -> list[Tensor]:
        found = [torch.from_numpy(np.array(values[name], np.float64)) for name in node.input[1:] if name]
        return found if len(found) == 2 else [*found, torch.zeros(found[0].shape[0], dtype=torch.float64)]

    pads = list(options.get("pads", [0, 0, 0, 0]))
    plain = options.get("auto_pad", b"NOTSET") in (b"NOTSET", b"") and pads[:2] == pads[2:]
    once = all(size == 1 for size in options.get("dilations", [1, 1])) and options.get("group", 1) == 1
    try:
        if node.op_type == "Relu":
            return Rectified()
        if node.op_type == "Conv" and plain and once:
            strides = list(options.get("strides", [1, 1]))
            weight, bias = weights()
            return Convolution(weight, bias, (strides[0], strides[1]), (pads[0], pads[1]))
        if node.op_type == "MaxPool" and plain and once and not any(pads) and not options.get("ceil_mode", 0):
            kernel = list(options["kernel_shape"])
            strides = list(options.get("strides", [1, 1]))
            return MaxPool((kernel[0], kernel[1]), (strides[0], strides[1]))
        if node.op_type == "Gemm" and options.get("alpha", 1) == options.get("beta", 1) == 1:
            weight, bias = weights()
            return Affine(weight if options.get("transB", 0) else weight.T.contiguous(), bias.reshape(-1))
    except (KeyError, IndexError, ValueError) as error:
        raise DataError(f"{path}: the layer {node.op_type} {node.name} has weights that are not in the file") from error
    raise DataError(f"{path} has a layer {node.op_type} that bounds can't be taken through; certified are {_KNOWN}")
