"""Does a picture show a scene at all? A lens that is capped, covered or dazzled still gives frames, and new ones.

A picture is judged by itself, on about 6000 cells of its frame:

* blank: one colour, but for the sensor's noise;
* over-exposed: most of the frame is as good as white;
* blocked: nearly no detail anywhere. A hand or tape before the lens is out of focus and shows light and shade at most.
  Detail is what bends: the brightness of a cell that differs from the mean of its two neighbours.

The limits were set on real road scenes, by day and made dark; see tests/sources/test_camera_faults.py for how far off
these are.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from firewall.frame import Pixels

__all__ = ["picture_fault"]

_CELLS = 6000  # of 13x13 pixels in a frame of 1360x800
_SMALLEST = 4  # pixels: over smaller cells noise doesn't average out
_ROWS = 4  # of each cell that are looked at
# All in steps of 0..255.
_ONE_COLOUR, _WHITE, _DETAIL, _SURE, _EDGE = 6.0, 235.0, 4.0, 16.0, 40.0
# Shares of the cells. Stray lights or edges; detail in a blocked one; white in an over-exposed one.
_STRAY, _FEATURELESS, _DAZZLED = 0.001, 0.005, 0.6
# Standard deviations of noise that are never taken for detail, or for a second colour; and what quantile shows them.
_NOISE, _MEDIAN = 4.0, 0.6745
_LOUDEST = 20.0  # noise of single pixels

_Cells = npt.NDArray[np.float32]


def picture_fault(pixels: Pixels) -> str | None:
    """What is wrong with the camera, by one picture. About 0.5 ms for 1360x800, 1.1 ms where it is blocked.

    Args:
        pixels: (H, W, 3) uint8.

    Returns:
        `blank: ...`, `over-exposed: ...` or `blocked: ...`, two of them joined by `, ` where both hold; None for a
        picture that shows something.
    """
    size = max(_SMALLEST, round(math.sqrt(pixels.shape[0] * pixels.shape[1] / _CELLS)))
    size = min(size, *pixels.shape[:2])
    cells = _cells(pixels, size)
    white = float(np.mean(cells >= _WHITE))
    found = [f"over-exposed: {white:.0%} of the picture is white"] if white >= _DAZZLED else []
    if float(np.mean(np.abs(cells - np.median(cells)) > _ONE_COLOUR)) <= _STRAY and _is_one_colour(pixels, size):
        red, green, blue = (round(float(value)) for value in np.median(pixels[::size, ::size], axis=(0, 1)))
        found.append(f"blank: all of the picture has one colour, ({red}, {green}, {blue})")
    elif not found and _is_featureless(cells) and not _has_coloured_edges(pixels, size):
        found.append("blocked: there is next to no detail in the picture")
    return ", ".join(found) or None


def _cells(pixels: Pixels, size: int, channel: int | None = None) -> _Cells:
    """The mean brightness of each cell of `size` x `size` pixels, or the mean of one channel."""
    height, width = (side // size for side in pixels.shape[:2])
    rows = np.arange(0, size, math.ceil(size / _ROWS))
    whole = pixels[: height * size, : width * size].reshape(height, size, width * size * 3)
    strips = whole[:, rows[0]].astype(np.uint16)
    for row in rows[1:]:
        strips += whole[:, row]
    summed = np.zeros((height, width), np.uint32)
    columns = range(size * 3) if channel is None else range(channel, size * 3, 3)
    for column in columns:  # strided sums are several times faster than a sum over a short last axis
        summed += strips[:, column :: size * 3]
    cells: _Cells = summed.astype(np.float32) / np.float32(len(rows) * len(columns))
    return cells


def _is_one_colour(pixels: Pixels, size: int) -> bool:
    """Of cells that have one brightness: have they one colour? Asked of single pixels, whose noise is larger."""
    some = pixels[::size, ::size].astype(np.float32)
    off = np.abs(some - np.median(some, axis=(0, 1)))
    apart = np.abs(np.diff(some, axis=1)).reshape(-1, 3)
    noise = np.median(apart, axis=0) / (_MEDIAN * math.sqrt(2)) if len(apart) else np.zeros(3)
    limit = _ONE_COLOUR + 6 * np.minimum(noise, _LOUDEST)
    return bool(np.all(np.mean(off > limit, axis=(0, 1)) <= 2 * _STRAY))


def _is_featureless(cells: _Cells) -> bool:
    """Do nearly all cells have the mean brightness of their neighbours, left and right or above and below?"""
    bend = _bend(cells)
    if not bend.size:
        return False
    # Noise bends all cells alike, a scene some of them much more than most. So the flattest quarter tells the noise:
    # of two differences, both lie below 0.6745 standard deviations in a quarter of the cells.
    noise = float(np.partition(bend, bend.size // 4, axis=None)[bend.size // 4]) / _MEDIAN
    detail, edges = (float(np.mean(bend > limit)) for limit in (min(max(_DETAIL, _NOISE * noise), _SURE), _EDGE))
    return detail < _FEATURELESS and edges <= _STRAY


def _has_coloured_edges(pixels: Pixels, size: int) -> bool:
    """Red on grey may have one brightness. Asked where there is no detail, so it may cost as much again."""
    return any(float(np.mean(_bend(_cells(pixels, size, channel)) > _EDGE)) > _STRAY for channel in range(3))


def _bend(cells: _Cells) -> _Cells:
    """By how much each cell differs from its neighbours: twice its value less theirs, across or down."""
    if min(cells.shape) < 3:
        return np.empty((0, 0), np.float32)
    middle = 2 * cells[1:-1, 1:-1]
    across, down = middle - cells[1:-1, :-2] - cells[1:-1, 2:], middle - cells[:-2, 1:-1] - cells[2:, 1:-1]
    bend: _Cells = np.maximum(np.abs(across), np.abs(down))
    return bend
