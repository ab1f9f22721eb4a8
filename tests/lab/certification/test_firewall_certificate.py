"""The certificate of the firewall as a whole: bounds that hold, bound to one bundle, shown by `bundle show`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel
from scipy.stats import beta

from firewall import cli
from firewall.bundle import Bundle, load_bundle, write_bundle
from firewall.bundle.certificate import CERTIFICATE_FILE, certificate, judges
from firewall.errors import BundleError, DataError, UsageError
from firewall.lab.certification.firewall_certificate import certify
from firewall.lab.cli import app
from firewall.lab.evaluation.over_time import with_file
from firewall.lab.measurement.by_group import by_group, upper_bound


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The package's, without the files that judge nothing, in a folder of its own."""
    plain = load_bundle()
    fields = {field: getattr(plain.manifest, field) for field in type(plain.manifest).model_fields}
    del fields["files"], fields["golden"]
    own = {name: content for name, content in plain.files.items() if name.endswith(".onnx")}
    return write_bundle(tmp_path_factory.mktemp("plain") / "b", own, **fields)


def _evaluation(bundle: Bundle, *, grouped: bool = True, false_alarms: int = 3) -> dict[str, Any]:
    def counts(images: int, hits: int, groups: int, group_hits: int, drawn: int) -> dict[str, int]:
        return {"images": images, "hits": hits, "groups": groups, "group_hits": group_hits, "drawn_hits": drawn}

    normal: dict[str, Any] = {"n": 1000, "false_positive_rate": false_alarms / 100}
    fgsm: dict[str, Any] = {"n": 200, "withheld": 0.95}
    if grouped:
        normal["by_group"] = counts(1000, 10 * false_alarms, 100, false_alarms, false_alarms)
        fgsm["by_group"] = counts(200, 10, 50, 4, 1)
    return {
        "normal": normal,
        "bundle": {"fgsm": fgsm},
        **({"families": {"sign step": {"attacks": ["fgsm"], **counts(200, 10, 50, 4, 1)}}} if grouped else {}),
        "about": {
            "bundle_sha256": bundle.sha256,
            **({"judges": judges(bundle.manifest)} if grouped else {}),
            "split": "eval",
            "database": {"dataset": "gtsrb", "part": "test"},
            "notes": ["a note"],
        },
    }


def _write(path: Path, values: object) -> Path:
    path.write_text(json.dumps(values))
    return path


def test_counts_by_group_are_those_of_a_loop() -> None:
    """Groups, groups with any hit, and one image a group, which is drawn without a look at the hits."""
    generator = np.random.default_rng(1)
    groups, hits = generator.integers(0, 40, 300), generator.random(300) < 0.1

    found = by_group(hits, groups)

    names = set(groups.tolist())
    assert (found["images"], found["hits"], found["groups"]) == (300, hits.sum(), len(names))
    assert found["group_hits"] == sum(bool(hits[groups == name].any()) for name in names)
    assert found["drawn_hits"] <= found["group_hits"]
    drawn = [by_group(hits, groups, seed)["drawn_hits"] / len(names) for seed in range(200)]
    expected = np.mean([hits[groups == name].mean() for name in names])
    assert np.mean(drawn) == pytest.approx(expected, abs=0.01)
    with pytest.raises(DataError, match="each image needs one of both"):
        by_group(hits, groups[:-1])


def test_the_bound_holds_where_frames_of_a_group_go_together() -> None:
    """Of 95 % bounds at most 5 % lie below the truth, with groups whose frames are all hit or all spared; the bound
    that takes the same frames for independent fails far more often."""
    generator = np.random.default_rng(0)
    rate, failures, naive = 0.08, 0, 0
    for _ in range(400):
        groups = np.repeat(np.arange(60), 20)
        hits = (generator.random(60) < rate)[groups]
        found = by_group(hits, groups)
        failures += upper_bound(found["drawn_hits"], found["groups"], 0.95) < rate
        naive += upper_bound(found["hits"], found["images"], 0.95) < rate
    assert failures / 400 <= 0.05 + 3 * (0.05 * 0.95 / 400) ** 0.5
    assert naive / 400 > 0.2


def test_the_bound_is_clopper_and_pearsons() -> None:
    """No hit of n: 1 - 0.05^(1/n); otherwise the quantile of a beta distribution."""
    assert upper_bound(0, 100, 0.95) == pytest.approx(1 - 0.05**0.01)
    assert upper_bound(3, 100, 0.99) == pytest.approx(beta.ppf(0.99, 4, 97))
    assert upper_bound(7, 7, 0.95) == 1.0
    with pytest.raises(UsageError, match="confidence"):
        upper_bound(0, 1, 1.0)
    with pytest.raises(DataError, match=r"8 of 7"):
        upper_bound(8, 7, 0.95)


