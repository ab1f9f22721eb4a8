"""The systemd unit of a camera's guard, and what has to be added for its camera. Placed, never started, from here."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from firewall.config import Settings, load_settings
from firewall.errors import FirewallError, UsageError
from firewall.host.file_writing import replace_file
from firewall.sources import parse
from firewall.sources.uri import SourceSpec

__all__ = ["Placed", "addition", "device_unit", "install", "service"]

UNITS, RULES = Path("etc/systemd/system"), Path("etc/udev/rules.d/99-perception-firewall.rules")
SETTINGS = Path("etc/perception-firewall")
_TEMPLATE = "perception-firewall@.service"
_NAME = re.compile("[A-Za-z0-9][A-Za-z0-9_-]{0,63}", re.ASCII)
# No space, quote, dollar or percent sign: each means something to systemd.
_PYTHON = re.compile("/[A-Za-z0-9/._+-]+", re.ASCII)
#: What the unit can't see (ProtectHome, PrivateTmp).
_HIDDEN = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")  # noqa: S108 - no file is made there


@dataclass(frozen=True)
class Placed:
    """Files that were written, and the commands that come next, in this order."""

    files: tuple[Path, ...]
    next: tuple[str, ...]


def install(name: str, *, root: Path = Path("/"), python: Path | None = None) -> Placed:
    """Place the unit, and what its camera needs. What is there of an earlier install is replaced.

    Args:
        name: Name of the camera's guard; its settings are ROOT/etc/perception-firewall/NAME.yaml.
        root: The file system that it is placed in.
        python: The Python that has the package there; None is this one.

    Returns:
        What was placed.

    Raises:
        UsageError: For a name, settings or a Python that the unit could not use.
        FirewallError: If a file can't be written.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(f"the name of a guard is 1 to 64 letters, digits, _ or -, got {name!r}")
    file = root / SETTINGS / f"{name}.yaml"
    if not file.is_file():
        raise UsageError(f"{file} is missing; write the settings there first, such as 'source: /dev/video0'")
    variables = {f"firewall_{key}" for key in Settings.model_fields}
    here = sorted(each for each in os.environ if each.lower().partition("__")[0] in variables)
    if here:
        raise UsageError(f"unset {', '.join(here)} and try again: for the unit only {file} counts")
    settings = load_settings(file)
    _check_paths(settings, file)
    specs = [parse(camera.source) for camera in settings.guarded]
    groups = root / "etc/group"
    render = groups.is_file() and re.search("^render:", groups.read_text(errors="replace"), re.MULTILINE) is not None
    unit = f"perception-firewall@{name}"
    files = {
        root / UNITS / _TEMPLATE: service(python or _this_python()),
        root / UNITS / f"{unit}.service.d" / "camera.conf": addition(settings, specs, render=render),
    }
    commands = ["systemctl daemon-reload", f"systemctl enable --now {unit}"]
    if any(spec.kind == "camera" for spec in specs):
        files[root / RULES] = _packaged("perception-firewall.rules")
        commands[1:1] = ["udevadm control --reload", "udevadm trigger --subsystem-match=video4linux --settle"]
    for path, content in files.items():
        _write(path, content)
    return Placed(tuple(files), tuple(commands))


def service(python: Path) -> str:
    """The unit's text.

    Args:
        python: Absolute path of the Python that has the package.

    Raises:
        UsageError: If the unit could not run that Python.
    """
    text = str(python)
    if not _PYTHON.fullmatch(text):
        raise UsageError(
            f"{text!r} can't stand in a unit; put the virtual environment where its absolute path has only letters, "
            "digits and /._+-, such as /opt/perception-firewall"
        )
    _check_seen(text, "Python")
    return _packaged(_TEMPLATE).replace("@PYTHON@", text)


def addition(settings: Settings, specs: Sequence[SourceSpec], *, render: bool = False) -> str:
    """What the unit needs for these cameras: what it is started after, and what else it may use.

    Args:
        settings: The guard's settings.
        specs: The sources of its cameras.
        render: Whether there is a group `render`, which a GPU's files may belong to.
    """
    unit: list[str] = []
    service = []
    kinds = {spec.kind for spec in specs}
    for target in dict.fromkeys(spec.target for spec in specs if spec.kind == "camera"):
        unit += _after(device_unit(target))
    if "csi" in kinds:
        # Started again with the daemon: the socket of a new one is another file.
        unit += [*_after("nvargus-daemon.service"), "PartOf=nvargus-daemon.service"]
        service.append("BindPaths=-/tmp/argus_socket")
    if "stream" in kinds:
        unit += _after("network-online.target")
    if "csi" in kinds or settings.device != "cpu":
        # Which devices a Jetson's or a card's driver has differs by its version: their own permissions decide. Drivers
        # compile for the GPU while they run.
        service += ["DevicePolicy=auto", "DeviceAllow=", "MemoryDenyWriteExecute=no"]
        if render:
            service.append("SupplementaryGroups=render")
    if any(output.startswith("can:") for output in settings.output):
        service.append("RestrictAddressFamilies=AF_CAN")
    parts = [("Unit", unit), ("Service", service)]
    written = [f"[{head}]\n" + "".join(f"{line}\n" for line in lines) for head, lines in parts if lines]
    return f"# Written by `firewall device install` for {', '.join(spec.name for spec in specs)}.\n" + "\n".join(
        written
    )


def device_unit(path: str) -> str:
    r"""The unit of a device: dev-video0.device for /dev/video0, as systemd-escape writes it.

    Args:
        path: Absolute.
    """
    plain = re.sub("/+", "/", path).strip("/")
    escaped = "".join(
        "-" if each == "/" else each if re.fullmatch("[A-Za-z0-9:_.]", each, re.ASCII) else _escaped(each)
        for each in plain
    )
    return (_escaped(".") + escaped[1:] if escaped.startswith(".") else escaped) + ".device"


def _escaped(character: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in os.fsencode(character))


def _after(other: str) -> list[str]:
    # Wants, not Requires: if the camera doesn't come the guard is started all the same, fails, and is started again.
    return [f"Wants={other}", f"After={other}"]


def _write(path: Path, content: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, content.encode(), mode=0o644)
    except OSError as error:
        raise FirewallError(
            f"can't write {path}: {error.strerror}; run it as root, or name another root with --root"
        ) from error


def _packaged(name: str) -> str:
    return (resources.files("firewall.device") / name).read_text("utf-8")


def _this_python() -> Path:
    for place in (
        sys.executable,
        os.path.realpath(sys.executable),
        __file__,
    ):  # a link, where it leads, and the package
        _check_seen(place, "the package")
    return Path(sys.executable)


def _check_paths(settings: Settings, file: Path) -> None:
    detector = settings.region_detector
    named = {
        "bundle": None if settings.bundle == "default" else settings.bundle,
        "trust": settings.trust,
        "trust_state": settings.trust_state,
        "region_detector.file": None if detector is None else detector.file,
        "sweep_key": None if (settings.sweep_key or "env:").startswith("env:") else settings.sweep_key,
    }
    for key, value in named.items():
        if value is None:
            continue
        if not Path(value).is_absolute():
            raise UsageError(f"setting {key!r} in {file} must be an absolute path, got {str(value)!r}")
        _check_seen(str(value), f"setting {key!r} in {file}")


def _check_seen(path: str, what: str) -> None:
    normal = os.path.normpath(path)
    for hidden in _HIDDEN:
        if normal == hidden or normal.startswith(hidden + "/"):
            raise UsageError(
                f"{what}: {path} lies in {hidden}, which the unit can't see; put it elsewhere, such as below "
                "/opt/perception-firewall"
            )
