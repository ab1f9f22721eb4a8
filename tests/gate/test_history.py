"""Probing is noticed: a decision-based attack is, images of other signs and repeated ones aren't."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from firewall.demo.source import DemoReader, truth
from firewall.frame import Pixels
from firewall.gate.history import HASHES, History, fingerprint
from firewall.gate.judge import Judge
from firewall.verdict import Reason, Verdict
from tests.gate.asking import infer, make_gate, request_of, served

SIZE = (48, 48)
RELEASED = Verdict("test", 0, (0, 0, 48, 48), released=True, label=1, label_name="one", reason=Reason.BENIGN)


class Steps:
    """A clock that is set."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def history(after: int = 10, withhold: bool = True, most: int = 300) -> tuple[History, list[str], Steps]:
    """A history, what it reported, and its clock."""
    told: list[str] = []
    clock = Steps()
    found = History(
        SIZE,
        after=after,
        withhold=withhold,
        most=most,
        near=lambda: told.append("near"),
        report=lambda: told.append("probing"),
        clock=clock,
    )
    return found, told, clock


def probes(image: Pixels, count: int, seed: int = 1) -> list[Pixels]:
    """What a decision-based attack sends: steps of a walk from the image, each a small change of the one before."""
    drawn = np.random.default_rng(seed)
    found, walk = [], image.astype(np.float64)
    for _ in range(count):
        walk = np.clip(walk + drawn.normal(0, 1.0, image.shape), 0, 255)
        found.append(walk.round().astype(np.uint8))
    return found


def natural(count: int) -> list[Pixels]:
    """Signs of the demo, one of each pass."""
    found, before = [], None
    for sequence, (pixels, _) in enumerate(DemoReader({"fps": "0", "loop": "0"})):
        fact = truth(sequence)
        if (fact.label, fact.attack) != before:
            x, y, width, height = fact.box
            found.append(pixels[y : y + height, x : x + width])
            before = (fact.label, fact.attack)
        if len(found) == count:
            break
    return found


def test_small_steps_are_nearly_the_same_and_other_signs_are_not(benign_sign: Pixels) -> None:
    """Of 50 hashes, more than half are shared from one step to the next; of other signs hardly any."""
    secret = np.random.default_rng(0).integers(1, 1 << 63, 22, dtype=np.uint64) | np.uint64(1)
    image, *steps = (np.ascontiguousarray(np.resize(each, (48, 48, 3))) for each in probes(benign_sign, 20))
    own = set(fingerprint(image, secret).tolist())
    assert len(own) == HASHES
    assert len(own & set(fingerprint(steps[0], secret).tolist())) > 25
    for other in natural(4):
        scaled = np.ascontiguousarray(np.resize(other, (48, 48, 3)))
        assert len(own & set(fingerprint(scaled, secret).tolist())) < 25 or np.array_equal(other, benign_sign)


def test_another_secret_chooses_other_windows(benign_sign: Pixels) -> None:
    """So that nobody can say which pixels to leave alone."""
    one, two = (np.random.default_rng(seed).integers(1, 1 << 63, 22, dtype=np.uint64) for seed in (1, 2))
    assert not set(fingerprint(benign_sign, one).tolist()) & set(fingerprint(benign_sign, two).tolist())


def test_a_series_is_reported_once_with_its_clients(benign_sign: Pixels, caplog: pytest.LogCaptureFixture) -> None:
    """After so many near-identical images of all clients together; then all that belong to it are withheld."""
    found, told, _ = history(after=10)
    with caplog.at_level(logging.WARNING, "firewall.gate"):
        verdicts = [found.seen(each, f"client {n % 3}", RELEASED) for n, each in enumerate(probes(benign_sign, 30))]
    assert told.count("probing") == 1 and told.count("near") >= 25
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("probing: 10 images") and "client 0" in line and "client 2" in line
    first = next(n for n, each in enumerate(verdicts) if not each.released)
    assert 9 <= first <= 15 and not any(each.released for each in verdicts[first:])
    assert {each.reason for each in verdicts[first:]} == {Reason.SUSPICIOUS}
    assert {each.label for each in verdicts[first:]} == {None}


def test_without_withholding_it_is_only_reported(benign_sign: Pixels) -> None:
    """A camera that stands still sends images that are nearly the same too."""
    found, told, _ = history(after=5, withhold=False)
    assert all(found.seen(each, "camera", RELEASED).released for each in probes(benign_sign, 20))
    assert told.count("probing") == 1


def test_the_same_image_again_is_no_probing(benign_sign: Pixels) -> None:
    """It gets the same verdict, so that nobody learns from it: a client that tries again isn't suspected."""
    found, told, _ = history(after=3)
    assert all(found.seen(benign_sign, "client", RELEASED).released for _ in range(50)) and told == []


def test_other_signs_are_no_probing() -> None:
    """One of each pass of the demo."""
    found, told, _ = history(after=3)
    for each in natural(6):
        found.seen(each, "client", RELEASED)
    assert "probing" not in told


def test_what_came_long_ago_is_forgotten(benign_sign: Pixels) -> None:
    """A series that goes slower than ten minutes allow isn't one; memory is bounded whatever comes."""
    found, told, clock = history(after=5)
    for each in probes(benign_sign, 12):
        found.seen(each, "client", RELEASED)
        clock.now += 200.0
    assert "probing" not in told and len(found._images) <= 4
    drawn = np.random.default_rng(0)
    for _ in range(400):
        found.seen(drawn.integers(0, 256, (8, 8, 3), dtype=np.uint8), "client", RELEASED)
    assert len(found._images) == 300 == len(found._by_number) and len(found._newest) <= 300 * HASHES


def test_a_history_that_fails_withholds(benign_sign: Pixels, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever goes wrong in it."""
    found, _, _ = history()
    monkeypatch.setattr(found, "_nearest", lambda _: 1 / 0)
    verdict = found.seen(benign_sign, "client", RELEASED)
    assert not verdict.released and verdict.reason is Reason.UNKNOWN and verdict.label is None


def test_the_gate_notices_probing(judge: Judge, benign_sign: Pixels) -> None:
    """Over HTTP: counted, and withheld as `suspicious`, which is what any withheld image may be."""
    gate = make_gate(judge)
    gate.history = History(SIZE, after=5, withhold=True, near=gate.metrics.near_identical, report=gate.metrics.probing)
    with served(gate) as server:
        reasons = [infer(server, request_of(each)).json.get("reason", "released") for each in probes(benign_sign, 10)]
        assert infer(server, request_of(benign_sign)).json.get("reason") == "suspicious"
    assert reasons[0] == "released" and reasons[-1] == "suspicious"
    assert b"firewall_gate_probing_total 1.0" in gate.metrics.exposition()
