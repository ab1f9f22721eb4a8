"""Settings of `firewall serve`, checked against a schema: an unknown key is an error.

The command line wins over the environment (`FIREWALL_SOURCE=...`), that over the file (YAML, `--config`), that over the
default. A value means the same in each of them. An empty environment variable counts as not set.
"""

from __future__ import annotations

import itertools
import json
import os
import reprlib
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)
from typing_extensions import Self

from firewall.bundle import PatchSpec
from firewall.bundle.strict import Strict
from firewall.bundle.values import eps_of
from firewall.config.cameras import CAMERA_NAME, Cameras, CameraSettings, laid_over, of_one_kind
from firewall.config.part import Within
from firewall.config.region_detector import RegionDetectorSettings
from firewall.config.settings_file import read_settings
from firewall.config.texts import OFF, CoreList, Text, numbers
from firewall.errors import ConfigError, UsageError

__all__ = ["CaptureSettings", "OverloadSettings", "Settings", "load_region_detector", "load_settings"]


def _switched(default: str) -> AfterValidator:
    """Text that can also be switched: off, false, no or none is 'off'; on, true or yes is the default."""

    def switched(text: str) -> str:
        word = text.strip().lower()
        if word in OFF:
            return "off"
        return default if word in ("on", "true", "yes") else text

    return AfterValidator(switched)


def _names(value: Any) -> Any:
    """A list, also if it is one text: names apart by commas or spaces, or JSON."""
    if not isinstance(value, str):
        return value
    if value.strip().lower() in OFF:
        return []
    return _json(value) if value.lstrip().startswith("[") else value.replace(",", " ").split()


def _outputs(value: Any) -> Any:
    """A list, also if it is one output, or JSON. A comma may stand in a file's name, so it parts nothing."""
    value = _json(value) if isinstance(value, str) and value.lstrip().startswith("[") else value
    return value if isinstance(value, list | tuple) else [value]


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _zero(value: Any) -> Any:
    """0 for off, no, false or none."""
    return 0 if value is False or (isinstance(value, str) and value.strip().lower() in OFF) else value


def _detector(value: Any) -> Any:
    """A file alone for the group, as of --region-detector; off for none."""
    if not isinstance(value, str) or value.lstrip().startswith("{"):
        return value
    return None if value.strip().lower() in OFF else {"file": value}


def _area(value: Any) -> Any:
    """The area alone for a whole PatchSpec; off for none."""
    if isinstance(value, str):
        if value.strip().lower() in OFF:
            return None
        value = _json(value) if value.lstrip().startswith("{") else value
    return {"area": value} if isinstance(value, str | int | float) and not isinstance(value, bool) else value


_Off = BeforeValidator(_zero)
_HTTP, _OUTPUT = "127.0.0.1:8080", "-"


def _eps(value: Any) -> Any:
    """A share such as "2/255" as a number; off for none."""
    if not isinstance(value, str):
        return value
    if value.strip().lower() in OFF:
        return None
    try:
        return eps_of(value, "it")
    except UsageError as error:
        raise ValueError(str(error)) from error


class CaptureSettings(Strict):
    """How long the firewall waits for a source, in seconds; and when its frames are refused.

    0 or `off` turns `frozen_after`, `stale_rows` and `good_frames` off.
    """

    open_timeout: float = Field(5.0, gt=0, le=120, description="longest wait for a source to open")
    read_timeout: float = Field(2.0, gt=0, le=120, description="longest wait for the next frame of a live source")
    first_delay: float = Field(0.2, gt=0, le=60, description="wait before the first restart of a failed capture")
    longest_delay: float = Field(10.0, gt=0, le=600, description="the wait doubles with each failure up to this")
    frozen_after: Annotated[float | None, _Off] = Field(
        None, ge=0, le=3600, description="live without a new picture: a fault; default 2, a network stream 10"
    )
    stale_rows: Annotated[float, _Off] = Field(
        0.125, ge=0, le=1, description="share of its rows a camera may repeat; 0 = any"
    )
    camera_faults: bool = Field(True, description="withhold what a blank, blocked or over-exposed camera shows")
    good_frames: Annotated[int, _Off] = Field(
        5, ge=0, le=1000, description="good frames withheld after a camera fault has gone"
    )


