"""Several cameras: what may be said of each, and where one of them or several are named."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from firewall.bundle.strict import Strict
from firewall.config.part import Within
from firewall.config.texts import CoreList, Text, numbers
from firewall.errors import ConfigError, UsageError

__all__ = ["CAMERA_NAME", "CameraSettings", "Cameras", "cameras_named", "laid_over", "of_one_kind"]

#: What a camera may be called.
CAMERA_NAME = "^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"
#: Each has a capture process of its own.
_MOST = 64
_ONE = ("source", "camera_name")


class CameraSettings(Strict):
    """One of several cameras. What isn't set is as for all of them."""

    name: Text = Field(pattern=CAMERA_NAME, description="name in verdicts and topics: 1 to 64 letters, digits, _ or -")
    source: Text = Field(description="camera index, device, file, directory, glob, URL, test:// or demo")
    regions: Annotated[Text | None, BeforeValidator(numbers)] = Field(
        None, description="whole, signs, detector or X,Y,W,H; default: as the setting `regions`"
    )
    within: Within | None = Field(None, description="as the setting `within`, for this camera; off: all of its frames")
    deadline_ms: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="as the setting `deadline_ms`, for this camera"
    )
    cores: CoreList = Field(
        None, description="cores of its capture process, such as 4; default: those that `cores` of all leaves"
    )


def _several(value: Any) -> Any:
    if not isinstance(value, list | tuple):
        raise ValueError("it is a list of cameras, each with a name and a source")
    if not 1 <= len(value) <= _MOST:
        raise ValueError(f"give 1 to {_MOST} cameras, or leave it out and name one with 'source'")
    return value


def _named_apart(cameras: tuple[CameraSettings, ...]) -> tuple[CameraSettings, ...]:
    seen: set[str] = set()
    for camera in cameras:
        if camera.name in seen:
            raise ValueError(f"two cameras have the name {camera.name!r}; give each one of its own")
        seen.add(camera.name)
    return cameras


#: Two or more cameras, as a rule.
Cameras = Annotated[tuple[CameraSettings, ...], BeforeValidator(_several), AfterValidator(_named_apart)]


def cameras_named(sources: list[str], names: list[str]) -> dict[str, Any]:
    """What the command line says of one camera, or of several.

    Args:
        sources: What is to be guarded; empty: what other settings say.
        names: The names, in the same order; empty: `camera1`, `camera2` and so on for several.

    Returns:
        Settings.

    Raises:
        UsageError: If there are not as many names as sources.
    """
    if len(sources) < 2 and len(names) < 2:
        return {"source": sources[0] if sources else None, "camera_name": names[0] if names else None}
    if names and len(sources) != len(names):
        raise UsageError(
            f"--camera-name is given {len(names)} times for {len(sources)} sources; give one for each, in their order, "
            "or none"
        )
    called = names or [f"camera{number}" for number in range(1, len(sources) + 1)]
    return {"cameras": [{"name": name, "source": text} for name, text in zip(called, sources, strict=True)]}


def of_one_kind(values: dict[str, Any], where: str) -> dict[str, Any]:
    """Refuse what names one camera and several.

    Args:
        values: What is set.
        where: Where, for the message.

    Returns:
        The values.

    Raises:
        ConfigError: If both are named.
    """
    for key in _ONE:
        if values.get("cameras") is not None and values.get(key) is not None:
            raise ConfigError(
                f"{key!r} and 'cameras' are both set{where}; 'cameras' is a list in which each has its own name and "
                f"source, so leave {key!r} out"
            )
    return values


def laid_over(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """What is left of settings that others are laid over: whoever names a source names all that are guarded."""
    gone = _ONE if over.get("cameras") is not None else ("cameras",) if over.get("source") is not None else ()
    return {key: value for key, value in under.items() if key not in gone}
