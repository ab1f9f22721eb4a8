"""Settings of `firewall serve`, checked against a schema: an unknown key is an error.

What counts, first to last: command line, environment (`FIREWALL_SOURCE=...`), file (YAML, `--config`), default.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from firewall.bundle import PatchSpec
from firewall.errors import ConfigError
from firewall.frame import MAX_SIDE

__all__ = ["CaptureSettings", "RegionDetectorSettings", "Settings", "load_region_detector", "load_settings"]


class CaptureSettings(BaseModel):
    """How patient the firewall is with a source. All in seconds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    open_timeout: float = Field(5.0, gt=0, le=120, description="longest wait for a source to open")
    read_timeout: float = Field(2.0, gt=0, le=120, description="longest wait for the next frame of a live source")
    first_delay: float = Field(0.2, gt=0, le=60, description="wait before the first restart of a failed capture")
    longest_delay: float = Field(10.0, gt=0, le=600, description="the wait doubles with each failure up to this")


class RegionDetectorSettings(BaseModel):
    """An ONNX detector of the user's that names the boxes to look at (`regions: detector`).

    What isn't set is recognised from the file and from its first answers (docs/own_detector.md).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

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
        return [value] if isinstance(value, int | str) and not isinstance(value, bool) else value

    @field_validator("size", mode="before")
    @classmethod
    def _square(cls, value: Any) -> Any:
        return (value, value) if isinstance(value, int) and not isinstance(value, bool) else value

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


def load_region_detector(file: Path) -> RegionDetectorSettings:
    """Settings for the detector in `file`: an ONNX file, or a settings file (.yaml) with `region_detector:`.

    Raises ConfigError that names the key and what is wrong with it.
    """
    if file.suffix.lower() not in (".yaml", ".yml"):
        return RegionDetectorSettings(file=file)
    values = _read(file).get("region_detector")
    if values is None:
        raise ConfigError(f"{file} has no region_detector: {{file: ...}}; add it, or name an ONNX file")
    try:
        return RegionDetectorSettings.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_one_line(error, file, "region_detector")) from error


class Settings(BaseSettings):
    """Everything `firewall serve` can be told."""

    model_config = SettingsConfigDict(env_prefix="FIREWALL_", env_nested_delimiter="__", extra="forbid", frozen=True)

    source: str = Field("demo", description="camera index, device, file, directory, glob, URL, test:// or demo")
    bundle: str = Field("default", description="'default' or the folder of a bundle")
    trust: Path | None = Field(None, description="public keys in PEM: a bundle must be signed by one of them")
    allow_unsigned: bool | None = Field(None, description="use a bundle without a signature all the same, and say so")
    trust_state: Path | None = Field(None, description="file that remembers the versions of signed bundles")
    regions: str = Field("signs", description="whole, signs, detector or X,Y,W,H")
    region_detector: RegionDetectorSettings | None = Field(None, description="what `regions: detector` looks with")
    http: str = Field("127.0.0.1:8080", description="HOST:PORT of the live page, or 'off'")
    output: str = Field("-", description="verdict lines: '-' (stdout), jsonl:PATH or 'off'")
    operator: bool = Field(False, description="add suspicion and detector scores to the verdict lines")
    patches: PatchSpec | None = Field(None, description="release only labels that no sticker can have changed")
    max_frames: int | None = Field(None, ge=1, description="stop after so many frames")
    deadline_ms: float | None = Field(None, gt=0, description="verdicts later than this after capture are withheld")
    device: str = Field("cpu", description="what the classifier runs on, and nothing else: cpu, cuda or tensorrt")
    threads: int = Field(0, ge=0, le=256, description="threads of the classifier, 0 = one for each core")
    capture: CaptureSettings = CaptureSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """What was given, then the environment; the file is merged in by `load_settings`."""
        return (init_settings, env_settings)


def load_settings(file: Path | None = None, **given: Any) -> Settings:
    """Settings from `given` (what is None counts as not given), the environment and `file`.

    Raises ConfigError that names the key, what is wrong with it and what is known.
    """
    values = _read(file) if file else {}
    try:
        environment = _Environment().model_dump(exclude_unset=True)
        return Settings(**_merge(_merge(values, environment), {k: v for k, v in given.items() if v is not None}))
    except ValidationError as error:
        raise ConfigError(_one_line(error, file)) from error


class _Environment(Settings):
    """Settings as the environment alone gives them."""


def _read(file: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"can't read settings from {file}: {' '.join(str(error).split())}") from error
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise ConfigError(f"{file} must hold 'key: value' lines; known keys: {', '.join(Settings.model_fields)}")
    return values


def _merge(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(under)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _one_line(error: ValidationError, file: Path | None, under: str = "") -> str:
    first = error.errors()[0]
    path = [*([under] if under else []), *first["loc"]]
    key = ".".join(str(part) for part in path)
    where = f" in {file}" if file else ""
    if first["type"] == "extra_forbidden":
        model = RegionDetectorSettings if path[0] == "region_detector" and len(path) == 2 else Settings
        return f"unknown setting {key!r}{where}; known settings: {', '.join(model.model_fields)}"
    return f"setting {key!r}{where}: {first['msg'].lower()}, got {first['input']!r}"
