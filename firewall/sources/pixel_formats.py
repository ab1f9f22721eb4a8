"""The pixel formats of V4L2 cameras that we read, each checked to be whole before it becomes RGB."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from firewall.errors import ImageError
from firewall.frame import Pixels
from firewall.sources.strict_jpeg import decode_jpeg

__all__ = ["FORMATS", "JPEG", "Layout", "decode"]


@dataclass(frozen=True)
class Layout:
    """How a camera's pictures lie in memory.

    Attributes:
        fourcc: V4L2's letters.
        width: Width in pixels.
        height: Height in pixels.
        stride: Bytes from one row to the next, 0 if the driver doesn't say.
    """

    fourcc: str
    width: int
    height: int
    stride: int


#: Format -> (bytes a pixel, the conversion's name in OpenCV), as V4L2 and OpenCV call them.
_PACKED = {
    "YUYV": (2, "COLOR_YUV2RGB_YUY2"),
    "UYVY": (2, "COLOR_YUV2RGB_UYVY"),
    "YVYU": (2, "COLOR_YUV2RGB_YVYU"),
    "BGR3": (3, "COLOR_BGR2RGB"),
    "RGB3": (3, ""),
    "XR24": (4, "COLOR_BGRA2RGB"),
    "GREY": (1, "COLOR_GRAY2RGB"),
    "RGGB": (1, "COLOR_BayerRGGB2RGB"),
    "BA81": (1, "COLOR_BayerBGGR2RGB"),
    "GRBG": (1, "COLOR_BayerGRBG2RGB"),
    "GBRG": (1, "COLOR_BayerGBRG2RGB"),
}
#: A plane of light, then colour at half the size: both colours by turns, or one after the other.
_PLANES = {
    "NV12": "COLOR_YUV2RGB_NV12",
    "NV21": "COLOR_YUV2RGB_NV21",
    "YU12": "COLOR_YUV2RGB_I420",
    "YV12": "COLOR_YUV2RGB_YV12",
}
_INTERLEAVED = ("NV12", "NV21")
JPEG = ("MJPG", "JPEG")
#: By preference: colour first, what loses nothing before JPEG.
FORMATS = (*tuple(_PACKED)[:6], *_PLANES, *JPEG, *tuple(_PACKED)[6:])


def decode(data: bytes, layout: Layout) -> Pixels:
    """(H, W, 3) uint8 RGB from the bytes of one picture.

    Raises:
        ImageError: If a part of it is missing.
    """
    if layout.fourcc in JPEG:
        return decode_jpeg(data)
    import cv2

    picture: Any
    width, height = layout.width, layout.height
    if layout.fourcc in _PACKED:
        size, conversion = _PACKED[layout.fourcc]
        rows = _rows(data, 0, height, width * size, layout.stride)
        picture = np.ascontiguousarray(rows).reshape((height, width, size))
    elif width % 2 or height % 2:
        raise ImageError(f"{width}x{height} can't be {layout.fourcc}: its sides must be even")
    else:
        conversion = _PLANES[layout.fourcc]
        stride = layout.stride or width
        light = _rows(data, 0, height, width, stride)
        if layout.fourcc in _INTERLEAVED:
            colour = _rows(data, height * stride, height // 2, width, stride)
        else:
            colour = _rows(data, height * stride, height, width // 2, stride // 2)
        picture = np.concatenate([light.reshape(-1), colour.reshape(-1)]).reshape((height * 3 // 2, width))
    converted: Pixels = cv2.cvtColor(picture, getattr(cv2, conversion)) if conversion else picture
    return converted


def _rows(data: bytes, start: int, count: int, size: int, stride: int) -> Pixels:
    """(count, size) uint8: rows of `size` bytes that lie `stride` bytes apart."""
    stride = max(stride, size)
    due = start + (count - 1) * stride + size  # some drivers leave out what fills up the last row
    if len(data) < due:
        raise ImageError(f"{len(data)} of {due} bytes came")
    if len(data) < start + count * stride:
        data = data + bytes(start + count * stride - len(data))
    return np.frombuffer(data, np.uint8, count * stride, start).reshape(count, stride)[:, :size]
