from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firewall.errors import DataError
from firewall.lab.datasets import gtsrb
from tests.conftest import SHARED_DATA


def test_the_official_layout_is_read(small_gtsrb: Path) -> None:
    """Labels come from the CSV, tracks from the file names, the test set has none."""
    train, test = gtsrb.load_train(small_gtsrb), gtsrb.load_test(small_gtsrb)

    assert len(train) == 258 and len(test) == 86
    assert np.unique(train.tracks).size == 129
    assert (train.tracks // 1000 == train.labels).all() and (test.tracks == -1).all()
    assert train.images[0].shape == (24, 22, 3)


@given(st.floats(0.01, 0.6), st.integers(0, 1000))
def test_a_track_stays_on_one_side_of_the_split(share: float, seed: int) -> None:
    """Frames of one sign are nearly the same picture: no split may part them, and every class is on both sides."""
    labels = np.repeat(np.arange(43), 12)
    tracks = labels * 1000 + np.tile(np.repeat(np.arange(4), 3), 43)
    data = gtsrb.Gtsrb([np.zeros((1, 1, 3), np.uint8)] * len(labels), labels, tracks)

    rest, taken = gtsrb.split_tracks(data, share, seed)

    assert (rest ^ taken).all()
    assert not set(tracks[rest]) & set(tracks[taken])
    assert set(labels[rest]) == set(labels[taken]) == set(range(43))


def test_the_split_depends_on_the_seed_alone(small_gtsrb: Path) -> None:
    """The same seed finds the same calibration images again, another seed others."""
    data = gtsrb.load_train(small_gtsrb)

    first, again, other = (gtsrb.split_tracks(data, 0.2, seed)[1] for seed in (5, 5, 6))

    assert (first == again).all() and (first != other).any()


def test_the_kept_out_part_is_whole_tracks_that_training_leaves_out(small_gtsrb: Path) -> None:
    """One track in ten, by the split of a training with seed 0: none of its frames is among those trained on."""
    everything, kept = gtsrb.open_gtsrb(small_gtsrb, "train"), gtsrb.open_gtsrb(small_gtsrb, "kept-out")
    trained_on, _ = gtsrb.split_tracks(gtsrb.load_train(small_gtsrb), 0.1, 0)

    assert set(kept.groups) and not set(kept.groups) & set(everything.groups[trained_on])
    assert set(kept.sources) == {s for s, inside in zip(everything.sources, ~trained_on, strict=True) if inside}


def test_fitted_and_kept_out_tracks_are_all_training_tracks_and_share_none(small_gtsrb: Path) -> None:
    """A detector fitted on the one part has seen nothing of the other, and no image is lost between them."""
    everything, kept, fitted = (gtsrb.open_gtsrb(small_gtsrb, part) for part in ("train", "kept-out", "fitted"))

    assert not set(kept.groups) & set(fitted.groups)
    assert set(kept.sources) | set(fitted.sources) == set(everything.sources)


def test_missing_data_says_what_to_get_and_where_to_put_it(tmp_path: Path) -> None:
    """No silent download, no traceback: which files, and which option."""
    for load in (gtsrb.load_train, gtsrb.load_test):
        with pytest.raises(DataError, match=r"GTSRB_Final_Training_Images.*--data"):
            load(tmp_path)


def test_a_table_that_does_not_fit_its_images_is_refused(small_gtsrb: Path, tmp_path: Path) -> None:
    """A row whose image is missing is an error that names the table."""
    folder = tmp_path / "Final_Training" / "Images" / "00000"
    folder.mkdir(parents=True)
    (folder / "GT-00000.csv").write_text("Filename;ClassId\n00000_00000.ppm;0\n")

    with pytest.raises(DataError, match=r"GT-00000\.csv"):
        gtsrb.load_train(tmp_path)


def test_a_broken_pack_is_refused(tmp_path: Path) -> None:
    """A file that is no pack gets one clear error."""
    (tmp_path / "gtsrb_train_broken.npz").write_bytes(b"PK\x03\x04 nothing more")

    with pytest.raises(DataError, match="gtsrb_train_broken"):
        gtsrb.load_train(tmp_path)


@pytest.mark.skipif(not SHARED_DATA.exists(), reason="the GTSRB packs are not here")
def test_the_real_packs_are_read() -> None:
    """21,113 training images of 1,131 tracks and 10,104 test images, 43 classes each."""
    train, test = gtsrb.load_train(SHARED_DATA), gtsrb.load_test(SHARED_DATA)

    assert (len(train), np.unique(train.tracks).size, len(test)) == (21_113, 1_131, 10_104)
    assert set(train.labels) == set(test.labels) == set(range(43))
