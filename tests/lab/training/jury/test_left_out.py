"""A family that is left out is in no augmentation, in no adversarial step and in no image that limits are set on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
import torch
from torch.optim.swa_utils import AveragedModel

from benchmarks.left_out_bundles import NOTHING, calibration
from firewall.errors import UsageError
from firewall.frame import Pixels
from firewall.lab.datasets import families, obstructions, shifts
from firewall.lab.evaluation.crops.families import FAMILIES as ATTACKS
from firewall.lab.models.juror import KINDS, Juror
from firewall.lab.training.classifiers import augmentation
from firewall.lab.training.classifiers import variety as drawing
from firewall.lab.training.classifiers.augmentation import STEPS, augment
from firewall.lab.training.classifiers.sign_training import Settings
from firewall.lab.training.classifiers.variety import WEATHER
from firewall.lab.training.jury.opinions import Opinions
from firewall.lab.training.jury.sign_juror import sign_variety
from firewall.lab.training.jury.training import JurorSettings, _started, sign_adversary
from firewall.transforms import resize

#: Versions of each family in which all that is drawn at all is met.
ENOUGH = 400
#: What of an augmentation is of which family, written down once more, by hand.
EXPECTED = {
    "channel": {"resize", "blur", "noise", "jpeg", "weather noise", "weather sharp"},
    "light": {"shadow", "beam", "glare", "projector", "cast", "light", "weather dark", "weather bright", "weather fog"},
    "occlusion": {"bars", "stickers", "leaves", "dirt", "drops", "occlude", "weather rain"},
    "pose": {"pose"},
    "subspace": set(),
}


def image(seed: int = 0) -> Pixels:
    """A smooth picture larger than a juror's input, so that every step changes it."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    return resize(coarse, 60, 62)


