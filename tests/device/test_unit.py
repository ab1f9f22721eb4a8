"""`firewall device install`, and what systemd's own tools say of what it places."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from firewall.config import Settings
from firewall.device.unit import Placed, addition, device_unit, install, service
from firewall.errors import FirewallError, UsageError
from firewall.sources.uri import SourceSpec, parse
from tests.tracing import require_strace

PYTHON = Path("/opt/perception-firewall/bin/python")


def require(tool: str) -> None:
    """Skips where systemd's tools are missing."""
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed: apt-get install systemd")


def run(*command: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, timeout=100)


def settings(root: Path, text: str, name: str = "front") -> Path:
    """A settings file where the unit reads it."""
    file = root / "etc/perception-firewall" / f"{name}.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def placed(root: Path, text: str) -> Placed:
    """An installation of `front`."""
    settings(root, text)
    (root / "etc/group").write_text("root:x:0:\nvideo:x:44:\nrender:x:106:\n")
    return install("front", root=root, python=PYTHON)


def test_a_camera_gets_a_unit_a_rule_and_the_next_commands(tmp_path: Path) -> None:
    """The command itself: three files, then commands to type, in the order that makes them work."""
    settings(tmp_path, "source: /dev/video0\n")
    command = (sys.executable, "-m", "firewall", "device", "install", "front")
    done = run(*command, "--root", tmp_path, "--python", PYTHON)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"# placed {tmp_path}/etc/systemd/system/perception-firewall@.service",
        f"# placed {tmp_path}/etc/systemd/system/perception-firewall@front.service.d/camera.conf",
        f"# placed {tmp_path}/etc/udev/rules.d/99-perception-firewall.rules",
        "systemctl daemon-reload",
        "udevadm control --reload",
        "udevadm trigger --subsystem-match=video4linux --settle",
        "systemctl enable --now perception-firewall@front",
    ]
    unit = (tmp_path / "etc/systemd/system/perception-firewall@.service").read_text()
    assert f"ExecStart={PYTHON} -I -X faulthandler -m firewall serve --config ${{CREDENTIALS_DIRECTORY}}" in unit
    added = (tmp_path / "etc/systemd/system/perception-firewall@front.service.d/camera.conf").read_text()
    assert "[Unit]\nWants=dev-video0.device\nAfter=dev-video0.device\n" in added and "[Service]" not in added
    assert 'TAG+="systemd"' in (tmp_path / "etc/udev/rules.d/99-perception-firewall.rules").read_text()


@pytest.mark.parametrize(
    ("text", "wanted", "unwanted"),
    [
        ("source: 2", ["After=dev-video2.device"], ["network", "DevicePolicy"]),
        ("source: csi://0", ["After=nvargus-daemon.service", "PartOf=nvargus", "BindPaths=-/tmp/argus_socket"], []),
        ("source: csi://0", ["DevicePolicy=auto", "SupplementaryGroups=render"], []),
        ("source: rtsp://u:secret@cam/1", ["After=network-online.target", "for rtsp://***@cam/1"], ["secret", "dev-"]),
        ("source: 0\ndevice: cuda", ["DevicePolicy=auto", "MemoryDenyWriteExecute=no"], []),
        ("source: 0\noutput: [can://can0, '-']", ["RestrictAddressFamilies=AF_CAN"], ["DevicePolicy"]),
        ("source: demo", [], ["[Unit]", "[Service]"]),
        (
            "cameras: [{name: a, source: 1}, {name: b, source: 'rtsp://cam/1'}, {name: c, source: 3}]",
            ["After=dev-video1.device", "After=dev-video3.device", "After=network-online.target"],
            ["nvargus", "DevicePolicy"],
        ),
    ],
)
def test_each_kind_of_source(text: str, wanted: list[str], unwanted: list[str], tmp_path: Path) -> None:
    """It starts after its camera, its daemon or its network, may use what it needs and nothing else; no password of a
    source gets into a file that everybody reads."""
    placed(tmp_path, text)
    added = (tmp_path / "etc/systemd/system/perception-firewall@front.service.d/camera.conf").read_text()
    assert all(part in added for part in wanted) and not [part for part in unwanted if part in added], added


