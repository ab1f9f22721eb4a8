"""What a detector reads: which input is the picture, its axes, size, type and range, and what else it asks for."""

from __future__ import annotations

import cv2
import numpy as np

from firewall.config import RegionDetectorSettings
from firewall.errors import EngineError
from firewall.frame import MAX_SIDE, Pixels
from firewall.regions.graph import Array, Graph, Tensor
from firewall.regions.letterbox import Placement, place

__all__ = ["NetworkInput"]

#: Height and width for a network that takes any and says nothing.
USUAL_SIZE = (640, 640)
#: Pictures in a batch of fixed size; one holds the frame, the others are grey and cost their time.
LARGEST_BATCH = 64

_WHOLE = ("uint8", "int32", "int64")
_TYPES = (*_WHOLE, "float32", "float16", "float64")
_OTHER_TYPES = (*_TYPES, "bool")
#: Further inputs by name, and what is given: the size of the picture as the boxes are to be scaled to, or no scaling.
_HEIGHT_WIDTH = ("im_shape", "image_shape")
_WIDTH_HEIGHT = ("orig_target_sizes", "orig_target_size", "orig_size")
_ONES = ("scale_factor",)
_MASK = ("pixel_mask",)


class NetworkInput:
    """The picture input of a graph, found by its shape. height, width: in pixels. batch: pictures in one. free: the
    network takes any size."""

    def __init__(self, graph: Graph, settings: RegionDetectorSettings) -> None:
        """Recognise the network's input.

        Raises:
            EngineError: If the inputs can't be used, or the settings contradict them; it shows the inputs.
        """
        self._graph, self._settings = graph, settings
        self._tensor, self.channels_last = self._picture()
        sides = self._tensor.shape if len(self._tensor.shape) == 4 else (1, *self._tensor.shape)
        high, wide = sides[1:3] if self.channels_last else sides[2:4]
        self.free = high is None or wide is None
        self.batch = sides[0] or 1
        self.height, self.width = self._size(high, wide)
        if self.batch > LARGEST_BATCH:
            raise self._refused(f"a batch of {self.batch} is more than {LARGEST_BATCH}; export it for one picture")
        self._offset, self._factor = self._preparation()
        order = (self.height, self.width, 3) if self.channels_last else (3, self.height, self.width)
        # What fills the rest of a batch is the same grey as beside the frame, and stays there.
        self._values = np.zeros((self.batch, *order), self._tensor.dtype)
        self._others = {tensor.name: self._other(tensor) for tensor in graph.inputs if tensor is not self._tensor}

    def feeds(self, pixels: Pixels, *, letterbox: bool) -> tuple[dict[str, Array], Placement]:
        """What the network is given for a frame (H, W, 3) uint8, valid until the next call, and where it lies there."""
        picture, placement = place(pixels, self.height, self.width, letterbox=letterbox)
        # A channel at a time: whole planes are ten times as fast as pixels that lie three bytes apart.
        planes = cv2.split(picture)
        for number, plane in enumerate(planes if self._settings.channels == "rgb" else planes[::-1]):
            target = self._values[0, ..., number] if self.channels_last else self._values[0, number]
            if self._tensor.dtype in _WHOLE:
                target[...] = plane
            else:
                prepared = np.multiply(plane, self._factor[number], dtype=np.float32)
                prepared += self._offset[number]
                target[...] = prepared
        given = self._values if len(self._tensor.shape) == 4 else self._values[0]
        return {self._tensor.name: given, **self._others}, placement

    def _picture(self) -> tuple[Tensor, bool]:
        """The one input that holds three channels, and whether they come last."""
        found = []
        for tensor in self._graph.inputs:
            shape = tensor.shape[1:] if len(tensor.shape) == 4 else tensor.shape
            if len(shape) == 3 and tensor.name.lower() not in _MASK:
                first, last = shape[0] in (3, None), shape[2] in (3, None)
                # A side of 3 beats a free one; three pixels are no picture.
                if first and last and (shape[0] is None) != (shape[2] is None):
                    first, last = shape[0] == 3, shape[2] == 3
                if self._settings.axes != "auto":
                    first, last = (first and self._settings.axes == "nchw"), (last and self._settings.axes == "nhwc")
                if first or last:
                    found.append((tensor, first, last))
        if len(found) != 1:
            raise self._refused("needed is one picture (1, 3, H, W) or (1, H, W, 3)")
        tensor, first, last = found[0]
        if first and last:
            raise self._refused("channels may come first or last; set region_detector.axes: nchw or nhwc")
        if tensor.dtype not in _TYPES:
            raise self._refused(f"{tensor.dtype} is not one of {', '.join(_TYPES)}; export it with float32")
        return tensor, last

    def _size(self, high: int | None, wide: int | None) -> tuple[int, int]:
        wished = self._settings.size or self._graph.image_size or USUAL_SIZE
        size = (wished[0] if high is None else high, wished[1] if wide is None else wide)
        if self._settings.size is not None and size != self._settings.size:
            raise self._refused(f"region_detector.size {list(self._settings.size)} doesn't fit; leave it out")
        if max(size) > MAX_SIDE:
            raise self._refused(f"a side of {max(size)} pixels is more than {MAX_SIDE}; export it smaller")
        return size

    def _preparation(self) -> tuple[Array, Array]:
        """Offset and factor of each channel, in the order that the network reads: value * factor + offset."""
        chosen = self._settings
        mean, std = np.array(chosen.mean, np.float64), np.array(chosen.std, np.float64)
        if self._tensor.dtype in _WHOLE and (chosen.range not in (None, 255) or mean.any() or (std != 1).any()):
            raise self._refused(f"{self._tensor.dtype} takes pixels as they are; leave out range, mean and std")
        full = 1.0 if chosen.range is None else chosen.range
        return (-mean / std).astype(np.float32), (full / 255 / std).astype(np.float32)

    def _other(self, tensor: Tensor) -> Array:
        name, count = tensor.name.lower(), self.batch
        if tensor.dtype not in _OTHER_TYPES:
            name = ""
        if name in _HEIGHT_WIDTH:
            return np.array([[self.height, self.width]] * count, tensor.dtype)
        if name in _WIDTH_HEIGHT:
            return np.array([[self.width, self.height]] * count, tensor.dtype)
        if name in _ONES:
            return np.ones((count, 2), tensor.dtype)
        if name in _MASK:
            sides = [side or whole for side, whole in zip(tensor.shape[1:], (self.height, self.width), strict=False)]
            return np.ones((count, *sides), tensor.dtype)
        raise self._refused(f"it isn't known what to give as {tensor.name!r}; export it with one input, the picture")

    def _refused(self, why: str) -> EngineError:
        found = "; ".join(str(tensor) for tensor in self._graph.inputs[:6]) or "none"
        return EngineError(f"{self._graph.what} has the inputs {found}: {why}")
