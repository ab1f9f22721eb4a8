"""A small classifier whose margins are bounded for all images within eps of one: what `--values` asks.

Convolutions, linear layers and ReLU in one chain, read from an ONNX file. Nothing is taken on trust: the layers that
were read must give the logits that ONNX Runtime gives for the file, whatever else is in it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from firewall.decision.intervals import Box, Floats, Product, box_of, folded, lost_in_float32, margins_of, unfolded
from firewall.decision.lines import Passed, least
from firewall.engines import OnnxRuntimeNetwork
from firewall.engines.onnx_graph import Attribute, Graph, Node, read_graph
from firewall.errors import BundleError
from firewall.host.causes import shortened

__all__ = ["ProvedNetwork"]

_KNOWN = "convolutions, linear layers and ReLU in one chain"
_NONE: Floats = np.empty(0)
#: Margins that lines are tried on. Of 22 kept-out signs that lines proved and intervals did not, none had more open,
#: and none needed the lines with slope 1 below open units.
_MOST_OPEN = 10
_RENAMED = ("Flatten", "Reshape", "Identity", "Dropout")


@dataclass(frozen=True, slots=True)
class _Convolution:
    product: Product
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]

    def columns(self, values: Floats) -> Floats:
        return unfolded(values, self.kernel, self.stride, self.padding)

    def shaped(self, values: Floats, read: tuple[int, ...]) -> Floats:
        """values: (out, places). read: shape of the input."""
        height = (read[1] + 2 * self.padding[0] - self.kernel[0]) // self.stride[0] + 1
        return values.reshape(len(values), height, -1)

    def back(self, rows: Floats, shape: tuple[int, ...]) -> tuple[Floats, Floats]:
        flat = rows.reshape(*rows.shape[:2], -1)
        columns = self.product.rows.T @ flat
        return folded(columns, shape, self.kernel, self.stride, self.padding), flat.sum(axis=2) @ self.product.bias


@dataclass(frozen=True, slots=True)
class _Linear:
    product: Product

    def columns(self, values: Floats) -> Floats:
        return values.reshape(-1, 1)

    def shaped(self, values: Floats, read: tuple[int, ...]) -> Floats:
        return values[:, 0]

    def back(self, rows: Floats, shape: tuple[int, ...]) -> tuple[Floats, Floats]:
        return (rows @ self.product.rows).reshape(len(rows), *shape), rows @ self.product.bias


_Layer = _Convolution | _Linear | None  # None: max(x, 0)


class ProvedNetwork:
    """The network; `read` makes it.

    Args:
        layers: In their order; the last one is linear.
        height: Of its input in pixels.
        width: Of its input in pixels.

    Attributes:
        classes: How many logits it has.
    """

    def __init__(self, layers: list[_Layer], height: int, width: int) -> None:
        *self._inner, last = layers
        if not isinstance(last, _Linear):
            raise BundleError(f"it ends with no linear layer; known are {_KNOWN}")
        self._last = last
        self.height, self.width, self.classes = height, width, len(last.product.bias)

    @classmethod
    def read(cls, content: bytes, what: str, height: int, width: int) -> ProvedNetwork:
        """The network in an ONNX file, that takes float32 (N, 3, height, width), RGB in 0..1.

        Args:
            content: The file.
            what: Its name, for messages.
            height: Of its input in pixels.
            width: Of its input in pixels.

        Raises:
            BundleError: No bound is known of a layer, or the file gives other logits than its layers.
        """
        try:
            network = cls(_chain(read_graph(content)), height, width)
            network._compare(OnnxRuntimeNetwork(content, what, threads=1))
        except BundleError as error:
            raise BundleError(f"nothing can be proved of {what}: {error}") from error
        except Exception as error:  # strange files fail in many ways
            raise BundleError(
                f"nothing can be proved of {what} ({type(error).__name__}: {shortened(str(error))}); known are "
                f"{_KNOWN}, with weights in float32"
            ) from error
        return network

    def margins(self, image: npt.NDArray[np.uint8], label: int, eps: float) -> Floats:
        """Lower bounds on logit(label) - logit(class) for all images within eps, in 0..1, in float32 too.

        By intervals; those that are left open, by lines, unless the image itself shows that there is nothing to prove.

        Args:
            image: uint8 (height, width, 3), RGB.
            label: The class.
            eps: Largest change of a value, as a share of 0..1.

        Returns:
            (classes,); infinite for the label itself.
        """
        values = np.ascontiguousarray(image.transpose(2, 0, 1), np.float64) / 255
        way = self._way(box_of(values, eps))
        last = way[-1]
        columns = Box(last.box.low.reshape(-1, 1), last.box.high.reshape(-1, 1))
        product = self._last.product
        found = margins_of(product.rows, product.bias, label, columns, last.error)
        if self.logits(values).argmax() != label:
            return found
        for below in (None, 0.0):
            still = np.flatnonzero(~(found > 0))
            if not 1 <= len(still) <= _MOST_OPEN:
                break
            rows = np.zeros((len(still), self.classes))
            rows[np.arange(len(still)), still] = -1
            rows[:, label] += 1
            found[still] = np.maximum(found[still], least(way, rows, below))
        return found

    def _way(self, box: Box) -> list[Passed]:
        """The bounds of every layer's input, over all images of a box."""
        way = []
        for layer in (*self._inner, self._last):
            if layer is None:
                way.append(Passed(None, box, _NONE, _NONE))
                box = Box(np.maximum(box.low, 0), np.maximum(box.high, 0))
                continue
            product, read = layer.product, box.low.shape
            found, size = product.bounds(Box(layer.columns(box.low), layer.columns(box.high)))
            error = lost_in_float32(product.rows.shape[1], size)
            way.append(Passed(layer, box, size.reshape(-1), error.reshape(-1)))
            box = Box(layer.shaped(found.low - error, read), layer.shaped(found.high + error, read))
        return way

    def logits(self, image: Floats) -> Floats:
        """What it gives.

        Args:
            image: Float64 (3, height, width) in 0..1.

        Returns:
            (classes,).
        """
        values = image
        for layer in self._inner:
            if layer is None:
                values = np.maximum(values, 0)
            else:
                product = layer.product
                values = layer.shaped(product.rows @ layer.columns(values) + product.bias[:, None], values.shape)
        return np.asarray(self._last.product.rows @ values.reshape(-1) + self._last.product.bias)

    def _compare(self, engine: OnnxRuntimeNetwork) -> None:
        """Bounds are of the layers that were read; so these must say what the file says."""
        images = np.random.default_rng(0).random((6, 3, self.height, self.width)).astype(np.float32)
        images[0], images[1] = 0.0, 1.0
        said = np.concatenate([engine(image[None]) for image in images])
        ours = np.stack([self.logits(image.astype(np.float64)) for image in images])
        # Turned round, so that a number that is none differs too.
        if said.shape != ours.shape or not np.abs(said - ours).max() <= 1e-3 * (1 + np.abs(ours).max()):
            raise BundleError(f"it gives other logits than its layers as they were read; known are {_KNOWN}")