@pytest.mark.parametrize("source", ["/dev/video0", "csi://0", "rtsp://cam/1"])
def test_systemd_understands_it(source: str, tmp_path: Path) -> None:
    """systemd-analyze verify has nothing to say."""
    require("systemd-analyze")
    placed(tmp_path, f"source: {source}\noutput: can://can0\n")
    units = tmp_path / "etc/systemd/system"
    # verify looks for the program, and for the units that ours names.
    whole = (units / "perception-firewall@.service").read_text().replace(str(PYTHON), sys.executable)
    (units / "perception-firewall@front.service").write_text(whole)
    done = run("systemd-analyze", "verify", "--man=no", units / "perception-firewall@front.service")
    about = [line for line in (done.stdout + done.stderr).splitlines() if "perception" in line or "camera.conf" in line]
    about = [line for line in about if "nvargus-daemon.service" not in line]
    assert about == [] and (done.returncode == 0 or source == "csi://0"), done.stderr


def test_the_exposure_that_the_docs_name(tmp_path: Path) -> None:
    """systemd-analyze security gives docs/device.md's score or a lower one."""
    require("systemd-analyze")
    root = Path(__file__).resolve().parents[2]
    named = re.search(r"`systemd-analyze security` gives it \*\*([0-9.]+)\*\*", (root / "docs/device.md").read_text())
    assert named is not None
    placed(tmp_path, "source: /dev/video0\n")
    unit = (tmp_path / "etc/systemd/system/perception-firewall@.service").read_text()
    (tmp_path / "perception-firewall@front.service").write_text(unit)
    file = tmp_path / "perception-firewall@front.service"
    done = run("systemd-analyze", "security", "--offline=true", "--no-pager", file)
    score = re.search(r"exposure level for \S+: ([0-9.]+)", done.stdout)
    assert score is not None and float(score[1]) <= float(named[1]), done.stdout + done.stderr


def test_device_units_are_named_as_systemd_names_them() -> None:
    """systemd-escape gives the same names."""
    require("systemd-escape")
    paths = ["/dev/video0", "/dev/v4l/by-id/usb-046d_HD_Pro-video-index0", "//dev//a b/\u00e4", "/.x", "/dev/%i$A"]
    done = run("systemd-escape", "--path", "--suffix=device", *paths)
    assert done.stdout.split() == [device_unit(path) for path in paths], done.stderr