@pytest.fixture
def met(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Fills with what versions are really made of: each draw is the real one and leaves its name."""
    seen: set[str] = set()

    def noted(name: str, draw: Callable[..., Pixels]) -> Callable[..., Pixels]:
        def run(*arguments: object, **more: object) -> Pixels:
            seen.add(name)
            return draw(*arguments, **more)

        return run

    draws = {name: noted(name, draw) for name, draw in obstructions.OBSTRUCTIONS.items()}
    monkeypatch.setattr(obstructions, "OBSTRUCTIONS", MappingProxyType(draws))
    for step in ("pose", "light", "blur", "jpeg", "occlude"):
        monkeypatch.setattr(augmentation, f"_{step}", noted(step, getattr(augmentation, f"_{step}")))
    kinds = {
        name: shifts.Kind(noted(f"weather {name}", kind.physics), kind.ranges) for name, kind in shifts.KINDS.items()
    }
    monkeypatch.setattr(drawing, "KINDS", MappingProxyType(kinds))
    return seen


@pytest.mark.parametrize("family", [*EXPECTED, ""])
def test_no_version_has_met_the_family(family: str, met: set[str]) -> None:
    """Of many versions none has anything of it, and all that is of other families is still drawn; with nothing left out
    all is drawn. Resizing and noise have no function of their own: see the next test."""
    variety = sign_variety(JurorSettings(without=(family,) if family else ()))
    versions = Opinions([image(1), image(2)], [0, 1], [], reject=43, size=48, variety=variety, seed=3)
    for number in range(ENOUGH):
        versions[number, number % 2]
    all_names = set().union(*EXPECTED.values()) - {"resize", "noise"}
    assert met == all_names - EXPECTED.get(family, set())
    assert set(variety.without) == EXPECTED.get(family, set()) & set(STEPS)
    assert Settings(without=(family,) if family else ()).variety().kinds == variety.kinds, "the classifier's too"


def test_each_step_is_left_out_by_its_name() -> None:
    """With every step but one left out some versions differ from the mere image at the juror's size, so that one is on;
    with all of them left out none does, so there is no step without a name."""
    mere = resize(image(), 48, 48)
    for step in STEPS:
        others = [name for name in STEPS if name != step]
        made = [augment(image(), 48, np.random.default_rng(seed), others) for seed in range(30)]
        assert any(not np.array_equal(one, mere) for one in made), step
    for seed in range(30):
        assert np.array_equal(augment(image(), 48, np.random.default_rng(seed), STEPS), mere)


def test_every_part_of_an_augmentation_is_of_one_family() -> None:
    """Nothing is drawn that no family would leave out; what attacks draw of a family, its augmentation leaves out."""
    listed = [part for family in families.FAMILIES.values() for part in (*family.obstructions, *family.steps)]
    assert sorted(listed) == sorted([*obstructions.OBSTRUCTIONS, *STEPS])
    weather = [kind for family in families.FAMILIES.values() for kind in family.weather]
    assert sorted(weather) == sorted(shifts.KINDS) and set(WEATHER) <= set(weather)
    assert set(families.FAMILIES) <= set(ATTACKS)
    for name in ("light", "occlusion"):
        assert set(families.FAMILIES[name].obstructions) == set(ATTACKS[name]) & set(obstructions.OBSTRUCTIONS)


def test_without_the_subspace_no_adversarial_step_is_smooth() -> None:
    """The share of a batch that is attacked is that of full-band steps alone; other families keep smooth ones."""
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 8, 3))
    images, labels = torch.rand(20, 3, 8, 8), torch.zeros(20, dtype=torch.long)
    for without, share in (((), 0.65), (("subspace",), 0.4), (("light",), 0.65)):
        adversary = sign_adversary(JurorSettings(without=without))
        changed = (adversary(network, images, labels, 1.0) != images).flatten(1).any(1)
        assert int(changed.sum()) == round(share * 20), without


@pytest.mark.parametrize(
    ("family", "gone", "far"),
    [
        ("channel", {"jpeg-95", "jpeg-85", "jpeg-70", "blur", "noise", "sharp"}, 0),
        ("light", {"dark", "bright", "fog"}, 2),
        ("occlusion", {"rain"}, 2),
        ("pose", set(), 2),
        (NOTHING, set(), 2),
    ],
)
def test_limits_are_set_without_the_family(family: str, gone: set[str], far: int) -> None:
    """No benign image is under a shift of it; without channels none is made smaller either."""
    settings = calibration(family, 0.02)
    assert set(settings.shifts) == set(shifts.SHIFTS) - gone and settings.far == far


def test_a_single_obstruction_is_left_out_alone_and_unknown_names_are_named() -> None:
    """`shadow` is no family; a family that no augmentation holds can't be left out."""
    kinds = sign_variety(JurorSettings(without=("shadow",))).kinds
    assert kinds == tuple(name for name in obstructions.OBSTRUCTIONS if name != "shadow")
    for name in ("adaptive", "own-size", "mud"):
        with pytest.raises(UsageError, match=f"unknown obstruction or family '{name}'; known: shadow.*channel, light"):
            sign_variety(JurorSettings(without=(name,)))
    with pytest.raises(UsageError, match="no obstruction is left"):
        sign_variety(JurorSettings(without=("light", "occlusion")))


def test_a_start_that_has_met_what_is_left_out_is_refused(tmp_path: Path) -> None:
    """Weights remember: a juror that goes on from a checkpoint leaves out only what that had left out too."""
    settings = JurorSettings(kind="coarse", outputs=4, without=("light", "dirt"))
    network = AveragedModel(Juror(KINDS["coarse"], 4), use_buffers=True)
    for number, before in enumerate((("light",), ("dirt", "light"))):
        saved = {"average": network.state_dict(), "settings": asdict(replace(settings, without=before)), "epoch": 1}
        torch.save(saved, tmp_path / f"{number}.pt")
    with pytest.raises(UsageError, match="a juror that has met dirt, which --without leaves out"):
        _started(replace(settings, start=str(tmp_path / "0.pt")))
    assert isinstance(_started(replace(settings, start=str(tmp_path / "1.pt"))), Juror)
