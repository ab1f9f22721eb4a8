"""Sensors, read from trees of files like those of boards, and from a management library that is built for the test."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from firewall.host.nvml import Gpu, Library
from firewall.host.sensors import Readings, Sensors, read
from firewall.server.metrics import Metrics
from tests.bench.boards import agx_orin, orin_nano, thor, write, xavier_jetpack4

NONE = list[Gpu]

#: Two GPUs, of which the second tells only its temperature.
NVML = """
struct utilization { unsigned gpu, memory; };
int nvmlInit_v2(void) { return 0; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 2; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned place, void **device) { *device = (void *)(long)(place + 1); return 0; }
int nvmlDeviceGetTemperature(void *device, int sensor, unsigned *degrees)
{ *degrees = sensor == 0 ? 40 + (unsigned)(long)device : 0; return 0; }
int nvmlDeviceGetPowerUsage(void *device, unsigned *milliwatts) { *milliwatts = 250500; return device == (void *)2; }
int nvmlDeviceGetUtilizationRates(void *device, struct utilization *shares)
{ shares->gpu = 75; shares->memory = 10; return device == (void *)2 ? 3 : 0; }
int nvmlDeviceGetClockInfo(void *device, int which, unsigned *megahertz)
{ *megahertz = which == 0 ? 1980 : 1; return device == (void *)2 ? 3 : 0; }
"""


def built(folder: Path, source: str) -> str:
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler")
    (folder / "nvml.c").write_text(source)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", folder / "libnvml.so", folder / "nvml.c"], check=True)
    return str(folder / "libnvml.so")


def test_an_orin_nano(tmp_path: Path) -> None:
    """Zones that are on, rails in watts, load in shares, clocks in hertz, and what holds clocks back."""
    write(orin_nano(tmp_path), {"sys/class/devfreq/17000000.gpu/device/load": "437\n"})
    write(tmp_path, {"sys/class/thermal/cooling_device0/cur_state": "1\n"})
    found = read(tmp_path, NONE)
    assert found.temperatures == {"cpu": 48.468, "gpu": 49.5}
    assert found.power == {"VDD_IN": 6.0, "VDD_CPU_GPU_CV": 1.5, "VDD_SOC": 1.25}
    assert (found.load, found.clocks) == ({"17000000.gpu": 0.437}, {"17000000.gpu": 306e6})
    assert found.throttling == {"cpu-throttle-alert": True}


def test_other_boards(tmp_path: Path) -> None:
    """Thor by its input rail; a container that shows only rails; JetPack 4, whose load lies elsewhere."""
    assert read(thor(tmp_path / "thor"), NONE).power == {"VIN": 31.5}
    orin = read(agx_orin(tmp_path / "orin"), NONE)
    assert orin.power and not orin.temperatures and not orin.load and not orin.throttling
    xavier = write(xavier_jetpack4(tmp_path / "xavier"), {"sys/devices/gpu.0/load": "1000\n"})
    shutil.rmtree(xavier / "sys/class/devfreq", ignore_errors=True)
    assert read(xavier, NONE).load == {"gpu.0": 1.0} and read(xavier, NONE).power


def test_a_machine_without_sensors(tmp_path: Path) -> None:
    """Nothing, no error, and no series: no files, empty ones, such that hold no number, two zones of one name."""
    assert read(tmp_path, Library("libno-such-thing.so")) == Readings()
    write(tmp_path, {"sys/class/thermal/thermal_zone0/type": "acpitz\n", "sys/class/thermal/thermal_zone0/temp": "\n"})
    write(tmp_path, {"sys/class/devfreq/gpu/cur_freq": "nan\n", "sys/class/devfreq/gpu/device/load": "much\n"})
    assert read(tmp_path, NONE) == Readings()
    assert b"firewall_temperature" not in Metrics("1", sensors=lambda: read(tmp_path, NONE)).exposition()
    write(tmp_path, {f"sys/class/thermal/thermal_zone{place}/type": "acpitz\n" for place in (1, 2)})
    write(tmp_path, {f"sys/class/thermal/thermal_zone{place}/temp": f"{place}0000\n" for place in (1, 2)})
    assert read(tmp_path, NONE).temperatures == {"acpitz": 20.0}


def test_gpus_that_the_driver_tells_of(tmp_path: Path) -> None:
    """By a library with NVML's functions: what a GPU doesn't tell is left out; the metrics have them."""
    library = Library(built(tmp_path, NVML))
    assert library() == [Gpu("gpu0", 41.0, 250.5, 0.75, 1.98e9), Gpu("gpu1", 42.0, None, None, None)]
    found = read(tmp_path, library)
    assert found == Readings({"gpu0": 41.0, "gpu1": 42.0}, {"gpu0": 250.5}, {"gpu0": 0.75}, {"gpu0": 1.98e9}, {})
    text = Metrics("1", sensors=lambda: found).exposition().decode()
    for line in (
        'firewall_temperature_celsius{zone="gpu1"} 42.0',
        'firewall_power_watts{rail="gpu0"} 250.5',
        'firewall_gpu_load_ratio{gpu="gpu0"} 0.75',
        'firewall_gpu_clock_hertz{gpu="gpu0"} 1.98e+09',
    ):
        assert f"\n{line}\n" in text
    assert "firewall_throttled" not in text


@pytest.mark.parametrize(
    "source",
    [
        "int nothing;",
        "int nvmlInit_v2(void) { return 9; }",
        "int nvmlInit_v2(void) { return 0; }",
        "int nvmlInit_v2(void) { return 0; } int nvmlDeviceGetCount_v2(unsigned *n) { return 9; }",
        NVML.replace("nvmlDeviceGetPowerUsage", "nvmlDeviceGetPower"),
        NVML.replace("*device = (void *)(long)(place + 1); return 0;", "return 6;"),
    ],
)
def test_a_library_that_does_not_work(tmp_path: Path, source: str) -> None:
    """Without functions, without a driver, of another version, with a GPU that is gone: no GPU, and no error."""
    library = Library(built(tmp_path, source))
    assert library() == [] and library() == []


def test_sensors_are_read_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever scrapes as fast as he can doesn't keep the board's bus busy."""
    now, read_ = [100.0], list[int]()
    monkeypatch.setattr("firewall.host.sensors.time.monotonic", lambda: now[0])

    def look() -> Readings:
        read_.append(1)
        return Readings({"cpu": float(len(read_))})

    sensors = Sensors(look)
    assert [sensors().temperatures["cpu"] for _ in range(5)] == [1.0] * 5
    now[0] += 1.5
    assert sensors().temperatures["cpu"] == 2.0
