"""From verdicts to figures; which crops are taken; families of attacks; changes of benign crops."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from firewall.bundle import Seen, load_bundle
from firewall.errors import DataError, UsageError
from firewall.lab.attacks import ATTACKS
from firewall.lab.evaluation.crops.changes import CHANGES, changed
from firewall.lab.evaluation.crops.families import FAMILIES, families_of, members
from firewall.lab.evaluation.crops.figures import means, of_attack, of_benign, ranked
from firewall.lab.evaluation.crops.images import Crops, open_sets
from firewall.lab.evaluation.crops.verdicts import Row, suspicions
from firewall.lab.measurement.wrong_release import limits_at
from firewall.lab.models import open_classifier


def row(
    index: int, named: int | None, released: bool, suspicion: float | None, *, side: int = 30, group: int = -1
) -> Row:
    """An image of class 1."""
    reason = "benign" if released else "suspicious"
    label = named if released else None
    place = index if group < 0 else group
    return Row(index, f"{index}", place, 1, side, "", named, released, label, reason, suspicion, {})


def test_rates_of_an_attack() -> None:
    """Released wrongly, released right, withheld; at other thresholds by the suspicion alone; a failure is withheld at
    every threshold and is no success."""
    rows = [
        *(row(i, 2, True, -1.0) for i in range(3)),
        row(3, 2, False, 0.5),
        *(row(4 + i, 1, True, -2.0) for i in range(4)),
        row(8, 1, False, 3.0),
        row(9, None, False, None),
    ]
    benign = [row(100 + i, 1, True, -float(i)) for i in range(20)]
    entry = of_attack("shadow", rows, {"1": 1.0, "5": -1.5}, benign)

    assert {key: entry[key]["rate"] for key in ("wrong_release", "attack_success", "released_right", "withheld")} == {
        "wrong_release": 0.3,
        "attack_success": 0.4,
        "released_right": 0.4,
        "withheld": 0.3,
    }
    assert entry["wrong_release_at"]["1"]["rate"] == 0.4 and entry["wrong_release_at"]["5"]["rate"] == 0
    assert entry["wrong_release_of_successes"]["rate"] == 0.75 and entry["wrong_release_of_successes"]["n"] == 4
    assert entry["reasons"] == {"suspicious": 3} and entry["families"] == ["light"]
    assert entry["detection"]["n"] == 4 and entry["detection"]["tpr_at"]["5"]["rate"] == 1
    assert entry["detection"]["auroc"] == pytest.approx(0.75 * 0.925 + 0.25)


def test_intervals_take_a_group_as_one_draw() -> None:
    """Ten frames of one track say less than ten of ten."""
    alone = of_benign([row(i, 1, i > 1, 0.0) for i in range(10)], {"1": 0.0})
    together = of_benign([row(i, 1, i > 4, 0.0, group=i // 5) for i in range(10)], {"1": 0.0})
    assert alone["groups"] == 10 and together["groups"] == 2
    low, high = together["withheld"]["ci95"]
    assert together["withheld"]["rate"] == 0.5 and low < 0.05 and high > 0.95


def test_benign_images_by_size() -> None:
    """Each in one group; a side on a bound belongs to the larger sizes."""
    rows = [row(i, 1, side != 20, 0.0, side=side) for i, side in enumerate((10, 19, 20, 23, 24, 79, 80, 300))]
    found = of_benign(rows, {"1": 0.0}, sizes=True)["by_side"]
    assert {name: part["n"] for name, part in found.items()} == {
        "under 20": 2,
        "20 to 23": 2,
        "24 to 31": 1,
        "55 to 79": 1,
        "80 and more": 2,
    }
    assert found["20 to 23"]["rate"] == 0.5


def test_thresholds_of_benign_images() -> None:
    """1 % of 200 are two; an image that can't be judged counts as one above all; none at all is an error."""
    values = np.arange(200.0)
    assert limits_at(values) == {"1": 197.0, "2": 195.0, "5": 189.0}
    values[0] = np.inf
    assert limits_at(values) == {"1": 198.0, "2": 196.0, "5": 190.0}
    with pytest.raises(DataError, match="none of the 3 benign images"):
        limits_at(np.full(3, np.inf))
    assert suspicions([row(0, None, False, None)])[0] == np.inf


def test_the_worst_attack_leads() -> None:
    """Too few images come last, whatever their rate; of equal rates the one that gets more through elsewhere leads."""
    few = of_attack("a", [row(0, 2, True, 0.0)], {"1": 0.0}, [row(1, 1, True, 0.0)])
    none = of_attack("b", [row(i, 1, True, 0.0) for i in range(20)], {"1": 1.0}, [row(1, 1, True, 0.0)])
    some = of_attack("c", [row(i, 2, False, 0.5) for i in range(20)], {"1": 1.0}, [row(1, 1, True, 0.0)])
    bad = of_attack("d", [row(i, 2, i < 3, 0.5) for i in range(20)], {"1": 1.0}, [row(1, 1, True, 0.0)])
    assert list(ranked({"a": few, "b": none, "c": some, "d": bad})) == ["d", "c", "b", "a"]
    assert means({"c": some, "d": bad})["own-size"] == {"attacks": 2, "mean": 0.075, "worst": "d", "worst_rate": 0.15}


