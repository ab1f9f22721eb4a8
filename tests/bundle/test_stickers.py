"""What a bundle says of masks over stickers: `stickers.json`, its demand, and how they are shown."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from firewall import cli
from firewall.bundle import PatchSpec, load_bundle, write_bundle
from firewall.bundle.stickers import STICKERS_FILE, CurveSpec, stickers
from firewall.decision.masking import largest_sticker
from firewall.lab.calibration.bundling import rewritten


def _shown(folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    assert cli.run(cli.app, ["bundle", "show", str(folder)], "firewall") == 0
    return " ".join(capsys.readouterr().out.split())


def test_the_default_bundle_states_what_it_releases_and_certifies() -> None:
    """At a tau that was chosen on signs that were kept out of training, at least 97 % of the others are released."""
    stated = stickers(load_bundle())
    assert stated is not None and {curve.side for curve in stated.curves} == {5, 7}
    for curve in stated.curves:
        (point,) = [each for each in curve.points if each.rule == "object" and each.tau == curve.chosen]
        assert point.released_right >= 0.97 * curve.on.images and point.certified >= 0.5 * curve.on.images
        assert curve.chosen_on is not None and curve.chosen_on.part != curve.on.part


def test_a_demand_is_shown_with_or_without_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A bundle that asks for masks itself says so; without a curve no word of what is certified."""
    plain = load_bundle()
    files = {name: content for name, content in plain.files.items() if name != STICKERS_FILE}
    fields = plain.manifest.model_dump(exclude={"files", "golden"})
    write_bundle(tmp_path / "b", files, **{**fields, "patches": PatchSpec(area=0.02, tau=0.9, rule="object")})

    shown = _shown(tmp_path / "b", capsys)
    assert "stickers: the bundle asks for area 0.02" in shown and "tau 0.9" in shown
    assert "certified: clean images" not in shown


def test_figures_of_another_network_are_named_as_such(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All else is shown."""
    plain = load_bundle()
    stated = stickers(plain)
    assert stated is not None
    other = stated.model_copy(update={"classifier": "0" * 64})
    rewritten(plain, tmp_path / "b", {STICKERS_FILE: other.model_dump_json().encode()})

    shown = _shown(tmp_path / "b", capsys)
    assert "stickers: stickers.json of bundle" in shown and "was measured with another network" in shown
    assert plain.manifest.classifier.file in shown


def test_a_curve_without_a_chosen_tau_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain = load_bundle()
    stated = stickers(plain)
    assert stated is not None
    curve = stated.curves[0].model_copy(update={"chosen": None, "chosen_on": None, "wanted": None})
    bare = stated.model_copy(update={"curves": (curve,)})
    rewritten(plain, tmp_path / "b", {STICKERS_FILE: bare.model_dump_json().encode()})

    shown = _shown(tmp_path / "b", capsys)
    assert "stickers of 5x5 pixels" in shown and "chosen to release" not in shown


@pytest.mark.parametrize("changed", [{"released_right": 601}, {"certified": 601}, {"named_right": 600}])
def test_more_than_there_were_is_no_count(changed: dict[str, int]) -> None:
    stated = stickers(load_bundle())
    assert stated is not None
    curve = stated.curves[0].model_dump()
    first, *others = curve["points"]
    with pytest.raises(ValidationError, match="there can't be so many"):
        CurveSpec.model_validate({**curve, "points": ({**first, **changed}, *others)})


def test_a_rule_without_tau_is_written_down() -> None:
    """Only what says nothing of a dial looks as it did before there was one."""
    assert PatchSpec(area=0.02, rule="object").model_dump(exclude_defaults=True) == {"area": 0.02, "rule": "object"}
    assert "rule" not in PatchSpec(area=0.02).model_dump()
    assert PatchSpec(area=0.02, rule="object").model_dump()["rule"] == "object"


def test_a_region_of_the_inputs_size_is_not_resized() -> None:
    """So the widest sticker is the square itself; where it is enlarged or shrunk it is smaller than its share."""
    assert largest_sticker(5, 48, 48) == 5
    assert largest_sticker(5, 48, 96) < 10 and largest_sticker(5, 48, 24) < 2.5
