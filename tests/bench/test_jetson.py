"""A Jetson's state, read from trees of files like those of boards."""

from __future__ import annotations

from pathlib import Path

import pytest

from firewall.bench.jetson import changes, look
from tests.bench.boards import agx_orin, orin_nano, thor, write


def test_an_orin_nano(tmp_path: Path) -> None:
    """Module, JetPack, power mode by name, clocks, temperatures, rails and fan are read; a zone that is switched off
    and a core that is off line are left out; nothing is missing."""
    found = look(orin_nano(tmp_path))

    assert found is not None and found.missing == []
    assert found.label == found.module == "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super"
    assert found.compatible[-1] == "nvidia,tegra234" and found.memory_mb == pytest.approx(7989.2, abs=0.1)
    assert found.jetpack is not None
    assert (found.jetpack.version, found.jetpack.l4t) == ("6.2.1+b38", "36.4.4")
    assert found.libraries == {"libnvinfer10": "10.3.0.30-1+cuda12.5"}  # the other was removed again
    assert (found.power_mode_id, found.power_mode) == (1, "25W")
    assert found.jetson_clocks is False
    assert sorted(found.cpu) == ["cpu0", "cpu1", "cpu2", "cpu3", "cpu4"] and found.cpu["cpu0"].current == 1344
    assert list(found.gpu) == ["17000000.gpu"] and found.gpu["17000000.gpu"].highest == 918
    assert found.temperatures == {"cpu": 48.468, "gpu": 49.5}
    assert found.throttling == [] and found.trips == {"cpu": 0, "gpu": 0}
    assert found.over_current == {"oc1": 0, "oc2": 0, "oc3": 3}
    assert found.power == {"VDD_IN": 6000, "VDD_CPU_GPU_CV": 1500, "VDD_SOC": 1250}
    assert found.fan == {"power": 0.2, "rpm": 2140}
    assert found.memory_clock is None  # that needs root


def test_held_clocks(tmp_path: Path) -> None:
    """jetson_clocks is on where the processor's and the GPU's lowest clock is the highest."""
    found = look(thor(tmp_path))

    assert found is not None and found.jetson_clocks is True
    assert found.jetpack is not None and (found.jetpack.version, found.jetpack.l4t) == ("7.1", "38.4.0")
    assert found.power == {"VIN": 31500}


def test_what_can_not_be_read_is_named(tmp_path: Path) -> None:
    """A board in a container shows little: the label says what is missing, and nothing is guessed."""
    found = look(agx_orin(tmp_path))

    assert found is not None
    assert found.missing == ["power mode", "processor clocks", "GPU clock", "temperatures"]
    assert found.label.startswith("NVIDIA Jetson AGX Orin Developer Kit (incomplete: no power mode, no processor")
    assert found.jetson_clocks is None and found.power_mode is None


def test_a_carrier_board_of_others(tmp_path: Path) -> None:
    """The processor tells, whatever the maker calls the board."""
    write(tmp_path, {"proc/device-tree/compatible": "maker,board\0nvidia,tegra234\0"})

    assert look(tmp_path) is not None


def test_other_machines(tmp_path: Path) -> None:
    """A Raspberry Pi and a machine without a device tree are no Jetson."""
    assert look(tmp_path) is None
    write(tmp_path, {"proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0"})
    assert look(tmp_path) is None


def test_throttling_between_two_looks_is_told(tmp_path: Path) -> None:
    """Events that were counted before the run don't count; new ones, a cooling device at work and another power mode
    do."""
    before = look(orin_nano(tmp_path))
    assert before is not None and changes(before, before) == []
    write(
        tmp_path,
        {
            "sys/class/hwmon/hwmon3/oc3_event_cnt": "7\n",
            "sys/devices/platform/gpu-throttle-alert/thermal_trip_event": "2\n",
            "sys/class/thermal/cooling_device0/cur_state": "1\n",
            "var/lib/nvpmodel/status": "pmode:0002",
        },
    )

    after = look(tmp_path)

    assert after is not None
    assert changes(before, after) == [
        "thermal trips of gpu: 2",
        "over-current events of oc3: 4",
        "clocks held back by cpu-throttle-alert",
        "power mode went from 25W to MAXN_SUPER",
    ]


def test_damaged_files(tmp_path: Path) -> None:
    """Files that hold anything but a number are as good as missing."""
    orin_nano(tmp_path)
    write(
        tmp_path,
        {
            "sys/class/hwmon/hwmon1/curr1_input": "\n",
            "sys/class/thermal/thermal_zone0/temp": "hot\n",
            "sys/class/devfreq/17000000.gpu/max_freq": "",
            "var/lib/nvpmodel/status": "?",
        },
    )

    found = look(tmp_path)

    assert found is not None
    assert "VDD_IN" not in found.power and found.temperatures == {"gpu": 49.5}
    assert found.jetson_clocks is None and found.power_mode_id is None and "power mode" in found.missing
