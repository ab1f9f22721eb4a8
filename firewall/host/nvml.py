"""NVIDIA's management library, which the driver brings along: heat, power, load of each GPU, without a process for it.

Tegra up to JetPack 6 has no such library; there the kernel's files tell (firewall.host.sensors).
"""

from __future__ import annotations

import ctypes
import threading
from dataclasses import dataclass
from typing import Any

__all__ = ["LIBRARY", "Gpu", "Library", "gpus"]

#: Its name to the dynamic linker.
LIBRARY = "libnvidia-ml.so.1"
_TEMPERATURE_OF_GPU, _GRAPHICS_CLOCK = 0, 0
_MOST = 64


@dataclass(frozen=True)
class Gpu:
    """A GPU now. What the driver doesn't tell is None.

    Attributes:
        name: `gpu0`, `gpu1` and so on.
        temperature: Degrees Celsius.
        power: Watts.
        load: Share of the time that it is busy, 0 to 1.
        clock: Hertz.
    """

    name: str
    temperature: float | None
    power: float | None
    load: float | None
    clock: float | None


class _Utilization(ctypes.Structure):
    _fields_ = (("gpu", ctypes.c_uint), ("memory", ctypes.c_uint))


class Library:
    """The library, loaded once, when it is first asked.

    Args:
        name: Its name, or a file, for tests.
    """

    def __init__(self, name: str = LIBRARY) -> None:
        self._name, self._lock = name, threading.Lock()
        self._tried = False
        self._library: Any = None

    def __call__(self) -> list[Gpu]:
        """All GPUs; none where there is no such library, or it doesn't work. Never raises."""
        with self._lock:
            if not self._tried:
                self._tried = True
                self._library = self._opened()
            try:
                return [] if self._library is None else self._gpus(self._library)
            except AttributeError:  # an old one, without one of the functions
                return []

    def _opened(self) -> Any:
        try:
            library = ctypes.CDLL(self._name)
            return library if library.nvmlInit_v2() == 0 else None
        except (OSError, AttributeError):
            return None

    def _gpus(self, library: Any) -> list[Gpu]:
        count = ctypes.c_uint()
        if library.nvmlDeviceGetCount_v2(ctypes.byref(count)) != 0:
            return []
        found = []
        for place in range(min(count.value, _MOST)):
            device = ctypes.c_void_p()
            if library.nvmlDeviceGetHandleByIndex_v2(place, ctypes.byref(device)) == 0:
                found.append(_read(library, f"gpu{place}", device))
        return found


def _read(library: Any, name: str, device: ctypes.c_void_p) -> Gpu:
    def number(function: str, *which: int) -> float | None:
        value = ctypes.c_uint()
        worked = getattr(library, function)(device, *which, ctypes.byref(value)) == 0
        return float(value.value) if worked else None

    shares = _Utilization()
    busy = library.nvmlDeviceGetUtilizationRates(device, ctypes.byref(shares)) == 0
    power, clock = number("nvmlDeviceGetPowerUsage"), number("nvmlDeviceGetClockInfo", _GRAPHICS_CLOCK)
    return Gpu(
        name,
        number("nvmlDeviceGetTemperature", _TEMPERATURE_OF_GPU),
        None if power is None else power / 1e3,
        shares.gpu / 100 if busy else None,
        None if clock is None else clock * 1e6,
    )


#: Asks the driver.
gpus = Library()
