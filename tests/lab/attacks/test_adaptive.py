"""Attacks on a whole firewall are as strong as they have to be: what is broken falls, and effort never hurts."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from firewall import Firewall
from firewall.bundle import Bundle, DetectorSpec, PatchSpec
from firewall.engines import OnnxRuntimeEngine
from firewall.frame import Pixels
from firewall.lab.attacks.adaptive import Attacker, Plan
from firewall.lab.attacks.adaptive.ball import Ball
from firewall.lab.attacks.adaptive.descent import WAYS
from firewall.lab.attacks.adaptive.gate import Gate
from firewall.lab.attacks.adaptive.search import Search
from firewall.lab.attacks.adaptive.whole import Walk
from firewall.lab.attacks.channels import parse_channel
from firewall.verdict import Verdict
from tests.lab.in_process import lab
from tests.lab.tiny_firewall import (
    confidence,
    juror,
    network_file,
    shape_folder,
    statistics_network,
    tiny_firewall,
    victims,
)

COUNT = 10
KEYS = {"index", "label", "released", "released_label", "queries", "steps", "linf", "l2"}


@pytest.fixture(scope="module")
def jury(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A defence that is known to be broken once the attacker knows it: a plainly trained second network."""
    files = {"juror-second.onnx": network_file(1)}
    return tiny_firewall(tmp_path_factory.mktemp("jury") / "b", [confidence(), juror("juror-second")], files)


