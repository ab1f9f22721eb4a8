"""Settings of `firewall serve`, checked against a schema: an unknown key is an error.

What counts, first to last: command line, environment (`FIREWALL_SOURCE=...`), file (YAML, `--config`), default. A value
means the same in each of them. An environment variable that is empty is one that is not set.
"""

from __future__ import annotations

import json
import math
import os
import reprlib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictInt,
    StrictStr,
    ValidationError,
    field_validator,
)
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from firewall.bundle import PatchSpec
from firewall.config.settings_file import read_settings
from firewall.errors import ConfigError
from firewall.frame import MAX_SIDE

__all__ = ["CaptureSettings", "RegionDetectorSettings", "Settings", "load_region_detector", "load_settings"]


_OFF = ("off", "false", "no", "none")


def _text(value: Any) -> Any:
    """A number or truth value where text is asked for: what YAML or a program made of `0` or `off`."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value) if isinstance(value, int | float) else value


def _switched(default: str) -> AfterValidator:
    """Text that can also be switched: off, false, no or none is 'off'; on, true or yes is the default."""

    def switched(text: str) -> str:
        word = text.strip().lower()
        if word in _OFF:
            return "off"
        return default if word in ("on", "true", "yes") else text

    return AfterValidator(switched)


def _numbers(value: Any) -> Any:
    """A list of four numbers for a text of them."""
    return ",".join(map(str, value)) if isinstance(value, list) and len(value) == 4 else value


def _names(value: Any) -> Any:
    """A list, also if it is one text: names apart by commas or spaces, or JSON."""
    if not isinstance(value, str):
        return value
    return _json(value) if value.lstrip().startswith("[") else value.replace(",", " ").split()


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _area(value: Any) -> Any:
    """The area alone for a whole PatchSpec; off for none."""
    if isinstance(value, str):
        if value.strip().lower() in _OFF:
            return None
        value = _json(value) if value.lstrip().startswith("{") else value
    return {"area": value} if isinstance(value, str | int | float) and not isinstance(value, bool) else value


Text = Annotated[str, BeforeValidator(_text)]
_HTTP, _OUTPUT = "127.0.0.1:8080", "-"


class CaptureSettings(BaseModel):
    """How patient the firewall is with a source. In seconds, but for `stale_rows`; 0 turns the last two off."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    open_timeout: float = Field(5.0, gt=0, le=120, description="longest wait for a source to open")
    read_timeout: float = Field(2.0, gt=0, le=120, description="longest wait for the next frame of a live source")
    first_delay: float = Field(0.2, gt=0, le=60, description="wait before the first restart of a failed capture")
    longest_delay: float = Field(10.0, gt=0, le=600, description="the wait doubles with each failure up to this")
    frozen_after: float | None = Field(
        None, ge=0, le=3600, description="live without a new picture: stale; default 2, a network stream 10"
    )
    stale_rows: float = Field(0.125, ge=0, le=1, description="share of its rows a camera may repeat; 0 = any")


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


def load_region_detector(file: Path) -> RegionDetectorSettings:
    """Settings for the detector in `file`: an ONNX file, or a settings file (.yaml) with `region_detector:`.

    Raises ConfigError that names the key and what is wrong with it.
    """
    if file.suffix.lower() not in (".yaml", ".yml"):
        return RegionDetectorSettings(file=file)
    values = read_settings(file, ", ".join(Settings.model_fields)).get("region_detector")
    if values is None:
        raise ConfigError(f"{file} has no region_detector: {{file: ...}}; add it, or name an ONNX file")
    try:
        return RegionDetectorSettings.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        path = ("region_detector", *first["loc"])
        raise ConfigError(_one_line(first["type"], path, first["msg"], first["input"], f" in {file}")) from error


