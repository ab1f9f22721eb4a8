"""Small convolutional networks by the native runtime: ONNX Runtime's numbers, to rounding, in less time.

ONNX Runtime multiplies every weight with every pixel. The runtime computes 3 x 3 convolutions by Winograd's minimal
filtering (firewall/network.h), with a quarter to a half of the multiplications. It knows what networks of signs are
made of and nothing else: whatever else a file holds, ONNX Runtime runs it as before.

Nothing is taken on trust: the network is run on images of noise, of one colour and of edges, and its answers must be
those of ONNX Runtime before it is used.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from firewall import native
from firewall.engines.onnx_graph import Graph, Node, read_graph
from firewall.host.pinning import pool_placer

__all__ = ["TOLERANCE", "SmallNetwork", "open_small"]

Floats = npt.NDArray[np.float32]
#: What the answers may differ by, as a share of the largest: a few roundings of float32.
TOLERANCE = 2e-4
_CONVOLUTION, _WHOLE = 0, 1
_SHIFTED, _LOCAL_CONTRAST = 0, 1
_INPUT = -1


class _OtherError(Exception):
    """The network is none that the runtime knows."""


@dataclass(slots=True)
class _Layer:
    kind: int
    input: int
    channels: int
    kernel: int
    stride: int
    padding: int
    weights: Floats
    bias: Floats
    side: int  # of its output
    added: int = -1
    rectified: bool = False


class SmallNetwork:
    """A network that the runtime runs; `open_small` makes it. Use it from one thread at a time.

    Args:
        network: What the runtime runs.
        side: Of its images, in pixels.
        threads: Each takes a share of a batch, images next to each other. The answers don't depend on it.

    Attributes:
        outputs: Numbers that it gives for an image.
        image: Shape of an image, (3, side, side).
    """

    def __init__(self, network: Any, side: int, threads: int = 1) -> None:
        self._network = network
        self._others = [network.share() for _ in range(threads - 1)]
        self._pool = ThreadPoolExecutor(threads - 1, "network", pool_placer()) if threads > 1 else None
        self.outputs: int = network.outputs
        self.image = (3, side, side)

    def run(self, images: Floats, out: Floats) -> None:
        """Answer. The runtime allocates nothing for it.

        Args:
            images: float32 (N, 3, side, side), C-contiguous.
            out: Receives the answers, float32 (N, outputs), C-contiguous.

        Raises:
            ValueError: If they have another shape.
            TypeError: If they are of another type.
        """
        if self._pool is None or len(images) < 2:
            self._network.run(images, out)
            return
        shares = min(len(images), 1 + len(self._others))
        ends = [len(images) * number // shares for number in range(shares + 1)]
        waiting = [
            self._pool.submit(other.run, images[start:end], out[start:end])
            for other, start, end in zip(self._others, ends[1:], ends[2:], strict=False)
        ]
        self._network.run(images[: ends[1]], out[: ends[1]])
        for each in waiting:
            each.result()


def open_small(
    content: bytes, reference: Callable[[Floats], Floats], height: int, width: int, *, threads: int = 1
) -> SmallNetwork | None:
    """The network in a file, if the runtime knows all of it and answers as ONNX Runtime does.

    Args:
        content: The ONNX file.
        reference: The same file in ONNX Runtime: float32 (N, 3, height, width) -> (N, outputs).
        height: Of the images, in pixels.
        width: See `height`.
        threads: See SmallNetwork.

    Returns:
        The network. None: use ONNX Runtime.
    """
    if height != width:
        return None
    try:
        module = native.load()
        if not module.fast_networks():
            return None
        network = SmallNetwork(_Reading(read_graph(content), height).network(module), height, threads)
        return network if _agrees(network, reference, height) else None
    except Exception:  # strange files fail in many ways, and ONNX Runtime says what is wrong with them
        return None


def _agrees(network: SmallNetwork, reference: Callable[[Floats], Floats], side: int) -> bool:
    """Whether it gives what the reference gives, also for one image alone."""
    random = np.random.default_rng(0)
    images = random.random((7, 3, side, side), np.float32)
    images[1] = 0.5
    images[2, :, :, : side // 2] = 0
    images[3] = np.linspace(0, 1, side, dtype=np.float32)
    images[4] = np.round(images[4])
    images[5] = random.random((3, 1, 1), np.float32)
    expected = reference(images)
    found = np.full((len(images), network.outputs), np.nan, np.float32)
    alone = np.full((1, network.outputs), np.nan, np.float32)
    network.run(images, found)
    network.run(images[-1:], alone)
    if expected.shape != found.shape or not np.array_equal(alone[0], found[-1]):
        return False
    return bool((np.abs(found - expected) <= TOLERANCE * max(1.0, float(np.abs(expected).max()))).all())


@dataclass(slots=True)
class _Reading:
    """A graph on its way to layers."""

    graph: Graph
    side: int
    layers: list[_Layer] = field(default_factory=list)
    #: Name of a value -> the layer that gives it.
    made: dict[str, int] = field(default_factory=dict)
    prepare: tuple[int, float, float] = (_SHIFTED, 0.0, 1.0)

    def network(self, module: Any) -> Any:
        """The runtime's network; raises _OtherError or ValueError if it knows no such one."""
        graph = self.graph
        if len(graph.inputs) != 1 or len(graph.outputs) != 1:
            raise _OtherError
        read = Counter(name for node in graph.nodes for name in node.inputs)
        read.update(graph.outputs)
        nodes = [node for node in graph.nodes if not self._constant(node)]
        for node in nodes[self._prepared(nodes) :]:
            self._add(node, read)
        if self.made.get(graph.outputs[0]) != len(self.layers) - 1:
            raise _OtherError
        layers = [
            module.Layer(
                layer.kind,
                layer.input,
                layer.added,
                layer.kernel,
                layer.stride,
                layer.padding,
                layer.rectified,
                np.ascontiguousarray(layer.weights).reshape(-1),
                np.ascontiguousarray(layer.bias),
            )
            for layer in self.layers
        ]
        return module.Network(self.side, *self.prepare, layers)

    def _constant(self, node: Node) -> bool:
        """Weights kept in float16 are widened once, here."""
        if node.operator != "Cast" or node.inputs[0] not in self.graph.constants:
            return False
        if node.attributes.get("to") != 1:
            raise _OtherError
        self.graph.constants[node.outputs[0]] = self.graph.constants[node.inputs[0]].astype(np.float32)
        return True

    def _prepared(self, nodes: list[Node]) -> int:
        """Understand what is done to the input; how many nodes do it."""
        image = self.graph.inputs[0]
        operators = [node.operator for node in nodes]
        if operators[:2] == ["Sub", "Mul"]:
            shift = self._number(nodes[0], image)
            self.prepare = (_SHIFTED, shift, self._number(nodes[1], nodes[0].outputs[0]))
            self.made[nodes[1].outputs[0]] = _INPUT
            return 2
        contrast = ["AveragePool", "Sub", "Mul", "ReduceMean", "AveragePool", "Add", "Sqrt", "Div"]
        if operators[: len(contrast)] == contrast:
            self._contrast(nodes[: len(contrast)], image)
            return len(contrast)
        self.made[image] = _INPUT
        return 0

    def _contrast(self, nodes: list[Node], image: str) -> None:
        pool, less, square, mean, again, more, root, divide = nodes
        apart = less.outputs[0]
        wired = [
            (pool, (image,)),
            (less, (image, pool.outputs[0])),
            (square, (apart, apart)),
            (again, mean.outputs),
            (root, more.outputs),
            (divide, (apart, root.outputs[0])),
        ]
        axes = self.graph.constants.get(mean.inputs[-1])
        if (
            any(node.inputs != names for node, names in wired)
            or mean.inputs[0] != square.outputs[0]
            or axes is None
            or axes.tolist() != [1]
            or mean.attributes.get("keepdims", 1) != 1
        ):
            raise _OtherError
        windows = [self._window(node) for node in (pool, again)]
        if windows[0] != windows[1]:
            raise _OtherError
        self.prepare = (_LOCAL_CONTRAST, float(windows[0]), self._number(more, again.outputs[0]))
        self.made[divide.outputs[0]] = _INPUT

    def _window(self, node: Node) -> int:
        """Side of a mean's window that keeps the image's size and reads nothing beyond its borders."""
        kernel, given = node.attributes.get("kernel_shape"), node.attributes
        side = kernel[0] if isinstance(kernel, list) else 0
        expected = {"kernel_shape": [side, side], "pads": [side // 2] * 4, "strides": [1, 1]}
        others = {"count_include_pad": 0, "ceil_mode": 0, "auto_pad": b"NOTSET"}
        if side % 2 == 0 or given != {**expected, **{name: others[name] for name in given if name in others}}:
            raise _OtherError
        return side

    def _number(self, node: Node, name: str) -> float:
        """The one number that a node does something to `name` with."""
        constant = self.graph.constants.get(node.inputs[1])
        if node.inputs[0] != name or constant is None or constant.size != 1 or constant.dtype != np.float32:
            raise _OtherError
        return float(constant.reshape(()).item())

    def _add(self, node: Node, read: Counter[str]) -> None:
        operators = {
            "Conv": self._convolution,
            "Gemm": self._dense,
            "Add": lambda node: self._sum(node, read),
            "Relu": lambda node: self._rectified(node, read),
            "Reshape": self._flat,
        }
        if node.operator not in operators or len(node.outputs) != 1:
            raise _OtherError
        operators[node.operator](node)

    def _convolution(self, node: Node) -> None:
        weights, bias = self._weights(node, 4)
        given, kernel = node.attributes, int(weights.shape[2])
        stride, padding = (given.get(name, [usual] * 4) for name, usual in (("strides", 1), ("pads", 0)))
        if (
            not isinstance(stride, list)
            or not isinstance(padding, list)
            or len({*stride}) != 1
            or len({*padding}) != 1
            or weights.shape[3] != kernel
            or {*_list(given.get("dilations", [1]))} != {1}
            or given.get("auto_pad", b"NOTSET") != b"NOTSET"
        ):
            raise _OtherError
        source = self.made[node.inputs[0]]
        before, side = (3, self.side) if source == _INPUT else (self.layers[source].channels, self.layers[source].side)
        group = given.get("group", 1)
        # The window of a grouped one has to be the whole image; of others, all channels are read.
        if weights.shape[1] * _int(group) != before or (group != 1 and (group != before or kernel != side)):
            raise _OtherError
        kind = _CONVOLUTION if group == 1 else _WHOLE
        after = (side + 2 * padding[0] - kernel) // stride[0] + 1
        self._layer(node, _Layer(kind, source, len(weights), kernel, stride[0], padding[0], weights, bias, after))

    def _dense(self, node: Node) -> None:
        weights, bias = self._weights(node, 2)
        given, source = node.attributes, self.made[node.inputs[0]]
        plain = given.get("transB") == 1 and given.get("transA", 0) == 0
        if not plain or given.get("alpha", 1.0) != 1 or given.get("beta", 1.0) != 1 or source == _INPUT:
            raise _OtherError
        if self.layers[source].side != 1 or self.layers[source].channels != weights.shape[1]:
            raise _OtherError
        self._layer(node, _Layer(_CONVOLUTION, source, len(weights), 1, 1, 0, weights, bias, 1))

    def _weights(self, node: Node, sides: int) -> tuple[Floats, Floats]:
        found = [self.graph.constants[name] for name in node.inputs[1:]]
        if len(found) != 2 or any(each.dtype != np.float32 for each in found):
            raise _OtherError
        weights, bias = (each.astype(np.float32) for each in found)
        if weights.ndim != sides or bias.shape != weights.shape[:1]:
            raise _OtherError
        return weights, bias

    def _layer(self, node: Node, layer: _Layer) -> None:
        self.made[node.outputs[0]] = len(self.layers)
        self.layers.append(layer)

    def _last(self, name: str, read: Counter[str]) -> _Layer | None:
        """The layer that gives `name`, if nothing else reads that and nothing has been done to it."""
        number = self.made[name]
        if number == _INPUT or number != len(self.layers) - 1 or read[name] != 1 or self.layers[number].rectified:
            return None
        return self.layers[number]

    def _sum(self, node: Node, read: Counter[str]) -> None:
        for name, other in (node.inputs, node.inputs[::-1]):
            layer, added = self._last(name, read), self.made[other]
            if layer is not None and layer.added < 0 and added not in (_INPUT, self.made[name]):
                layer.added = added
                self.made[node.outputs[0]] = self.made[name]
                return
        raise _OtherError

    def _rectified(self, node: Node, read: Counter[str]) -> None:
        layer = self._last(node.inputs[0], read)
        if layer is None:
            raise _OtherError
        layer.rectified = True
        self.made[node.outputs[0]] = self.made[node.inputs[0]]

    def _flat(self, node: Node) -> None:
        source, shape = self.made[node.inputs[0]], self.graph.constants[node.inputs[1]]
        if (
            source == _INPUT
            or self.layers[source].side != 1
            or shape.tolist()
            not in (
                [-1, self.layers[source].channels],
                [0, -1],
            )
        ):
            raise _OtherError
        self.made[node.outputs[0]] = source


def _list(value: Any) -> list[int]:
    if not isinstance(value, list):
        raise _OtherError
    return value


def _int(value: Any) -> int:
    if not isinstance(value, int):
        raise _OtherError
    return value
