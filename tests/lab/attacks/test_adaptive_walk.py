"""The walk by gradient: which labels it aims at, and that a longer one begins as a shorter one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from firewall.bundle import Bundle, DetectorSpec
from firewall.lab.attacks.adaptive import Attacker, Plan
from firewall.lab.attacks.adaptive.aims import aims_of
from firewall.lab.attacks.adaptive.ball import Ball
from firewall.lab.attacks.adaptive.picture import Picture
from firewall.lab.attacks.adaptive.wants import missed_of
from firewall.lab.attacks.adaptive.whole import Walk
from firewall.lab.attacks.rounding import as_stored
from firewall.lab.models import load_torch
from tests.lab.tiny_firewall import confidence, juror, network_file, tiny_firewall, victims

COUNT = 8


@pytest.fixture(scope="module")
def jury(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A classifier with a plainly trained second network beside it."""
    files = {"juror-second.onnx": network_file(1)}
    return tiny_firewall(tmp_path_factory.mktemp("jury") / "b", [confidence(), juror("juror-second")], files)


def doubting(name: int) -> bytes:
    """The second network, to which one class is never plausible."""
    network = onnx.load_from_string(network_file(1))
    last = next(node for node in network.graph.node if node.output[0] == "y")
    for constant in network.graph.initializer:
        if constant.name == last.input[2]:
            values = np.array(numpy_helper.to_array(constant))
            values[name] -= 40
            constant.CopyFrom(numpy_helper.from_array(values, constant.name))
    return network.SerializeToString()


def test_aims_are_ranked_by_what_the_firewall_demands(tmp_path: Path) -> None:
    """Every wrong label stands there from both points, the one that misses least first. A label that a juror never
    finds plausible is not the first, even where the classifier finds it the most likely after the right one."""
    files = {"juror-second.onnx": doubting(3)}
    bundle = tiny_firewall(tmp_path / "b", [confidence(), juror("juror-second")], files)
    picture, ball, second = Picture(bundle, load_torch(bundle.path)), Ball("linf", 8 / 255), 0
    for pixels, label in [(pixels, label) for pixels, label in victims(24) if label != 3]:
        centre = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
        aims = aims_of(picture, centre, label, ball, most=0, generator=torch.Generator())
        with torch.no_grad():
            missed = missed_of(picture.see(aims.points, aims.labels), aims.labels)
            logits = picture.classify(centre)[0]
        assert torch.equal(aims.missed, aims.missed.sort().values)
        assert torch.allclose(aims.missed, missed, atol=1e-4)
        wrong = [name for name in range(len(logits)) if name != label]
        assert sorted(aims.labels.tolist()) == sorted(wrong * 2)
        assert float((aims.points - centre).abs().max()) <= ball.eps + 1e-6
        logits[label] = -torch.inf
        second += int(logits.argmax()) == 3
        assert int(aims.labels[0]) != 3
    assert second > 0


@pytest.mark.parametrize("ways", [("hinge",), ("sum", "hinge", "worst")])
def test_a_longer_walk_begins_as_a_shorter_one(jury: Bundle, ways: tuple[str, ...]) -> None:
    """What a budget wins, a larger one wins with the same image, way and steps; no more are taken than allowed."""
    found = {}
    for steps in (2, 10, 60):
        walk = Walk(ways, steps=steps, restarts=2, targets=2)
        attacker = Attacker(jury, Plan(Ball("linf", 12 / 255), "all", walk))
        found[steps] = [attacker.row(index, *image) for index, image in enumerate(victims(COUNT))]
        assert all(row["steps"] <= walk.budget for row in found[steps])
    for fewer, more in ((2, 10), (10, 60)):
        for before, after in zip(found[fewer], found[more], strict=True):
            assert before == after if before["wrong"] else after["steps"] >= before["steps"]
    assert any(row["wrong"] for row in found[60])


def test_demands_are_the_edges_or_it_is_said_that_they_are_not(tmp_path: Path, jury: Bundle) -> None:
    """A sample of copies, a drawn key, and what has no gradient make them an estimate."""
    operations = {"operations": ["jpeg:50", "blur:1", "blur:2"]}
    scales = [{"temperature": 1.0, "median": 0.0, "above": 1.0}]
    stability = DetectorSpec(name="stability", parameters={**operations, "scales": scales}, threshold=9.0)
    many = tiny_firewall(tmp_path / "many", [confidence(), stability])
    keyed = tiny_firewall(
        tmp_path / "keyed",
        [confidence(), DetectorSpec(name="keyed", parameters={"draw": {"copies": 3}, "jurors": []}, threshold=9.0)],
    )
    masked = tiny_firewall(
        tmp_path / "masked", [confidence(), juror("juror-coarse")], {"juror-coarse.onnx": network_file(1, 8)}
    )
    exact = [
        Picture(bundle, load_torch(bundle.path)).exact(most)
        for bundle, most in ((jury, 1), (many, 2), (many, 3), (many, 0), (keyed, 0), (masked, 0))
    ]
    assert exact == [True, False, True, True, False, False]


@pytest.mark.parametrize("eps", [0.7, 2.5, 3.0])
def test_steps_see_what_will_be_stored(eps: float) -> None:
    """With a radius that is no whole number of levels too, a point of the ball, rounded, is the image that is asked."""
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (6, 7, 3), dtype=np.uint8)
    centre = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
    ball = Ball("linf", eps / 255)
    points = ball.project(centre + torch.randn((4, 3, 6, 7), generator=torch.Generator().manual_seed(0)) / 20, centre)
    for point in points:
        seen = as_stored(point[None])[0].mul(255).round().permute(1, 2, 0).numpy()
        assert np.array_equal(seen, ball.rounded(point, pixels))
        assert np.abs(seen - pixels).max() <= eps
