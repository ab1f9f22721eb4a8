"""Sensors of the machine: heat, power, load, read from plain files of the kernel, none of which needs root.

What can't be read isn't there: nothing is guessed, and nothing raises. GPUs that are no Tegra: firewall.host.nvml.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from firewall.host.nvml import Gpu, gpus

__all__ = [
    "GPU",
    "Rails",
    "Readings",
    "Sensors",
    "number",
    "rails",
    "read",
    "temperatures",
    "text",
    "throttling",
]

#: Name -> mW.
Rails = dict[str, float]
#: Names of a Tegra's GPU among the devices whose clocks change.
GPU = re.compile(r"(^gpu|\.(gpu|ga10b|gv11b|gp10b|gm20b)$)")
#: A sensor of a part that is switched off.
_OFF = -100.0


@dataclass(frozen=True)
class Readings:
    """What the sensors say now; each is empty where nothing can be read.

    Attributes:
        temperatures: Zone -> degrees Celsius.
        power: Rail -> watts.
        load: GPU -> share of the time that it is busy, 0 to 1.
        clocks: GPU -> hertz.
        throttling: Cooling device -> whether it holds clocks back right now.
    """

    temperatures: dict[str, float] = field(default_factory=dict)
    power: dict[str, float] = field(default_factory=dict)
    load: dict[str, float] = field(default_factory=dict)
    clocks: dict[str, float] = field(default_factory=dict)
    throttling: dict[str, bool] = field(default_factory=dict)


def read(root: Path = Path("/"), nvidia: Callable[[], list[Gpu]] = gpus) -> Readings:
    """All sensors. Never raises.

    Args:
        root: Folder with /sys, for tests.
        nvidia: Gives the GPUs that NVIDIA's driver tells of.
    """
    board = [folder for folder in sorted(root.glob("sys/class/devfreq/*")) if GPU.search(folder.name)]
    clocks = {folder.name: number(folder / "cur_freq") for folder in board}
    load = {folder.name: _share(number(folder / "device" / "load")) for folder in board}
    if not board:  # JetPack 4 has its load elsewhere
        load = {"gpu.0": _share(number(root / "sys/devices/gpu.0/load"))}
    heat: dict[str, float | None] = {**temperatures(root)}
    power: dict[str, float | None] = {name: value / 1e3 for name, value in rails(root).items()}
    for gpu in nvidia():
        heat[gpu.name], power[gpu.name] = gpu.temperature, gpu.power
        load[gpu.name], clocks[gpu.name] = gpu.load, gpu.clock
    return Readings(_known(heat), _known(power), _known(load), _known(clocks), throttling(root))


class Sensors:
    """Reads the sensors, at most once a second: who asks more often gets what was read before.

    Args:
        look: Reads them.
    """

    def __init__(self, look: Callable[[], Readings] = read) -> None:
        self._look, self._at, self._newest = look, -math.inf, Readings()

    def __call__(self) -> Readings:
        """What they say. Never raises."""
        if time.monotonic() - self._at >= 1:
            self._newest, self._at = self._look(), time.monotonic()
        return self._newest


def temperatures(root: Path = Path("/")) -> dict[str, float]:
    """Thermal zone -> degrees Celsius; of zones of one name the hottest."""
    found: dict[str, float] = {}
    for zone in sorted(root.glob("sys/class/thermal/thermal_zone*")):
        name, degrees = text(zone / "type"), number(zone / "temp")
        if name and degrees is not None and degrees / 1e3 > _OFF:
            name = name.removesuffix("-thermal")
            found[name] = max(degrees / 1e3, found.get(name, _OFF))
    return found


def throttling(root: Path = Path("/")) -> dict[str, bool]:
    """Cooling device that warns of throttling -> whether it holds clocks back right now."""
    found: dict[str, bool] = {}
    for device in sorted(root.glob("sys/class/thermal/cooling_device*")):
        name, state = text(device / "type") or "", number(device / "cur_state") or 0
        if name.endswith("throttle-alert"):
            found[name] = found.get(name, False) or state > 0
    return found


def rails(root: Path = Path("/")) -> Rails:
    """Power of each rail now.

    INA3221 (Xavier, Orin) and INA238 (Thor) by the kernel's hwmon; INA3221 by the iio driver of JetPack 4. What a
    sensor calls NC is connected to nothing.

    Args:
        root: Folder with /sys, for tests.

    Returns:
        Name on the board -> mW; empty where no sensor can be read.
    """
    found: Rails = {}
    for sensor in sorted(root.glob("sys/class/hwmon/hwmon*")):
        if not (text(sensor / "name") or "").startswith("ina"):
            continue
        for file in sorted(sensor.glob("power*_input")):
            microwatts = number(file)
            name = text(sensor / file.name.replace("_input", "_label")) or text(sensor / "in1_label") or "VIN"
            if microwatts is not None:
                found[name] = microwatts / 1e3
        for file in sorted(sensor.glob("in*_label")):
            channel, name = file.name[2:-6], text(file) or ""
            volts, amperes = number(sensor / f"in{channel}_input"), number(sensor / f"curr{channel}_input")
            if name in ("", "NC") or "sum of" in name or volts is None or amperes is None:
                continue  # in4 to in7 are voltages of shunts
            found.setdefault(name, volts * amperes / 1e3)
    for file in sorted(root.glob("sys/bus/i2c/drivers/ina3221x/*/iio:device*/rail_name_*")):
        name, milliwatts = text(file) or "", number(file.with_name(f"in_power{file.name[-1]}_input"))
        if name not in ("", "NC") and milliwatts is not None:
            found.setdefault(name, milliwatts)
    return found


def text(file: Path) -> str | None:
    """What a small file of the kernel holds.

    Args:
        file: Its path.

    Returns:
        Its text; None if it can't be read: a zone that is off answers with an error.
    """
    try:
        return file.read_bytes()[:4096].rstrip(b"\0\n ").decode(errors="replace")
    except OSError:
        return None


def number(file: Path) -> float | None:
    """The number in a small file of the kernel.

    Args:
        file: Its path.

    Returns:
        The number; None if there is none.
    """
    try:
        return float(text(file) or "")
    except ValueError:
        return None


def _share(load: float | None) -> float | None:
    """A Tegra tells its load in thousandths."""
    return None if load is None else load / 1e3


def _known(found: dict[str, float | None]) -> dict[str, float]:
    return {name: value for name, value in found.items() if value is not None and math.isfinite(value)}
