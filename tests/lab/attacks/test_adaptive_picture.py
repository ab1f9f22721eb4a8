"""The picture that adaptive attacks have of a bundle is the edge's own, score by score."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import helper
from PIL import Image
from torch import Tensor

from firewall import Firewall
from firewall.bundle import Bundle, DetectorSpec, FusionSpec, FusionTerm, load_bundle
from firewall.bundle.conditional import CONDITIONAL_FILE, ConditionalSpec, GroupSpec, LimitSpec
from firewall.decision.conditional import Conditional
from firewall.engines import OnnxRuntimeEngine
from firewall.frame import Pixels
from firewall.lab.attacks.adaptive.ball import Ball
from firewall.lab.attacks.adaptive.operations import _linear, copies, pixels_of, resized
from firewall.lab.attacks.adaptive.picture import Picture
from firewall.lab.attacks.adaptive.rule import _conditional
from firewall.lab.attacks.adaptive.scores import SCORES
from firewall.lab.models import load_torch
from firewall.sweep.keyed import copies as keyed
from firewall.sweep.keyed import key_of, nonce_of
from firewall.transforms import OPERATIONS_38, resize
from tests.fused_bundle import fused_bundle
from tests.lab.coloured_shapes import SIZE, shapes
from tests.lab.tiny_firewall import (
    confidence,
    juror,
    model_file,
    network_file,
    statistics_network,
    tiny_firewall,
    victims,
)

#: Of a score, as a share of 1 + its size: another library's sums, and the root of a distance near 0.
TOLERANCE = 2e-3


def two_way(channels: int) -> bytes:
    """An ONNX network (N, channels, side, side) -> (N, 2), of two convolutions with random weights."""
    generator = np.random.default_rng(3)
    constants = {
        "first": generator.normal(size=(8, channels, 3, 3)).astype(np.float32),
        "second": generator.normal(size=(2, 8, 3, 3)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["x", "first"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "second"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("GlobalAveragePool", ["c"], ["d"]),
        helper.make_node("Flatten", ["d"], ["y"]),
    ]
    return model_file(nodes, constants, ["N", channels, SIZE, SIZE], 2)


def batch(pixels: Pixels) -> Tensor:
    return torch.from_numpy(np.array(pixels)).permute(2, 0, 1)[None].float().div(255)


def compared(bundle: Bundle, images: list[Pixels]) -> tuple[dict[str, float], int]:
    """The largest difference of each detector's score, relative, and how many verdicts are the same."""
    guard = Firewall(bundle, OnnxRuntimeEngine(bundle, threads=1), threads=1, exhaustive=True, sweep_key=key_of(3))
    guard.correction = None
    picture = Picture(bundle, load_torch(bundle.path))
    size = bundle.manifest.classifier.input
    apart, same = dict.fromkeys(picture.scores, 0.0), 0
    for pixels in images:
        verdict = guard.screen(pixels)
        nonce = nonce_of(resize(pixels, size.width, size.height))
        picture.draws = partial(lambda nonce, draw: [keyed(key_of(3), nonce, draw)], nonce)  # as if he knew the key
        with torch.no_grad():
            seen = picture.see(batch(pixels))
        for name, values in seen.scores.items():
            there = verdict.scores[name]
            apart[name] = max(apart[name], abs(float(values) - there) / (1 + abs(there)))
        same += verdict.released == (float(seen.demands.max()) <= 0)
    return apart, same


def test_the_default_bundles_scores_and_verdicts_are_the_edges(signs: Path) -> None:
    """20 drawn signs of their own sizes, half of them noisy so that some are withheld: each detector, and the rule."""
    generator, images = np.random.default_rng(0), []
    for number, path in enumerate(sorted(signs.rglob("*.png"))[::2][:20]):
        pixels = np.asarray(Image.open(path).convert("RGB"))
        noise = generator.normal(0, 12 * (number % 2), pixels.shape)
        images.append(np.clip(pixels + noise, 0, 255).astype(np.uint8))

    bundle = load_bundle(fused_bundle())
    apart, same = compared(bundle, images)

    assert set(apart) == {spec.name for spec in bundle.manifest.detectors}
    assert max(apart.values()) < TOLERANCE, apart
    assert same == len(images)


