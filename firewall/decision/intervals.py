"""Interval bounds of sums that hold as numbers: float64 with every sum's rounding added, also for float32 engines.

Each value of a layer lies between two numbers (interval bound propagation: Gowal et al. 2018). A sum of n products,
in any order, with or without fused operations, differs from the exact one by at most g_n times the sum of the
products' magnitudes, g_n = n u / (1 - n u) with u = 2^-53 (Higham, "Accuracy and Stability of Numerical Algorithms",
section 3.1). That much is added on each side, twice over for what is lost in computing it. Convolutions are unfolded
into matrix products, so that no fast algorithm is used for which this isn't so.

The engine that runs the network computes in float32, u = 2^-24. Its sums differ from exact ones by the same formula, so
`lost_in_float32` is added too, layer by layer, and the bounds hold for the logits that such an engine gives, whatever
order it adds in. Algorithms that are no sums of products (Winograd's convolutions on some GPUs) are not covered.

The lab's certificates (`firewall lab certify linf`) and the guard (`--values`) take their bounds from here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from firewall.errors import DataError

__all__ = ["Box", "Product", "box_of", "folded", "lost_in_float32", "margins_of", "unfolded"]

Floats = npt.NDArray[np.float64]

#: Unit roundoffs, doubled for what is lost in computing the error itself.
_DOUBLE, _SINGLE = 2.0**-52, 2.0**-23
#: A product may vanish in float32: less than this is lost of each.
_TINY = 2.0**-120


@dataclass(frozen=True, eq=False, slots=True)
class Box:
    """Values between two bounds.

    Args:
        low: Float64, any shape.
        high: Float64, of the same shape.
    """

    low: Floats
    high: Floats

    @property
    def magnitude(self) -> Floats:
        """The largest magnitude of each value."""
        return np.asarray(np.maximum(np.abs(self.low), np.abs(self.high)))


class Product:
    """rows @ x + bias, with what its bounds take, made once.

    Args:
        rows: Float64 (R, n).
        bias: Float64 (R,).
    """

    __slots__ = ("bias", "magnitude", "negative", "positive", "rows")

    def __init__(self, rows: Floats, bias: Floats) -> None:
        self.rows, self.bias = rows, bias
        self.positive, self.negative, self.magnitude = np.maximum(rows, 0), np.minimum(rows, 0), np.abs(rows)

    def bounds(self, columns: Box) -> tuple[Box, Floats]:
        """Bounds of rows @ x + bias.

        Args:
            columns: Of x, (n, places).

        Returns:
            Bounds (R, places), and the sums of all magnitudes (R, places).
        """
        bias = self.bias[:, None]
        low = self.positive @ columns.low + self.negative @ columns.high + bias
        high = self.positive @ columns.high + self.negative @ columns.low + bias
        size = self.magnitude @ columns.magnitude + np.abs(bias)
        lost = (2 * self.rows.shape[1] + 2) * _DOUBLE * size
        return Box(low - lost, high + lost), size


def box_of(image: Floats, eps: float, *, float32: bool = True) -> Box:
    """All images within eps of an image, and within 0..1.

    Args:
        image: Float64 in 0..1, any shape.
        eps: Largest change of a value.
        float32: Whether values are rounded to float32 on their way in, which adds to it.

    Returns:
        The box, of the image's shape.

    Raises:
        DataError: A value is outside 0..1 or no number.
    """
    if not bool(((image >= 0) & (image <= 1)).all()):
        raise DataError("values of an image must lie in 0..1")
    lost = 2.0**-22 if float32 else 2.0**-51
    # Rounded outward after it is cut off at 0 and 1: a value of 1 may become 1 + 2^-23 on its way in.
    return Box(np.maximum(image - eps, 0) - lost, np.minimum(image + eps, 1) + lost)


def lost_in_float32(products: int, size: Floats) -> Floats:
    """How far a sum in float32 can be from the exact one.

    Args:
        products: How many are added.
        size: The sum of all magnitudes.

    Returns:
        Of size's shape.
    """
    return np.asarray((products + 2) * (_SINGLE * size + _TINY))


def margins_of(weight: Floats, bias: Floats, label: int, columns: Box, error: Floats | None) -> Floats:
    """Lower bounds on logit(label) - logit(class), the last layer taken together with the difference.

    Args:
        weight: Float64 (classes, n) of the last layer.
        bias: Float64 (classes,).
        label: The class.
        columns: Of the last layer's input, (n, 1).
        error: How far an engine's logits may be from the exact ones of its own input, (classes,); None: not at all.

    Returns:
        (classes,); infinite for the label itself.
    """
    low = Product(weight[label] - weight, bias[label] - bias).bounds(columns)[0].low[:, 0]
    if error is not None:
        low = low - error - error[label]
    low[label] = np.inf
    return low


def unfolded(values: Floats, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]) -> Floats:
    """What each place of a convolution reads, 0 around the edge.

    Args:
        values: Float64 (in, H, W).
        kernel: (down, across).
        stride: (down, across).
        padding: (down, across), on both sides.

    Returns:
        (in * kh * kw, places), channels first, then the window row by row.
    """
    down, across = padding
    padded = np.pad(values, ((0, 0), (down, down), (across, across)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, kernel, axis=(1, 2))[:, :: stride[0], :: stride[1]]
    return np.asarray(windows.transpose(0, 3, 4, 1, 2).reshape(len(values) * kernel[0] * kernel[1], -1))


def folded(
    columns: Floats, shape: tuple[int, ...], kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]
) -> Floats:
    """What `unfolded` reads, added up where it was read: its transpose.

    Args:
        columns: Float64 (R, in * kh * kw, places).
        shape: Of the values, (in, H, W).
        kernel: As of `unfolded`.
        stride: As of `unfolded`.
        padding: As of `unfolded`.

    Returns:
        (R, in, H, W).
    """
    channels, height, width = shape
    down, across = padding
    padded = np.zeros((len(columns), channels, height + 2 * down, width + 2 * across))
    after = [(padded.shape[2 + axis] - kernel[axis]) // stride[axis] + 1 for axis in (0, 1)]
    parts = columns.reshape(len(columns), channels, *kernel, *after)
    for row in range(kernel[0]):
        for column in range(kernel[1]):
            ends = (row + after[0] * stride[0], column + after[1] * stride[1])
            padded[:, :, row : ends[0] : stride[0], column : ends[1] : stride[1]] += parts[:, :, row, column]
    return padded[:, :, down : down + height, across : across + width]