def test_a_certificate_is_written_into_the_bundle_and_shown(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command writes it, `bundle show` tells bounds and what they don't cover, and the verdicts' part of the bundle
    is the same as before."""
    file = _write(tmp_path / "e.json", _evaluation(bundle))
    command = ["certify", "firewall", "--bundle", str(bundle.path), "--evaluation", str(file)]

    code = cli.run(app, [*command, "--out", str(tmp_path / "b"), "--json", str(tmp_path / "c.json")], "firewall lab")

    assert code == 0
    written = load_bundle(tmp_path / "b")
    spec = certificate(written)
    assert spec is not None and judges(written.manifest) == judges(bundle.manifest) == spec.judges
    assert spec.model_dump(mode="json") == json.loads((tmp_path / "c.json").read_text())
    (found,) = spec.evaluations
    assert found.misses["fgsm"].upper == upper_bound(1, 50, 0.95) and found.misses["fgsm"].hits == 10
    assert found.misses["fgsm"].upper_jointly == upper_bound(1, 50, 1 - 0.05 / 3) and spec.bounds == 3
    assert found.false_alarms.group_upper == upper_bound(3, 100, 0.95)
    assert cli.run(cli.app, ["bundle", "show", str(tmp_path / "b")], "firewall") == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "attackers who know the firewall" in shown and "missed: fgsm" in shown and "a note" in shown
    assert f"{found.misses['fgsm'].upper:.2%}" in shown


def test_an_evaluation_stays_valid_when_the_certificate_is_added(bundle: Bundle, tmp_path: Path) -> None:
    """Also one of an older version, which tells the bundle by its manifest's hash alone; without groups it gets no
    bound, and says so."""
    old = _write(tmp_path / "old.json", _evaluation(bundle, grouped=False))
    first = certify(bundle, [old])
    written = with_file(bundle, tmp_path / "b", CERTIFICATE_FILE, first)

    again = certify(written, [old])

    assert written.sha256 != bundle.sha256 and again == first
    rate = again.evaluations[0].false_alarms
    assert rate.upper is None and rate.groups is None and rate.upper_if_independent == upper_bound(30, 1000, 0.95)


def test_a_promise_that_an_evaluation_contradicts_is_called_so(bundle: Bundle, tmp_path: Path) -> None:
    """Thirty false alarms in a hundred groups don't go with a promise of one per cent; none does."""
    worse = _write(tmp_path / "w.json", _evaluation(bundle, false_alarms=30))
    good = _write(tmp_path / "g.json", _evaluation(bundle, false_alarms=0))

    assert certify(bundle, [worse]).conformal.contradicted is True
    found = certify(bundle, [good]).conformal
    assert found.contradicted is False
    assert found.rate == bundle.manifest.calibration.false_positive_rate
    assert found.holds == (found.count >= found.needed)


def test_a_certificate_of_other_thresholds_is_worth_nothing(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Copied into a bundle that judges otherwise it is called so where it is shown, and refused where it is used."""

    class _Verbatim(BaseModel):
        judges: str

    spec = certify(bundle, [_write(tmp_path / "e.json", _evaluation(bundle))])
    alien = with_file(bundle, tmp_path / "b", CERTIFICATE_FILE, spec.model_copy(update={"judges": "0" * 64}))
    with pytest.raises(BundleError, match="other detectors or thresholds"):
        certificate(alien)
    broken = with_file(bundle, tmp_path / "broken", CERTIFICATE_FILE, _Verbatim(judges="0"))
    with pytest.raises(BundleError, match="not valid"):
        certificate(broken)
    assert cli.run(cli.app, ["bundle", "show", str(tmp_path / "b")], "firewall") == 0
    assert "other detectors" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"fusion": 1}, "no evaluation"),
        ({"about": {"bundle_sha256": "0" * 64}, "normal": {"n": 1}, "bundle": {"fgsm": {}}}, "judges otherwise"),
        ({"about": {"bundle_sha256": "0" * 64}, "normal": {"n": 1}, "bundle": {}}, "judges no attack"),
        ([], "no evaluation"),
    ],
)
def test_what_is_no_evaluation_of_this_bundle_is_one_line(
    bundle: Bundle, tmp_path: Path, values: object, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A user's mistake: exit code 1, one line that says what to do, and no certificate."""
    file = _write(tmp_path / "e.json", values)
    command = ["certify", "firewall", "--bundle", str(bundle.path), "--evaluation", str(file)]

    code = cli.run(app, [*command, "--out", str(tmp_path / "b")], "firewall lab")

    error = capsys.readouterr().err
    assert code == 1 and said in error and len(error.strip().splitlines()) == 1 and not (tmp_path / "b").exists()


def test_impossible_counts_and_confidences_are_refused(bundle: Bundle, tmp_path: Path) -> None:
    """More hits than images are no rate, and a confidence of 1 is not to be had."""
    values = _evaluation(bundle)
    values["normal"]["by_group"]["drawn_hits"] = 101
    with pytest.raises(DataError, match="101 of 100"):
        certify(bundle, [_write(tmp_path / "e.json", values)])
    with pytest.raises(UsageError, match="confidence"):
        certify(bundle, [_write(tmp_path / "f.json", _evaluation(bundle))], confidence=1.0)
    with pytest.raises(UsageError, match="at least one"):
        certify(bundle, [])
