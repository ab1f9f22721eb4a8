"""The benchmark against what a user would pick instead: its own reckoning, and the process of the other libraries."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks import alternative_tables, cells
from benchmarks.alternatives import defences, frames, loop, peer
from benchmarks.alternatives.copies import difference, pictures
from benchmarks.alternatives.peer import Peer
from benchmarks.alternatives.turns import here, in_turns, middle, ratio
from firewall import Firewall
from firewall.bundle import load_bundle
from firewall.engines import open_engine
from firewall.lab.datasets.gtsdb import Box, Scenes
from firewall.lab.evaluation.crops.images import Crops


def test_turns_pair_every_call_and_nobody_is_always_first() -> None:
    """Call i of each is of the same item; what comes first changes from turn to turn; warm-up isn't counted."""
    met: list[tuple[str, int]] = []

    def work(name: str) -> Any:
        def one(item: int) -> tuple[float, float]:
            met.append((name, item))
            return float(len(met)), float(item)

        return one

    taken = in_turns({"a": work("a"), "b": work("b")}, items=3, rounds=2, warm_up=1)
    assert [busy for _, busy in taken["a"]] == [busy for _, busy in taken["b"]] == [0, 1, 2, 0, 1, 2]
    counted = met[2:]
    assert [name for name, _ in counted[::2]] == ["a", "b"] * 3
    assert len(counted) == 12


def test_a_budget_ends_the_turns_but_leaves_a_few() -> None:
    """However long they take, six are made; then no more are begun."""
    taken = in_turns({"slow": lambda _: (9.0, 9.0)}, items=2, rounds=50, budget=1.0)
    assert len(taken["slow"]) == 6


def test_a_ratio_is_of_processor_time_with_the_clock_beside_it() -> None:
    """A clock that other programs hold up changes nothing but the clock's ratio; the interval holds the ratio."""
    ours = [(0.004, 0.001 * (1 + i % 3 / 10)) for i in range(60)]
    theirs = [(0.100, 5 * busy) for _, busy in ours]
    found = ratio(theirs, ours)
    assert found["ratio"] == pytest.approx(5) and found["by_the_clock"] == pytest.approx(25)
    low, high = found["ci95"]
    assert low <= 5 <= high and found["n"] == 60
    assert middle(ours)["processor_ms"] == pytest.approx(1.1) and middle(ours)["ms"] == pytest.approx(4)


def test_work_in_this_process_is_timed_by_both_clocks() -> None:
    """Waiting counts by the clock, and not by the processor."""
    import time

    wall, busy = here(lambda _: time.sleep(0.05))(0)
    assert wall >= 0.05 > busy


def test_what_the_guard_adds_is_a_share_of_the_time_without_it() -> None:
    """The median of the differences, frame by frame."""
    without = [(0.2, 0.1)] * 20
    with_guard = [(0.3, 0.115)] * 20
    found = frames.added(without, with_guard)
    assert found["share"] == pytest.approx(0.15) and found["by_the_clock"] == pytest.approx(0.5)
    assert found["ms_a_frame"] == pytest.approx(15)


def test_copies_are_compared_level_by_level() -> None:
    """Equal ones have no PSNR; one level everywhere is 48 dB; other shapes can't be compared."""
    one = pictures(24, 2)
    assert difference(one, one) == {"equal": 1.0, "most": 0, "psnr": None}
    apart = difference(np.where(one < 255, one + 1, one - 1).astype(np.uint8), one)
    assert apart["most"] == 1 and apart["psnr"] == pytest.approx(48.13, abs=0.01) and apart["equal"] == 0
    assert not np.array_equal(one[0], one[1])
    with pytest.raises(SystemExit, match="can't be compared"):
        difference(one[:1], one)


def test_answers_are_compared_as_probabilities() -> None:
    """The largest L1 distance of the three; the image's own label goes out; the threshold leaves the share above."""
    own, other = [9.0, 0.0, 0.0], [0.0, 0.0, 9.0]
    logits = np.array([[own, own, own, own], [own, own, other, own]], np.float32)
    labels, apart = defences.squeezed(logits)
    assert labels.tolist() == [0, 0]
    assert apart[0] == 0 and apart[1] == pytest.approx(2, abs=0.01)
    scores = np.arange(100.0)
    assert (scores > defences.threshold_for(scores, 0.05)).mean() <= 0.05