@pytest.fixture(scope="module")
def masked(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Another one: a second network that sees eight levels of each value, so that it has no gradient."""
    files = {"juror-coarse.onnx": network_file(1, 8)}
    return tiny_firewall(tmp_path_factory.mktemp("masked") / "b", [confidence(), juror("juror-coarse")], files)


def plan(eps: float, method: str = "all", **walk: Any) -> Plan:
    ways = (method,) if method in WAYS else WAYS
    return Plan(Ball("linf", eps / 255), method, Walk(**{"ways": ways, "steps": 20, **walk}), Search(400))


def won(bundle: Bundle, how: Plan, count: int = COUNT) -> list[bool]:
    attacker = Attacker(bundle, how)
    return [bool(attacker.row(index, *image)["wrong"]) for index, image in enumerate(victims(count))]


def test_a_plain_second_network_is_broken_by_every_way(jury: Bundle) -> None:
    """An attack on the classifier alone is often stopped by it; each of the five ways that know it gets through."""
    for way in WAYS:
        assert sum(won(jury, plan(24, way))) >= 0.8 * COUNT, way


def test_a_masked_gradient_is_broken(masked: Bundle) -> None:
    """The network of few levels is left out of the loss, which is said, and the search finds what passes it."""
    attacker = Attacker(masked, plan(32))
    (notice,) = attacker.notices
    assert "juror-coarse" in notice and "Floor" in notice and "search" in notice

    rows = [attacker.row(index, *image) for index, image in enumerate(victims(COUNT))]

    assert sum(row["wrong"] for row in rows) >= 0.8 * COUNT


def test_larger_radii_and_more_steps_never_hurt(jury: Bundle) -> None:
    """More steps go on where fewer have ended: what they win stays won. In a larger ball nothing is harder."""
    by_steps = [won(jury, plan(12, "sum", steps=steps)) for steps in (1, 6, 30)]
    for fewer, more in itertools.pairwise(by_steps):
        assert all(after or not before for before, after in zip(fewer, more, strict=True))
    by_eps = [sum(won(jury, plan(eps, "selective"))) for eps in (2, 8, 32)]
    assert by_eps == sorted(by_eps) and by_eps[0] < by_eps[-1]


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_without_bounds_all_fall(jury: Bundle, norm: str) -> None:
    """Any picture is allowed: every image is released with a wrong label."""
    ball = Ball("l2", 40.0) if norm == "l2" else Ball("linf", 1.0)
    assert all(won(jury, replace(plan(255), ball=ball)))


def test_a_subspace_is_kept_to(jury: Bundle) -> None:
    """Of a change of low frequency, what is left above its cosines is rounding."""
    kept: list[Pixels] = []
    attacker = Attacker(jury, replace(plan(48), ball=Ball("linf", 48 / 255, frequencies=5)))
    for index, (pixels, label) in enumerate(victims(4)):
        attacker.row(index, pixels, label, lambda image: str(kept.append(image)))
        change = kept[-1].astype(float) - pixels
        side = len(change)
        waves = np.cos(np.pi / side * np.outer(np.arange(5), np.arange(side) + 0.5))
        waves /= np.linalg.norm(waves, axis=1, keepdims=True)
        low = np.einsum("ij,jkc,lk->ilc", waves.T @ waves, change, waves.T @ waves)
        inside = (kept[-1] > 0) & (kept[-1] < 255)
        assert np.abs(low - change)[inside].max() < 3 and np.abs(change).max() > 3


def test_a_bundle_that_is_never_fooled(tmp_path: Path) -> None:
    """Everything is withheld: no success is claimed, and the row says that nothing was released."""
    bundle = tiny_firewall(tmp_path / "b", [confidence(-1.0)])
    rows = [Attacker(bundle, plan(32, method)).row(0, *victims(1)[0]) for method in ("sum", "decision")]
    assert [(row["wrong"], row["released"], row["released_label"]) for row in rows] == [(False, False, None)] * 2


class Mute(Firewall):
    """The firewall as the world sees it: what it releases, and nothing of why."""

    def screen(self, *arguments: Any, **named: Any) -> Verdict:
        """Without what is for the operator."""
        full = super().screen(*arguments, **named)
        return Verdict("", 0, full.region, released=full.released, label=full.label)


def others(label: int) -> Iterator[Pixels]:
    """Pictures of other classes, which an attacker has as well."""
    return (pixels for pixels, other in victims(12) if other != label)


@pytest.mark.parametrize("subspace", ["low-frequency", "boundary", "two-bars"])
def test_decisions_are_all_that_the_decision_attack_sees(jury: Bundle, subspace: str) -> None:
    """With a firewall that says nothing but the label it does the same, and it never asks more often than allowed.
    What is won lies within the bound; a draw has none."""
    how = Plan(Ball("linf", 40 / 255), "decision", search=Search(150, subspace), seed=3)
    attacker, mute = Attacker(jury, how), Attacker(jury, how)
    mute.firewall = Mute(jury, OnnxRuntimeEngine(jury, threads=1), threads=1)
    rows, blind = (
        [one.row(index, *image, others=others(image[1])) for index, image in enumerate(victims(6))]
        for one in (attacker, mute)
    )

    unseen = ("suspicion",)
    assert [{k: v for k, v in row.items() if k not in unseen} for row in rows] == [
        {k: v for k, v in row.items() if k not in unseen} for row in blind
    ]
    assert any(row["wrong"] for row in rows)
    assert all(row["queries"] <= 150 and row["steps"] == 0 for row in rows)
    assert subspace == "two-bars" or all(row["linf"] <= 40 / 255 + 1e-9 for row in rows)


@pytest.mark.parametrize("subspace", ["low-frequency", "boundary", "two-bars"])
def test_a_longer_search_wins_what_a_shorter_one_wins(jury: Bundle, subspace: str) -> None:
    """The query curve of one run is the curve of all shorter ones."""
    rows = []
    for queries in (20, 100):
        attacker = Attacker(jury, Plan(Ball("linf", 40 / 255), "decision", search=Search(queries, subspace)))
        found = [attacker.row(index, *image, others=others(image[1])) for index, image in enumerate(victims(6))]
        rows.append(found)
    for shorter, longer in zip(*rows, strict=True):
        assert longer["queries"] == shorter["queries"] if shorter["wrong"] else longer["queries"] >= 20


def test_the_command_goes_on_after_a_kill(jury: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped at the fourth image and begun again: rows of an undisturbed run. What is stored is what was judged."""
    folder = shape_folder(tmp_path / "shapes")
    command = ("attack", "adaptive", "--bundle", jury.path, "--dataset", f"folder:{folder}", "--eps", "24")
    command = (*command, "--limit", "6", "--steps", "8")
    assert lab(*command, "--json", tmp_path / "whole.json").returncode == 0
    whole = json.loads((tmp_path / "whole.json").read_text())

    asked = Attacker.row

    def dies(self: Attacker, index: int, *rest: Any) -> dict[str, Any]:
        if len((tmp_path / "again.json.rows").read_text().splitlines()) == 4:  # the head and three rows
            raise KeyboardInterrupt
        return asked(self, index, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(Attacker, "row", dies)
        assert lab(*command, "--json", tmp_path / "again.json").returncode != 0
    assert not (tmp_path / "again.json").exists()
    made: list[int] = []
    with monkeypatch.context() as patch:
        patch.setattr(Attacker, "row", lambda self, index, *rest: made.append(index) or asked(self, index, *rest))
        assert lab(*command, "--json", tmp_path / "again.json").returncode == 0
    again = json.loads((tmp_path / "again.json").read_text())

    assert len(made) == 3 and not (tmp_path / "again.json.rows").exists()
    for row in (*whole["rows"], *again["rows"]):
        del row["file"]
    assert again["rows"] == whole["rows"] and len(whole["rows"]) == 6
    assert (
        whole["wrong_release"]["n"] == 6
        and whole["wrong_release"]["rate"] == sum(r["wrong"] for r in whole["rows"]) / 6
    )
    guard = Firewall(jury, OnnxRuntimeEngine(jury, threads=1), threads=1)
    for row in whole["rows"]:
        assert set(row) >= KEYS and row["linf"] <= 24 / 255 + 1e-9
        found = Gate(guard, row["label"]).ask(
            np.asarray(Image.open(tmp_path / "whole.images" / f"{row['index']:05d}.png"))
        )
        assert found.wrong == row["wrong"] == (row["released"] and row["released_label"] != row["label"])
        assert (found.verdict.released, found.verdict.label) == (row["released"], row["released_label"])


def test_images_that_went_through_a_channel_first(jury: Bundle, tmp_path: Path) -> None:
    """Each is attacked as it came out of the channel: the change counts from there, and the head says which it was."""
    folder = shape_folder(tmp_path / "shapes")
    command = ("attack", "adaptive", "--bundle", jury.path, "--dataset", f"folder:{folder}", "--steps", "4")
    result = lab(*command, "--limit", "3", "--eps", "3", "--through", "contrast-60", "--json", tmp_path / "out.json")
    assert result.returncode == 0, result.stderr
    found, channel = json.loads((tmp_path / "out.json").read_text()), parse_channel("contrast-60")
    originals = [np.asarray(Image.open(path)) for path in sorted(folder.rglob("*.png"))]
    pale = [channel.through(pixels, np.random.default_rng(0)).astype(int) for pixels in originals]
    assert found["through"] == "contrast-60" and len(found["rows"]) == 3
    for row in found["rows"]:
        stored = np.asarray(Image.open(tmp_path / row["file"])).astype(int)
        assert min(np.abs(stored - pixels).max() for pixels in pale) <= 3
        assert min(np.abs(stored - pixels).max() for pixels in originals) > 3


def test_what_has_no_gradient_is_said_once(masked: Bundle, tmp_path: Path) -> None:
    """One line on stderr, whatever the number of images; and the run is done."""
    folder = shape_folder(tmp_path / "shapes", 3)
    command = ("attack", "adaptive", "--bundle", masked.path, "--dataset", f"folder:{folder}", "--limit", "3")
    result = lab(*command, "--steps", "2", "--queries", "5")
    assert result.returncode == 0
    assert result.stderr.count("has no gradient") == 1
    assert len(json.loads(result.stdout)["rows"]) == 3


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--norm", "l1"), "--norm must be one of linf, l2"),
        (("--eps", "0"), "--eps must be above 0"),
        (("--eps", "nan"), "--eps must be above 0"),
        (("--eps", "-3"), "--eps must be above 0"),
        (("--method", "magic"), "--method must be one of all, hinge, sum"),
        (("--subspace", "round"), "the subspaces pixels, low-frequency, boundary, shadow"),
        (("--subspace", "shadow"), "shadow is for --method search or decision, got 'all'"),
        (("--subspace", "boundary"), "boundary is for --method decision"),
        (("--method", "decision", "--family", "any"), "any is for --method search, got 'decision'"),
        (("--method", "hinge", "--family", "drops"), "drops is for --method search or decision, got 'hinge'"),
        (("--family", "rainbow"), "--family must be one of shadow"),
        (("--family", "boundary"), "--family must be one of shadow"),
        (("--family", "drops", "--subspace", "pixels"), "give --family or --subspace, got both: drops, pixels"),
        (("--dataset", "gtsrb/middle"), "gtsrb has the parts"),
        (("--dataset", "signs"), "unknown data set 'signs'"),
        (("--min-side", "500"), "a smaller --min-side"),
        (("--through", "fog"), "no channel is named 'fog'"),
        (("--through", "contrast-0"), "it must lie in 1..100"),
    ],
)
def test_wrong_use(jury: Bundle, tmp_path: Path, options: tuple[str, ...], said: str) -> None:
    """One line that names the value and what is allowed; nothing is written."""
    folder = shape_folder(tmp_path / "shapes", 2)
    command = ["attack", "adaptive", "--bundle", jury.path, "--json", tmp_path / "out.json"]
    if options[0] != "--dataset":
        command += ["--dataset", f"folder:{folder}"]
    result = lab(*command, *options)
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("firewall: error: ")]
    assert result.returncode in (1, 2) and said in line
    assert not (tmp_path / "out.json").exists()


