from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from firewall.decision.fusion import Fusion, excess_of, shares_of
from firewall.decision.policy import Policy
from firewall.errors import DataError, UsageError
from firewall.lab.calibration.fusion_fit import RULES, ScoreTable, fit, with_early_exits, with_threshold
from firewall.lab.measurement.bundle_verdicts import early_verdicts

NAMES = ("sharp", "noise", "blunt")


def table(seed: int = 0) -> ScoreTable:
    """'sharp' sees both attacks, 'blunt' only the loud one, 'noise' nothing."""
    generator = np.random.default_rng(seed)
    normal = generator.normal(size=(600, 3))
    loud = generator.normal(size=(300, 3)) + np.array([8, 0, 8])
    quiet = generator.normal(size=(300, 3)) + np.array([8, 0, 0])
    return ScoreTable(NAMES, normal, np.repeat(np.arange(200), 3), {"loud": loud, "quiet": quiet})


@pytest.mark.parametrize("rule", RULES)
def test_the_lab_adds_up_what_the_edge_adds_up(rule: str) -> None:
    """The sum that sets the threshold is the one that `firewall.decision.fusion` judges by."""
    data = table()
    spec = with_threshold(fit(data, rule), data.normal, data.tracks, 0.05)
    edge = [Fusion(spec).excess(dict(zip(NAMES, map(float, row), strict=True))) for row in data.attacks["quiet"]]

    np.testing.assert_allclose(excess_of(spec, data.attacks["quiet"]), edge, rtol=1e-12, atol=1e-12)


def test_early_verdicts_are_asked_of_the_edges_policy() -> None:
    """Asked one by one, each image is judged as `Policy` does with the scores there are; a policy that is settled at
    once is asked for nothing, and every detector's copies are counted once."""
    data = table()
    spec = with_early_exits(with_threshold(fit(data, "sum"), data.normal, data.tracks, 0.05), data, 0.02)
    policy, scores = Policy(Fusion(spec)), dict(zip(NAMES, data.normal.T, strict=True))

    found = early_verdicts(policy, scores)

    for index in range(50):
        asked = [name for name, here in zip(NAMES, found.asked[index], strict=True) if here]
        known = {name: float(scores[name][index]) for name in asked}
        assert asked == list(NAMES[: len(asked)]) and policy.settled(known)
        assert policy.judge(known).released == found.released[index]
    assert not found.asked.all()
    counts = found.classified([(), ("jpeg:50", "blur:2"), ("jpeg:50",)])
    assert set(counts.tolist()) <= {1, 3} and (counts == 1 + 2 * found.asked[:, 1]).all()


def test_learned_weights_find_the_detector_that_tells_and_are_never_negative() -> None:
    """A detector that sees nothing weighs next to nothing; one that falls under attack weighs nothing, not less."""
    data = table()
    data = replace(data, attacks={name: scores - [0, 3, 0] for name, scores in data.attacks.items()})

    sharp, noise, blunt = (term.weight for term in fit(data, "logistic").terms)

    assert noise == 0.0 and sharp > blunt > 0


def test_the_threshold_keeps_the_rate_and_the_attacks_are_found() -> None:
    """2 % asked on 200 tracks: at most about that on fresh normal images, nearly all of both attacks above it."""
    spec = with_threshold(fit(table(), "logistic"), table(1).normal, table(1).tracks, 0.02)

    assert (excess_of(spec, table(2).normal) > 0).mean() <= 0.04
    for scores in table(2).attacks.values():
        assert (excess_of(spec, scores) > 0).mean() > 0.95


def test_early_exits_lose_no_more_than_was_allowed() -> None:
    """Of each attack at most 2 % leave early that would have been withheld, and many normal images do leave."""
    data = table()
    spec = with_threshold(fit(data, "sum"), data.normal, data.tracks, 0.05)
    spec = with_early_exits(spec, data, 0.02)
    partial = shares_of(spec, data.normal).cumsum(axis=1)

    limits = [term.release_below for term in spec.terms]
    assert limits[-1] is None and any(limit is not None for limit in limits)
    for scores in data.attacks.values():
        rows = [dict(zip(NAMES, map(float, row), strict=True)) for row in scores]
        fusion = Fusion(spec)
        early = [_released_early(fusion, row) and fusion.excess(row) > 0 for row in rows]
        assert np.mean(early) <= 0.02
    leaving = [limit is not None and (partial[:, stop] < limit).mean() for stop, limit in enumerate(limits)]
    assert max(leaving) > 0.3


def _released_early(fusion: Fusion, scores: dict[str, float]) -> bool:
    known: dict[str, float] = {}
    for name in fusion.order[:-1]:
        known[name] = scores[name]
        if fusion.complete(known):
            return True
    return False


def test_a_table_without_attacks_an_unknown_rule_and_nan_are_refused() -> None:
    """Nothing to learn from is an error, not equal weights."""
    with pytest.raises(DataError, match="there are none"):
        fit(table().without(["loud", "quiet"]))
    with pytest.raises(UsageError, match="'best'"):
        fit(table(), "best")
    with pytest.raises(DataError, match="not finite"):
        fit(replace(table(), normal=np.full((600, 3), np.nan)))
