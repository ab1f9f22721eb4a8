"""The network that the spatial certificate is made for: one hidden layer of rectified units on grey pixels."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from firewall.errors import DataError, UsageError

__all__ = ["NETWORKS", "TwoLayer", "open_two_layer", "write_two_layer"]

Floats = npt.NDArray[np.float64]

#: Networks that come with the package, trained on MNIST: without and with the certificate.
NETWORKS = ("plain", "certified")
_ARRAYS = ("first", "first_bias", "second", "second_bias")
_OTHER = (
    "the spatial certificate is for two-layer networks (flatten, linear, relu, linear on 28x28 grey pixels); for "
    "others see 'firewall lab certify flow' (small convolutional networks), 'certify patch' and 'certify smoothing'"
)


@dataclass(frozen=True, eq=False)
class TwoLayer:
    """logits = second @ relu(first @ pixels + first_bias) + second_bias, in float64.

    Args:
        first: (units, height * width).
        first_bias: (units,).
        second: (classes, units).
        second_bias: (classes,).
        name: For messages.
        height: Of its images, in pixels.
        width: Of its images, in pixels.
        card: What is known of its training.

    Raises:
        DataError: Weights don't fit each other, or are not finite.
    """

    first: Floats
    first_bias: Floats
    second: Floats
    second_bias: Floats
    name: str = "two-layer"
    height: int = 28
    width: int = 28
    card: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        units, classes = len(self.first_bias), len(self.second_bias)
        shapes = (self.first.shape, self.second.shape)
        if shapes != ((units, self.height * self.width), (classes, units)) or classes < 2 or units < 1:
            raise DataError(f"{self.name} has weights of shapes {shapes}; {_OTHER}")
        if not all(np.isfinite(getattr(self, name)).all() for name in _ARRAYS):
            raise DataError(f"{self.name} has weights that are not finite numbers; it can't be certified")

    def logits(self, images: Floats) -> Floats:
        """Logits (N, classes) of images (N, H, W) in 0..1."""
        hidden = np.maximum(images.reshape(len(images), -1) @ self.first.T + self.first_bias, 0)
        return np.asarray(hidden @ self.second.T + self.second_bias)

    @cached_property
    def rising(self) -> Floats:
        """What each hidden unit gains from brighter pixels, (units, pixels): the positive weights."""
        return np.maximum(self.first, 0)

    @cached_property
    def falling(self) -> Floats:
        """What each hidden unit gains from darker pixels: minus the negative weights."""
        return np.maximum(-self.first, 0)

    @cached_property
    def squares(self) -> tuple[Floats, Floats, Floats]:
        """Squares of `rising` and of `falling`, and the sums of |weights| of each unit."""
        return np.square(self.rising), np.square(self.falling), np.abs(self.first).sum(axis=1)

    @property
    def sha256(self) -> str:
        """SHA-256 of the weights."""
        return hashlib.sha256(b"".join(getattr(self, name).tobytes() for name in _ARRAYS)).hexdigest()


def open_two_layer(spec: str) -> TwoLayer:
    """A two-layer network.

    Args:
        spec: `plain` or `certified` (they come with the package), a file that `firewall lab train spatial` wrote
            (.npz), an ONNX file, or a folder of `firewall lab train classifier`.

    Returns:
        The network.

    Raises:
        UsageError: The name is none of these.
        DataError: The file can't be read or is no two-layer network.
    """
    if spec in NETWORKS:
        packed = resources.files("firewall.lab.certification") / "assets" / f"{spec}.npz"
        with resources.as_file(packed) as path:
            return _from_arrays(path, spec)
    path = Path(spec)
    if path.is_dir():
        path = path / "classifier.onnx"
    if path.suffix not in (".npz", ".onnx"):
        raise UsageError(
            f"unknown network {spec!r}; known: {', '.join(NETWORKS)}, PATH.npz, PATH.onnx, a folder of one"
        )
    if not path.is_file():
        raise UsageError(f"the network {path} is not there; known: {', '.join(NETWORKS)}, PATH.npz, PATH.onnx")
    return _from_arrays(path, path.stem) if path.suffix == ".npz" else _from_onnx(path)


def write_two_layer(network: TwoLayer, path: Path) -> None:
    """Write the weights as float16, and the card; the file's network then has the rounded weights.

    Args:
        network: What is written.
        path: The file, .npz.
    """
    arrays = {name: getattr(network, name).astype(np.float16) for name in _ARRAYS}
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        np.savez_compressed(file, card=np.array(json.dumps(network.card or {})), **arrays)
    partial.replace(path)


def _from_arrays(path: Path, name: str) -> TwoLayer:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as saved:
            arrays = [np.asarray(saved[part], dtype=np.float64) for part in _ARRAYS]
            card = json.loads(str(saved["card"])) if "card" in saved else None
    except (OSError, ValueError, KeyError, BadZipFile, EOFError) as error:
        raise DataError(
            f"{path} is not a two-layer network ({error}); it needs the arrays {', '.join(_ARRAYS)}"
        ) from error
    if [array.ndim for array in arrays] != [2, 1, 2, 1]:
        raise DataError(f"{path} has arrays of {[array.ndim for array in arrays]} dimensions; {_OTHER}")
    first, first_bias, second, second_bias = arrays
    return TwoLayer(first, first_bias, second, second_bias, name=name, card=card)


def _from_onnx(path: Path) -> TwoLayer:
    """Weights of an ONNX file that does nothing but average channels, flatten, and go through two layers."""
    import onnx
    from onnx import numpy_helper

    try:
        graph = onnx.load(str(path)).graph
        values = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    except Exception as error:  # onnx names damage by many kinds of exception
        raise DataError(f"{path} is not a readable ONNX file ({type(error).__name__}: {error})") from error
    weights: list[Floats] = []
    biases: list[Floats] = []
    order: list[str] = []
    for node in graph.node:
        if node.op_type in ("Identity", "Flatten", "Reshape", "ReduceMean") and not weights:
            continue
        if node.op_type == "Relu":
            order.append("relu")
            continue
        options = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
        plain = options.get("alpha", 1.0) == 1.0 and options.get("beta", 1.0) == 1.0 and not options.get("transA", 0)
        if node.op_type != "Gemm" or not plain or not {*node.input[1:]} <= values.keys() or len(node.input) != 3:
            raise DataError(f"{path} has a layer {node.op_type}: {_OTHER}")
        matrix = values[node.input[1]].astype(np.float64)
        weights.append(matrix if options.get("transB", 0) else matrix.T)
        biases.append(values[node.input[2]].astype(np.float64).reshape(-1))
        order.append("linear")
    if order != ["linear", "relu", "linear"]:
        raise DataError(f"{path} has the layers {', '.join(order) or 'none'}: {_OTHER}")
    return TwoLayer(weights[0], biases[0], weights[1], biases[1], name=path.stem)
