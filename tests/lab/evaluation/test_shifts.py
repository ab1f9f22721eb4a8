"""Images under shift: what each shift does, and that judging under it is the edge's own judging."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from firewall import Firewall
from firewall.bundle import load_bundle
from firewall.errors import UsageError
from firewall.lab.database import Database
from firewall.lab.datasets.shifts import JPEG, SHIFTS, shifted
from firewall.lab.evaluation.shifts import under_shift
from firewall.lab.measurement.bundle_verdicts import judge_of
from firewall.lab.models import open_classifier


@pytest.mark.parametrize("name", SHIFTS)
def test_a_shift_changes_images_and_is_seeded(made: Path, name: str) -> None:
    """The same seed gives the same bytes; the image is still the sign it was, but another image; what an image becomes
    doesn't depend on those before it."""
    images = Database(made).normal[:3]
    found = shifted(images, name, seed=1)

    assert found.dtype == np.uint8 and found.shape == images.shape
    assert np.array_equal(found, shifted(images, name, seed=1))
    assert np.array_equal(found[:1], shifted(images[:1], name, seed=1))
    for before, after in zip(images, found, strict=True):
        assert not np.array_equal(before, after)
        assert np.corrcoef(before.ravel(), after.ravel())[0, 1] > 0.5


def test_shifts_are_what_they_are_called(made: Path) -> None:
    """Dark is darker, fog is brighter and flatter, noise adds what it says, a lower quality loses more."""
    images = Database(made).normal[:8]
    plain = images.astype(np.float64)

    assert shifted(images, "dark").mean() < 0.6 * plain.mean()
    assert shifted(images, "fog").std() < 0.8 * plain.std()
    middle = (plain > 30) & (plain < 225)
    assert (shifted(images, "noise") - plain)[middle].std() == pytest.approx(6, rel=0.05)
    losses = [np.abs(shifted(images, name) - plain).mean() for name in JPEG]
    assert losses == sorted(losses)


def test_an_unknown_shift() -> None:
    """The error lists what there is."""
    with pytest.raises(UsageError, match="known: jpeg-95"):
        shifted(np.zeros((1, 8, 8, 3), np.uint8), "snow")


def test_rates_are_those_of_the_edge(made: Path, guard: Firewall) -> None:
    """Withheld, right and wrongly released under noise are what the edge does with the very same pixels; without a
    shift the classifier is right, since only such images are in a database."""
    database = Database(made)
    judge = judge_of(load_bundle("default"), open_classifier("default"))
    found = under_shift(judge, database, ("eval",), 5, seed=3)

    where = np.flatnonzero(database.where("eval"))
    where = np.sort(np.random.default_rng(3).choice(where, 5, replace=False)) if len(where) > 5 else where
    verdicts = [guard.screen(image) for image in shifted(database.normal[where], "noise", 3)]
    named = np.array([verdict.suspected_label for verdict in verdicts])
    right = named == [database.card.normal[index].label for index in where]
    released = np.array([verdict.released for verdict in verdicts])
    noise = found["normal"]["noise"]
    assert noise["n"] == len(where)
    assert noise["withheld"] == np.mean(~released) and noise["accuracy"] == np.mean(right)
    assert noise["wrong_released"] == np.mean(released & ~right)
    assert found["normal"]["none"]["accuracy"] == 1 and set(found["normal"]) == {"none", *SHIFTS}
    for entries in found["attacks"].values():
        assert set(entries) == {"none", *JPEG} and entries["none"]["fooled"] == 1
