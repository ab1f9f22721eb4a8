"""Power rails and the energy of a window."""

from __future__ import annotations

import itertools
import threading
import time
from pathlib import Path

import pytest

from firewall.bench.power import Meter, TegrastatsRails, rails, source, tegrastats_rails, total
from firewall.errors import FirewallError
from tests.bench.boards import agx_orin, orin_nano, thor, write, xavier_jetpack4

#: Lines in the form of JetPack 6 (AGX Orin), JetPack 5 (Orin NX) and JetPack 4 (Nano).
LINES = {
    "01-08-2025 10:00:00 RAM 3456/30697MB (lfb 4x4MB) SWAP 0/15349MB (cached 0MB) CPU [12%@1510,off] EMC_FREQ 1%@2133 "
    "GR3D_FREQ 14%@[407,407] VIC_FREQ 115 APE 174 CV0@-256C CPU@45.5C tj@47C VDD_GPU_SOC 3150mW/2971mW VDD_CPU_CV "
    "1431mW/1241mW VIN_SYS_5V0 4968mW/5048mW VDDQ_VDD2_1V8AO 1091mW/1091mW": {
        "VDD_GPU_SOC": 3150,
        "VDD_CPU_CV": 1431,
        "VIN_SYS_5V0": 4968,
        "VDDQ_VDD2_1V8AO": 1091,
    },
    "RAM 2048/7620MB (lfb 2x4MB) CPU [5%@729] GR3D_FREQ 0% cpu@46.7C VDD_IN 4311mW/4300mW VDD_CPU_GPU_CV 489mW/490mW": {
        "VDD_IN": 4311,
        "VDD_CPU_GPU_CV": 489,
    },
    "RAM 1903/3964MB (lfb 17x4MB) IRAM 0/252kB(lfb 252kB) CPU [6%@102] PLL@30C POM_5V_IN 1584/1584 POM_5V_GPU 0/0": {
        "POM_5V_IN": 1584,
        "POM_5V_GPU": 0,
    },
    "Killed": {},
}


@pytest.mark.parametrize(("line", "expected"), LINES.items())
def test_a_line_of_tegrastats(line: str, expected: dict[str, float]) -> None:
    """The rails' power of now is found, and nothing that looks alike: memory, swap, clocks."""
    assert tegrastats_rails(line) == expected


def test_the_total_is_the_input_where_there_is_one(tmp_path: Path) -> None:
    """VDD_IN holds the other rails; where no rail is the input, all are added up, and the report says which."""
    assert total(rails(orin_nano(tmp_path / "nano"))) == (6000, ["VDD_IN"])
    milliwatts, names = total(rails(agx_orin(tmp_path / "agx")))
    assert milliwatts == 2400 + 1200 + 3000 + 400 and "NC" not in names and len(names) == 4
    assert total(rails(thor(tmp_path / "thor"))) == (31500, ["VIN"])
    assert total(rails(xavier_jetpack4(tmp_path / "xavier"))) == (4012, ["VDD_IN"])


def test_a_machine_without_rails(tmp_path: Path) -> None:
    """No sensor, no number."""
    assert rails(tmp_path) == {}
    write(tmp_path, {"sys/class/hwmon/hwmon0/name": "coretemp\n", "sys/class/hwmon/hwmon0/power1_input": "5\n"})
    assert rails(tmp_path) == {}


def test_tegrastats_where_sysfs_is_silent(tmp_path: Path) -> None:
    """The program that lies on the board is run, its newest line counts, and it is ended with the block."""
    program = tmp_path / "usr" / "bin" / "tegrastats"
    line = "RAM 1/2MB VDD_IN {}mW/1mW VDD_SOC 7mW/1mW"
    script = (
        f"#!/bin/sh\necho $$ > {tmp_path}/pid\necho '{line.format(1000)}'\necho '{line.format(2000)}'\nexec sleep 60\n"
    )
    write(tmp_path, {"usr/bin/tegrastats": script})
    program.chmod(0o755)
    found = source(tmp_path)
    assert isinstance(found, TegrastatsRails)

    with found as read:
        deadline = time.monotonic() + 10
        while read().get("VDD_IN") != 2000 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert read() == {"VDD_IN": 2000, "VDD_SOC": 7}
        child = int((tmp_path / "pid").read_text())
    assert not Path(f"/proc/{child}").exists()


def test_a_tegrastats_that_can_not_be_run(tmp_path: Path) -> None:
    """A file that is no program is an error in words, not a traceback."""
    write(tmp_path, {"usr/bin/tegrastats": "\0"})
    (tmp_path / "usr" / "bin" / "tegrastats").chmod(0o755)
    found = source(tmp_path)
    assert found is not None

    with pytest.raises(FirewallError, match="--energy-seconds 0"), found:
        pass


def test_energy_is_power_times_time(tmp_path: Path) -> None:
    """Half of the readings at 4 W and half at 8 W on the input rail: 6 W on average, for the time that it took; the
    rails below the input don't count twice."""
    told = itertools.cycle([{"VDD_IN": 4000.0, "VDD_SOC": 1000.0}, {"VDD_IN": 8000.0, "VDD_SOC": 3000.0}])
    enough, counted = threading.Event(), itertools.count(1)

    def read() -> dict[str, float]:
        if next(counted) == 20:
            enough.set()
        return next(told)

    started = time.monotonic()
    with Meter(read, 0.01) as meter:
        assert enough.wait(60)

    found = meter.energy(frames=10)

    assert found is not None and found.total_of == ["VDD_IN"] and found.highest == 8000
    assert found.readings >= 20 and found.power == pytest.approx(6000, rel=0.05)
    assert found.rails["VDD_SOC"] == pytest.approx(2000, rel=0.05)
    assert found.a_frame == pytest.approx(found.power / 1e3 * found.seconds / 10)
    assert 19 * 0.01 <= found.seconds <= time.monotonic() - started


def test_no_readings_no_energy() -> None:
    """Sensors that fall silent give no energy, and an idle window has no energy a frame."""
    with Meter(dict, 0.01) as silent:
        pass
    assert silent.energy(5) is None
    with Meter(lambda: {"VIN": 5.0}, 0.01) as idle:
        pass
    found = idle.energy(0)
    assert found is not None and found.a_frame is None
