"""What is timed, with the firewall and without it: one frame in memory until its verdicts, or its labels, are there."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from firewall.errors import EngineError
from firewall.frame import Frame, Pixels
from firewall.regions import RegionFinder
from firewall.screening import Firewall, Stages
from firewall.transforms import resize
from firewall.verdict import Reason

__all__ = ["INSIDE", "OUTSIDE", "STAGES", "Guarded", "Subject", "Tally", "Unguarded"]

#: In the order in which a frame meets them. `resize` to `policy` are named by firewall.screening; `other` is the rest.
STAGES = ("regions", "resize", "classify", "sweep", "detect", "values", "masks", "policy", "other")
#: What the clock sees, and what it doesn't.
INSIDE = "a frame in memory: regions, resize, classify, sweep, detectors, policy, until the verdicts are there"
OUTSIDE = "capture, decoding, the sinks, the live page"
#: Verdicts of these are failures of what is measured, and come sooner than true ones.
_FAILURES = frozenset({Reason.BAD_IMAGE, Reason.SOURCE_ERROR, Reason.ENGINE_ERROR, Reason.DETECTOR_ERROR})


@dataclass
class Tally:
    """What was measured, in the order taken.

    Attributes:
        total: Milliseconds of each frame.
        stages: Stage -> milliseconds of each frame in it; 0 where a frame did without.
    """

    total: list[float] = field(default_factory=list)
    stages: dict[str, list[float]] = field(default_factory=dict)

    def add(self, seconds: float, spent: Stages) -> None:
        """Add one frame.

        Args:
            seconds: All of it.
            spent: The time in each stage.
        """
        for stage in (*spent, "other"):
            # A stage that some frame before this one did without.
            self.stages.setdefault(stage, [0.0] * len(self.total))
        rest = seconds - sum(spent.values())
        for stage, values in self.stages.items():
            values.append(1e3 * (rest if stage == "other" else spent.get(stage, 0.0)))
        self.total.append(1e3 * seconds)


class Subject(Protocol):
    """Something that takes a frame and is timed."""

    def run(self, pixels: Pixels) -> tuple[float, Stages]:
        """Take one frame.

        Args:
            pixels: (H, W, 3) uint8 RGB.

        Returns:
            Seconds in all, and in each stage.
        """
        ...


class Guarded:
    """Classifier and firewall, as `firewall serve` runs them. Counts what was decided since it was made or `forget`."""

    def __init__(self, guard: Firewall, finder: RegionFinder) -> None:
        self._guard, self._finder, self._number = guard, finder, 0
        self.decisions: Counter[str] = Counter()
        self.classified = self.verdicts = self.frames = 0

    def run(self, pixels: Pixels) -> tuple[float, Stages]:
        """Judge one frame.

        Args:
            pixels: (H, W, 3) uint8 RGB.

        Returns:
            Seconds in all, and in each stage.

        Raises:
            EngineError: If the firewall fails: how soon it fails is no latency.
        """
        spent = Stages()
        started = time.perf_counter()
        with spent.timed("regions"):
            regions = self._finder.find(pixels)
        frame = Frame(pixels, "bench", self._number, time.monotonic())
        verdicts = self._guard.screen_frame(frame, regions, stages=spent)
        elapsed = time.perf_counter() - started
        self._number += 1
        self.frames += 1
        for verdict in verdicts:
            if verdict.reason in _FAILURES or (verdict.reason is Reason.UNKNOWN and verdict.detail):
                raise EngineError(f"the firewall can't judge the pictures of this benchmark: {verdict.detail}")
            self.decisions[f"{verdict.decision}: {verdict.reason}"] += 1
            self.classified += verdict.classified
            self.verdicts += 1
        return elapsed, spent

    def forget(self) -> None:
        """Start to count again."""
        self.decisions = Counter()
        self.classified = self.verdicts = self.frames = 0


class Unguarded:
    """The same classifier in the same place without the firewall: regions, resize, one batch, the largest logit."""

    def __init__(self, guard: Firewall, finder: RegionFinder) -> None:
        self._engine, self._spec, self._finder = guard.engine, guard.bundle.manifest.classifier.input, finder

    def run(self, pixels: Pixels) -> tuple[float, Stages]:
        """Label the regions of one frame.

        Args:
            pixels: (H, W, 3) uint8 RGB.

        Returns:
            Seconds in all, and in each stage.

        Raises:
            EngineError: If the classifier fails.
        """
        spent = Stages()
        started = time.perf_counter()
        with spent.timed("regions"):
            regions = self._finder.find(pixels)
        if regions:
            with spent.timed("resize"):
                crops = [pixels[y : y + height, x : x + width] for x, y, width, height in regions]
                images = np.stack([resize(crop, self._spec.width, self._spec.height) for crop in crops])
            with spent.timed("classify"):
                logits = self._engine.classify(images)
            logits.argmax(axis=1)
        return time.perf_counter() - started, spent
