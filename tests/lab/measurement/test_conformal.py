from __future__ import annotations

import numpy as np
import pytest

from firewall.errors import DataError, UsageError
from firewall.lab.measurement.conformal import needed_tracks, track_p_values, track_threshold


def _drawn(generator: np.random.Generator, tracks: int, frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores whose tracks differ more than the frames of one, and are of unequal length."""
    lengths = generator.integers(1, frames + 1, tracks)
    owners = np.repeat(np.arange(tracks), lengths)
    return generator.normal(size=tracks)[owners] + 0.3 * generator.normal(size=len(owners)), owners


def test_the_rate_holds_on_frames_of_new_tracks() -> None:
    """Over 4,000 calibrations on 19 tracks, a frame of another track lies above the threshold in at most 10 %."""
    generator = np.random.default_rng(0)
    above = []
    for _ in range(4000):
        scores, tracks = _drawn(generator, 19, 12)
        fresh, _ = _drawn(generator, 1, 1)
        above.append(fresh[0] > track_threshold(scores, tracks, 0.1))

    assert 0.05 < np.mean(above) < 0.1 + 3 * np.sqrt(0.09 / 4000)


def test_frames_taken_for_independent_would_break_the_rate() -> None:
    """Why tracks count: with each frame as a unit of its own the same data withhold more than was asked."""
    generator = np.random.default_rng(1)
    above = []
    for _ in range(4000):
        scores, tracks = _drawn(generator, 19, 60)
        fresh, _ = _drawn(generator, 1, 1)
        above.append(fresh[0] > track_threshold(scores, np.arange(len(tracks)), 0.05))

    assert np.mean(above) > 0.05 + 3 * np.sqrt(0.05 * 0.95 / 4000)


def test_one_frame_a_track_is_ordinary_conformal_prediction() -> None:
    """With 99 tracks of one frame and 5 % the threshold is the 95th smallest score: ceil(100 * .95)."""
    scores = np.random.default_rng(2).permutation(99).astype(float)

    assert track_threshold(scores, np.arange(99), 0.05) == 94.0


def test_the_threshold_is_where_p_values_reach_the_rate() -> None:
    """A score is above the threshold just if its p-value is at most the rate."""
    generator = np.random.default_rng(3)
    scores, tracks = _drawn(generator, 40, 9)
    fresh = generator.normal(size=500) * 3
    threshold = track_threshold(scores, tracks, 0.1)

    values = track_p_values(fresh, scores, tracks)

    assert ((values <= 0.1 + 1e-12) == (fresh > threshold)).all()
    assert values.min() >= 1 / 41 - 1e-12 and values.max() <= 1.0


@pytest.mark.parametrize(("rate", "needed"), [(0.01, 99), (0.05, 19), (0.5, 1)])
def test_too_few_tracks_say_how_many_are_needed(rate: float, needed: int) -> None:
    """No threshold can promise 1 % with 98 tracks, however many frames they have."""
    assert needed_tracks(rate) == needed
    scores, tracks = np.arange(10.0 * needed), np.repeat(np.arange(needed), 10)

    assert np.isfinite(track_threshold(scores, tracks, rate))
    if needed > 1:
        with pytest.raises(DataError, match=f"at least {needed} tracks of benign images, got {needed - 1}"):
            track_threshold(scores[10:], tracks[10:], rate)


def test_scores_that_are_no_numbers_and_rates_outside_0_and_1_are_refused() -> None:
    """Neither becomes a threshold."""
    with pytest.raises(DataError, match="not finite"):
        track_threshold(np.array([0.0, np.nan]), np.array([0, 1]), 0.5)
    for rate in (0.0, 1.0, -1.0, float("nan")):
        with pytest.raises(UsageError, match="between 0 and 1"):
            track_threshold(np.zeros(3), np.arange(3), rate)
