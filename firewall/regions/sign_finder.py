"""Regions that the bundle's own network takes for traffic signs."""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
import numpy.typing as npt

from firewall.bundle import Bundle, FinderSpec
from firewall.engines.frame_network import FrameNetwork, open_frames
from firewall.errors import BundleError, EngineError
from firewall.frame import Pixels, Region, check_form
from firewall.regions.boxes import as_regions, check_limit, within_frame
from firewall.regions.finder_map import CHANNELS, boxes_of

__all__ = ["MOST_PIXELS", "UNSURE", "SignFinder"]

#: A larger frame is made smaller before it is looked at, so that its cost is bounded: 1920x1088 is looked at whole.
MOST_PIXELS = 1920 * 1088
#: A threshold for `SignFinder.of` at which it also gives what only looks a little like a sign: trees, lamps, lettering.
UNSURE = 0.05


class SignFinder:
    """Finds signs of any class, one box for each, by a network of `firewall lab train finder`.

    A frame is looked at in its own resolution, filled up with black at its right and bottom; a larger one than
    MOST_PIXELS is made smaller first, nothing is ever enlarged. The same pixels give the same boxes. Use it from one
    thread at a time.

    networks: its file, and what runs it.
    multiple: what its network's input is filled up to multiples of, in pixels.
    """

    def __init__(
        self,
        spec: FinderSpec,
        content: bytes,
        what: str,
        limit: int = 8,
        *,
        device: str = "cpu",
        threads: int = 0,
        network: FrameNetwork | None = None,
    ) -> None:
        """Open the network on a device and run it once.

        Args:
            spec: How it is read.
            content: The ONNX file, verified.
            what: Its name, for messages.
            limit: The most regions for a frame, at least 1.
            device: What it runs on, see firewall.engines.
            threads: Threads on the processor; 0 = one for each core.
            network: What runs it, if it is open already.

        Raises:
            UsageError: If the limit is below 1, or there is no such device.
            EngineError: If the network can't be run there, or gives another shape than it should.
        """
        check_limit(limit)
        self.limit = limit
        self._spec, self._what = spec, what
        self.multiple = spec.multiple
        self._network = network or open_frames(spec, content, what, CHANNELS, device=device, threads=threads)
        self.networks: Mapping[str, str] = {spec.file: self._network.provider}
        self._planes = [np.empty((0, 0), np.uint8)] * 3
        self._input = np.zeros((1, 3, 0, 0), np.float32)
        self.find(np.zeros((spec.multiple, 2 * spec.multiple, 3), np.uint8))

    @classmethod
    def of(
        cls,
        bundle: Bundle,
        limit: int = 8,
        *,
        device: str = "cpu",
        threads: int = 0,
        threshold: float | None = None,
    ) -> SignFinder:
        """The finder of a bundle.

        Args:
            bundle: A verified bundle.
            limit: As of the class.
            device: What the classifier runs on; the finder runs there and nowhere else.
            threads: As of the class.
            threshold: In place of the bundle's own, 0..1.

        Raises:
            BundleError: If the bundle has no finder.
            UsageError: As of the class.
            EngineError: As of the class.
        """
        spec = bundle.manifest.finder
        if spec is None:
            raise BundleError(
                f"bundle {bundle.path} has no sign finder, so --regions signs can't be used with it; put one in with "
                "'firewall lab add-finder --finder default', or name --regions whole, detector or X,Y,W,H"
            )
        if threshold is not None:
            spec = spec.model_copy(update={"threshold": threshold})
        what = f"{spec.file} of bundle {bundle.path}"
        return cls(spec, bundle.files[spec.file], what, limit, device=device, threads=threads)

    def find(self, pixels: Pixels) -> list[Region]:
        """Regions inside the frame, highest score first: boxes of signs with the margin that the classifier expects.

        Args:
            pixels: (H, W, 3) uint8, H and W at least 1.

        Raises:
            ImageError: If the pixels are anything else.
            EngineError: If the network fails, or gives anything but finite numbers in the right shape.
        """
        return self.scored(pixels)[0]

    def find_in(self, pixels: Pixels, part: Region) -> list[Region]:
        """As `find`, of the signs in a part of the frame, which isn't copied: see firewall.regions.within."""
        return self.scored(pixels, part)[0]

    def scored(self, pixels: Pixels, part: Region | None = None) -> tuple[list[Region], list[float]]:
        """As `find`, and the score of each region, 0..1; of a part of the frame, as `find_in`, if one is named."""
        height, width = check_form(pixels).shape[:2]
        left, top, wide, high = (0, 0, width, height) if part is None else part
        shown = _bounded(pixels[top : top + high, left : left + wide], self._spec.multiple)
        self._fill(shown)
        corners, scores = boxes_of(self._map(), self._spec.stride, self._spec.threshold, self.limit)
        boxes = corners * np.array([wide / shown.shape[1], high / shown.shape[0]] * 2)
        boxes, inside = within_frame(boxes, (left, top, wide, high), width, height)
        scores = scores[inside]
        grown = np.concatenate(
            [boxes[:, :2] - self._spec.margin * boxes[:, 2:], (1 + 2 * self._spec.margin) * boxes[:, 2:]], axis=1
        )
        regions: list[Region] = []
        kept: list[float] = []
        for box, score in zip(grown, scores.tolist(), strict=True):
            for region in as_regions(box[None], width, height):
                if region not in regions:
                    regions.append(region)
                    kept.append(score)
        return regions, kept

    def read(self, pixels: Pixels) -> npt.NDArray[np.float32]:
        """What the network reads for a frame, float32 (1, 3, H, W); a copy."""
        self._fill(_bounded(check_form(pixels), self._spec.multiple))
        return np.array(self._input, np.float32)

    def _fill(self, pixels: Pixels) -> None:
        """Lay a frame of at most MOST_PIXELS into the network's input."""
        multiple = self._spec.multiple
        high, wide = pixels.shape[:2]
        height, width = -(-high // multiple) * multiple, -(-wide // multiple) * multiple
        self._input = self._network.frame(height, width)
        # Planes first: floats that are made of bytes side by side take less than half the time.
        if self._planes[0].shape != (high, wide):
            self._planes = [np.empty((high, wide), np.uint8) for _ in range(3)]
        cv2.split(pixels, self._planes)
        for target, plane in zip(self._input[0, :, :high, :wide], self._planes, strict=True):
            np.copyto(target, plane)
        self._input[:, :, high:] = 0  # of a frame before, of another size
        self._input[:, :, :high, wide:] = 0

    def _map(self) -> npt.NDArray[np.float32]:
        """The network's answer to its input, float32 (5, h, w)."""
        stride, (height, width) = self._spec.stride, self._input.shape[2:]
        answer = self._network.run()
        wanted = (1, CHANNELS, height // stride, width // stride)
        if not isinstance(answer, np.ndarray) or answer.shape != wanted or answer.dtype != np.float32:
            raise EngineError(
                f"{self._what} gave {getattr(answer, 'dtype', type(answer).__name__)} of shape {np.shape(answer)}; "
                f"float32 {wanted} is needed"
            )
        found: npt.NDArray[np.float32] = answer[0]
        return found


def _bounded(pixels: Pixels, multiple: int) -> Pixels:
    """The frame, made smaller if it has more than MOST_PIXELS; one that is nearly a line counts as filled up."""
    height, width = pixels.shape[:2]
    if max(height, multiple) * max(width, multiple) <= MOST_PIXELS:
        return pixels
    scale = min(1.0, (MOST_PIXELS / (height * width)) ** 0.5)
    high, wide = max(1, int(height * scale)), max(1, int(width * scale))
    size = min(wide, MOST_PIXELS // max(high, multiple)), min(high, MOST_PIXELS // max(wide, multiple))
    return np.asarray(cv2.resize(np.ascontiguousarray(pixels), size, interpolation=cv2.INTER_AREA), np.uint8)
