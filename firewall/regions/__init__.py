"""Where in a frame the classifier should look."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Protocol, cast

from firewall.bundle import Bundle
from firewall.config import Part, RegionDetectorSettings
from firewall.errors import UsageError
from firewall.frame import Pixels, Region
from firewall.regions.boxes import check_limit, overlaps
from firewall.regions.whole import Box, WholeFrame
from firewall.regions.within import PartFinder, WithinPart

__all__ = ["RegionFinder", "build", "looking_within", "overlaps"]

_FORMS = "whole, signs, detector or a box X,Y,W,H in pixels (for example 40,30,200,200)"


class RegionFinder(Protocol):
    """Names the regions of a frame that are classified, each by itself."""

    #: File of each network that it asks, and what runs it, such as "CPUExecutionProvider"; empty if it asks none.
    networks: Mapping[str, str]

    def find(self, pixels: Pixels) -> list[Region]:
        """Regions inside the frame, best first; none if there is nothing to look at.

        Args:
            pixels: (H, W, 3) uint8 RGB that `check_pixels` let pass.

        Raises:
            FirewallError: If it can't say where to look. The frame is then withheld.
        """
        ...


def looking_within(finder: RegionFinder, part: Part | None, setting: str) -> RegionFinder:
    """A finder that is given a part of each frame; the one that it was made of still takes whole frames.

    Args:
        finder: What `build` gave.
        part: What it is given; None: whole frames, as before.
        setting: What it was built for, for the message.

    Raises:
        UsageError: If it doesn't look for anything in a frame.
    """
    if part is None:
        return finder
    if not hasattr(finder, "find_in"):
        raise UsageError(
            f"within {part} goes with regions 'signs' or 'detector', which are looked for; {setting.strip()!r} says "
            "itself what is judged, so leave one of the two out (within: off for one of several cameras)"
        )
    return WithinPart(cast("PartFinder", finder), part)


def build(
    setting: str,
    detector: RegionDetectorSettings | None = None,
    limit: int = 8,
    *,
    device: str = "cpu",
    threads: int = 0,
    bundle: Bundle | None = None,
) -> RegionFinder:
    """The finder that `setting` names: whole, signs, detector or X,Y,W,H.

    Args:
        setting: `whole`, `signs`, `detector` or `X,Y,W,H` in pixels.
        detector: What `detector` loads.
        limit: The most regions for a frame, at least 1.
        device: What the detector or the bundle's sign finder runs on, see firewall.engines.
        threads: Threads of either on the processor; 0 = one for each core.
        bundle: Its sign finder is what `signs` looks with; the other settings don't need one.

    Raises:
        UsageError: If there is no such finder, or the limit is below 1.
        BundleError: If `signs` is asked for and the bundle has no sign finder.
        EngineError: If the detector or the sign finder can't be used.
    """
    check_limit(limit)
    name = setting.strip()
    if name == "whole":
        return WholeFrame()
    # Each is imported only when it is asked for: OpenCV and ONNX Runtime take a while to load.
    if name == "signs":
        if bundle is None:
            raise UsageError("regions 'signs' are looked for by the sign finder of a bundle; name the bundle")
        from firewall.regions.sign_finder import SignFinder

        return SignFinder.of(bundle, limit, device=device, threads=threads)
    if name == "detector":
        if detector is None:
            raise UsageError(
                "regions 'detector' needs --region-detector FILE, or region_detector: {file: ...} in the settings file"
            )
        from firewall.regions.onnx_boxes import OnnxBoxes

        return OnnxBoxes(detector, limit, device=device, threads=threads)
    if re.fullmatch(r"\s*-?[0-9]{1,9}\s*(,\s*-?[0-9]{1,9}\s*){3}", name):
        x, y, width, height = (int(part) for part in name.split(","))
        return Box((x, y, width, height))
    raise UsageError(f"regions {setting!r} is not known; allowed: {_FORMS}")
