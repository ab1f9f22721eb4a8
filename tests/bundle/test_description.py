"""What `firewall bundle show` tells of a bundle and of its certificate, also where something is missing or false."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from firewall import cli
from firewall.bundle import Bundle, load_bundle, write_bundle
from firewall.bundle.certificate import CERTIFICATE_FILE, CertificateSpec, RateSpec, certificate, judges
from firewall.bundle.description import describe
from firewall.bundle.numerics import FUSED, Measurement, Numerics
from firewall.bundle.provenance import Provenance, StageFile, StageRecord
from firewall.bundle.trust import Trust
from firewall.errors import BundleError
from tests.fused_bundle import fused_bundle

RATE = {"images": 200, "hits": 10, "upper_if_independent": 0.0836}
GROUPED = {
    **RATE,
    "groups": 50,
    "drawn_hits": 1,
    "upper": 0.0914,
    "upper_jointly": 0.1258,
    "group_hits": 4,
    "group_upper": 0.1738,
}


def rewritten(folder: Path, *, certified: dict[str, Any] | None = None, **changes: Any) -> Bundle:
    """The default bundle with other fields, and with this certificate or none; its `judges` is filled in."""
    plain = load_bundle(fused_bundle())
    fields = {**plain.manifest.model_dump(exclude={"files"}), **changes}
    files = {name: content for name, content in plain.files.items() if name != CERTIFICATE_FILE}
    if certified is not None:
        made = write_bundle(folder, files, **fields)
        files[CERTIFICATE_FILE] = json.dumps({"judges": judges(made.manifest), **certified}).encode()
    return write_bundle(folder, files, **fields)


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal on which no cell of a table is cut in two."""
    monkeypatch.setenv("COLUMNS", "400")


def promise(rate: dict[str, Any], **conformal: Any) -> dict[str, Any]:
    """A certificate of one evaluation, without what it is bound to."""
    held = {"rate": 0.01, "unit": "groups", "count": 306, "needed": 99, "holds": True, **conformal}
    evaluated = {"file": "e.json", "sha256": "1" * 64, "dataset": "gtsrb", "part": "test", "split": "eval"}
    return {
        "confidence": 0.95,
        "bounds": 3,
        "conformal": held,
        "evaluations": [{**evaluated, "false_alarms": rate, "misses": {"fgsm": rate}}],
        "not_covered": ["fog"],
    }


