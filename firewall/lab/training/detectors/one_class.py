"""Statistics and residual detectors without any attack: how far an image's features lie from those of benign images.

Nguyen, Kuribayashi et al. and Sun et al. train on benign and adversarial images. Where only benign ones are at hand:

* statistics: the distance of the feature from its mean in units of its spread, with the correlations taken out
  (Mahalanobis 1936; Lee et al. 2018 do so with a network's layers).
* residual: how far its energies lie in the direction in which a little random noise moves them (Fisher's discriminant
  of the benign images and the same with noise). A distance in all directions was tried first and did not separate:
  textures differ among themselves more than an attack changes them.

Covariances are shrunk towards their diagonal as Ledoit and Wolf (2004) do it, since features are many and images few.

Scores of images that the mean and covariance come from are a little too low for a threshold. So each of five parts of
the images is scored by what was fitted to the other four. The thresholds rest on those scores, and the bundle's network
is fitted to all. The parts are runs of neighbours, so that frames of one scene mostly stay together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from sklearn.covariance import LedoitWolf

from firewall.detectors.statistics import label_odds
from firewall.engines import OnnxRuntimeNetwork
from firewall.errors import DataError
from firewall.lab.measurement.edge import Measured
from firewall.transforms import residual

__all__ = ["ONE_CLASS", "OneClass", "fit_residual", "fit_statistics"]

Floats = npt.NDArray[np.float64]

#: Log-odds beyond these are as good as certain; float32 probabilities end there.
_MOST_ODDS = 30.0
#: Compression rates of the residuals (see firewall.transforms.residual), and side of the tiles whose energy counts.
_RATES, _TILE = (0.05, 0.75), 4
#: Energy of rounding to 8 bits, in units of the full range: less than that says nothing.
_FLOOR = (1 / 255) ** 2 / 12
#: Random signs of so many levels stand for what an attack adds; images get them in turns.
_NOISE = (2, 4)
_PARTS = 5
_OPSET = 17  # what every TensorRT from 10.3 on reads


@dataclass(frozen=True, eq=False)
class OneClass:
    """A detector fitted to benign images.

    Args:
        name: As a bundle has it.
        parameters: As a bundle has them.
        network: The ONNX file.
        scores: (N,), of the images that it was fitted to, each by what was fitted to others.
    """

    name: str
    parameters: dict[str, Any]
    network: bytes
    scores: Floats

    @property
    def file(self) -> str:
        """The network's file in a bundle."""
        return str(self.parameters["file"])


@dataclass(frozen=True, eq=False)
class _Normal:
    """Mean and whitening of features: distance = |(features - mean) whitening|."""

    mean: Floats
    whitening: Floats

    @classmethod
    def fit(cls, features: Floats) -> _Normal:
        # In units of each feature's own spread, so that shrinking treats them alike.
        mean, spread = features.mean(axis=0), features.std(axis=0)
        spread = np.where(spread > 1e-6, spread, 1.0)
        covariance = LedoitWolf(assume_centered=True).fit((features - mean) / spread).covariance_
        values, vectors = np.linalg.eigh(covariance)
        return cls(mean, vectors / np.sqrt(np.maximum(values, 1e-6)) / spread[:, np.newaxis])

    def distance(self, features: Floats) -> Floats:
        found: Floats = np.linalg.norm((features - self.mean) @ self.whitening, axis=1) / np.sqrt(features.shape[1])
        return found


@dataclass(frozen=True, eq=False)
class _Direction:
    """Weights of features: 0 at the mean of benign images, and their spread is 1."""

    weights: Floats
    offset: float

    @classmethod
    def fit(cls, normal: Floats, noisy: Floats) -> _Direction:
        spread = np.where(normal.std(axis=0) > 1e-6, normal.std(axis=0), 1.0)
        within = [LedoitWolf().fit(features / spread).covariance_ for features in (normal, noisy)]
        weights = np.linalg.solve(within[0] + within[1], (noisy - normal).mean(axis=0) / spread) / spread
        weights /= max(float((normal @ weights).std()), 1e-9)
        return cls(weights, float((normal @ weights).mean()))

    def score(self, features: Floats) -> Floats:
        found: Floats = features @ self.weights - self.offset
        return found


def fit_statistics(normal: Measured, operations: Sequence[str]) -> OneClass:
    """The statistics detector's odds feature: log-odds of the label in the image and in its copies.

    Args:
        normal: Benign images and their copies, classified.
        operations: Which copies; of `normal`.

    Returns:
        The detector.

    Raises:
        DataError: There are too few images.
    """
    places = [normal.operations.index(operation) for operation in operations]
    features = label_odds(normal.logits, normal.variants[:, places]).astype(np.float64)
    features = np.clip(features, -_MOST_ODDS, _MOST_ODDS)
    scores = np.empty(len(features))
    for part, others in _parts("statistics-one-class", *features.shape):
        scores[part] = _Normal.fit(features[others]).distance(features[part])
    fitted = _Normal.fit(features)
    most = {"lowest": np.array(-_MOST_ODDS), "highest": np.array(_MOST_ODDS)}
    nodes = [helper.make_node("Clip", ["features", "lowest", "highest"], ["clipped"]), *_distance("clipped", "score")]
    network = _network(nodes, ("features", ["n", features.shape[1]]), ("score", ["n", 1]), {**most, **_weights(fitted)})
    parameters = {"file": "statistics.onnx", "feature": "odds", "operations": list(operations)}
    return OneClass("statistics", parameters, network, scores)


