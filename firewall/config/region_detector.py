"""What may be said about the user's own region detector."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, StrictInt, StrictStr, field_validator

from firewall.bundle.strict import Strict
from firewall.frame import MAX_SIDE

__all__ = ["RegionDetectorSettings"]


class RegionDetectorSettings(Strict):
    """The user's own ONNX detector, which finds the boxes to look at (`regions: detector`).

    What isn't set is recognised from the file and from its first answers (docs/own_detector.md).
    """

    file: Path = Field(description="ONNX file of the detector")
    layout: str = Field("auto", description="what the outputs hold, such as yolov8; 'auto' recognises it")
    boxes: str | None = Field(None, description="name of the output that holds the boxes")
    scores: str | None = Field(None, description="name of the output that holds the scores")
    labels: str | None = Field(None, description="name of the output that holds the class numbers")
    coordinates: Literal["auto", "pixels", "unit"] = Field(
        "auto", description="pixels of the network's input, or 0..1 of its sides"
    )
    format: Literal["auto", "corners", "corners-yx", "centre", "top-left"] = Field(
        "auto", description="x0 y0 x1 y1; y0 x0 y1 x1; centre, width and height; or left, top, width and height"
    )
    activation: Literal["auto", "none", "sigmoid", "softmax"] = Field(
        "auto", description="what makes scores of 0..1 of the network's"
    )
    background: Literal["auto", "none", "first", "last"] = Field(
        "auto", description="the column of scores that means 'nothing'"
    )
    threshold: float = Field(0.5, ge=0, le=1, description="boxes below this score are not looked at")
    overlap: float = Field(0.5, gt=0, le=1, description="of two boxes with a larger overlap (IoU) the better is kept")
    classes: list[StrictInt | StrictStr] | None = Field(
        None, min_length=1, description="classes that are signs, by number or name; all others are left out"
    )
    size: tuple[int, int] | None = Field(
        None, description="height and width to give a network that takes any; default: its metadata, or 640 640"
    )
    letterbox: bool | None = Field(
        None, description="true: keep the frame's aspect and fill with grey 114; false: stretch it"
    )
    axes: Literal["auto", "nchw", "nhwc"] = Field("auto", description="order of the input's axes")
    channels: Literal["rgb", "bgr"] = Field("rgb", description="order of the input's channels")
    range: float | None = Field(
        None, gt=0, le=65535, description="value of a full pixel: 1, or 255 (default for whole numbers)"
    )
    mean: tuple[float, float, float] = Field((0.0, 0.0, 0.0), description="taken off after the range, one a channel")
    std: tuple[float, float, float] = Field((1.0, 1.0, 1.0), description="divided by after that, one a channel")
    device: Literal["cpu", "cuda", "tensorrt"] | None = Field(
        None, description="what it runs on, and nothing else; default: as the classifier"
    )

    @field_validator("classes", mode="before")
    @classmethod
    def _one_or_more(cls, value: Any) -> Any:
        several = [value] if isinstance(value, int | str) and not isinstance(value, bool) else value
        if not isinstance(several, list):
            return several
        # A settings file's numbers come as text.
        return [int(one) if isinstance(one, str) and one.isdecimal() else one for one in several]

    @field_validator("size", mode="before")
    @classmethod
    def _square(cls, value: Any) -> Any:
        one = not isinstance(value, bool) and (isinstance(value, int) or (isinstance(value, str) and value.isdecimal()))
        return (value, value) if one else value

    @field_validator("format", mode="before")
    @classmethod
    def _spelling(cls, value: Any) -> Any:
        return "centre" if value == "center" else value

    @field_validator("size")
    @classmethod
    def _sides(cls, value: tuple[int, int] | None) -> tuple[int, int] | None:
        if value is not None and not all(1 <= side <= MAX_SIDE for side in value):
            raise ValueError(f"sides must be 1 to {MAX_SIDE} pixels")
        return value

    @field_validator("std")
    @classmethod
    def _positive(cls, value: tuple[float, float, float]) -> tuple[float, float, float]:
        if not all(0 < part < math.inf for part in value):
            raise ValueError("must be positive numbers")
        return value