@pytest.mark.parametrize(
    ("name", "families"),
    [
        ("pgd-0.03@input", ("pixels",)),
        ("pgd-0.03", ("own-size",)),
        ("linf-8@input@jpeg-90@known", ("channel",)),
        ("linf-8@eot", ("channel", "own-size")),
        ("blurred-8@h264-23", ("channel", "own-size", "subspace")),
        ("low-frequency-16@input", ("subspace",)),
        ("shadow", ("light",)),
        ("shadow-refined@blur", ("channel", "light")),
        ("two-bars", ("occlusion",)),
        ("stickers-drawn", ("occlusion",)),
        ("stadv-wide@input", ("pose",)),
        ("adaptive", ("own-size", "adaptive")),
    ],
)
def test_families(name: str, families: tuple[str, ...]) -> None:
    """By the name alone, channels and size included."""
    assert families_of(name) == families


def test_every_attack_has_a_family() -> None:
    """And every name that a family lists begins the name of an attack, so that none is misspelt."""
    assert all(set(families_of(name)) <= set(FAMILIES) for name in ATTACKS)
    listed = {name for names in FAMILIES.values() for name in names} - {"adaptive"}
    assert not {name for name in listed if not any(f"{attack}-".startswith(f"{name}-") for attack in ATTACKS)}
    assert members("light", ("shadow", "bars", "glare")) == ("shadow", "glare")
    with pytest.raises(UsageError, match="unknown family"):
        members("sound", ("shadow",))


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("shape", [(1, 1), (3, 17), (40, 33)])
def test_changes_of_any_size(name: str, shape: tuple[int, int]) -> None:
    """Seeded, uint8, and nothing but pixels comes out, however small the crop is."""
    image = np.random.default_rng(1).integers(0, 256, (*shape, 3), np.uint8)
    (found,) = changed([image], name, seed=2)
    assert found.dtype == np.uint8 and found.ndim == 3 and found.shape[2] == 3 and 0 not in found.shape
    assert np.array_equal(found, changed([image], name, seed=2)[0])
    assert np.array_equal(changed([image, image], name, seed=2)[0], found)


def test_changes_do_what_they_are_called() -> None:
    """A box moves by no more than it says; warm has more red and less blue; motion smears along a line."""
    image = np.random.default_rng(1).integers(60, 200, (60, 80, 3), np.uint8)
    for name, most in (("box-5", 0.05), ("box-10", 0.1)):
        sizes = [changed([image], name, seed)[0].shape for seed in range(40)]
        shares = [(height / 60 - 1, width / 80 - 1) for height, width, _ in sizes]
        assert np.abs(shares).max() <= most + 0.01 and np.abs(shares).max() > most / 2
    warm = changed([image], "warm")[0].astype(float) / image
    assert warm[..., 0].mean() == pytest.approx(1.1, abs=0.02) and warm[..., 2].mean() == pytest.approx(0.75, abs=0.02)
    assert changed([image], "half")[0].shape == (30, 40, 3)
    point = np.zeros((61, 61, 3), np.uint8)
    point[30, 30] = 255
    smeared = changed([point], "motion", 3)[0][..., 0].astype(float)
    rows, columns = np.nonzero(smeared > 5)
    assert 3 <= max(np.ptp(rows), np.ptp(columns)) + 1 <= 8 and smeared.sum() == pytest.approx(255, rel=0.1)
    with pytest.raises(UsageError, match="known: jpeg-95"):
        changed([image], "snow")


def test_a_draw_takes_one_image_of_each_group_first() -> None:
    """So that few images are of many groups; and a shorter draw is the beginning of a longer one."""
    groups = np.repeat(np.arange(5), (1, 9, 2, 3, 5))
    crops = Crops([np.zeros((1, 1, 3), np.uint8)] * 20, groups, groups, [str(i) for i in range(20)])
    drawn = crops.drawn(3)
    assert sorted(drawn.groups[:5].tolist()) == [0, 1, 2, 3, 4] and sorted(drawn.groups[5:9].tolist()) == [1, 2, 3, 4]
    assert sorted(drawn.sources) == sorted(crops.sources) and drawn.sources != crops.drawn(4).sources


def test_no_group_is_on_two_sides_and_fitted_ones_are_left_out(small_gtsrb: Path) -> None:
    """Judged and calibration images share no track. Tracks that a part of the bundle was fitted to are not judged; if
    that leaves none, a note says so."""
    classifier, bundle = open_classifier("default"), load_bundle("default")
    sets = open_sets("gtsrb/train", bundle, classifier, small_gtsrb)
    judged, setting = set(sets.judged.groups.tolist()), set(sets.calibration.groups.tolist())
    assert judged and setting and not judged & setting and sets.about["images"] == "gtsrb/train"

    def fitted_to(groups: set[int]) -> object:
        seen = Seen(dataset="gtsrb", part="kept-out", groups=" ".join(map(str, sorted(groups))))
        manifest = bundle.manifest
        return type(bundle)(
            bundle.path,
            manifest.model_copy(update={"calibration": manifest.calibration.model_copy(update={"seen": seen})}),
            bundle.files,
            bundle.sha256,
        )

    some = set(sorted(judged)[: len(judged) // 2])
    left = open_sets("gtsrb/train", fitted_to(some), classifier, small_gtsrb)  # type: ignore[arg-type]
    assert not set(left.judged.groups.tolist()) & some and len(left.judged) > 0
    whole = {label * 1000 + track for label in range(43) for track in range(3)}
    every = open_sets("gtsrb/train", fitted_to(whole), classifier, small_gtsrb)  # type: ignore[arg-type]
    assert set(every.judged.groups.tolist()) >= judged and "better here" in " ".join(every.about["notes"])
    other = open_sets("gtsrb/kept-out", bundle, classifier, small_gtsrb, "gtsrb/train")
    assert not set(other.judged.groups.tolist()) & set(other.calibration.groups.tolist())
