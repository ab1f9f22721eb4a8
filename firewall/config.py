"""Settings of `firewall serve`, checked against a schema: an unknown key is an error.

What counts, first to last: command line, environment (`FIREWALL_SOURCE=...`), file (YAML, `--config`), default.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from firewall.bundle import PatchSpec
from firewall.errors import ConfigError

__all__ = ["CaptureSettings", "RegionDetectorSettings", "Settings", "load_settings"]


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
    """An ONNX detector of the user's that names the boxes to look at (`regions: detector`)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: Path = Field(description="ONNX file: input (1, 3, H, W) float RGB 0..1; boxes in pixels of that input")
    boxes: str = Field("boxes", description="output (N, 4) or (1, N, 4): x0, y0, x1, y1")
    scores: str = Field("scores", description="output (N,) or (1, N): confidence 0..1")
    threshold: float = Field(0.5, ge=0, le=1, description="boxes below this confidence are not looked at")


class Settings(BaseSettings):
    """Everything `firewall serve` can be told."""

    model_config = SettingsConfigDict(env_prefix="FIREWALL_", env_nested_delimiter="__", extra="forbid", frozen=True)

    source: str = Field("demo", description="camera index, device, file, directory, glob, URL, test:// or demo")
    bundle: str = Field("default", description="'default' or the folder of a bundle")
    trust: Path | None = Field(None, description="public keys in PEM: a bundle must be signed by one of them")
    allow_unsigned: bool | None = Field(None, description="use a bundle without a signature all the same, and say so")
    trust_state: Path | None = Field(None, description="file that remembers the versions of signed bundles")
    regions: str = Field("signs", description="whole, signs, detector or X,Y,W,H")
    region_detector: RegionDetectorSettings | None = None
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


def _one_line(error: ValidationError, file: Path | None) -> str:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    where = f" in {file}" if file else ""
    if first["type"] == "extra_forbidden":
        return f"unknown setting {key!r}{where}; known settings: {', '.join(Settings.model_fields)}"
    return f"setting {key!r}{where}: {first['msg'].lower()}, got {first['input']!r}"