@pytest.fixture(scope="module")
def everything() -> tuple[list[DetectorSpec], dict[str, bytes]]:
    """One detector of each kind, for the tiny classifier."""
    qualities, operations = (95, 60, 30), ("jpeg:50", "blur:1.5", "rotate:7", "scale:0.8", "scale:1.2")
    scale = {"temperature": 0.5, "median": 0.02, "above": 0.05}

    def detector(name: str, **parameters: object) -> DetectorSpec:
        return DetectorSpec(name=name, parameters=parameters, threshold=50.0)

    detectors = [
        confidence(),
        detector("stability", operations=operations, scales=[scale, {**scale, "temperature": 4.0}]),
        detector("agreement", qualities=qualities, sides="two", normal_counts=[1, 2, 3, 40]),
        detector("image-cnn", file="image-cnn.onnx"),
        detector("residual", file="residual.onnx", rate=0.05, also=[0.75]),
        detector("attention", file="attention.onnx"),
        detector("statistics", file="statistics.onnx", feature="odds", operations=operations),
        juror("juror-second"),
        detector("contrast"),
        detector("keyed", draw={"copies": 7}, jurors=[{"file": "juror-second.onnx", "width": SIZE, "height": SIZE}]),
        juror("juror-third"),
        detector("not-a-sign", jurors=[{"file": "juror-third.onnx", "width": SIZE, "height": SIZE}]),
        detector("obstructed", jurors=[{"file": "juror-third.onnx", "width": SIZE, "height": SIZE}]),
    ]
    files = {
        "image-cnn.onnx": two_way(3),
        "residual.onnx": two_way(6),
        "attention.onnx": network_file(1),
        "statistics.onnx": statistics_network(len(operations) + 1),
        "juror-second.onnx": network_file(1),
        "juror-third.onnx": network_file(2, more=1),
    }
    return detectors, files


def enlarged(count: int) -> list[Pixels]:
    """Shapes of several sizes, as crops are, and noise."""
    images = []
    for number, (pixels, _) in enumerate(victims(count)):
        side = (16, 23, 40)[number % 3]
        images.append(np.asarray(Image.fromarray(pixels).resize((side, side + number % 2), Image.Resampling.BICUBIC)))
    return images


def test_every_detector_has_a_differentiable_score(
    everything: tuple[list[DetectorSpec], dict[str, bytes]], tmp_path: Path
) -> None:
    """One of each kind on 20 images: the edge's value, and a gradient down to the crop's own pixels."""
    detectors, files = everything
    bundle = tiny_firewall(tmp_path / "b", detectors, files)

    apart, same = compared(bundle, enlarged(20))

    assert {"juror" if name.startswith("juror-") else name for name in apart} == set(SCORES)
    assert max(apart.values()) < TOLERANCE, apart
    assert same == 20
    crop = batch(enlarged(2)[1]).requires_grad_()
    picture = Picture(bundle, load_torch(bundle.path))
    for name, values in picture.see(crop, torch.tensor([3])).scores.items():
        (slope,) = torch.autograd.grad(values.sum(), crop, retain_graph=True)
        assert bool(torch.isfinite(slope).all()) and bool(slope.any()), name


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_rules_are_the_edges(
    everything: tuple[list[DetectorSpec], dict[str, bytes]], tmp_path: Path, power: float
) -> None:
    """A fusion with early releases and limits of its own; and limits by size, which take its place."""
    detectors, files = everything
    chosen = [spec for spec in detectors if spec.name in ("confidence", "image-cnn", "juror-second")]
    centres = {"confidence": 1.5, "image-cnn": 0.0, "juror-second": -3.0}
    terms = tuple(
        FusionTerm(
            detector=spec.name,
            centre=centres[spec.name],
            unit=1.5,
            weight=1.0,
            release_below=0.4 if spec.name == "image-cnn" else None,
            withhold_above=2.5 if spec.name == "confidence" else None,
        )
        for spec in chosen
    )
    images = enlarged(24)
    fused = FusionSpec(terms=terms, cap=8.0, power=power, threshold=1.0)
    bundle = tiny_firewall(tmp_path / "fused", chosen, files, fusion=fused)
    assert compared(bundle, images)[1] == len(images)

    groups = tuple(
        GroupSpec(
            threshold=limit,
            limits=tuple(LimitSpec(median=centre, unit=1.0, limit=centre + 3) for centre in centres.values()),
        )
        for limit in (0.5, 1.5)
    )
    spec = ConditionalSpec(detectors=tuple(centres), edges=(20,), power=power, groups=groups, rate=0.01, level=0.002)
    files = {**files, CONDITIONAL_FILE: spec.model_dump_json().encode()}
    bundle = tiny_firewall(tmp_path / "conditional", chosen, files, fusion=fused)
    assert compared(bundle, images)[1] == len(images)


def test_only_summed_detectors_add_to_the_sum() -> None:
    """A detector with a limit of its own and nothing else adds nothing here either: the largest demand is the edge's
    excess. With too large a sum the attack would have stopped short of what the firewall lets through."""
    generator, names = np.random.default_rng(0), ("a", "b", "c")
    limits = tuple(LimitSpec(median=0.0, unit=unit, limit=9.0) for unit in (1.0, 0.5, 2.0))
    for summed in ((), ("b",), ("a", "c")):
        group = GroupSpec(threshold=1.0, limits=limits)
        spec = ConditionalSpec(detectors=names, power=2.0, summed=summed, groups=(group,), rate=0.01, level=0.002)
        rule = Conditional(spec).rule(20)
        for _ in range(20):
            scores = dict(zip(names, generator.normal(1, 2, 3).tolist(), strict=True))
            demands = _conditional(spec, 20, {name: torch.tensor([value]) for name, value in scores.items()})
            assert float(demands.max()) == pytest.approx(rule.excess(scores), abs=1e-4)


