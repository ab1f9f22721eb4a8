"""Trees of files like those of a board, as its kernel and JetPack would show them; written for the tests.

Names, units and layout are those of L4T and of the kernel's drivers (ina3221, ina238, thermal, devfreq, cpufreq,
soctherm-oc-event); the values are made up.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["agx_orin", "orin_nano", "thor", "write", "xavier_jetpack4"]

NVPMODEL = """# A comment: < POWER_MODEL ID=0 NAME=OLD >
< PARAM TYPE=FILE NAME=CPU_ONLINE >
< POWER_MODEL ID=0 NAME=15W >
CPU_ONLINE CORE_0 1
< POWER_MODEL ID=1 NAME=25W >
< POWER_MODEL ID=2 NAME=MAXN_SUPER >
< PM_CONFIG DEFAULT=1 >
"""

DPKG = """Package: bash
Status: install ok installed
Version: 5.1-6ubuntu1

Package: nvidia-jetpack
Status: install ok installed
Priority: standard
Version: 6.2.1+b38

Package: libnvinfer10
Status: install ok installed
Version: 10.3.0.30-1+cuda12.5

Package: libcudnn9-cuda-12
Status: deinstall ok config-files
Version: 9.3.0.75-1

Package: nvidia-l4t-core
Status: install ok installed
Version: 36.4.4-20250616085344
"""


def write(root: Path, files: dict[str, str]) -> Path:
    """Write small files under a folder."""
    for name, content in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    return root


def orin_nano(root: Path) -> Path:
    """Jetson Orin Nano, JetPack 6.2.1, 25 W, clocks not held; one zone is switched off, one core is off line."""
    files = {
        "proc/device-tree/model": "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super\0",
        "proc/device-tree/compatible": "nvidia,p3768-0000+p3767-0005-super\0nvidia,p3767-0005\0nvidia,tegra234\0",
        "proc/meminfo": "MemTotal:        7801988 kB\nMemFree:          512000 kB\n",
        "proc/cpuinfo": "processor\t: 0\nmodel name\t: ARMv8 Processor rev 1 (v8l)\n",
        "etc/nv_tegra_release": "# R36 (release), REVISION: 4.4, GCID: 41062509, BOARD: generic, EABI: aarch64\n",
        "etc/nvpmodel.conf": NVPMODEL,
        "var/lib/nvpmodel/status": "pmode:0001",
        "var/lib/dpkg/status": DPKG,
        "sys/class/devfreq/17000000.gpu/cur_freq": "306000000\n",
        "sys/class/devfreq/17000000.gpu/min_freq": "306000000\n",
        "sys/class/devfreq/17000000.gpu/max_freq": "918000000\n",
        "sys/class/devfreq/17000000.gpu/governor": "nvhost_podgov\n",
        "sys/class/devfreq/15340000.vic/cur_freq": "115200000\n",
        "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
        "sys/class/thermal/thermal_zone0/temp": "48468\n",
        "sys/class/thermal/thermal_zone1/type": "gpu-thermal\n",
        "sys/class/thermal/thermal_zone1/temp": "49500\n",
        "sys/class/thermal/thermal_zone2/type": "cv0-thermal\n",
        "sys/class/thermal/thermal_zone2/temp": "-256000\n",
        "sys/class/thermal/cooling_device0/type": "cpu-throttle-alert\n",
        "sys/class/thermal/cooling_device0/cur_state": "0\n",
        "sys/class/thermal/cooling_device1/type": "pwm-fan\n",
        "sys/class/thermal/cooling_device1/cur_state": "1\n",
        "sys/devices/platform/cpu-throttle-alert/thermal_trip_event": "0\n",
        "sys/devices/platform/gpu-throttle-alert/thermal_trip_event": "0\n",
        "sys/class/hwmon/hwmon0/name": "pwmfan\n",
        "sys/class/hwmon/hwmon0/pwm1": "51\n",
        "sys/class/hwmon/hwmon1/name": "ina3221\n",
        "sys/class/hwmon/hwmon1/in1_label": "VDD_IN\n",
        "sys/class/hwmon/hwmon1/in1_input": "5000\n",
        "sys/class/hwmon/hwmon1/curr1_input": "1200\n",
        "sys/class/hwmon/hwmon1/in2_label": "VDD_CPU_GPU_CV\n",
        "sys/class/hwmon/hwmon1/in2_input": "5000\n",
        "sys/class/hwmon/hwmon1/curr2_input": "300\n",
        "sys/class/hwmon/hwmon1/in3_label": "VDD_SOC\n",
        "sys/class/hwmon/hwmon1/in3_input": "5000\n",
        "sys/class/hwmon/hwmon1/curr3_input": "250\n",
        "sys/class/hwmon/hwmon1/in4_input": "6000\n",
        "sys/class/hwmon/hwmon1/in7_label": "sum of shunt voltages\n",
        "sys/class/hwmon/hwmon1/in7_input": "8000\n",
        "sys/class/hwmon/hwmon2/name": "pwm_tach\n",
        "sys/class/hwmon/hwmon2/rpm": "2140\n",
        "sys/class/hwmon/hwmon3/name": "soctherm_oc\n",
        "sys/class/hwmon/hwmon3/oc1_event_cnt": "0\n",
        "sys/class/hwmon/hwmon3/oc2_event_cnt": "0\n",
        "sys/class/hwmon/hwmon3/oc3_event_cnt": "3\n",
    }
    for core in range(6):
        folder = f"sys/devices/system/cpu/cpu{core}"
        files[f"{folder}/cpufreq/scaling_cur_freq"] = "1344000\n"
        files[f"{folder}/cpufreq/scaling_min_freq"] = "729600\n"
        files[f"{folder}/cpufreq/scaling_max_freq"] = "1344000\n"
        files[f"{folder}/cpufreq/scaling_governor"] = "schedutil\n"
        files[f"{folder}/online"] = "0\n" if core == 5 else "1\n"
    return write(root, files)


def agx_orin(root: Path) -> Path:
    """The rails of a Jetson AGX Orin: two sensors, none of them at the input; one channel is not connected."""
    return write(
        root,
        {
            "proc/device-tree/model": "NVIDIA Jetson AGX Orin Developer Kit\0",
            "proc/device-tree/compatible": "nvidia,p3737-0000+p3701-0005\0nvidia,tegra234\0",
            "etc/nv_tegra_release": "# R36 (release), REVISION: 5.0, GCID: 1, BOARD: generic, EABI: aarch64\n",
            "sys/class/hwmon/hwmon3/name": "ina3221\n",
            "sys/class/hwmon/hwmon3/in1_label": "VDD_GPU_SOC\n",
            "sys/class/hwmon/hwmon3/in1_input": "12000\n",
            "sys/class/hwmon/hwmon3/curr1_input": "200\n",
            "sys/class/hwmon/hwmon3/in2_label": "VDD_CPU_CV\n",
            "sys/class/hwmon/hwmon3/in2_input": "12000\n",
            "sys/class/hwmon/hwmon3/curr2_input": "100\n",
            "sys/class/hwmon/hwmon3/in3_label": "VIN_SYS_5V0\n",
            "sys/class/hwmon/hwmon3/in3_input": "5000\n",
            "sys/class/hwmon/hwmon3/curr3_input": "600\n",
            "sys/class/hwmon/hwmon4/name": "ina3221\n",
            "sys/class/hwmon/hwmon4/in1_label": "NC\n",
            "sys/class/hwmon/hwmon4/in1_input": "0\n",
            "sys/class/hwmon/hwmon4/curr1_input": "0\n",
            "sys/class/hwmon/hwmon4/in2_label": "VDDQ_VDD2_1V8AO\n",
            "sys/class/hwmon/hwmon4/in2_input": "5000\n",
            "sys/class/hwmon/hwmon4/curr2_input": "80\n",
        },
    )


def thor(root: Path) -> Path:
    """A Jetson Thor: INA238 at the input, which tells microwatts itself; GPU clocks under other names."""
    return write(
        root,
        {
            "proc/device-tree/model": "NVIDIA Jetson AGX Thor Developer Kit\0",
            "proc/device-tree/compatible": "nvidia,p4071-0000+p3834-0008\0nvidia,tegra264\0",
            "etc/nv_tegra_release": "# R38 (release), REVISION: 4.0, GCID: 1, BOARD: generic, EABI: aarch64\n",
            "sys/class/hwmon/hwmon1/name": "ina238\n",
            "sys/class/hwmon/hwmon1/power1_input": "31500000\n",
            "sys/class/hwmon/hwmon1/in1_label": "VIN\n",
            "sys/class/hwmon/hwmon1/in1_input": "20000\n",
            "sys/class/hwmon/hwmon1/curr1_input": "1575\n",
            "sys/class/devfreq/gpu-gpc-0/cur_freq": "1575000000\n",
            "sys/class/devfreq/gpu-gpc-0/min_freq": "1575000000\n",
            "sys/class/devfreq/gpu-gpc-0/max_freq": "1575000000\n",
            "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "2601000\n",
            "sys/devices/system/cpu/cpu0/cpufreq/scaling_min_freq": "2601000\n",
            "sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq": "2601000\n",
        },
    )


def xavier_jetpack4(root: Path) -> Path:
    """The rails of a board with JetPack 4, by the iio driver."""
    folder = "sys/bus/i2c/drivers/ina3221x/1-0040/iio:device0"
    return write(
        root,
        {
            "proc/device-tree/model": "NVIDIA Jetson Xavier NX Developer Kit\0",
            f"{folder}/rail_name_0": "VDD_IN\n",
            f"{folder}/in_power0_input": "4012\n",
            f"{folder}/rail_name_1": "VDD_CPU_GPU_CV\n",
            f"{folder}/in_power1_input": "489\n",
        },
    )