class Settings(BaseSettings):
    """Everything `firewall serve` can be told."""

    model_config = SettingsConfigDict(
        env_prefix="FIREWALL_", env_nested_delimiter="__", env_ignore_empty=True, extra="forbid", frozen=True
    )

    source: Text = Field("demo", description="camera index, device, file, directory, glob, URL, test:// or demo")
    bundle: Text = Field("default", description="'default' or the folder of a bundle")
    trust: Path | None = Field(None, description="public keys in PEM: a bundle must be signed by one of them")
    allow_unsigned: bool | None = Field(None, description="use a bundle without a signature all the same, and say so")
    trust_state: Path | None = Field(None, description="file that remembers the versions of signed bundles")
    regions: Annotated[Text, BeforeValidator(_numbers)] = Field(
        "signs", description="whole, signs, detector or X,Y,W,H"
    )
    region_detector: RegionDetectorSettings | None = Field(None, description="what `regions: detector` looks with")
    http: Annotated[Text, _switched(_HTTP)] = Field(_HTTP, description="HOST:PORT of the live page, or 'off'")
    http_names: Annotated[tuple[Text, ...], NoDecode, BeforeValidator(_names)] = Field(
        (), description="host names that the page answers to besides addresses: a name, '*.example.org' or '*'"
    )
    output: Annotated[Text, _switched(_OUTPUT)] = Field(
        _OUTPUT, description="verdict lines: '-' (stdout), jsonl:PATH (reopened on SIGHUP) or 'off'"
    )
    operator: bool = Field(False, description="add suspicion and detector scores to the verdict lines")
    patches: Annotated[PatchSpec | None, NoDecode, BeforeValidator(_area)] = Field(
        None, description="release only labels that no sticker can have changed"
    )
    max_frames: int | None = Field(None, ge=1, description="stop after so many frames")
    deadline_ms: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="verdicts later than this after capture are withheld"
    )
    device: Text = Field("cpu", description="what the classifier runs on, and nothing else: cpu, cuda or tensorrt")
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
        """Only what was given: environment and file are merged into it by `load_settings`."""
        return (init_settings,)


def load_settings(file: Path | None = None, **given: Any) -> Settings:
    """Settings from `given` (what is None counts as not given), the environment and `file`.

    Raises ConfigError that names the key, where it was set, what is wrong with it and what is known.
    """
    told = {key: value for key, value in given.items() if value is not None}
    environment = _environment()
    values = _without_gaps(read_settings(file, ", ".join(Settings.model_fields)), file) if file else {}
    try:
        return Settings(**_merge(_merge(values, environment), told))
    except ValidationError as error:
        first = error.errors()[0]
        path = first["loc"]
        if _holds(told, path):
            where = ""
        elif _holds(environment, path):
            where = f" in the environment (FIREWALL_{'__'.join(str(part) for part in path).upper()})"
        else:
            where = f" in {file}" if file else ""
        raise ConfigError(_one_line(first["type"], path, first["msg"], first["input"], where)) from error


def _environment() -> dict[str, Any]:
    if os.environ.get("FIREWALL_TRUST") == "":  # what was meant to hold a key file must not come to mean no key
        raise ConfigError("FIREWALL_TRUST is empty; name a file of public keys, or unset it to trust none")
    try:
        return EnvSettingsSource(Settings)()
    except SettingsError as error:
        cause = error.__cause__
        raise ConfigError(
            f"{error}" + (f": {cause}" if cause else "") + "; values of a group are given as JSON, or one "
            "by one: FIREWALL_CAPTURE__OPEN_TIMEOUT=5"
        ) from error


def _without_gaps(values: dict[str, Any], file: Path) -> dict[str, Any]:
    """A file's values without the keys that have none. Where `null` could mean nothing it is refused."""
    kept = {}
    for key, value in values.items():
        field = Settings.model_fields.get(key)
        if value is not None or field is None:
            kept[key] = value
        elif isinstance(field.default, str | bool | int | float):
            raise ConfigError(
                f"setting {key!r} in {file} has no value; give one, or leave the line out for {field.default!r}"
            )
    return kept


def _merge(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(under)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _holds(values: Any, path: tuple[int | str, ...]) -> bool:
    for part in path:
        if isinstance(values, dict) and part in values:
            values = values[part]
        else:
            return isinstance(values, list | tuple | str)
    return bool(path)


def _one_line(kind: str, path: tuple[int | str, ...], message: str, value: Any, where: str) -> str:
    key = ".".join(str(part) for part in path)
    if kind == "extra_forbidden":
        model = RegionDetectorSettings if path[0] == "region_detector" and len(path) == 2 else Settings
        return f"unknown setting {key!r}{where}; known settings: {', '.join(model.model_fields)}"
    if kind == "model_type":
        return f"setting {key!r}{where}: it is a group of 'key: value' lines, got {reprlib.repr(value)}"
    return f"setting {key!r}{where}: {message.lower()}, got {reprlib.repr(value)}"