def test_an_attacker_averages_over_keys_and_knows_none(
    everything: tuple[list[DetectorSpec], dict[str, bytes]], tmp_path: Path
) -> None:
    """Four draws a step and others in the next, the same for the same seed; their mean is what many devices give."""
    detectors, files = everything
    bundle = tiny_firewall(tmp_path / "b", [spec for spec in detectors if spec.name == "keyed"], files)
    picture, pixels = Picture(bundle, load_torch(bundle.path)), enlarged(3)[2]
    taken: list[float] = []
    for seed in (0, 0, 1):
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            taken += [float(picture.see(batch(pixels), generator=generator).scores["keyed"]) for _ in range(40)]
    assert taken[:40] == taken[40:80] and len(set(taken[40:])) == 80
    engine = OnnxRuntimeEngine(bundle, threads=1)
    devices = [Firewall(bundle, engine, threads=1, sweep_key=key_of(seed)) for seed in range(200)]
    scores = [device.screen(pixels).scores["keyed"] for device in devices]
    apart = abs(np.mean(taken[40:]) - np.mean(scores))
    assert apart < 5 * np.hypot(np.std(taken[40:]) / np.sqrt(80), np.std(scores) / np.sqrt(200))


def test_the_backward_pass_is_the_operations_linear_part() -> None:
    """Every operation but JPEG differs from its linear part by rounding alone, on noise that stays within 0..255."""
    generator = np.random.default_rng(1)
    images = torch.cat([batch(generator.integers(70, 186, (33, 40, 3), np.uint8)) for _ in range(3)])
    for name in (*OPERATIONS_38, "blur:0.7", "rotate:-45", "scale:0.33", "scale:2.5"):
        if name.startswith("jpeg"):
            continue
        exact = copies(images, [name])[:, 0]
        linear = _linear(name, 33, 40)(images).clamp(0, 1)
        assert float((exact - linear).abs().max()) * 255 < 3, name
    crop = batch(generator.integers(0, 256, (71, 58, 3), np.uint8)).requires_grad_()
    small = resized(crop, 48, 48)
    (slope,) = torch.autograd.grad(small.sum(), crop)
    assert abs(float(slope.sum()) - small.numel()) < 1  # every pixel of the result is a mean


@pytest.mark.parametrize("frequencies", [0, 6])
@pytest.mark.parametrize(("norm", "eps"), [("linf", 4 / 255), ("linf", 0.7 / 255), ("l2", 0.05), ("l2", 1.5)])
def test_images_stay_in_the_ball_as_bytes(norm: str, eps: float, frequencies: int) -> None:
    """After rounding too, and at the edges of the range of values."""
    generator = torch.Generator().manual_seed(0)
    ball = Ball("l2" if norm == "l2" else "linf", eps, frequencies)
    pixels = np.random.default_rng(0).choice(np.array([0, 3, 128, 255], np.uint8), (19, 23, 3))
    centre = batch(pixels)
    for point in ball.start(centre, 8, generator):
        change = ball.rounded(point, pixels).astype(float) - pixels
        length = np.abs(change).max() if norm == "linf" else np.linalg.norm(change)
        assert length / 255 <= eps + 1e-9
    assert pixels_of(centre).shape == (1, 19, 23, 3)
    far = ball.project(centre + torch.randn(centre.shape, generator=generator), centre)
    if not frequencies:
        assert float((ball.project(far, centre) - far).abs().max()) < 1e-6


def test_a_sample_of_copies_has_the_mean_of_all(
    everything: tuple[list[DetectorSpec], dict[str, bytes]], tmp_path: Path
) -> None:
    """Two of five copies, drawn again and again, give the same mean score: the attack follows the right gradient."""
    detectors, files = everything
    chosen = [confidence(), *(spec for spec in detectors if spec.name == "stability")]
    path = tiny_firewall(tmp_path / "b", chosen, files).path
    picture, image = Picture(load_bundle(path), load_torch(path)), shapes(1, seed=9)[0]
    generator = torch.Generator().manual_seed(0)
    label = torch.tensor([0])
    with torch.no_grad():
        drawn = [float(picture.see(image, label, most=2, generator=generator).scores["stability"]) for _ in range(150)]
        every = float(picture.see(image, label).scores["stability"])

    assert np.std(drawn) > 0
    # The larger of two temperatures is taken of the sample, so its mean may lie a little above.
    assert abs(np.mean(drawn) - every) < 4 * np.std(drawn) / np.sqrt(150) + 0.1 * np.std(drawn)