def _chain(graph: Graph) -> list[_Layer]:
    """Its layers. Raises BundleError for what no bound is known of."""
    if len(graph.outputs) != 1:
        raise BundleError(f"it has {len(graph.outputs)} outputs; one is needed")
    (last,) = [name for name in graph.inputs if name not in graph.constants]
    layers: list[_Layer] = []
    for node in graph.nodes:
        if node.operator == "Constant":
            continue
        if node.inputs[0] != last:
            raise BundleError(f"it is no chain of layers (at {node.operator}); known are {_KNOWN}")
        if node.operator not in _RENAMED:
            layers.append(_layer(node, graph))
        last = node.outputs[0]
    return layers


def _layer(node: Node, graph: Graph) -> _Layer:
    given = node.attributes
    if node.operator == "Relu":
        return None
    if node.operator not in ("Gemm", "Conv"):
        raise BundleError(f"no sound bound is known of its layer {node.operator}; known are {_KNOWN}")
    weights = [np.array(graph.constants[name], np.float64) for name in node.inputs[1:] if name]
    weight, bias = weights if len(weights) == 2 else (weights[0], np.zeros(len(weights[0])))
    if node.operator == "Gemm" and given.get("alpha", 1) == given.get("beta", 1) == 1 and not given.get("transA", 0):
        rows = weight if given.get("transB", 0) else np.ascontiguousarray(weight.T)
        return _Linear(Product(rows, np.broadcast_to(bias.reshape(-1), len(rows)).copy()))
    if node.operator == "Conv" and given.get("auto_pad", b"NOTSET") == b"NOTSET" and given.get("group", 1) == 1:
        down, across = _numbers(given.get("strides", [1, 1]), 2)
        top, left, bottom, right = _numbers(given.get("pads", [0, 0, 0, 0]), 4)
        if (top, left) == (bottom, right) and given.get("dilations", [1, 1]) == [1, 1]:
            kernel = (weight.shape[2], weight.shape[3])
            product = Product(weight.reshape(len(weight), -1), bias)
            return _Convolution(product, kernel, (down, across), (top, left))
    raise BundleError(f"no sound bound is known of its layer {node.operator} as it is; known are {_KNOWN}")


def _numbers(value: Attribute, count: int) -> list[int]:
    if not isinstance(value, list) or len(value) != count:
        raise BundleError(f"a window of one of its layers has {value!r} for {count} numbers")
    return value