class OverloadSettings(Strict):
    """When a camera's guard counts as overloaded: so many of its last frames had a verdict that came too late. Half as
    many end it. 0 or `off` for `late`: never."""

    late: Annotated[int, _Off] = Field(150, ge=0, le=100_000, description="late frames; 0 = it never counts as such")
    frames: int = Field(300, ge=1, le=100_000, description="of so many frames, the last ones")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.late > self.frames:
            raise ValueError(f"of {self.frames} frames no more than {self.frames} can be late; lower 'late'")
        return self


def load_region_detector(file: Path) -> RegionDetectorSettings:
    """Settings of the user's own region detector.

    Args:
        file: An ONNX file, or a settings file (.yaml) with a group `region_detector:`.

    Returns:
        The settings; the defaults for an ONNX file.

    Raises:
        ConfigError: If the settings file can't be read or doesn't fit; it names the key and what is wrong with it.
    """
    if file.suffix.lower() not in (".yaml", ".yml"):
        return RegionDetectorSettings(file=file)
    values = _detector(read_settings(file, ", ".join(Settings.model_fields)).get("region_detector"))
    if values is None:
        raise ConfigError(f"{file} has no region_detector: {{file: ...}}; add it, or name an ONNX file")
    try:
        return RegionDetectorSettings.model_validate(values)
    except ValidationError as error:
        first = _telling(error)
        path = ("region_detector", *first["loc"])
        raise ConfigError(_one_line(first["type"], path, first["msg"], first["input"], f" in {file}")) from error