def test_detectors_that_only_count(tmp_path: Path) -> None:
    """A statistics detector on counted labels has no gradient: left out of the loss, and named. So are masks."""
    parameters = {"file": "statistics.onnx", "feature": "differences", "operations": ["blur:2"]}
    counts = DetectorSpec(name="statistics", parameters=parameters, threshold=1e3)
    files = {"statistics.onnx": statistics_network(5)}
    bundle = tiny_firewall(tmp_path / "b", [confidence(), counts], files, patches=PatchSpec(area=0.05, masks=2))

    notices = Attacker(bundle, plan(8)).notices

    assert len(notices) == 2
    assert notices[0].startswith("statistics has no gradient") and notices[1].startswith("masks has no gradient")


def test_a_classifier_without_gradients(tmp_path: Path) -> None:
    """What the lab can't read is attacked by search alone, and the user is told."""
    bundle = tiny_firewall(tmp_path / "b", [confidence()], {"classifier.onnx": network_file(0, 16)})
    attacker = Attacker(bundle, plan(48))

    rows = [attacker.row(index, *image) for index, image in enumerate(victims(6))]

    assert len(attacker.notices) == 1 and "Floor" in attacker.notices[0] and "search" in attacker.notices[0]
    assert sum(row["wrong"] for row in rows) >= 4
    assert all(row["steps"] == 0 and row["method"] == "search" for row in rows)


def test_jpeg_copies_are_attacked_through_their_compression(tmp_path: Path) -> None:
    """Every compressed copy has to keep the label: the attack makes labels that do, and knows how."""
    parameters = {"qualities": [90, 70, 50, 30], "sides": "one"}
    agreement = DetectorSpec(name="agreement", parameters=parameters, threshold=0.0)
    bundle = tiny_firewall(tmp_path / "b", [confidence(), agreement])

    assert sum(won(bundle, plan(24, "sum"))) >= 0.8 * COUNT
