"""The state of a Jetson that a latency depends on: module, JetPack, power mode, clocks, heat, throttling, power.

All of it is read from plain files, /proc/device-tree, /sys and /etc, none of which needs root but the memory's clock.
What can't be read is named in `missing`, never guessed.
"""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import BaseModel

from firewall.host.sensors import GPU, number, rails, temperatures, text, throttling

__all__ = ["Clock", "JetPack", "Jetson", "changes", "look"]

#: JetPack by L4T where the package nvidia-jetpack is not installed, as in a container.
_JETPACKS = {
    "36.3": "6.0",
    "36.4.0": "6.1",
    "36.4.3": "6.2",
    "36.4.4": "6.2.1",
    "36.4.7": "6.2.1",
    "36.5.0": "6.2.2",
    "38.2": "7.0",
    "38.4.0": "7.1",
    "39.2.0": "7.2",
}
_RELEASE = re.compile(r"# R(\d+) \(release\), REVISION: ([\d.]+)")
_MODE = re.compile(r"POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+)")
#: Debian packages of CUDA, cuDNN and TensorRT in JetPack 4 to 7.
_LIBRARIES = (
    *("cuda-runtime-12-6", "cuda-runtime-13-0", "cuda-runtime-13-2", "libcudnn8", "libcudnn9-cuda-12"),
    *("libcudnn9-cuda-13", "libnvinfer8", "libnvinfer10", "libnvinfer11"),
)


class Clock(BaseModel):
    """A clock, in MHz.

    Attributes:
        current: Its frequency now; None if it can't be read.
        lowest: The lowest that is allowed.
        highest: The highest that is allowed.
        governor: What sets the frequency; empty if unknown.
    """

    current: float | None
    lowest: float | None
    highest: float | None
    governor: str = ""


class JetPack(BaseModel):
    """The board's system.

    Attributes:
        version: Of JetPack; empty if unknown.
        l4t: Version of L4T.
        source: Where the version is from: the installed package, or the list of L4T's releases.
    """

    version: str
    l4t: str
    source: str


class Jetson(BaseModel):
    """The state of a board.

    Attributes:
        module: Its name.
        compatible: Names in its device tree.
        memory_mb: Memory in MB; None if unknown.
        jetpack: JetPack and L4T; None if unknown.
        libraries: Package of CUDA, cuDNN or TensorRT -> version that is installed.
        power_mode_id: Number of the power mode; None if unknown.
        power_mode: The power mode as nvpmodel names it; None if unknown.
        jetson_clocks: Whether processor and GPU are held at one clock; None if unknown.
        cpu: Clocks of the processor.
        gpu: Clocks of the GPU.
        memory_clock: In MHz; None if it can't be read, which takes root.
        temperatures: Zone -> degrees Celsius.
        throttling: Cooling devices that hold clocks back right now.
        trips: Thermal trips since the board was started, by zone.
        over_current: Over-current events since the board was started.
        power: Rail -> mW.
        fan: Rounds a minute, or the share of its power, 0 to 1.
        missing: What could not be read.
    """

    module: str
    compatible: list[str]
    memory_mb: float | None
    jetpack: JetPack | None
    libraries: dict[str, str]
    power_mode_id: int | None
    power_mode: str | None
    jetson_clocks: bool | None
    cpu: dict[str, Clock]
    gpu: dict[str, Clock]
    memory_clock: float | None
    temperatures: dict[str, float]
    throttling: list[str]
    trips: dict[str, int]
    over_current: dict[str, int]
    power: dict[str, float]
    fan: dict[str, float]
    missing: list[str]

    @property
    def label(self) -> str:
        """A result may be called one of this board only if its power mode, clocks and power are known."""
        return self.module if not self.missing else f"{self.module} (incomplete: no {', no '.join(self.missing)})"


def look(root: Path = Path("/")) -> Jetson | None:
    """The board's state now. Never raises.

    Args:
        root: Folder with /proc, /sys and /etc, for tests.

    Returns:
        The state; None if this is not a Jetson.
    """
    module = text(root / "proc/device-tree/model") or ""
    compatible = [name for name in (text(root / "proc/device-tree/compatible") or "").split("\0") if name]
    if "jetson" not in module.lower() and not any(name.startswith("nvidia,tegra") for name in compatible):
        return None
    mode_id, mode = _power_mode(root)
    cpu, gpu = _cpu_clocks(root), _gpu_clocks(root)
    jetpack, power, heat = _jetpack(root), rails(root), temperatures(root)
    known = {
        "JetPack": jetpack is not None,
        "power mode": mode is not None or mode_id is not None,
        "processor clocks": bool(cpu),
        "GPU clock": bool(gpu),
        "temperatures": bool(heat),
        "power rails": bool(power),
    }
    return Jetson(
        module=module or compatible[0],
        compatible=compatible,
        memory_mb=_memory(root),
        jetpack=jetpack,
        libraries={name: version for name in _LIBRARIES if (version := _package(root, name))},
        power_mode_id=mode_id,
        power_mode=mode,
        jetson_clocks=_held([*cpu.values()], [*gpu.values()]),
        cpu=cpu,
        gpu=gpu,
        memory_clock=_memory_clock(root),
        temperatures=heat,
        throttling=[name for name, held in throttling(root).items() if held],
        trips=_events(root, "sys/devices/platform/*-throttle-alert/thermal_trip_event", "-throttle-alert"),
        over_current=_over_current(root),
        power=power,
        fan=_fan(root),
        missing=[name for name, there in known.items() if not there],
    )


