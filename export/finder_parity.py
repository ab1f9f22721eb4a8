"""Whether a sign finder's network is the same on every runtime: its map, its boxes, and the verdicts on them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from firewall.bundle import Bundle, FinderSpec
from firewall.bundle.onnx_bytes import Precision
from firewall.engines.frame_network import FrameNetwork
from firewall.errors import EngineError
from firewall.frame import Frame, Pixels, Region
from firewall.regions.boxes import overlaps
from firewall.regions.sign_finder import SignFinder
from firewall.screening import Firewall
from firewall.verdict import Verdict

__all__ = ["FinderParity", "MapParity", "compare_finders", "compare_maps", "made_frames", "map_of"]

Values = npt.NDArray[np.float32]

#: Largest difference of the finder's map that is taken for rounding, as a share of its largest number; the mean has to
#: stay below a tenth of it. On ONNX Runtime, real frames, the default finder: fp16 0.001, int8 0.26, mean 0.016.
_ROUNDING: dict[Precision, float] = {"fp32": 2e-4, "fp16": 0.01, "int8": 0.5}
#: Two boxes are of one sign if they overlap (intersection over union) by this much.
_SAME_BOX = 0.5


@dataclass(frozen=True)
class MapParity:
    """The largest and the mean absolute difference of a number of two maps, and what is taken for rounding of each."""

    largest: float
    mean: float
    allowed: float

    def check(self, what: str) -> None:
        """Raises EngineError if the maps differ by more than rounding.

        Args:
            what: What was compared, for the message.
        """
        if not (self.largest <= self.allowed and self.mean <= self.allowed / 10):
            raise EngineError(
                f"{what}: a number of its map differs by {self.largest:.3g}, {self.allowed:.3g} is allowed (mean "
                f"{self.mean:.3g}, {self.allowed / 10:.3g} is)"
            )


@dataclass(frozen=True)
class FinderParity:
    """A finder on one runtime against the reference.

    Attributes:
        network: Its file.
        reference: What it is compared with.
        runtime: What is compared.
        frames: Frames that were compared.
        maps: How far the maps agree.
        boxes: Boxes that the reference found.
        apart: Positions of the frames with other boxes, or with another verdict on one.
    """

    network: str
    reference: str
    runtime: str
    frames: int
    maps: MapParity
    boxes: int
    apart: tuple[int, ...]

    def to_json(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {**asdict(self), "apart": list(self.apart)}

    def check(self) -> None:
        """Raises EngineError if a map, a box or a verdict differs."""
        compared = f"{self.network} on {self.runtime} against {self.reference}"
        self.maps.check(compared)
        if self.apart:
            raise EngineError(
                f"{compared}: other boxes or verdicts on {len(self.apart)} of {self.frames} frames, the first of them "
                f"frame {self.apart[0]}"
            )


def map_of(network: FrameNetwork, spec: FinderSpec, pixels: Pixels) -> Values:
    """What a network says of a frame, float32 (1, 5, h, w).

    Raises:
        EngineError: If it fails, or gives anything else.
    """
    SignFinder(spec, b"", spec.file, network=network).find(pixels)  # any fault of the answer is an error here
    return np.asarray(network.run(), np.float32)


def compare_maps(expected: Sequence[Values], found: Sequence[Values], precision: Precision) -> MapParity:
    """Maps of the same frames, one at least, by two networks.

    Args:
        expected: Of the reference.
        found: Of the other.
        precision: What the other computes in.
    """
    scale = max(float(np.abs(each).max()) for each in expected)
    apart = [np.abs(one.astype(np.float64) - two) for one, two in zip(expected, found, strict=True)]
    return MapParity(
        largest=max(float(each.max()) for each in apart),
        mean=max(float(each.mean()) for each in apart),
        allowed=max(1e-3, _ROUNDING[precision] * scale),
    )


def compare_finders(
    bundle: Bundle,
    networks: tuple[FrameNetwork, FrameNetwork],
    guards: tuple[Firewall, Firewall],
    frames: Sequence[Pixels],
    *,
    precision: Precision,
    reference: str,
    runtime: str,
) -> FinderParity:
    """Look at frames with both networks and judge what each finds with its own guard.

    Args:
        bundle: A verified bundle that has a finder.
        networks: The reference, and what is compared with it.
        guards: What judges the boxes of each.
        frames: (H, W, 3) uint8, one at least.
        precision: What the second network computes in.
        reference: What runs the first network, for people.
        runtime: What runs the second.

    Raises:
        EngineError: If a network fails.
        ValueError: If the bundle has no finder.
    """
    spec = bundle.manifest.finder
    if spec is None:
        raise ValueError(f"bundle {bundle.path} has no finder")
    maps = tuple([map_of(network, spec, pixels) for pixels in frames] for network in networks)
    finders = [SignFinder(spec, b"", spec.file, network=network) for network in networks]
    apart, boxes = [], 0
    for place, pixels in enumerate(frames):
        one, two = ([*_judged(finder, guard, pixels)] for finder, guard in zip(finders, guards, strict=True))
        boxes += len(one)
        if not _agree(one, two):
            apart.append(place)
    return FinderParity(
        network=spec.file,
        reference=reference,
        runtime=runtime,
        frames=len(frames),
        maps=compare_maps(maps[0], maps[1], precision),
        boxes=boxes,
        apart=tuple(apart),
    )


def made_frames(spec: FinderSpec) -> list[Pixels]:
    """Two frames that are no road: blocks of colours, large and small."""
    random = np.random.default_rng(0)
    side = 8 * spec.multiple
    return [
        np.repeat(np.repeat(random.integers(0, 256, (side // block, side // block, 3), np.uint8), block, 0), block, 1)
        for block in (spec.multiple, 4)
    ]


def _judged(finder: SignFinder, guard: Firewall, pixels: Pixels) -> list[tuple[Region, Verdict]]:
    regions = finder.find(pixels)
    if not regions:
        return []
    return list(zip(regions, guard.screen_frame(Frame(pixels, "frame", 0, time.monotonic()), regions), strict=True))


def _agree(one: list[tuple[Region, Verdict]], two: list[tuple[Region, Verdict]]) -> bool:
    """As many boxes, each on one of the other's, with the same label and decision. The reasons may differ: a box that
    is a pixel wider is judged by other pixels."""
    if len(one) != len(two):
        return False
    if not one:
        return True
    shared = overlaps(*(np.array([region for region, _ in each], np.float64) for each in (one, two)))
    nearest = shared.argmax(axis=1)
    if len(set(nearest.tolist())) != len(one) or float(shared.max(axis=1).min()) < _SAME_BOX:
        return False
    pairs = [(verdict, two[place][1]) for (_, verdict), place in zip(one, nearest.tolist(), strict=True)]
    return all((a.released, a.suspected_label) == (b.released, b.suspected_label) for a, b in pairs)