def test_what_goes_out_is_counted_for_each_attack_and_the_worst_leads() -> None:
    """A wrong label counts, a withheld one doesn't; a benign sign is right, wrong or withheld."""

    def crops(labels: list[int]) -> Crops:
        pixels = np.zeros((8, 8, 3), np.uint8)
        truth = np.array(labels)
        return Crops([pixels] * len(labels), truth, np.arange(len(labels)), [str(i) for i in range(len(labels))])

    sets = {"benign": crops([1, 2, 3, 4]), "mild": crops([1, 2, 3, 4]), "strong": crops([1, 2, 3, 4])}
    labels = {
        "benign": np.array([1, 2, 7, -1]),
        "mild": np.array([1, 2, 3, 9]),
        "strong": np.array([9, 9, -1, 4]),
    }
    found = defences.outcome(labels, sets)
    assert found["attack"] == "strong" and found["worst"][0] == 0.5
    assert found["wrong_release"] == {"mild": 0.25, "strong": 0.5} and found["mean_wrong_release"] == 0.375
    shares = [found[f"benign_{what}"][0] for what in ("right", "wrong", "withheld")]
    assert shares == [0.5, 0.25, 0.25]


def test_pasted_signs_lie_where_they_are_said_to() -> None:
    """As many as asked for, inside the frame, none upon another, each the pixels of a sign."""
    random = np.random.default_rng(1)
    pictures_ = random.integers(0, 255, (6, 300, 400, 3), np.uint8)
    boxes = tuple((Box(0, 50, 60, 90, 100), Box(1, 200, 60, 230, 90)) if i % 2 else () for i in range(6))
    scenes = Scenes(pictures_, np.arange(6), boxes)  # type: ignore[arg-type]
    for pixels, regions in frames.frames_with(scenes, 3, 4):
        assert len(regions) == 3 and not any(np.array_equal(pixels, one) for one in pictures_)
        covered = np.zeros(pixels.shape[:2], int)
        for x, y, width, height in regions:
            assert min(x, y) >= 0 and x + width <= 400 and y + height <= 300
            covered[y : y + height, x : x + width] += 1
        assert covered.max() == 1


def test_placed_regions_take_the_place_of_what_the_finder_says() -> None:
    """The finder is asked and its time is real; the signs are those that are known."""
    asked = []
    finder: Any = SimpleNamespace(find=lambda pixels: asked.append(pixels) or [(0, 0, 9, 9)] * 5, networks={})
    placed = frames.Placed(finder, [(1, 2, 30, 40)])
    pixels = np.zeros((80, 80, 3), np.uint8)
    assert placed.find(pixels) == [(1, 2, 30, 40)] and len(asked) == 1 and placed.found == 5


def test_lighter_guards_judge_with_the_detectors_that_are_left() -> None:
    """Without the jury, and by one classification: the scores that a verdict has are theirs alone."""
    bundle = load_bundle("default")
    images = pictures(48, 3)
    for kept, most in zip(loop.LIGHTER.values(), (5, 1), strict=True):
        light = loop.lighter(bundle, kept)
        for image in images:
            verdict = light.screen(image)
            assert set(verdict.scores) <= set(kept) and 1 <= verdict.classified <= most


def test_the_loop_is_compared_before_it_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    """All ratios are there; if copies differ, so that labels do, nothing is timed."""
    bundle = load_bundle("default")
    guard = Firewall(bundle, open_engine(bundle, threads=1), threads=1)
    images = [*pictures(48, 3)]
    found = loop.against_the_loop(guard, bundle, images)
    assert found["labels_equal_on"] == 3
    assert set(found["ratios"]) == {"whole guard", *loop.LIGHTER, "the same 39 labels", "the 38 copies"}
    assert all(entry["ratio"] > 0 for entry in found["ratios"].values())

    def black(image: np.ndarray, operations: Any, out: np.ndarray) -> None:
        out[...] = np.random.default_rng(0).integers(0, 255, out.shape)

    monkeypatch.setattr(loop, "by_pillow", black)
    with pytest.raises(SystemExit, match="get the same 39 labels"):
        loop.against_the_loop(guard, bundle, images)


def test_the_other_process_does_and_times_what_it_is_told(tmp_path: Path) -> None:
    """Under any interpreter with numpy: items go there and come back; time is its own; what it can't do is said in one
    line, and it goes on; one that ends is noticed."""
    items = np.arange(24, dtype=np.uint8).reshape(4, 3, 2)
    with Peer(sys.executable) as other:
        other.load("items", items)
        other.make("nothing", "nothing")
        assert np.array_equal(other.run("nothing", "items"), items)
        wall, busy = other.work("nothing", "items")(3)
        assert busy >= 0 and 0 < wall < 60
        with pytest.raises(SystemExit, match="can't make other: KeyError"):
            other.make("other", "unknown")
        assert other.ask("versions", of=["numpy"])["numpy"] == np.__version__
        other._process.kill()
        other._process.wait()
        with pytest.raises(SystemExit, match="ended at 'load' with -9"):
            other.ask("load", name="items", file="gone.npy")


