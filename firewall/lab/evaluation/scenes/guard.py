"""The firewall as it stands behind a camera: a finder of regions and a bundle that judges all of them in one batch."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass

from firewall import Firewall
from firewall.bundle import load_bundle
from firewall.config import Part, RegionDetectorSettings
from firewall.decision.over_time import over_time, served
from firewall.decision.tracks import Tracks
from firewall.engines import check_device, open_engine
from firewall.errors import EngineError
from firewall.frame import Frame, Pixels, Region
from firewall.lab.evaluation.crops.verdicts import EDGE, judge_key
from firewall.regions import RegionFinder, build, looking_within
from firewall.screening import Stages
from firewall.verdict import Verdict

__all__ = ["Guard", "Looking", "open_guard"]


@dataclass(frozen=True, slots=True)
class Looking:
    """With what frames are looked at.

    Attributes:
        bundle: `default`, or a bundle's folder.
        regions: `signs`, `detector`, `whole` or X,Y,W,H, as `firewall serve` takes it.
        detector: What `detector` loads.
        within: The part of each frame that the finder is given; None: all.
        device: What the classifier and the detector run on.
        threads: Of them on the processor.
    """

    bundle: str = "default"
    regions: str = "signs"
    detector: RegionDetectorSettings | None = None
    within: Part | None = None
    device: str = "cpu"
    threads: int = 1


@dataclass(frozen=True, eq=False)
class Guard:
    """A finder and a firewall, ready to look at frames.

    Attributes:
        firewall: Judges regions.
        finder: Finds them.
        key: Names the two, and the code that they run.
        looking: How it was opened.
    """

    firewall: Firewall
    finder: RegionFinder
    key: str
    looking: Looking

    @property
    def labels(self) -> tuple[str, ...]:
        """The bundle's."""
        return tuple(self.firewall.bundle.manifest.classifier.labels)

    def look(self, pixels: Pixels, sequence: int = 0) -> tuple[list[Verdict], dict[str, float]]:
        """Find and judge the regions of a frame, as the service does, without a deadline and without tracks.

        Args:
            pixels: Uint8 (H, W, 3) RGB.
            sequence: The frame's number.

        Returns:
            A verdict for each region, or one that says that nothing was found; and milliseconds: of the finder, of the
            judging, and of both.

        Raises:
            EngineError: The finder or the classifier can't be run. The service would withhold; a measurement ends.
        """
        started, stages = time.monotonic(), Stages()
        regions: list[Region] = self.finder.find(pixels)
        found = time.monotonic()
        verdicts = self.firewall.screen_frame(Frame(pixels, "scene", sequence, started), regions, stages=stages)
        ended = time.monotonic()
        failed = next((each for each in verdicts if each.reason.value == "engine error"), None)
        if failed is not None:
            raise EngineError(f"a network of the bundle failed: {failed.detail}")
        times = {"regions": found - started, "judging": ended - found, "frame": ended - started}
        return verdicts, {name: round(1e3 * seconds, 3) for name, seconds in times.items()}

    def tracks(self) -> Tracks:
        """Tracks as the service follows them, none yet."""
        spec, _ = over_time(self.firewall.bundle)
        return Tracks(served(spec))


def open_guard(looking: Looking) -> Guard:
    """Open the bundle and the finder.

    Args:
        looking: With what.

    Raises:
        UsageError: There is no such device or way of finding regions.
        BundleError: The bundle is damaged.
        EngineError: A network can't be run.
    """
    check_device(looking.device)
    bundle = load_bundle(looking.bundle)
    engine = open_engine(bundle, device=looking.device, threads=looking.threads)
    finder = build(looking.regions, looking.detector, device=looking.device, threads=looking.threads, bundle=bundle)
    finder = looking_within(finder, looking.within, looking.regions)
    firewall = Firewall(bundle, engine, threads=looking.threads)
    parts = [judge_key(firewall, (*EDGE, "regions")), looking.regions, looking.device, f"{looking.threads}"]
    if looking.detector is not None:
        parts += [looking.detector.model_dump_json(), hashlib.sha256(looking.detector.file.read_bytes()).hexdigest()]
    if looking.within is not None:
        parts.append(f"within {looking.within}")
    return Guard(firewall, finder, hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16], looking)
