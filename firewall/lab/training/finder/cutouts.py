"""Signs cut out along their own shape, to be pasted into scenes: a box around a triangle is half background."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from firewall.frame import Pixels

__all__ = ["KINDS", "Cutout", "Pasted", "cut_out", "kind_of", "outline", "paste", "without_margin"]

Points = npt.NDArray[np.float64]

#: The mask goes this far beyond the outline, as a share of the sign: boxes are a pixel off now and then, and a sign
#: without its tips is what the finder must not learn.
_BEYOND = 1.07
_TRIANGLES = (11, *range(18, 32))
_BLUE, _GREY = tuple(range(33, 41)), (6, 32, 41, 42)
_YIELD, _DIAMOND, _STOP, _NO_ENTRY = 13, 12, 14, 17
#: How often each kind of sign is shown: red ring, triangle, blue disc, grey disc, yield, diamond, octagon, no entry.
#: By their numbers of classes the last four would hardly be seen.
KINDS = (0.18, 0.16, 0.18, 0.12, 0.1, 0.1, 0.08, 0.08)
_CUT = 1 - 2**-0.5  # an octagon's corners begin at this share of its side


def kind_of(label: int) -> int:
    """Which of the KINDS a class looks like."""
    alone = {_YIELD: 4, _DIAMOND: 5, _STOP: 6, _NO_ENTRY: 7}
    groups = {1: _TRIANGLES, 2: _BLUE, 3: _GREY}
    return alone.get(label, next((kind for kind, labels in groups.items() if label in labels), 0))


def outline(label: int) -> Points:
    """The outline of a class's sign in a box from -1 to 1 along both sides, (P, 2) x and y."""
    corners: list[tuple[float, float]]
    if label in _TRIANGLES:
        corners = [(0, -1), (1, 1), (-1, 1)]
    elif label == _YIELD:
        corners = [(-1, -1), (1, -1), (0, 1)]
    elif label == _DIAMOND:
        corners = [(0, -1), (1, 0), (0, 1), (-1, 0)]
    elif label == _STOP:
        near = 1 - 2 * _CUT
        corners = [(-near, -1), (near, -1), (1, -near), (1, near), (near, 1), (-near, 1), (-1, near), (-1, -near)]
    else:
        turn = np.linspace(0, 2 * np.pi, 32, endpoint=False)
        return np.stack([np.cos(turn), np.sin(turn)], 1)
    return np.array(corners, np.float64)


def without_margin(pixels: Pixels) -> tuple[float, float, float, float]:
    """The sign's box x0, y0, x1, y1 in an image of GTSRB: a tenth of the sign is around it, at least 5 pixels."""
    height, width = pixels.shape[:2]
    x, y = (5.0 if side <= 60 else side / 12 for side in (width, height))
    return x, y, width - x, height - y


@dataclass(frozen=True, eq=False)
class Cutout:
    """A sign with what is around it.

    Attributes:
        pixels: Uint8 (h, w, 3).
        box: The sign in it: x0, y0, x1, y1.
        label: Its class.
    """

    pixels: Pixels
    box: tuple[float, float, float, float]
    label: int

    @property
    def side(self) -> float:
        """The longer side of the sign in pixels."""
        return max(self.box[2] - self.box[0], self.box[3] - self.box[1])


@dataclass(frozen=True, eq=False)
class Pasted:
    """A sign as it is to be laid into a scene.

    Attributes:
        pixels: Float32 (h, w, 3), 0..255.
        mask: Float32 (h, w, 1), 0..1.
        box: The sign's box in it: x0, y0, x1, y1.
    """

    pixels: npt.NDArray[np.float32]
    mask: npt.NDArray[np.float32]
    box: tuple[float, float, float, float]


