"""Pictures inside a page, so that a page is one file."""

from __future__ import annotations

import base64
import io

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from PIL import Image

__all__ = ["data_uri", "photo_uri", "pixels_uri"]


def data_uri(figure: Figure) -> str:
    """The figure as an SVG for the `src` of an image; the same figure gives the same text."""
    file = io.BytesIO()
    # No date and no version in it, so that the same figures give the same page.
    figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    return "data:image/svg+xml;base64," + base64.b64encode(file.getvalue()).decode()


def pixels_uri(image: npt.NDArray[np.uint8]) -> str:
    """An image, uint8 (h, w, 3) RGB, as a PNG for the `src` of an image: the very pixels."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def photo_uri(image: npt.NDArray[np.uint8]) -> str:
    """An image, uint8 (h, w, 3) RGB, as a JPEG for the `src` of an image: a tenth of the bytes, to be looked at."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
