"""Small scikit-learn classifiers as ONNX networks of tensor operators alone.

The operators of ai.onnx.ml, which converters usually give, exist neither in TensorRT nor in most runtimes for devices.
Here an SVM is a matrix product and an exponential, a forest is comparisons and two matrix products, and so on: the same
arithmetic, in float32, on any device. Each network takes `features` (N, F) float32 and gives `score` (N, 1) float32,
higher = more likely of class 1, which is what a detector calls suspicious.

Features have to be exact in float32, as counts and bits are: a forest's comparisons are then exactly scikit-learn's.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from firewall.errors import UsageError

__all__ = ["to_onnx"]

_OPSET = 17  # what every TensorRT from 10.3 on reads

Nodes = list[onnx.NodeProto]
Weights = dict[str, npt.NDArray[Any]]


def to_onnx(model: Any, *, metadata: dict[str, str] | None = None) -> bytes:
    """The ONNX file of a fitted binary scikit-learn classifier, or of a Pipeline of a StandardScaler and one.

    Known are LinearDiscriminantAnalysis and LogisticRegression (score: the decision function), SVC with an RBF or a
    linear kernel (decision function), MLPClassifier with ReLU (log-odds) and RandomForestClassifier (probability).

    Raises:
        UsageError: For others, and for models of other than two classes.
    """
    scaler, classifier = _parts(model)
    if list(classifier.classes_) != [0, 1]:
        raise UsageError(
            f"a detector tells class 0 (normal) from 1, this model has classes {list(classifier.classes_)}"
        )
    nodes: Nodes = []
    weights: Weights = {}
    value = "features"
    if scaler is not None:
        weights["mean"], weights["scale"] = scaler.mean_, scaler.scale_
        nodes += [helper.make_node("Sub", [value, "mean"], ["centred"])]
        nodes += [helper.make_node("Div", ["centred", "scale"], ["scaled"])]
        value = "scaled"
    _BUILDERS[type(classifier).__name__](classifier, value, nodes, weights)
    graph = helper.make_graph(
        nodes,
        type(classifier).__name__,
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", int(model.n_features_in_)])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n", 1])],
        [numpy_helper.from_array(_float32(array), name) for name, array in weights.items()],
    )
    network = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=9)
    helper.set_model_props(network, metadata or {})
    onnx.checker.check_model(network, full_check=True)
    return bytes(network.SerializeToString())


def _parts(model: Any) -> tuple[Any, Any]:
    steps = [step for _, step in model.steps] if hasattr(model, "steps") else [model]
    names = [type(step).__name__ for step in steps]
    if names[-1] not in _BUILDERS or names[:-1] not in ([], ["StandardScaler"]):
        raise UsageError(
            f"can't export {' + '.join(names)}; known are {', '.join(_BUILDERS)}, alone or behind a StandardScaler"
        )
    return (steps[0] if len(steps) == 2 else None), steps[-1]


def _linear(model: Any, value: str, nodes: Nodes, weights: Weights) -> None:
    weights["coefficients"], weights["intercept"] = model.coef_.T, model.intercept_
    nodes.append(helper.make_node("Gemm", [value, "coefficients", "intercept"], ["score"]))


def _svm(model: Any, value: str, nodes: Nodes, weights: Weights) -> None:
    if model.kernel not in ("rbf", "linear"):
        raise UsageError(f"can't export an SVC with kernel {model.kernel!r}; known are rbf and linear")
    weights["dual"], weights["intercept"] = model.dual_coef_.T, model.intercept_
    support = np.asarray(model.support_vectors_)
    weights["support"] = support.T
    nodes.append(helper.make_node("MatMul", [value, "support"], ["products"]))
    kernel = "products"
    if model.kernel == "rbf":
        # |x - s|^2 = |x|^2 - 2 x.s + |s|^2, for all support vectors s at once.
        gamma = model._gamma
        weights["minus_two"], weights["minus_gamma"] = np.array(-2.0), np.array(-gamma)
        weights["support_squares"] = (support**2).sum(axis=1)[np.newaxis]
        nodes += [
            helper.make_node("ReduceSumSquare", [value], ["norms"], axes=[1], keepdims=1),
            helper.make_node("Mul", ["products", "minus_two"], ["cross"]),
            helper.make_node("Add", ["cross", "norms"], ["partial"]),
            helper.make_node("Add", ["partial", "support_squares"], ["distances"]),
            helper.make_node("Mul", ["distances", "minus_gamma"], ["exponents"]),
            helper.make_node("Exp", ["exponents"], ["kernel"]),
        ]
        kernel = "kernel"
    nodes.append(helper.make_node("Gemm", [kernel, "dual", "intercept"], ["score"]))


def _perceptron(model: Any, value: str, nodes: Nodes, weights: Weights) -> None:
    if model.activation != "relu":
        raise UsageError(f"can't export an MLP with activation {model.activation!r}; known is relu")
    last = len(model.coefs_) - 1
    for layer, (matrix, bias) in enumerate(zip(model.coefs_, model.intercepts_, strict=True)):
        weights[f"weight{layer}"], weights[f"bias{layer}"] = matrix, bias
        output = "score" if layer == last else f"linear{layer}"
        nodes.append(helper.make_node("Gemm", [value, f"weight{layer}", f"bias{layer}"], [output]))
        if layer < last:
            nodes.append(helper.make_node("Relu", [output], [f"hidden{layer}"]))
            value = f"hidden{layer}"


def _forest(model: Any, value: str, nodes: Nodes, weights: Weights) -> None:
    """Every comparison of every tree, then which leaf has all its comparisons right, then the mean of those leaves."""
    features: list[int] = []
    thresholds: list[float] = []
    leaves: list[tuple[list[tuple[int, bool]], float]] = []
    for estimator in model.estimators_:
        tree = estimator.tree_
        places = {}
        for node in range(tree.node_count):
            if tree.children_left[node] >= 0:
                places[node] = len(features)
                features.append(int(tree.feature[node]))
                thresholds.append(float(tree.threshold[node]))
        paths: list[tuple[int, list[tuple[int, bool]]]] = [(0, [])]
        while paths:
            node, path = paths.pop()
            if node in places:
                paths.append((int(tree.children_left[node]), [*path, (places[node], True)]))
                paths.append((int(tree.children_right[node]), [*path, (places[node], False)]))
            else:
                counts = tree.value[node][0]
                leaves.append((path, float(counts[1] / counts.sum())))
    # A comparison that has to be true counts +1, one that has to be false counts 1 - it: the sum is the path's length
    # at the one leaf of each tree that is reached, and less elsewhere.
    matrix = np.zeros((max(len(features), 1), len(leaves)))
    missing = np.zeros(len(leaves))
    for leaf, (path, _) in enumerate(leaves):
        for place, right in path:
            matrix[place, leaf] = 1 if right else -1
        missing[leaf] = sum(not right for _, right in path) - len(path)
    pick = np.zeros((int(model.n_features_in_), max(len(features), 1)))
    pick[features, np.arange(len(features))] = 1
    weights.update(
        pick=pick,
        thresholds=np.array(thresholds or [0.0])[np.newaxis],
        paths=matrix,
        missing=missing[np.newaxis],
        almost=np.array(-0.5),
        shares=np.array([[share] for _, share in leaves]) / len(model.estimators_),
    )
    nodes += [
        # One feature for each comparison: a product with ones and zeros is exact, and any device has it.
        helper.make_node("MatMul", [value, "pick"], ["compared"]),
        helper.make_node("LessOrEqual", ["compared", "thresholds"], ["below"]),
        helper.make_node("Cast", ["below"], ["decisions"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["decisions", "paths"], ["met"]),
        helper.make_node("Add", ["met", "missing"], ["lacking"]),
        helper.make_node("Greater", ["lacking", "almost"], ["reached"]),
        helper.make_node("Cast", ["reached"], ["leaves"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["leaves", "shares"], ["score"]),
    ]


def _float32(array: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    return np.ascontiguousarray(array, np.float32)


_BUILDERS = {
    "LinearDiscriminantAnalysis": _linear,
    "LogisticRegression": _linear,
    "SVC": _svm,
    "MLPClassifier": _perceptron,
    "RandomForestClassifier": _forest,
}
