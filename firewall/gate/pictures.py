"""Tensors of clients to pixels, and pixels to the tensor that an upstream takes.

The upstream never gets what a client sent: its tensor is made from the pixels that are screened. So both see the same
picture, whatever decoders, number formats or spellings of JSON there are in between.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from firewall.bundle import InputSpec
from firewall.errors import ImageError
from firewall.frame import Pixels, check_pixels
from firewall.gate.refusal import Code, Refusal
from firewall.gate.tensors import Tensor, bytes_elements, numbers
from firewall.sources.image import decode_image

__all__ = ["FLOATS", "Floats", "Layout", "Pictures", "Scale"]

Layout = Literal["NHWC", "NCHW"]
Floats = Literal["255", "1", "network"]
#: What floats may stand for: 0..255, 0..1, or as the bundle's classifier takes them.
FLOATS: tuple[Floats, ...] = ("255", "1", "network")
_FLOAT_TYPES = ("FP16", "FP32", "FP64")
_ENCODED = ("JPEG", "PNG")


class Scale:
    """What a float stands for, both ways. Only the 256 values of a pixel exist."""

    def __init__(self, floats: Floats, spec: InputSpec) -> None:
        """Take a scale.

        Args:
            floats: Which one.
            spec: How the bundle's classifier takes pixels, for `network`.
        """
        self.floats = floats
        values = np.arange(256, dtype=np.float64)[:, None]
        self._divisor, self._mean, self._std = 1.0, np.zeros(3), np.ones(3)
        if floats != "255":
            self._divisor = 255.0
        if floats == "network":
            self._mean, self._std = np.array(spec.mean), np.array(spec.std)
        #: (256, 3) float64: pixel value, channel -> float.
        self.table = (values / self._divisor - self._mean) / self._std

    def floats_of(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """The floats of (N, H, W, 3) pixels."""
        found: npt.NDArray[np.float32] = self.table.astype(np.float32)[pixels, np.arange(3)]
        return found

    def pixels_of(self, values: npt.NDArray[Any]) -> npt.NDArray[np.uint8] | None:
        """The pixels that (N, H, W, 3) floats were made of; None if they were made of none.

        A float may differ from the table by a few units in its last place: the same formula is computed in several
        orders.
        """
        if not np.isfinite(values).all():
            return None
        near = np.rint((values.astype(np.float64) * self._std + self._mean) * self._divisor)
        if not ((near >= 0) & (near <= 255)).all():
            return None
        pixels: npt.NDArray[np.uint8] = near.astype(np.uint8)
        exact = self.table[pixels, np.arange(3)]
        slack = 0.0
        if self.floats != "255":
            places = 1 if values.dtype.itemsize == 2 else 4  # of FP16, four would be the next pixel value
            slack = places * float(np.finfo(values.dtype).eps) * max(1.0, float(np.abs(self.table).max()))
        return pixels if (np.abs(values.astype(np.float64) - exact) <= slack).all() else None

    @property
    def meaning(self) -> str:
        """What floats have to be, for people."""
        return {
            "255": "whole numbers 0..255",
            "1": "pixel / 255",
            "network": "(pixel / 255 - mean) / std of the bundle's classifier",
        }[self.floats]


@dataclass(frozen=True, slots=True)
class Pictures:
    """How tensors become pixels.

    Attributes:
        scale: What floats stand for.
        layout: Where the channels are if a shape doesn't tell.
        most_images: In one request.
        most_pixels: In one request, all images together.
    """

    scale: Scale
    layout: Layout = "NHWC"
    most_images: int = 32
    most_pixels: int = 1 << 22

    def read(self, tensor: Tensor) -> list[Pixels]:
        """The images of a client.

        Args:
            tensor: UINT8, FP16, FP32 or FP64 of shape (N, H, W, 3), (N, 3, H, W), (H, W, 3) or (3, H, W) in RGB; or
                BYTES of shape (N) or (N, 1), each a JPEG or PNG.

        Returns:
            Pixels of each.

        Raises:
            Refusal: If they aren't images, or too many or too large ones.
        """
        try:
            return self._encoded(tensor) if tensor.datatype == "BYTES" else self._raw(tensor)
        except (ValueError, ImageError) as error:
            raise Refusal(Code.BAD_REQUEST, f"the input {tensor.name!r} {error}") from None

    def _encoded(self, tensor: Tensor) -> list[Pixels]:
        if len(tensor.shape) > 2 or (len(tensor.shape) == 2 and tensor.shape[1] != 1):
            raise ValueError(f"is BYTES of shape {list(tensor.shape)}; it has to be [N] or [N, 1]")
        self._count(tensor.shape[0], 1)
        elements = bytes_elements(tensor)
        sizes = [_size(each) for each in elements]  # of all, before one is decoded
        self._count(len(sizes), sum(width * height for width, height in sizes))
        return [decode_image(io.BytesIO(each), "an image") for each in elements]

    def _raw(self, tensor: Tensor) -> list[Pixels]:
        if tensor.datatype != "UINT8" and tensor.datatype not in _FLOAT_TYPES:
            allowed = ", ".join(("UINT8", *_FLOAT_TYPES))
            raise ValueError(f"is of datatype {tensor.datatype[:40]!r}; images are {allowed} or BYTES (JPEG or PNG)")
        layout = self._layout(tensor.shape)
        many = tensor.shape if len(tensor.shape) == 4 else (1, *tensor.shape)
        height, width = many[1:3] if layout == "NHWC" else many[2:4]
        self._count(many[0], many[0] * height * width)
        values = numbers(tensor).reshape(many)
        if layout == "NCHW":
            values = values.transpose(0, 2, 3, 1)
        if tensor.datatype != "UINT8":
            pixels = self.scale.pixels_of(values)
            if pixels is None:
                raise ValueError(
                    f"holds floats that are no pixels: they have to be {self.scale.meaning}, so that what is screened "
                    "is what was sent; send UINT8 instead"
                )
            values = pixels
        return [check_pixels(np.ascontiguousarray(each)) for each in values]

    def _layout(self, shape: tuple[int, ...]) -> Layout:
        if len(shape) in (3, 4):
            first, last = shape[-3] == 3, shape[-1] == 3
            if first and last:
                return self.layout
            if first or last:
                return "NCHW" if first else "NHWC"
        raise ValueError(f"has shape {list(shape)}; an image is [H, W, 3] or [3, H, W], several are [N, ...]")

    def _count(self, images: int, pixels: int) -> None:
        if not images:
            raise ValueError("holds no image")
        if images > self.most_images:
            raise Refusal(Code.TOO_LARGE, f"{images} images in one request; {self.most_images} are allowed")
        if pixels > self.most_pixels:
            raise Refusal(Code.TOO_LARGE, f"{pixels} pixels in one request; {self.most_pixels} are allowed")


def _size(encoded: bytes) -> tuple[int, int]:
    """(width, height) that a JPEG or PNG says it has."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(encoded), formats=_ENCODED) as image:
                width, height = image.size
                return int(width), int(height)
    except Exception:  # decoders answer bytes made to harm them with any exception there is
        raise ValueError(f"holds an element that is no whole {' or '.join(_ENCODED)}") from None
