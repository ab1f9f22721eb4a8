"""Random changes of pose, light, sharpness and compression that a sign may arrive with.

They hold the sweep's own operations (JPEG, blur, rotation, scaling), so that the classifier stays stable under the
sweep on benign images, and the resolutions that signs are cropped at.
"""

from __future__ import annotations

import io
from collections.abc import Collection

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from firewall.transforms import resize

__all__ = ["MIRROR", "STEPS", "augment"]

#: Parts of an augmentation, in their order. Each can be left out.
STEPS = ("resize", "pose", "light", "blur", "noise", "jpeg", "occlude")

#: Class of the mirror image of each class that has one: symmetric signs and left/right pairs.
MIRROR: dict[int, int] = {
    **{label: label for label in (11, 12, 13, 15, 17, 18, 22, 26, 30, 35)},
    19: 20,
    20: 19,
    33: 34,
    34: 33,
    36: 37,
    37: 36,
    38: 39,
    39: 38,
}

Pixels = npt.NDArray[np.uint8]


def augment(pixels: Pixels, size: int, generator: np.random.Generator, without: Collection[str] = ()) -> Pixels:
    """One random version of a sign.

    Args:
        pixels: Uint8 (H, W, 3) of any size.
        size: Height and width of the result, in pixels.
        generator: What it is drawn with.
        without: Those of STEPS that are left out.

    Returns:
        Uint8 (size, size, 3).
    """
    chance = generator.random
    if "resize" not in without and max(pixels.shape[:2]) > 36 and chance() < 0.5:
        side = int(generator.integers(20, 40))
        filtering = cv2.INTER_LINEAR if chance() < 0.7 else cv2.INTER_AREA
        pixels = np.asarray(cv2.resize(pixels, (side, side), interpolation=filtering), np.uint8)
    pixels = resize(pixels, size, size) if "pose" in without else _pose(pixels, size, generator)
    if "light" not in without and chance() < 0.9:
        pixels = _light(pixels, generator)
    if "blur" not in without and chance() < 0.3:
        pixels = _blur(pixels, generator)
    if "noise" not in without and chance() < 0.3:
        noise = generator.normal(0, generator.uniform(1, 12), pixels.shape)
        pixels = np.clip(pixels + noise, 0, 255).astype(np.uint8)
    if "jpeg" not in without and chance() < 0.5:
        pixels = _jpeg(pixels, int(generator.integers(20, 101)))
    if "occlude" not in without and chance() < 0.25:
        pixels = _occlude(pixels, generator)
    return pixels


def _pose(pixels: Pixels, size: int, generator: np.random.Generator) -> Pixels:
    height, width = pixels.shape[:2]
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    centred = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], np.float64)
    centred = centred + generator.uniform(-0.1, 0.1, (4, 2))  # perspective and shear
    angle = np.deg2rad(generator.uniform(-12, 12))
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    scale = np.exp(generator.uniform(-0.24, 0.26)) * np.exp(generator.uniform(-0.07, 0.07, 2))
    shift = generator.uniform(-0.13, 0.13, 2)
    target = ((centred * scale) @ turn + shift + 1) * size / 2
    matrix = cv2.getPerspectiveTransform(corners, target.astype(np.float32))
    border = (cv2.BORDER_REPLICATE, cv2.BORDER_REFLECT_101, cv2.BORDER_CONSTANT)[int(generator.integers(3))]
    out = cv2.warpPerspective(pixels, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=border)
    return np.asarray(out, np.uint8)


def _light(pixels: Pixels, generator: np.random.Generator) -> Pixels:
    values = pixels.astype(np.float32) / 255
    values = values ** np.float32(np.exp(generator.uniform(-0.5, 0.5)))
    mean = values.mean()
    values = (values - mean) * np.float32(np.exp(generator.uniform(-0.6, 0.5))) + mean
    gain = np.exp(generator.uniform(-0.6, 0.4)) * np.exp(generator.uniform(-0.12, 0.12, 3))
    values = values * gain.astype(np.float32) + np.float32(generator.uniform(-0.05, 0.12))
    if generator.random() < 0.2:  # a grey camera at night, or fog
        grey = values.mean(axis=2, keepdims=True)
        values = values + (grey - values) * np.float32(generator.uniform(0, 0.9))
    rounded: Pixels = (np.clip(values, 0, 1) * 255 + 0.5).astype(np.uint8)
    return rounded


def _blur(pixels: Pixels, generator: np.random.Generator) -> Pixels:
    if generator.random() < 0.6:
        return np.asarray(cv2.GaussianBlur(pixels, (0, 0), float(generator.uniform(0.4, 2.2))), np.uint8)
    length = int(generator.integers(3, 8))
    kernel = np.zeros((length, length), np.float32)
    slope = generator.uniform(-0.5, 0.5)
    for step in range(length):
        kernel[round((length - 1) / 2 + slope * (step - (length - 1) / 2)), step] = 1
    if generator.random() < 0.5:
        kernel = kernel.T
    return np.asarray(cv2.filter2D(pixels, -1, kernel / kernel.sum()), np.uint8)


def _jpeg(pixels: Pixels, quality: int) -> Pixels:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="JPEG", quality=quality)
    return np.asarray(Image.open(file))


def _occlude(pixels: Pixels, generator: np.random.Generator) -> Pixels:
    size = pixels.shape[0]
    side = generator.integers(size // 8, size // 3, 2)
    top, left = generator.integers(0, size - side)
    pixels = pixels.copy()
    pixels[top : top + side[0], left : left + side[1]] = generator.integers(0, 256, 3)
    return pixels
