"""Several regions of a frame are asked about together: the same verdicts, and no network is asked for more images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from firewall import Firewall, Frame
from firewall.bundle import load_bundle
from firewall.demo.source import truth
from firewall.detectors import Evidence
from firewall.engines import open_engine
from firewall.errors import EngineError
from firewall.frame import Pixels, Region
from firewall.screening import Look
from firewall.verdict import Reason, Verdict

Floats = npt.NDArray[np.float32]
KEY = b"0123456789abcdef"


@pytest.fixture(scope="module")
def whole() -> Firewall:
    """The default bundle's firewall, whose jury is asked about the region's own pixels."""
    return Firewall(load_bundle(), open_engine(load_bundle(), threads=1), threads=1, sweep_key=KEY)


@pytest.fixture
def street(demo_frames: Sequence[Pixels]) -> tuple[Pixels, list[Region]]:
    """Five regions of one frame: signs of the demo, sky and road."""
    frame = demo_frames[40]
    height, width = frame.shape[:2]
    regions = [
        (0, 0, 64, 64),
        (width - 80, 10, 70, 60),
        (200, height - 90, 80, 80),
        (300, 40, 48, 48),
        (90, 120, 33, 40),
    ]
    return frame, regions


def asked(guard: Firewall, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[int]]:
    """Network -> how many images each call had."""
    seen: dict[str, list[int]] = {}
    for name, network in guard.networks.items():
        call = type(network).__call__

        def watched(values: Floats, *, name: str = name, network: Any = network, call: Any = call) -> Floats:
            seen.setdefault(name, []).append(len(values))
            answer: Floats = call(network, values)
            return answer

        for detector in guard.detectors:
            pairs = getattr(detector, "asks", ())
            if any(each is network for _, each in pairs):
                changed = tuple((juror, watched if each is network else each) for juror, each in pairs)
                monkeypatch.setattr(detector, "asks", changed)
    return seen


def told(verdicts: Sequence[Verdict]) -> list[tuple[object, ...]]:
    return [(v.region, v.released, v.label, v.reason, v.scores, v.classified) for v in verdicts]


@pytest.mark.parametrize("exhaustive", [False, True])
def test_together_is_as_one_by_one(
    whole: Firewall, street: tuple[Pixels, list[Region]], exhaustive: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scores to the last bit, reasons and numbers of images; each network is called once, with as many images in all
    as if each region were shown by itself."""
    frame, regions = street
    monkeypatch.setattr(whole, "exhaustive", exhaustive)
    seen = asked(whole, monkeypatch)
    alone = [whole.screen(frame, region) for region in regions]
    before = {name: sum(counts) for name, counts in seen.items()}
    seen.clear()
    together = whole.screen_frame(Frame(frame, "test", 0, 0.0), regions)

    assert told(together) == told(alone)
    assert {name: sum(counts) for name, counts in seen.items()} == before
    assert all(len(counts) == 1 for name, counts in seen.items() if before[name] > 1)
    assert max(before.values()) > 1


def test_a_network_that_fails_for_all_is_asked_about_each(
    whole: Firewall, street: tuple[Pixels, list[Region]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It can't answer for several at once, or for one region at all: that region alone fails."""
    frame, regions = street
    jurors = [detector for detector in whole.detectors if detector.name == "juror-robust"]
    ((juror, network),) = jurors[0].asks  # type: ignore[attr-defined]
    expected = whole.screen_frame(Frame(frame, "test", 0, 0.0), regions)
    open_ones = [place for place, verdict in enumerate(expected) if "juror-robust" in verdict.scores]
    assert len(open_ones) > 1
    calls = 0

    def brittle(values: Floats) -> Floats:
        nonlocal calls
        calls += 1
        if len(values) > 1 or calls == 3:
            raise EngineError("out of memory")
        return network(values)

    monkeypatch.setattr(jurors[0], "asks", ((juror, brittle),))
    verdicts = whole.screen_frame(Frame(frame, "test", 0, 0.0), regions)
    failed = [place for place, verdict in enumerate(verdicts) if verdict.reason is Reason.ENGINE_ERROR]
    assert len(failed) <= 1 and set(failed) <= set(open_ones)
    others = [place for place in range(len(regions)) if place not in failed]
    assert told([verdicts[place] for place in others]) == told([expected[place] for place in others])


@pytest.mark.parametrize("name", ["contrast", "juror-robust", "not-a-sign"])
@pytest.mark.parametrize("lasting", [False, True])
def test_a_detector_that_fails_at_one_region_withholds_that_one_alone(
    whole: Firewall,
    street: tuple[Pixels, list[Region]],
    name: str,
    lasting: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Asked about all it fails; each region is asked about by itself then. What fails a second time is withheld."""
    frame, regions = street
    monkeypatch.setattr(whole, "exhaustive", True)
    detector = next(each for each in whole.detectors if each.name == name)
    expected = whole.screen_frame(Frame(frame, "test", 0, 0.0), regions)
    there = [place for place, verdict in enumerate(expected) if name in verdict.scores]
    assert len(there) > 1
    bad, failed = regions[there[1]], 0

    score = detector.score

    def brittle(evidence: Evidence) -> float:
        nonlocal failed
        if evidence.crop is not None and evidence.crop.shape[:2] == (bad[3], bad[2]) and (lasting or not failed):
            failed += 1
            raise EngineError("out of memory")
        return score(evidence)

    monkeypatch.setattr(detector, "score", brittle)
    verdicts = whole.screen_frame(Frame(frame, "test", 0, 0.0), regions)
    out = [place for place, verdict in enumerate(verdicts) if verdict.reason is Reason.ENGINE_ERROR]
    assert out == ([there[1]] if lasting else []) and failed == 1 + lasting
    others = [place for place in range(len(regions)) if place not in out]
    assert told([verdicts[place] for place in others]) == told([expected[place] for place in others])


def test_scores_that_can_not_be_judged_release_nothing(
    whole: Firewall, street: tuple[Pixels, list[Region]], demo_frames: Sequence[Pixels], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rule itself fails: nothing is raised, and each region is withheld, signs too; one alone as several."""
    fact = truth(40)
    frame, regions = demo_frames[40], [fact.box, *street[1]]
    assert whole.screen(frame, fact.box).released

    class Broken:
        def judge(self, *_: object) -> None:
            raise RuntimeError("no such rule")

    monkeypatch.setattr(whole.rules.conditional, "native", Broken())
    for shown in (regions, regions[:1]):
        verdicts = whole.screen_frame(Frame(frame, "test", 0, 0.0), shown)
        assert [(verdict.released, verdict.reason) for verdict in verdicts] == [(False, Reason.UNKNOWN)] * len(shown)


def test_nothing_is_asked_after_the_deadline(
    whole: Firewall, street: tuple[Pixels, list[Region]], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = asked(whole, monkeypatch)
    frame, regions = street
    (verdicts,) = whole.screen_frames([Look(Frame(frame, "test", 0, 0.0), regions, deadline=0.0)])
    assert [verdict.reason for verdict in verdicts] == [Reason.LATE] * len(regions)
    assert not seen