def changes(before: Jetson, after: Jetson) -> list[str]:
    """What happened on the board between two looks that makes latencies doubtful.

    Args:
        before: The first look.
        after: The second.

    Returns:
        A line for each event; none if the board was quiet.
    """
    found = []
    for what, old, new in (("thermal trips", before.trips, after.trips),
                           ("over-current events", before.over_current, after.over_current)):  # fmt: skip
        grown = {name: count - old.get(name, 0) for name, count in new.items() if count > old.get(name, 0)}
        found += [f"{what} of {name}: {count}" for name, count in grown.items()]
    held_back = sorted({*before.throttling, *after.throttling})
    if held_back:
        found.append(f"clocks held back by {', '.join(held_back)}")
    if (before.power_mode_id, before.power_mode) != (after.power_mode_id, after.power_mode):
        found.append(f"power mode went from {before.power_mode} to {after.power_mode}")
    return found


def _jetpack(root: Path) -> JetPack | None:
    match = _RELEASE.search(text(root / "etc/nv_tegra_release") or "")
    l4t = f"{match[1]}.{match[2]}" if match else _package(root, "nvidia-l4t-core").partition("-")[0]
    version = _package(root, "nvidia-jetpack")
    if version:
        return JetPack(version=version, l4t=l4t, source="package nvidia-jetpack")
    if not l4t:
        return None
    close = [name for name in (l4t, l4t.rpartition(".")[0]) if name in _JETPACKS]
    return JetPack(version=_JETPACKS[close[0]] if close else "", l4t=l4t, source="list of L4T releases")


def _package(root: Path, name: str) -> str:
    """The version of an installed Debian package, empty if it isn't."""
    try:
        status = (root / "var/lib/dpkg/status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    for paragraph in status.split("\n\n"):
        if paragraph.startswith(f"Package: {name}\n") and "\nStatus: install ok installed" in paragraph:
            found = re.search(r"^Version: (\S+)$", paragraph, re.MULTILINE)
            return found[1] if found else ""
    return ""


def _power_mode(root: Path) -> tuple[int | None, str | None]:
    found = re.search(r"pmode:(\d+)", text(root / "var/lib/nvpmodel/status") or "")
    if found is None:
        return None, None
    for file in sorted(root.glob("etc/nvpmodel*.conf")):
        try:
            lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            continue
        for line in lines:
            mode = None if line.lstrip().startswith("#") else _MODE.search(line)
            if mode and int(mode[1]) == int(found[1]):
                return int(found[1]), mode[2]
    return int(found[1]), None


def _cpu_clocks(root: Path) -> dict[str, Clock]:
    found = {}
    for folder in sorted(root.glob("sys/devices/system/cpu/cpu[0-9]*"), key=lambda path: int(path.name[3:])):
        if (folder / "cpufreq").is_dir() and text(folder / "online") != "0":
            found[folder.name] = _clock(folder / "cpufreq", "scaling_{}_freq", "scaling_governor", 1e-3)
    return found


def _gpu_clocks(root: Path) -> dict[str, Clock]:
    folders = [folder for folder in sorted(root.glob("sys/class/devfreq/*")) if GPU.search(folder.name)]
    return {folder.name: _clock(folder, "{}_freq", "governor", 1e-6) for folder in folders}


def _clock(folder: Path, pattern: str, governor: str, unit: float) -> Clock:
    values = [number(folder / pattern.format(name)) for name in ("cur", "min", "max")]
    current, lowest, highest = (None if value is None else value * unit for value in values)
    return Clock(current=current, lowest=lowest, highest=highest, governor=text(folder / governor) or "")


def _held(cpu: list[Clock], gpu: list[Clock]) -> bool | None:
    clocks = [*cpu, *gpu]
    if not cpu or not gpu or any(clock.lowest is None or clock.highest is None for clock in clocks):
        return None
    return all(clock.lowest == clock.highest for clock in clocks)


def _memory_clock(root: Path) -> float | None:
    for file in ("sys/kernel/debug/bpmp/debug/clk/emc/rate", "sys/kernel/debug/clk/emc/clk_rate"):
        hertz = number(root / file)
        if hertz is not None:
            return hertz / 1e6
    return None


def _over_current(root: Path) -> dict[str, int]:
    for sensor in sorted(root.glob("sys/class/hwmon/hwmon*")):
        if text(sensor / "name") == "soctherm_oc":
            return _events(sensor, "oc*_event_cnt", "_event_cnt")
    return {}


def _events(folder: Path, pattern: str, ending: str) -> dict[str, int]:
    found = {}
    for file in sorted(folder.glob(pattern)):
        count = number(file)
        if count is not None:
            place = file.parent.name if file.parent.name.endswith(ending) else file.name
            found[place.removesuffix(ending)] = int(count)
    return found


def _fan(root: Path) -> dict[str, float]:
    found = {}
    for sensor in sorted(root.glob("sys/class/hwmon/hwmon*")):
        rounds, power = number(sensor / "rpm"), number(sensor / "pwm1")
        rounds = number(sensor / "fan1_input") if rounds is None else rounds
        if rounds is not None:
            found["rpm"] = rounds
        if power is not None:
            found["power"] = power / 255
    return found


def _memory(root: Path) -> float | None:
    found = re.search(r"MemTotal:\s+(\d+) kB", text(root / "proc/meminfo") or "")
    return int(found[1]) * 1024 / 1e6 if found else None
