"""scikit-learn's answer and the exported network's, side by side."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from firewall.errors import UsageError
from firewall.export.tabular import to_onnx
from firewall.host.onnxruntime import ort

MODELS: dict[str, Any] = {
    "lda": LinearDiscriminantAnalysis(),
    "logistic": LogisticRegression(),
    "svm": SVC(),
    "linear svm": SVC(kernel="linear"),
    "mlp": MLPClassifier(hidden_layer_sizes=(16, 8), max_iter=3000, random_state=0),
    "forest": RandomForestClassifier(n_estimators=100, max_depth=2, random_state=0),
    "deep forest": RandomForestClassifier(n_estimators=10, max_depth=6, random_state=0),
    "scaled svm": make_pipeline(StandardScaler(), SVC()),
}


@pytest.fixture(scope="module")
def data() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Counts and bits, as the statistics detector's features are; class 1 has more of them."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, 600)
    counts = generator.binomial(16, 0.3 + 0.3 * labels[:, np.newaxis], (600, 10))
    bits = generator.random((600, 20)) < 0.2 + 0.3 * labels[:, np.newaxis]
    return np.hstack([counts, bits]).astype(np.float32), labels


def theirs(model: Any, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    if hasattr(model, "decision_function"):
        return np.asarray(model.decision_function(features))
    shares = model.predict_proba(features)
    return np.log(shares[:, 1] / shares[:, 0]) if isinstance(model, MLPClassifier) else shares[:, 1]


@pytest.mark.parametrize("name", MODELS)
def test_the_network_says_what_the_model_says(
    name: str, data: tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]
) -> None:
    """Score and decision of every image are those of scikit-learn, within float32."""
    features, labels = data
    model = MODELS[name].fit(features[:400], labels[:400])
    session = ort.InferenceSession(to_onnx(model), providers=["CPUExecutionProvider"])

    ours = session.run(None, {"features": features[400:]})[0]

    expected = theirs(model, features[400:])
    assert ours.shape == (200, 1) and ours.dtype == np.float32
    assert ours[:, 0] == pytest.approx(expected, abs=2e-4 * max(1.0, float(np.abs(expected).max())))
    assert (model.predict(features[400:]) == labels[400:]).mean() > 0.8, "there is something to say"


@pytest.mark.parametrize("name", MODELS)
def test_only_tensor_operators_are_used(name: str, data: tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]) -> None:
    """No ai.onnx.ml: a TensorRT device can run it. The metadata travels with it."""
    model = onnx.load_from_string(to_onnx(MODELS[name].fit(*data), metadata={"detector": "statistics"}))

    assert [entry.domain for entry in model.opset_import] == [""]
    assert model.metadata_props[0].value == "statistics"


@pytest.mark.parametrize("model", [GaussianNB(), SVC(kernel="poly"), MLPClassifier(activation="tanh", max_iter=5)])
@pytest.mark.filterwarnings("ignore")
def test_what_can_not_be_exported_is_named(
    model: Any, data: tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]
) -> None:
    """An unknown model, kernel or activation is an error, not a network that says something else."""
    with pytest.raises(UsageError, match="can't export"):
        to_onnx(model.fit(*data))


def test_three_classes_are_refused(data: tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]) -> None:
    """A detector has two answers."""
    features, labels = data
    with pytest.raises(UsageError, match="classes"):
        to_onnx(LinearDiscriminantAnalysis().fit(features, labels + (features[:, 0] > 9)))