def shown(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert cli.run(cli.app, ["bundle", "show", str(bundle.path)], "firewall") == 0
    return " ".join(capsys.readouterr().out.split())


def test_a_bundle_of_bare_thresholds_shows_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without fusion, correction and certificate: each detector's own threshold, and no word of what isn't there."""
    plain = load_bundle(fused_bundle()).manifest
    bundle = rewritten(tmp_path / "b", fusion=None, correction=None)

    card, text = describe(bundle), shown(bundle, capsys)

    assert (card["fusion"], card["certificate"], card["correction"]) == (None, None, False)
    for spec in plain.detectors:
        assert f"{spec.name} {spec.threshold:.6g}" in text
    assert not any(word in text for word in ("fusion", "certificate", "correction", "centre", "bound"))


def test_the_fusion_is_shown_as_it_judges(capsys: pytest.CaptureFixture[str]) -> None:
    """Threshold and each detector's numbers; a detector that withholds by itself is named with its limit."""
    fusion = load_bundle(fused_bundle()).manifest.fusion
    assert fusion is not None
    text = shown(load_bundle(fused_bundle()), capsys)

    assert f"withheld above {fusion.threshold:.6g}" in text and "in the fusion" in text
    alone = {term.detector: term.withhold_above for term in fusion.terms if term.withhold_above is not None}
    assert alone and text.count("withholds by itself") == len(alone)
    assert all(f"{name} above {limit:.6g} withholds by itself" in text for name, limit in alone.items())


def test_margins_are_shown_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What the thresholds leave for other arithmetic, by detector, and on what that rests."""
    measured = Measurement(variants=("2 threads", "fp16"), images=200, largest={"residual": 0.0125}, flips=1)
    numerics = Numerics(margin={"residual": 0.0125, FUSED: 0.002}, measured=measured)
    says = "residual 0.013, fused 0.002; 200 images scored with 2 other kinds of arithmetic, the class changed on 1"
    bundle = rewritten(tmp_path / "b", numerics=numerics)

    assert numerics.line() == says and describe(bundle)["numerics"]["says"] == says
    assert f"in the thresholds, for other arithmetic: {says}" in shown(bundle, capsys)
    assert "for other arithmetic" not in shown(rewritten(tmp_path / "c", numerics=None), capsys)


def test_a_promise_that_nothing_qualifies_is_told_plainly(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither a bound of this very calibration nor a contradiction: neither is mentioned. Bounds as they were found."""
    text = shown(rewritten(tmp_path / "b", certified=promise(GROUPED)), capsys)

    assert "at most 1.000% false alarms on new groups" in text and "the 306 they were set on" in text
    assert "(99 are needed: enough)" in text and "of this very calibration" not in text and "CONTRADICTS" not in text
    assert "missed: fgsm 10 of 200 50 1 drawn: 9.14% 12.58% 4 17.38%" in text and "- fog" in text


def test_a_promise_that_does_not_hold_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Too few groups, an evaluation that contradicts it, and rates whose frames nobody grouped: all in plain words."""
    doubtful = promise(RATE, count=50, holds=False, conditional=0.0582, contradicted=True)

    text = shown(rewritten(tmp_path / "b", certified=doubtful), capsys)

    assert "(99 are needed: NOT ENOUGH, no promise)" in text
    assert "of this very calibration, at 95%: below 5.82%" in text
    assert "an evaluation CONTRADICTS it" in text
    assert "false alarms 10 of 200 unknown none (8.36% if images were independent)" in text


def test_a_certificate_is_bound_to_what_judges(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """None, a valid one, one that is damaged and one of another bundle: the last two are refused, and shown as false
    with all else of the bundle."""
    assert certificate(rewritten(tmp_path / "none")) is None
    valid = rewritten(tmp_path / "valid", certified=promise(GROUPED))
    spec = certificate(valid)
    assert isinstance(spec, CertificateSpec) and spec.judges == judges(valid.manifest)
    for name, wrong, said in (
        ("alien", {**promise(GROUPED), "judges": "0" * 64}, "made for other detectors or thresholds"),
        ("damaged", {**promise(GROUPED), "confidence": 1.5}, "is not valid: confidence: "),
    ):
        bundle = rewritten(tmp_path / name, certified=wrong)
        with pytest.raises(BundleError, match=said):
            certificate(bundle)
        text = shown(bundle, capsys)
        assert (
            f"certificate: {CERTIFICATE_FILE} of bundle" in text and said.strip() in text and "classifier.onnx" in text
        )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"hits": 201}, "201 of 200"),
        ({"drawn_hits": 51}, r"\[51, 4\] of 50"),
        ({"group_hits": 51}, r"\[1, 51\] of 50"),
        ({"groups": None, "drawn_hits": 201}, r"\[201, 4\] of 200"),
    ],
)
def test_more_hits_than_there_were_is_no_rate(changes: dict[str, int], said: str) -> None:
    """Of images, of groups, and of images again where nobody knows the groups; as many as there were are possible."""
    with pytest.raises(ValueError, match=said):
        RateSpec.model_validate({**GROUPED, **changes})
    assert RateSpec.model_validate({**GROUPED, "hits": 200, "drawn_hits": 50, "group_hits": 50}).hits == 200


def test_what_judges_is_all_that_a_verdict_depends_on(tmp_path: Path) -> None:
    """Another threshold, another fusion or another file of a detector is another judge; name, notes and the number of
    the version are not."""
    plain = load_bundle(fused_bundle())
    own = judges(plain.manifest)
    first, *others = plain.manifest.detectors
    fusion = plain.manifest.fusion
    assert fusion is not None
    moved = first.model_copy(update={"threshold": first.threshold + 1})
    for change in (
        {"detectors": (moved, *others)},
        {"fusion": fusion.model_copy(update={"threshold": fusion.threshold + 1})},
        {"fusion": None},
    ):
        assert judges(plain.manifest.model_copy(update=change)) != own
    other_file = plain.manifest.files["residual.onnx"].model_copy(update={"sha256": "0" * 64})
    files = {**plain.manifest.files, "residual.onnx": other_file}
    assert judges(plain.manifest.model_copy(update={"files": files})) != own
    assert judges(plain.manifest.model_copy(update={"name": "b", "version": 9, "citations": ("c",)})) == own


def test_how_a_bundle_was_made_is_shown_stage_by_stage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What each stage read and wrote, by the first digits of its hash, in the recipe's order; nothing without one."""
    data = StageFile(path="data", hash=f"md5:{'a' * 32}.dir")
    network = StageFile(path="[red]net.onnx", hash=f"md5:{'b' * 32}")
    stages = {
        "train": StageRecord(command="firewall lab train", inputs=(data,), outputs=(network,)),
        "fuse": StageRecord(command="firewall lab fuse", inputs=(data, network)),
    }
    text = shown(rewritten(tmp_path / "b", provenance=Provenance(tool="DVC 3", stages=stages)), capsys)

    assert "made by a recipe of 2 stages (DVC 3); commands: --json" in text
    assert "train data md5:aaaaaaaa [red]net.onnx md5:bbbbbbbb" in text
    assert "fuse data md5:aaaaaaaa, [red]net.onnx md5:bbbbbbbb" in text
    assert "recipe" not in shown(rewritten(tmp_path / "c", provenance=None), capsys)


def limits(detectors: list[str], coverage: list[dict[str, Any]]) -> bytes:
    """A `conditional.json` of two groups."""
    entry = {"threshold": 1.5, "limits": [{"median": 0.0, "unit": 1.0, "limit": 2.25}] * len(detectors)}
    spec = {"detectors": detectors, "edges": [24], "power": 2.0, "groups": [entry, entry], "rate": 0.01, "level": 0.003}
    seen = {"dataset": "gtsrb", "part": "kept-out", "groups": "1 2"}
    return json.dumps({**spec, "coverage": coverage, "fitted": [seen]}).encode()


def test_limits_by_size_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each group with its sizes, limits and what was measured there; sizes without a measurement say so."""
    plain = load_bundle(fused_bundle())
    names = [spec.name for spec in plain.manifest.detectors]
    found = {"tracks": 70, "images": 900, "withheld": 0.0123, "low": 0.004, "high": 0.03}
    coverage = [{"group": 1, **found}, {"group": None, **found}, {"part": "fog", "group": None, **found}]
    fields = plain.manifest.model_dump(exclude={"files"})
    write_bundle(tmp_path, {**plain.files, "conditional.json": limits(names, coverage)}, **fields)

    assert cli.run(cli.app, ["bundle", "show", str(tmp_path)], "firewall") == 0
    text = capsys.readouterr().out
    assert "limits by size, set for 1.000% withheld" in text
    assert re.search(r"1-23 pixels +1\.5 .*2\.25 +unknown", text) and re.search(
        r"24 and more pixels .*1\.23% +70", text
    )
    assert "withheld, clean: 1.23% (0.40% to 3.00%), 70 tracks of 900 images" in text and "withheld, fog:" in text
    card = describe(load_bundle(tmp_path, trust=Trust()))
    assert card["conditional"]["edges"] == [24] and card["conditional"]["fitted"][0]["groups"] == 2


def test_limits_of_another_bundle_are_named_as_such(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All else is shown."""
    plain = load_bundle(fused_bundle())
    fields = plain.manifest.model_dump(exclude={"files"})
    write_bundle(tmp_path, {**plain.files, "conditional.json": limits(["other"], [])}, **fields)

    assert cli.run(cli.app, ["bundle", "show", str(tmp_path)], "firewall") == 0
    text = capsys.readouterr().out
    assert "limits by size: conditional.json of bundle" in text and "has limits for other" in text
    assert plain.manifest.classifier.file in text
