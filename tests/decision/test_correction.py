from __future__ import annotations

import numpy as np
import pytest

from firewall.decision.correction import Correction, log_probabilities, weighted_votes
from firewall.errors import BundleError

OPERATIONS = ["blur:2", "scale:0.75"]


def _logits(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


ATTACKED = _logits(1, 5, 0)  # it says 1
COPIES = {"blur:2": _logits(4, 2, 0), "scale:0.75": _logits(3, 3.5, 0)}


def test_a_vote_by_hand() -> None:
    """Log-probabilities are added with their weights; a negative weight of the original turns it against its label."""
    plain = weighted_votes(ATTACKED, np.stack(list(COPIES.values())), 0.0, [1.0, 0.5])
    expected = log_probabilities(np.array([4 + 1.5, 2 + 1.75, 0.0]))
    assert plain == pytest.approx(expected, abs=1e-6)
    assert np.exp(plain).sum() == pytest.approx(1)

    against = weighted_votes(ATTACKED, np.stack(list(COPIES.values())), -0.5, [1.0, 0.5])
    assert against[1] < plain[1]


def test_batches_vote_as_single_images_do() -> None:
    """The lab votes on thousands at once, the edge on one: the same label."""
    generator = np.random.default_rng(0)
    originals, copies = generator.normal(size=(50, 7)), generator.normal(size=(50, 2, 7))
    correction = Correction({"operations": OPERATIONS, "weights": [0.7, -0.2], "original_weight": 0.4})
    batch = weighted_votes(originals, copies, 0.4, [0.7, -0.2]).argmax(axis=1)

    single = [
        correction.label(original, dict(zip(OPERATIONS, rows, strict=True)))
        for original, rows in zip(originals, copies, strict=True)
    ]
    assert single == batch.tolist()


def test_a_vote_that_is_not_clear_gives_no_label() -> None:
    """The first class leads the second by log-probability 1.75 here: a margin above that abstains."""
    lead = 5.5 - 3.75
    parameters = {"operations": OPERATIONS, "weights": [1.0, 0.5]}

    assert Correction(parameters).label(ATTACKED, COPIES) == 0
    assert Correction({**parameters, "margin": lead - 0.01}).label(ATTACKED, COPIES) == 0
    assert Correction({**parameters, "margin": lead + 0.01}).label(ATTACKED, COPIES) is None
    assert Correction(parameters).top(ATTACKED, COPIES, 2) == [0, 1]


@pytest.mark.parametrize("spoilt", [{}, {**COPIES, "blur:2": _logits(np.nan, 0, 0)}])
def test_a_missing_or_broken_copy_gives_no_label(spoilt: dict[str, np.ndarray]) -> None:
    """It never guesses from less than it was fitted to."""
    correction = Correction({"operations": OPERATIONS, "weights": [1.0, 0.5]})

    assert correction.label(ATTACKED, spoilt) is None
    assert correction.top(ATTACKED, spoilt) == []


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"operations": OPERATIONS, "weights": [1.0]},
        {"operations": OPERATIONS, "weights": [1.0, float("inf")]},
        {"operations": OPERATIONS, "weights": [1.0, 1.0], "margin": -1.0},
        {"operations": OPERATIONS, "weights": [1.0, 1.0], "extra": 1},
    ],
)
def test_parameters_that_do_not_fit_are_refused(parameters: dict[str, object]) -> None:
    """One line that says what is wrong, before any image is judged."""
    with pytest.raises(BundleError, match="parameters of the correction"):
        Correction(parameters)


def test_a_lead_of_exactly_the_margin_is_clear() -> None:
    """Of two classes as of many; one class has nothing that it could be mistaken for."""
    parameters = {"operations": OPERATIONS, "weights": [1.0, 0.5]}
    two = {name: logits[:2] for name, logits in COPIES.items()}
    for original, copies in ((ATTACKED, COPIES), (ATTACKED[:2], two)):
        votes = weighted_votes(original, np.stack(list(copies.values())), 0.0, [1.0, 0.5])
        lead = float(votes[0] - votes[1])
        assert Correction({**parameters, "margin": lead}).label(original, copies) == 0
        assert Correction({**parameters, "margin": np.nextafter(lead, 9)}).label(original, copies) is None
    one = {name: logits[:1] for name, logits in COPIES.items()}
    assert Correction({**parameters, "margin": 9.0}).label(ATTACKED[:1], one) == 0


def test_of_labels_that_are_as_likely_the_lowest_comes_first() -> None:
    """The same one on every machine, whatever its way of sorting; five are named unless another number is asked for."""
    level = np.zeros(43, np.float32)
    correction = Correction({"operations": ["blur:2"], "weights": [1.0]})
    assert correction.label(level, {"blur:2": level}) == 0
    assert correction.top(level, {"blur:2": level}) == [0, 1, 2, 3, 4]
    assert correction.top(level, {"blur:2": level}, 43) == list(range(43))
    front = level.copy()
    front[[7, 30]] = 2.0
    assert correction.top(level, {"blur:2": front}, 4) == [7, 30, 0, 1]


def test_log_probabilities_are_of_each_row_and_never_overflow() -> None:
    """By hand, also where exp would be infinite or nothing: each row by itself, and all of it adds up to 1."""
    rows = np.array([[1000.0, 0.0], [-1000.0, 0.0], [3.0, 3.0]])
    expected = [[0.0, -1000.0], [-1000.0, 0.0], [-np.log(2), -np.log(2)]]
    assert log_probabilities(rows) == pytest.approx(np.array(expected))
    assert log_probabilities(rows.astype(np.float32)).dtype == np.float64
    votes = weighted_votes(rows, rows[:, None], 0.5, [0.5])
    assert np.exp(votes).sum(axis=1) == pytest.approx(np.ones(3))