def cut_out(sign: Cutout, side: float, generator: np.random.Generator) -> Pasted:
    """The sign in a random pose.

    Args:
        sign: The sign.
        side: How long the longer side of its box is before it is posed, in pixels.
        generator: What the pose is drawn with.
    """
    x0, y0, x1, y1 = sign.box
    pixels: Pixels = sign.pixels
    shrink = 1.5 * side / sign.side
    if shrink < 1:  # else warping would skip pixels
        size = tuple(max(4, round(length * shrink)) for length in (pixels.shape[1], pixels.shape[0]))
        across, down = size[0] / pixels.shape[1], size[1] / pixels.shape[0]
        pixels = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
        x0, y0, x1, y1 = x0 * across, y0 * down, x1 * across, y1 * down
    middle, half = np.array([(x0 + x1) / 2, (y0 + y1) / 2]), np.array([(x1 - x0) / 2, (y1 - y0) / 2])
    scale = side / 2 / half.max()
    angle = np.radians(generator.uniform(-10, 10) if generator.random() < 0.25 else generator.uniform(-3, 3))
    narrow = (
        np.exp(generator.uniform(-0.3, 0.05)) if generator.random() < 0.3 else np.exp(generator.uniform(-0.06, 0.06))
    )
    lean = generator.uniform(-0.08, 0.08)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    pose = turn @ np.array([[narrow, lean], [0.0, 1.0]]) * scale
    shape = outline(sign.label) * half
    reach = (shape * _BEYOND) @ pose.T
    pad = 2
    low = np.floor(reach.min(0)) - pad - generator.uniform(0, 1, 2)
    width, height = (np.ceil(reach.max(0) - low) + pad).astype(int).tolist()
    # Pixel (i, j) covers i to i + 1: warping counts from the middle of the first.
    shift = -(pose @ (middle - 0.5)) - low - 0.5
    matrix = np.concatenate([pose, shift[:, None]], 1)
    view = cv2.warpAffine(pixels, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    mask = np.zeros((height, width), np.uint8)
    corners = np.round((reach - low - 0.5) * 16).astype(np.int32)
    cv2.fillPoly(mask, [corners], 255, cv2.LINE_AA, 4)
    soft = cv2.GaussianBlur(mask, (0, 0), 0.4 + 0.012 * side)
    real = shape @ pose.T - low
    (left, top), (right, bottom) = real.min(0).tolist(), real.max(0).tolist()
    return Pasted(
        np.asarray(view, np.float32),
        np.multiply(soft, np.float32(1 / 255), dtype=np.float32)[..., None],
        (left, top, right, bottom),
    )


def paste(scene: Pixels, sign: Pasted, x: int, y: int, generator: np.random.Generator) -> float:
    """Lay a sign into a scene, in place, under a light of its own: from as bright as around it to glaring or dark.

    Args:
        scene: Uint8 (H, W, 3).
        sign: The sign; it must lie in the scene as a whole.
        x: Where its left column goes.
        y: Where its top row goes.
        generator: What the light is drawn with.

    Returns:
        How much the scene has changed where the sign is: root mean square in grey levels.
    """
    height, width = sign.mask.shape[:2]
    under = scene[y : y + height, x : x + width].astype(np.float32)
    shown, mask = sign.pixels, sign.mask
    weight = mask.sum() + 1e-3
    mean = float((shown.mean(2, keepdims=True) * mask).sum() / weight)
    around = float(under.mean())
    wanted = np.exp(np.log(mean + 15) + generator.uniform(0, 1) * (np.log(around + 15) - np.log(mean + 15))) * np.exp(
        generator.normal(0, 0.3)
    )
    shown = shown * np.float32(np.clip(wanted / (mean + 15), 0.15, 5))
    level = np.float32(np.clip(mean * np.clip(wanted / (mean + 15), 0.15, 5), 0, 255))
    contrast = generator.uniform(0.35, 1.0) if generator.random() < 0.35 else generator.uniform(0.85, 1.3)
    grey = shown.mean(2, keepdims=True)
    colour = generator.uniform(0.3, 1.0) if generator.random() < 0.3 else generator.uniform(0.9, 1.6)
    shown = grey + (shown - grey) * np.float32(colour)
    shown = level + (shown - level) * np.float32(contrast)
    shown = np.clip(shown * np.exp(generator.normal(0, 0.05, 3)).astype(np.float32), 0, 255)
    if generator.random() < 0.3:
        shown = cv2.GaussianBlur(shown, (0, 0), float(generator.uniform(0.4, 0.7 + 0.02 * max(height, width))))
    change = mask * (shown - under)
    scene[y : y + height, x : x + width] = np.rint(under + change).astype(np.uint8)
    return float(np.sqrt((change * change).sum() / (3 * weight)))