def fit_residual(normal: Measured) -> OneClass:
    """The residual's energy in small tiles, at two rates and in three colours.

    The features are its mean, mean logarithm, smallest and largest value; the score is along the direction in which
    noise moves them.

    Args:
        normal: Benign images.

    Returns:
        The detector.

    Raises:
        DataError: There are too few images.
    """
    _, height, width, _ = normal.images.shape
    tile = min(_TILE, height, width)
    energy = OnnxRuntimeNetwork(_energy_network(height, width, tile, None), "the residual's features", threads=1)
    rng = np.random.default_rng(0)
    noise = (rng.choice((-1, 1), image.shape) * _NOISE[i % len(_NOISE)] for i, image in enumerate(normal.images))
    moved = (np.clip(image + signs, 0, 255).astype(np.uint8) for image, signs in zip(normal.images, noise, strict=True))
    features, noisy = (
        np.concatenate([energy(_residuals(image)) for image in images]).astype(np.float64)
        for images in (normal.images, moved)
    )
    scores = np.empty(len(features))
    for part, others in _parts("residual-one-class", *features.shape):
        scores[part] = _Direction.fit(features[others], noisy[others]).score(features[part])
    fitted = _Direction.fit(features, noisy)
    parameters = {"file": "residual.onnx", "rate": _RATES[0], "reading": "removed", "also": list(_RATES[1:])}
    return OneClass("residual", parameters, _energy_network(height, width, tile, fitted), scores)


#: Their names on the command line, and what each is fitted to.
ONE_CLASS: dict[str, Callable[[Measured, Sequence[str]], OneClass]] = {
    "statistics-one-class": fit_statistics,
    "residual-one-class": lambda normal, _: fit_residual(normal),
}


def _parts(name: str, count: int, width: int) -> list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Places of the images of each part, and of all others."""
    if count < 4 * width:
        raise DataError(
            f"the detector {name} needs at least {4 * width} normal images, got {count}: it learns what {width} "
            f"numbers usually are, 4 images for each; take {4 * width - count} more, or leave it out of --detectors"
        )
    places = np.arange(count)
    return [(part, np.delete(places, part)) for part in np.array_split(places, _PARTS)]


def _residuals(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """What the residual detector hands its network: (1, 3 * rates, H, W)."""
    found = np.concatenate([residual(image, rate) for rate in _RATES], axis=2)
    values: npt.NDArray[np.float32] = np.ascontiguousarray(found.transpose(2, 0, 1)[np.newaxis], np.float32)
    scaled: npt.NDArray[np.float32] = values / np.float32(255)
    return scaled


def _energy_network(height: int, width: int, tile: int, fitted: _Direction | None) -> bytes:
    """Residuals (n, C, H, W) -> features (n, 4 C), or with `fitted` (n, 2): 0 and the score."""
    channels = 3 * len(_RATES)
    weights = {"floor": np.array(_FLOOR)}
    pool: dict[str, Any] = {"kernel_shape": [tile, tile], "strides": [tile, tile]}
    make = helper.make_node
    nodes = [
        make("Mul", ["residuals", "residuals"], ["squares"]),
        make("AveragePool", ["squares"], ["tiles"], **pool),
        make("Add", ["tiles", "floor"], ["raised"]),
        make("Log", ["raised"], ["logs"]),
        make("ReduceMean", ["logs"], ["mean_log"], axes=[2, 3], keepdims=0),
        make("ReduceMin", ["logs"], ["lowest"], axes=[2, 3], keepdims=0),
        make("ReduceMax", ["logs"], ["highest_log"], axes=[2, 3], keepdims=0),
        make("ReduceMean", ["raised"], ["mean"], axes=[2, 3], keepdims=0),
        make("Log", ["mean"], ["log_mean"]),
        make("Concat", ["mean_log", "lowest", "highest_log", "log_mean"], ["energies"], axis=1),
    ]
    output = ("energies", ["n", 4 * channels])
    if fitted is not None:
        # The detector takes the first output off the second.
        weights["direction"] = np.stack([np.zeros(len(fitted.weights)), fitted.weights], axis=1)
        weights["offset"] = np.array([0.0, -fitted.offset])
        nodes.append(make("Gemm", ["energies", "direction", "offset"], ["outputs"]))
        output = ("outputs", ["n", 2])
    return _network(nodes, ("residuals", ["n", channels, height, width]), output, weights)


def _distance(value: str, result: str) -> list[onnx.NodeProto]:
    return [
        helper.make_node("Sub", [value, "centre"], ["centred"]),
        helper.make_node("MatMul", ["centred", "whitening"], ["whitened"]),
        helper.make_node("ReduceSumSquare", ["whitened"], ["squared"], axes=[1], keepdims=1),
        helper.make_node("Sqrt", ["squared"], [result]),
    ]


def _weights(fitted: _Normal) -> dict[str, Floats]:
    scale = np.sqrt(len(fitted.mean))
    return {"centre": fitted.mean[np.newaxis], "whitening": fitted.whitening / scale}


def _network(
    nodes: list[onnx.NodeProto],
    source: tuple[str, list[Any]],
    result: tuple[str, list[Any]],
    weights: dict[str, Floats],
) -> bytes:
    graph = helper.make_graph(
        nodes,
        "one_class",
        [helper.make_tensor_value_info(source[0], TensorProto.FLOAT, source[1])],
        [helper.make_tensor_value_info(result[0], TensorProto.FLOAT, result[1])],
        [numpy_helper.from_array(np.ascontiguousarray(value, np.float32), name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())
