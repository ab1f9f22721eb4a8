"""An ONNX classifier as a torch network, for its gradients; and as a network of ONNX Runtime, where there are none.

A small interpreter rather than a converter from a package: those at hand need torchvision, whose wheels put a CUDA
build in the place of a CPU torch, while the graphs of image classifiers use few operators (`onnx_operators`) and
running them takes a page. What makes it sound is not care alone: every network is compared with ONNX Runtime when it is
opened, and one that differs has no gradients here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from firewall.errors import DataError, EngineError
from firewall.host.causes import told
from firewall.host.onnxruntime import ort
from firewall.lab.models.onnx_operators import OPERATORS, Node
from firewall.lab.models.onnx_reading import described, kind_of, parse_onnx

__all__ = ["OnnxNetwork", "RuntimeNetwork", "compare", "difference", "load_network"]

#: Largest difference of an output from ONNX Runtime, also as a share of the largest output, with which gradients count.
_TOLERANCE, _RELATIVE = 1e-3, 1e-4
#: What is tried for a side of the input that the file leaves open.
_OPEN_BATCH, _OPEN_SIDE = 2, 32


def load_network(content: bytes) -> nn.Module:
    """Any network of one input and one output as a torch module, so that gradients flow through it.

    It is what attacks on the firewall's own detectors need: a classifier's logits come from `load_torch`, which also
    knows how its pixels are prepared. Here values go in and out as the file has them.

    Args:
        content: An ONNX file's bytes: one float32 input of any shape (N, ...), such as (N, 6, 48, 48), and one float32
            output.

    Returns:
        A module in evaluation mode, float32 (N, ...) in, float32 out. Its weights are buffers: no weight wants a
        gradient. Compared with ONNX Runtime on random values before it is returned.

    Raises:
        DataError: the bytes are no ONNX file, there are several inputs or outputs or other types, an operator is not
            among `OPERATORS`, or torch gives other values than ONNX Runtime or no gradients.
    """
    model = parse_onnx("the network", content)
    weights = {entry.name for entry in (*model.graph.initializer, *model.graph.sparse_initializer)}
    inputs, outputs = [entry for entry in model.graph.input if entry.name not in weights], list(model.graph.output)
    for what, entries in (("input", inputs), ("output", outputs)):
        if len(entries) != 1 or kind_of(entries[0]) != "float32":
            raise DataError(
                f"the network has the {what}s {described(entries)}; one float32 {what} is needed: export it so, or "
                "name a classifier's file with load_torch, which chooses among outputs"
            )
    network, reference = OnnxNetwork(model, outputs[0].name), RuntimeNetwork(content, inputs[0].name, outputs[0].name)
    sides = [side.dim_value for side in inputs[0].type.tensor_type.shape.dim]
    shape = [side or (_OPEN_SIDE if place else _OPEN_BATCH) for place, side in enumerate(sides)]
    values = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    try:
        reference(values)
    except EngineError as error:
        if all(sides[1:]):
            raise DataError(f"the network doesn't run: {error}") from error
        return network.eval()  # the side that was tried is not one that it takes
    try:
        compare(network, reference, values)
    except EngineError as error:
        raise DataError(f"the network has no gradients in torch: {error}") from error
    return network.eval()


class OnnxNetwork(nn.Module):
    """The graph of an ONNX file, from its one input to one output. No weight wants a gradient.

    Args:
        model: The file, parsed.
        output: Name of the output.

    Raises:
        DataError: The graph uses operators that are not in `OPERATORS`; the message names them.
    """

    def __init__(self, model: onnx.ModelProto, output: str) -> None:
        super().__init__()
        graph = model.graph
        unknown = {
            node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"
            for node in graph.node
            if node.op_type not in OPERATORS or node.domain not in ("", "ai.onnx")
        }
        if unknown:
            raise DataError(f"there are no gradients for the operators {', '.join(sorted(unknown))}")
        constants = {entry.name: _tensor(entry) for entry in graph.initializer}
        self.input = next(entry.name for entry in graph.input if entry.name not in constants)
        self.output = output
        self.nodes: list[Node] = []
        for node in _needed([_node(entry) for entry in graph.node], output):
            # What doesn't depend on the image is computed once, now.
            if all(name in constants for name in node.inputs if name):
                constants.update(_run(node, [constants.get(name) for name in node.inputs]))
            else:
                self.nodes.append(node)
        used = {name for node in self.nodes for name in node.inputs}
        numbers = {name for node in self.nodes if node.kind in ("Clip", "Pad") for name in node.inputs[1:]}
        self.shapes: dict[str, Tensor] = {}
        self.weights: dict[str, str] = {}
        for name, value in constants.items():
            if name not in used:
                continue
            # Single numbers and integers are read by Python while the graph runs: they stay where that costs nothing.
            if not value.is_floating_point() or value.ndim == 0 or name in numbers:
                self.shapes[name] = value
            else:
                self.weights[name] = f"weight_{len(self.weights)}"
                self.register_buffer(self.weights[name], value)
        last = {name: index for index, node in enumerate(self.nodes) for name in node.inputs}
        self.done = [
            tuple(name for name in {*node.inputs} if last[name] == index and name not in constants)
            for index, node in enumerate(self.nodes)
        ]

    def forward(self, image: Tensor) -> Tensor:
        """The file's output for float (N, ...), in the file's own range of values."""
        values: dict[str, Tensor] = {name: getattr(self, place) for name, place in self.weights.items()}
        values.update(self.shapes)
        values[self.input] = image
        for node, done in zip(self.nodes, self.done, strict=True):
            values.update(_run(node, [values.get(name) for name in node.inputs]))
            for name in done:
                values.pop(name, None)
        return values[self.output]


class RuntimeNetwork(nn.Module):
    """An ONNX file on ONNX Runtime: outputs, but no gradients. On the CPU, wherever the images are.

    Args:
        content: The file's bytes.
        input_name: Name of its input.
        output: Name of the output that is wanted.
    """

    def __init__(self, content: bytes, input_name: str, output: str) -> None:
        super().__init__()
        self.content, self.input_name, self.output = content, input_name, output
        self.session: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "session": None}  # a session can't leave its process

    def forward(self, image: Tensor) -> Tensor:
        """The file's output.

        Args:
            image: Float (N, ...).

        Returns:
            Float, on the image's device.

        Raises:
            DataError: A gradient is asked for.
            EngineError: ONNX Runtime can't run the file.
        """
        if image.requires_grad and torch.is_grad_enabled():
            raise DataError("this classifier has no gradients to attack it with; use a black-box attack")
        try:
            if self.session is None:
                options = ort.SessionOptions()
                options.log_severity_level = 4  # its messages come as exceptions
                options.intra_op_num_threads = torch.get_num_threads()
                self.session = ort.InferenceSession(self.content, options, providers=["CPUExecutionProvider"])
            pixels = np.ascontiguousarray(image.detach().cpu().numpy(), np.float32)
            result = self.session.run([self.output], {self.input_name: pixels})[0]
        except Exception as error:  # ONNX Runtime raises many types of its own
            raise EngineError(f"ONNX Runtime can't run the classifier: {told(error)}") from error
        return torch.from_numpy(np.asarray(result)).to(image.device)


def difference(network: nn.Module, reference: nn.Module, images: Tensor) -> tuple[float, float]:
    """How far two networks' outputs lie apart.

    Args:
        network: Whose gradients count.
        reference: What it is compared with.
        images: Float (N, ...).

    Returns:
        The largest difference of an output, and the largest output.

    Raises:
        EngineError: The outputs can't be compared, or the gradients of the first network aren't finite or are all 0.
    """
    with torch.no_grad():
        expected = reference(images)
    pixels = images.clone().requires_grad_()
    found = network(pixels)
    if found.shape != expected.shape:
        raise EngineError(f"its output has shape {tuple(found.shape)} in torch, {tuple(expected.shape)} otherwise")
    (gradient,) = torch.autograd.grad(found.square().sum(), pixels)
    if not bool(torch.isfinite(gradient).all()) or not bool(gradient.any()):
        raise EngineError("its gradients are zero everywhere, or not finite")
    return float((found.detach() - expected).abs().max()), float(expected.abs().max())


def compare(network: nn.Module, reference: nn.Module, images: Tensor) -> None:
    """Check that a network gives what another gives, and has gradients.

    Args:
        network: Whose gradients count.
        reference: What it is compared with.
        images: Float (N, ...).

    Raises:
        EngineError: They differ, or there are no gradients.
    """
    apart, largest = difference(network, reference, images)
    if not apart <= max(_TOLERANCE, _RELATIVE * largest):
        raise EngineError(f"torch and ONNX Runtime differ by {apart:.2g}")


def _needed(nodes: Sequence[Node], output: str) -> list[Node]:
    """The nodes that `output` depends on, in their order."""
    wanted, kept = {output}, []
    for node in reversed(nodes):
        if wanted & set(node.outputs):
            kept.append(node)
            wanted |= set(node.inputs)
    return kept[::-1]


def _run(node: Node, inputs: Sequence[Tensor | None]) -> dict[str, Tensor]:
    try:
        results = OPERATORS[node.kind](node, inputs)  # type: ignore[arg-type]
    except (RuntimeError, IndexError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise EngineError(f"the operator {node.kind} can't be run in torch: {told(error)}") from error
    if isinstance(results, Tensor):
        results = (results,)
    return {name: result for name, result in zip(node.outputs, results, strict=False) if name}


def _node(entry: onnx.NodeProto) -> Node:
    attributes = {item.name: _plain(onnx.helper.get_attribute_value(item)) for item in entry.attribute}
    return Node(entry.op_type, tuple(entry.input), tuple(entry.output), attributes)


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, onnx.TensorProto):
        return _tensor(value)
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else value


def _tensor(entry: onnx.TensorProto) -> Tensor:
    if entry.data_location == onnx.TensorProto.EXTERNAL:
        raise DataError("its weights lie in other files; save the network as one file")
    return torch.from_numpy(np.array(numpy_helper.to_array(entry)))