def test_an_environment_is_made_once_for_the_pinned_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is installed is what the file beside the code says, pinned; another file makes it install again; if pip
    can't, one line says so and the environment doesn't count as made."""
    lines = [line for line in peer.REQUIREMENTS.read_text().splitlines() if line and not line.startswith("#")]
    assert lines and all("==" in line for line in lines)
    calls: list[Any] = []

    def run(command: Any, **_: Any) -> Any:
        calls.append([str(part) for part in command])
        return SimpleNamespace(returncode=1 if len(calls) == 3 else 0)

    monkeypatch.setattr(peer.subprocess, "run", run)
    monkeypatch.setattr(peer.venv, "create", lambda folder, with_pip: folder.mkdir(exist_ok=True))
    wanted = tmp_path / "wanted.txt"
    wanted.write_text("one==1\n")
    monkeypatch.setattr(peer, "REQUIREMENTS", wanted)
    folder = tmp_path / "venv"
    assert peer.environment(folder) == peer.environment(folder) == folder / "bin" / "python"
    assert len(calls) == 1 and calls[0][-1] == str(wanted)
    wanted.write_text("one==2\n")
    peer.environment(folder)
    assert len(calls) == 2
    wanted.write_text("one==3\n")
    with pytest.raises(SystemExit, match="can't be installed"):
        peer.environment(folder)
    assert (folder / "requirements.txt").read_text() == "one==2\n"


def _timed(processor_ms: float) -> dict[str, float]:
    return {"ms": 2 * processor_ms, "processor_ms": processor_ms}


def _against(value: float) -> dict[str, Any]:
    return {"ratio": value, "ci95": [value - 0.5, value + 0.5], "by_the_clock": 1.0, "n": 40}


def _held(way: str, worst: float) -> dict[str, Any]:
    rate = [worst, worst, worst]
    calm = {f"benign_{what}": rate for what in ("right", "wrong", "withheld")}
    shares = {"attack": "shadow", "worst": rate, "mean_wrong_release": worst / 2, **calm}
    return {"way": way, **shares, **_timed(10 * worst), "against_ours": _against(10 * worst)}


MEASURED: dict[str, Any] = {
    "loop": {
        "times": {
            name: _timed(value)
            for name, value in {
                "loop": 30,
                "whole guard": 10,
                "the same 39 labels": 25,
                "the 38 copies": 0.5,
                "the 38 copies by Pillow": 4,
            }.items()
        },
        "ratios": {"whole guard": _against(3), "the same 39 labels": _against(1.2), "the 38 copies": _against(8)},
    },
    "art": {
        "images": {"attacked": 192, "benign": 399, "thresholds": 400},
        "rows": [_held("bare classifier", 0.9), _held("ART all three", 0.7), _held("the firewall", 0.1)],
        "same_work": {"ours": _timed(1), "art": _timed(2), **_against(2)},
    },
    "copies": [
        {
            "operation": kind,
            "side": side,
            "images": images,
            "library": library,
            "psnr": psnr,
            "most": 30,
            "ours": _timed(1),
            "theirs": _timed(side),
            **_against(value * side / images),
        }
        for library, psnr, value in (("torchvision", None, 1), ("kornia", 41.6, 2))
        for kind in ("jpeg", "rotations")
        for side, images in ((48, 8), (224, 1))
    ],
    "guard": {
        "rows": [
            {
                "finder": "our finder",
                "signs": signs,
                "processor_ms": {"without": 20, "whole guard": 20 + 2 * signs, "ultralytics": 160},
                "added": {
                    way: {"share": signs / over, "ci95": [0, 1], "ms_a_frame": 2 * signs}
                    for way, over in (("whole guard", 10), ("without its jury", 20), ("one classification", 200))
                },
            }
            for signs in (1, 3, 8)
        ]
    },
}


@pytest.mark.parametrize(
    ("make", "first", "cells_"),
    [
        (alternative_tables.alternatives, "39 labels by our sweep", ["**1.2**", "(a) 38 Pillow copies |", "| 25 |"]),
        (alternative_tables.alternatives_held, "bare classifier", ["**90.0 %", "| 35 % |", "the firewall"]),
        (alternative_tables.alternatives_copies, "torchvision", ["| equal |", "41.6 dB, 30", "8 of 48x48"]),
        (alternative_tables.alternatives_guard, "| 8 |", ["**80 %**", "| 2.0 |", "| 20 |", "| 40 % | 4 % |"]),
    ],
)
def test_tables_say_what_was_measured_the_worst_first(
    monkeypatch: pytest.MonkeyPatch, make: Any, first: str, cells_: list[str]
) -> None:
    """Rows as wide as the head; processor time; what is farthest from its goal leads."""
    monkeypatch.setattr(cells, "read", lambda _: MEASURED)
    text = make()
    head, _, *rows = text.splitlines()
    assert rows and all(row.count("|") == head.count("|") for row in rows)
    assert first in rows[0]
    assert not [cell for cell in cells_ if cell not in text], text