def test_the_guard_makes_no_call_that_the_unit_forbids(tmp_path: Path) -> None:
    """A run of `firewall serve`, seen by strace: each system call is in the unit's list, and no memory becomes both
    writable and executable (MemoryDenyWriteExecute)."""
    require("systemd-analyze")
    require_strace()
    listed = {
        group: {line.strip() for line in run("systemd-analyze", "syscall-filter", group).stdout.splitlines()[1:]}
        for group in ("@system-service", "@privileged")
    }

    def spread(group: str) -> set[str]:
        done = listed.get(group)
        if done is None:
            lines = run("systemd-analyze", "syscall-filter", group).stdout.splitlines()[1:]
            done = listed[group] = {line.strip() for line in lines}
        names = {name for name in done if name and not name.startswith(("#", "@"))}
        return names.union(*(spread(name) for name in done if name.startswith("@")))

    allowed = spread("@system-service") - spread("@privileged")
    calls = tmp_path / "calls"
    calls.mkdir()
    watched = ("strace", "-ff", "-qq", "-e", "signal=none", "-s", "0", "-o", calls / "t")
    core = min(os.sched_getaffinity(0))
    guard = (sys.executable, "-I", "-X", "faulthandler", "-m", "firewall", "serve", "--cores", f"{core}")
    done = run(*watched, *guard, "--http", "127.0.0.1:0", "--output", f"jsonl:{tmp_path}/v", "--max-frames", "3")
    assert done.returncode == 0, done.stderr[-2000:]
    used, mapped = set(), []
    for file in calls.iterdir():
        for line in file.read_text(errors="replace").splitlines():
            name = re.match(r"(\w+)\(", line)
            if name:
                used.add(name[1])
            if re.match(r"(mmap|mprotect)", line) and "PROT_EXEC" in line:
                mapped.append(line)
    assert {"openat", "futex", "sched_setaffinity"} <= used and {"clone", "clone3"} & used
    assert used - allowed == set()
    assert not [line for line in mapped if line.startswith("mprotect") or "PROT_WRITE" in line]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sorce: 0", "unknown setting 'sorce'"),
        ("source: warp://9", "warp://9"),
        ("bundle: mine", "setting 'bundle' in .* must be an absolute path, got 'mine'"),
        ("trust: keys.pub", "setting 'trust' in .* must be an absolute path"),
        ("sweep_key: secret.key", "setting 'sweep_key' in .* must be an absolute path"),
        ("bundle: /home/me/bundle", "lies in /home, which the unit can't see"),
        ("bundle: /opt/../run/user/0/bundle", "lies in /run/user, which the unit can't see"),
        ("region_detector: {file: /tmp/net.onnx}", "lies in /tmp, which the unit can't see"),
    ],
)
def test_settings_that_the_unit_could_not_use(text: str, said: str, tmp_path: Path) -> None:
    """Refused before anything is placed."""
    settings(tmp_path, text)
    with pytest.raises(FirewallError, match=said):
        install("front", root=tmp_path, python=PYTHON)
    assert not (tmp_path / "etc/systemd").exists()


@pytest.mark.parametrize("name", ["", "front door", "../x", "-x", "a/b", "a.b", "\u00e4", "x" * 65])
def test_a_name_that_is_none(name: str, tmp_path: Path) -> None:
    """It would be a path, or an instance that systemd writes differently."""
    with pytest.raises(UsageError, match="1 to 64 letters"):
        install(name, root=tmp_path, python=PYTHON)


@pytest.mark.parametrize("python", ["python3", "/opt/my venv/bin/python", "/opt/%i/python", "/opt/$x/python"])
def test_a_python_that_cannot_stand_in_a_unit(python: str) -> None:
    """A space, % or $ means something to systemd."""
    with pytest.raises(UsageError, match="can't stand in a unit"):
        service(Path(python))


def test_more_that_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings yet; a Python that the unit can't see; variables that the unit won't have; a root that can't be
    written."""
    with pytest.raises(UsageError, match=r"front\.yaml is missing; write the settings there first"):
        install("front", root=tmp_path, python=PYTHON)
    settings(tmp_path, "source: 0\n")
    with pytest.raises(UsageError, match="lies in /root"):
        install("front", root=tmp_path, python=Path("/root", "venv", "bin", "python"))
    with monkeypatch.context() as patched:
        patched.setenv("FIREWALL_CAPTURE__OPEN_TIMEOUT", "3")
        with pytest.raises(UsageError, match="unset FIREWALL_CAPTURE__OPEN_TIMEOUT and try again"):
            install("front", root=tmp_path, python=PYTHON)
    (tmp_path / "etc/systemd").write_text("in the way")
    with pytest.raises(FirewallError, match=r"can't write .*--root"):
        install("front", root=tmp_path, python=PYTHON)


def test_without_a_group_for_gpus(tmp_path: Path) -> None:
    """A group that isn't there would keep the unit from starting."""
    wanted = Settings(source="0", device="cuda")
    assert "render" not in addition(wanted, [parse("0")])
    assert "render" in addition(wanted, [parse("0")], render=True)
    assert addition(Settings(), [SourceSpec("demo", "", False, "demo")]).count("\n") == 1