class Settings(BaseSettings):
    """Everything that can be set for `firewall serve`."""

    model_config = SettingsConfigDict(
        env_prefix="FIREWALL_", env_nested_delimiter="__", env_ignore_empty=True, extra="forbid", frozen=True
    )

    source: Text = Field("demo", description="camera index, device, file, directory, glob, URL, test:// or demo")
    camera_name: Text = Field(
        "camera",
        pattern=CAMERA_NAME,
        description="name of the camera in verdicts and topics: 1 to 64 letters, digits, _ or -",
    )
    cameras: Cameras | None = Field(
        None, description="in place of source and camera_name: a list of cameras, each with name and source"
    )
    bundle: Text = Field("default", description="'default' or the folder of a bundle")
    trust: Path | None = Field(None, description="public keys in PEM: a bundle must be signed by one of them")
    allow_unsigned: bool | None = Field(None, description="use a bundle without a signature all the same, and say so")
    trust_state: Path | None = Field(None, description="file that remembers the versions of signed bundles")
    regions: Annotated[Text, BeforeValidator(numbers)] = Field("signs", description="whole, signs, detector or X,Y,W,H")
    within: Within = Field("off", description="part of each frame that is looked at: X,Y,W,H in pixels or shares")
    region_detector: Annotated[RegionDetectorSettings | None, BeforeValidator(_detector)] = Field(
        None, description="what `regions: detector` looks with"
    )
    http: Annotated[Text, _switched(_HTTP)] = Field(_HTTP, description="HOST:PORT of the live page, or 'off'")
    http_names: Annotated[tuple[Text, ...], NoDecode, BeforeValidator(_names)] = Field(
        (), description="host names that the page answers to besides addresses: a name, '*.example.org' or '*'"
    )
    output: Annotated[
        tuple[Annotated[Text, _switched(_OUTPUT)], ...], NoDecode, BeforeValidator(_outputs), Field(min_length=1)
    ] = Field(
        (_OUTPUT,), description="where verdicts go, one or a list: '-' (stdout), jsonl:PATH, mqtt://HOST, ... or 'off'"
    )
    operator: bool = Field(False, description="add suspicion and detector scores to the verdict lines")
    patches: Annotated[PatchSpec | None, NoDecode, BeforeValidator(_area)] = Field(
        None, description="release only labels that no sticker can have changed"
    )
    values: Annotated[Annotated[float, Field(gt=0, le=1)] | None, BeforeValidator(_eps)] = Field(
        None, description="release only labels that are proved for changes of every value by this, such as 2/255"
    )
    sweep_key: Text | None = Field(
        None, description="secret that keyed sweeps are drawn by: a file, or env:NAME; default: one for each run"
    )
    confirm: int | None = Field(
        None, ge=1, le=30, description="frames that have to agree on a followed sign; default 3, large signs 5"
    )
    max_frames: int | None = Field(None, ge=1, description="stop after so many frames")
    deadline_ms: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="verdicts later than this after capture are withheld"
    )
    device: Text = Field(
        "cpu", description="what classifier and sign finder run on, nothing else: cpu, cuda or tensorrt"
    )
    threads: int = Field(0, ge=0, le=256, description="threads of the classifier, 0 = one for each core")
    cores: CoreList = Field(
        None, description="cores that judge and do nothing else, a thread each, such as 2-3,5; default: any"
    )
    golden_minutes: float = Field(
        10, ge=0, le=1440, description="minutes between two rounds of the bundle's golden frames; 0 = only at the start"
    )
    capture: CaptureSettings = CaptureSettings()
    overload: OverloadSettings = OverloadSettings()

    @property
    def guarded(self) -> tuple[CameraSettings, ...]:
        """All cameras, each with what is set for it or for all."""
        named = self.cameras or (CameraSettings(name=self.camera_name, source=self.source),)
        return tuple(
            camera.model_copy(
                update={
                    "regions": self.regions if camera.regions is None else camera.regions,
                    "within": self.within if camera.within is None else camera.within,
                    "deadline_ms": self.deadline_ms if camera.deadline_ms is None else camera.deadline_ms,
                }
            )
            for camera in named
        )

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
    """Settings from what is given, the environment and a file, in this order.

    Args:
        file: A settings file in YAML.
        **given: Values by the names of Settings; None counts as not given.

    Returns:
        The settings.

    Raises:
        ConfigError: If a value doesn't fit; it names the key, where it was set, what is wrong and what is allowed.
    """
    said = of_one_kind({key: value for key, value in given.items() if value is not None}, "")
    environment = of_one_kind(_environment(), " in the environment")
    values = _without_gaps(read_settings(file, ", ".join(Settings.model_fields)), file) if file else {}
    below = _merge(laid_over(of_one_kind(values, f" in {file}"), environment), environment)
    merged = of_one_kind(_merge(laid_over(below, said), said), "")
    try:
        return Settings(**merged)
    except ValidationError as error:
        first = _telling(error)
        path = first["loc"]
        if _holds(said, path):
            where = ""
        elif _holds(environment, path):
            names = itertools.takewhile(lambda part: isinstance(part, str), path)  # up to a place in a list
            variable = "__".join(map(str, names)).upper()
            where = f" in the environment (FIREWALL_{variable})"
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
        elif isinstance(field.default, str | bool | int | float) or key in ("output", "cameras"):
            default = {"output": repr(_OUTPUT), "cameras": "the one that 'source' names"}.get(key, repr(field.default))
            raise ConfigError(f"setting {key!r} in {file} has no value; give one, or leave the line out for {default}")
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


def _telling(error: ValidationError) -> ErrorDetails:
    """What to tell first: a key that is unknown is often the one that is missing, in another spelling."""
    found = error.errors()
    return next((each for each in found if each["type"] == "extra_forbidden"), found[0])


def _one_line(kind: str, path: tuple[int | str, ...], message: str, value: Any, where: str) -> str:
    key = ".".join(str(part) for part in path)
    if kind == "extra_forbidden":
        groups: dict[tuple[int | str, int], type[BaseModel]] = {
            ("region_detector", 2): RegionDetectorSettings,
            ("capture", 2): CaptureSettings,
            ("overload", 2): OverloadSettings,
            ("patches", 2): PatchSpec,
            ("cameras", 3): CameraSettings,
        }
        model = groups.get((path[0], len(path)), Settings)
        return f"unknown setting {key!r}{where}; known settings: {', '.join(model.model_fields)}"
    if kind == "model_type":
        return f"setting {key!r}{where}: it is a group of 'key: value' lines, got {reprlib.repr(value)}"
    if path[0] == "cameras" and (isinstance(value, dict | list | tuple) or path[-1] == "source"):
        return f"setting {key!r}{where}: {message.lower()}"  # a source may hold a password
    return f"setting {key!r}{where}: {message.lower()}, got {reprlib.repr(value)}"
