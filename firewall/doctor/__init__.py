"""`firewall doctor`: what this machine can run, what it can't run and why, and what to do about it.

What may hang or crash in native code (providers, drivers, cameras) is examined in a separate process, with a time-out.
"""

from __future__ import annotations

import fcntl
import importlib
import importlib.util
import os
import platform
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

import firewall
from firewall.doctor.probes import CPU, ask, short
from firewall.host.commit import built_from
from firewall.host.core_list import allowed, capacities, isolated, listed
from firewall.host.output import json_text

__all__ = ["Check", "inspect", "render"]

_CAMERA_PATIENCE = 10.0
_LEAST_FREE_GB = 1.0
#: Accelerators that a user asks about even if this build of ONNX Runtime lacks them.
_ACCELERATORS = ("CUDAExecutionProvider", "TensorrtExecutionProvider")
_ADVICE_VENV = "python3 -m venv .venv, then .venv/bin/pip install perception-firewall"
_ADVICE_REINSTALL = "install the package again: pip install --force-reinstall {}"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: What was looked at.
        ok: True: it works. False: it doesn't. None: it was not examined, or doesn't matter.
        detail: What was found.
        advice: What to do about it, empty if nothing.
        required: Whether `firewall serve` can't run without it.
    """

    name: str
    ok: bool | None
    detail: str
    advice: str = ""
    required: bool = False


def inspect() -> list[Check]:
    """Look at this machine, in the order in which things build on each other. Never raises; takes seconds."""
    checks: list[Callable[[], list[Check]]] = [
        _package,
        _commit,
        _python,
        _machine,
        _cores,
        lambda: [
            _distribution("numpy"),
            _distribution("pillow", "PIL"),
            _distribution("av"),
            _distribution("simplejpeg"),
        ],
        _opencv,
        _onnx_runtime,
        _devices,
        _native,
        _cuda,
        _tensorrt,
        _torch,
        _cameras,
        _bundle,
        _accepted_versions,
        _temporary_files,
    ]
    return [check for look in checks for check in _safely(look)]


def render(checks: list[Check], *, as_json: bool = False, console: Console | None = None) -> None:
    """Print the checks to stdout (or `console`), as a table or as a JSON list of objects with the fields of Check."""
    console = console or Console()
    if as_json:
        console.print(
            json_text([asdict(check) for check in checks], indent=1), markup=False, highlight=False, soft_wrap=True
        )
        return
    table = Table(
        title=f"perception-firewall {firewall.__version__}", title_justify="left", box=None, show_header=False
    )
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for check in checks:
        answer, style = {True: ("yes", "green"), False: ("no", "yellow"), None: ("-", "dim")}[check.ok]
        if check.ok is False and check.required:
            answer, style = "NO", "bold red"
        found = Text(check.detail)  # Text: it may hold brackets that rich would read as markup
        if check.advice:
            found.append(f"\n-> {check.advice}", "cyan")
        table.add_row(Text(answer, style), check.name, found)
    console.print(table)
    missing = [check.name for check in checks if check.ok is False and check.required]
    if missing:
        console.print(Text(f"The main job can't run: {', '.join(missing)}.", "bold red"))
    else:
        console.print("The main job can run: firewall serve")


def _safely(look: Callable[[], list[Check]]) -> list[Check]:
    try:
        return look()
    except Exception as error:  # a doctor that falls ill is no help
        name = getattr(look, "__name__", "check").strip("_")
        return [Check(name, None, f"could not be looked at: {short(error)}", "please report this")]


def _package() -> list[Check]:
    home = Path(firewall.__file__).parent
    detail = f"{firewall.__version__} from {home}"
    other = next(_firewalld(sys.path), None)
    if other is None:
        return [Check("package", True, detail)]
    return [
        Check(
            "package",
            False,
            f"{detail}; but {other} is the package of firewalld, which has the same name",
            f"keep the two apart with a virtual environment without system packages: {_ADVICE_VENV}",
        ),
    ]


def _commit() -> list[Check]:
    commit = built_from()
    if commit is not None:
        return [Check("commit", True, commit)]
    unknown = "not known: it was built without git, or runs from a checkout"
    return [Check("commit", None, unknown, "for a build that tells it: make wheels, in a checkout")]


def _firewalld(search_path: list[str]) -> Iterator[Path]:
    """Folders named firewall on the search path that belong to firewalld, the system's network firewall."""
    for entry in search_path:
        folder = Path(entry or ".") / "firewall"
        if (folder / "core" / "fw.py").is_file():
            yield folder


def _python() -> list[Check]:
    version = Check("python", True, f"{platform.python_version()} ({sys.executable})", required=True)
    if sys.version_info < (3, 10):  # noqa: UP036 - it can be started by any Python, whatever pip would have said
        version = Check("python", False, version.detail, "install Python 3.10 or newer", required=True)
    if sys.prefix != sys.base_prefix:
        return [version, Check("virtual environment", True, sys.prefix)]
    return [version, Check("virtual environment", False, "this is the system's Python", _ADVICE_VENV)]


def _machine() -> list[Check]:
    board = Path("/proc/device-tree/model")
    name = board.read_bytes().rstrip(b"\0").decode(errors="replace") if board.is_file() else platform.machine()
    machine = Check(
        "machine", True, f"{name}, {len(allowed())} of {os.cpu_count()} cores, {platform.system()} {platform.release()}"
    )
    try:
        here = Path.cwd()
        free = shutil.disk_usage(here).free / 1e9
    except OSError as error:  # the folder was removed, or this user may not look at it
        told = f"the current folder can't be used: {error.strerror}"
        return [machine, Check("disk", False, told, "start in a folder that is there")]
    advice = "" if free >= _LEAST_FREE_GB else "free some space: audit lines, quarantined images and engines need it"
    return [machine, Check("disk", free >= _LEAST_FREE_GB, f"{free:.1f} GB free in {here}", advice)]


def _cores() -> list[Check]:
    """Which cores there are for `--cores`, and how they differ."""
    may, apart, able = allowed(), isolated(), capacities()
    told = f"this process may use {listed(may)}; isolated: {listed(apart) or 'none'}"
    for much in sorted({*able.values()}, reverse=True):
        told += f"; {listed(core for core in able if able[core] == much)} can do {much} of 1024"
    return [Check("cores", True, f"{told} ('firewall serve --cores LIST' judges on some of them alone)")]


def _distribution(name: str, module: str = "") -> Check:
    """Whether a package the main job needs can be imported, and which version it is."""
    try:
        found = importlib.import_module(module or name)
    except Exception as error:  # a broken native package raises whatever it likes
        return Check(name, False, short(error), _ADVICE_REINSTALL.format(name), required=True)
    return Check(name, True, str(getattr(found, "__version__", "?")), required=True)


def _opencv() -> list[Check]:
    try:
        import cv2
    except Exception as error:  # such as a missing libGL of the build with windows
        advice = _ADVICE_REINSTALL.format("opencv-python-headless")
        return [Check("opencv", False, short(error), advice, required=True)]
    information = cv2.getBuildInformation()
    wanted = {
        "v4l/v4l2": "USB cameras need it: pip install opencv-python-headless",
        "GStreamer": "csi:// cameras need it; pip's OpenCV has none: on a Jetson use JetPack's python3-opencv in a "
        "venv made with --system-site-packages",
    }
    checks = [Check("opencv", True, cv2.__version__, required=True)]
    for feature, advice in wanted.items():
        line = re.search(rf"^\s*{feature}:\s*(\S.*)$", information, re.MULTILINE | re.IGNORECASE)
        value = line.group(1).strip() if line else "NO"
        has = value.upper().startswith("YES")
        checks.append(Check(f"opencv {feature.partition('/')[0].lower()}", has, value, "" if has else advice))
    return checks


def _onnx_runtime() -> list[Check]:
    try:
        from firewall.host.onnxruntime import ort
    except Exception as error:  # a broken native package raises whatever it likes
        return [Check("onnxruntime", False, short(error), _ADVICE_REINSTALL.format("onnxruntime"), required=True)]
    available = ort.get_available_providers()
    checks = [Check("onnxruntime", True, ort.__version__, required=True)]
    for provider in [*available, *(name for name in _ACCELERATORS if name not in available)]:
        name = f"onnxruntime {provider.removesuffix('ExecutionProvider')}"
        if provider == "AzureExecutionProvider":
            continue  # sends images to a remote service; the firewall never uses it
        if provider not in available:
            advice = "x86-64: pip install onnxruntime-gpu instead of onnxruntime; Jetson: a build for its GPU"
            checks.append(Check(name, False, "not in this build of onnxruntime", advice))
            continue
        # What a build lists may still fail to load, and then ONNX Runtime quietly takes the CPU: only a run is proof.
        ok, detail = ask("provider", provider)
        advice = _ADVICE_REINSTALL.format("onnxruntime") if provider == CPU else "see the CUDA and TensorRT lines below"
        checks.append(Check(name, ok, detail, "" if ok else advice, required=provider == CPU))
    return checks


def _devices() -> list[Check]:
    """What --device may name here. Where a device can't be used, nothing runs on the processor in its stead."""
    from firewall.engines import DEVICES

    checks = []
    for device in DEVICES:
        ok, detail = ask("device", device)
        advice = "" if ok else f"use another --device, or mend what the lines about {device} say"
        checks.append(Check(f"--device {device}", ok, detail, advice, required=device == "cpu"))
    return checks


def _native() -> list[Check]:
    from firewall import native
    from firewall.errors import FirewallError

    try:
        level = native.simd_level()
    except FirewallError as error:
        found, _, advice = str(error).partition("; ")
        in_use = Check("operations", True, "by Pillow: the same results, the JPEG sweep takes twenty times as long")
        return [Check("native runtime", False, found, advice), in_use]
    cuda = native.cuda()
    found, _, advice = cuda.reason.partition("; ")
    on_gpu = Check("native cuda", cuda.usable, found or "the operations can run on the GPU", advice)
    return [Check("native runtime", True, f"{native.load().version()}, SIMD level {level}"), _operations(), on_gpu]


def _operations() -> Check:
    """Which code does the sweep, and whether it gives the bytes that this machine's Pillow gives."""
    import numpy as np

    from firewall.transforms import jpeg

    noise = np.random.default_rng(0).integers(0, 256, (37, 53, 3), np.uint8)
    qualities = range(1, 101)
    if np.array_equal(jpeg.jpeg_sweep(noise, qualities), jpeg.jpeg_sweep_reference(noise, qualities)):
        return Check("operations", True, "by the native runtime, equal to this machine's Pillow at 100 JPEG qualities")
    return Check(
        "operations",
        False,
        "the native runtime's JPEG sweep differs from this machine's Pillow",
        "Pillow's JPEG library is not libjpeg-turbo, or altered: what the lab calibrates here with Pillow is not what "
        "the firewall computes; use Pillow's wheel: pip install --force-reinstall pillow",
    )


def _cuda() -> list[Check]:
    ok, detail = ask("cuda")
    advice = "" if ok else "only for NVIDIA GPUs: install NVIDIA's driver (a Jetson has it from JetPack)"
    return [Check("cuda driver", ok, detail, advice)]


def _tensorrt() -> list[Check]:
    ok, detail = ask("tensorrt")
    advice = (
        "only for NVIDIA GPUs: on a Jetson python3-libnvinfer in a venv made with --system-site-packages; elsewhere "
        "pip install 'perception-firewall[tensorrt]'"
    )
    checks = [Check("tensorrt", ok, detail, "" if ok else advice)]
    if ok:
        there, plans = ask("plans")
        advice = (
            "" if there else "only for --device tensorrt: firewall export tensorrt --bundle default --precision fp16"
        )
        checks.append(Check("tensorrt plans", there, f"of the default bundle: {plans}", advice))
    return checks


def _torch() -> list[Check]:
    # Not imported: it takes seconds, and the edge does without.
    if importlib.util.find_spec("torch") is None:
        advice = "only for 'firewall lab' and export: pip install 'perception-firewall[lab]'"
        return [Check("torch (lab)", False, "not installed", advice)]
    return [Check("torch (lab)", True, metadata.version("torch"))]


def _cameras() -> list[Check]:
    devices = sorted(Path("/dev").glob("video*"), key=lambda path: (len(path.name), path.name))
    if not devices:
        advice = "plug one in (in a container: --device /dev/video0), or give --source a file or a stream"
        return [Check("cameras", False, "no /dev/video*", advice)]
    checks = []
    for device in devices:
        capture = _captures(device)
        if capture is False:
            continue  # a node for metadata or encoding, not a camera
        ok, detail = ask("camera", str(device), patience=_CAMERA_PATIENCE)
        advice = f"is it in use, or are you not in the group 'video'? see: fuser {device}; id"
        checks.append(Check(f"camera {device}", ok, detail, "" if ok else advice))
    return checks or [Check("cameras", False, "no device that captures", "plug one in, or give --source a file")]


def _captures(device: Path) -> bool | None:
    """Whether a V4L2 device gives pictures; None if it doesn't say."""
    # struct v4l2_capability of <linux/videodev2.h>: 104 bytes, device_caps at 88; VIDIOC_QUERYCAP is _IOR('V', 0, ...).
    capability = bytearray(104)
    try:
        file = os.open(device, os.O_RDWR | os.O_NONBLOCK)
        try:
            fcntl.ioctl(file, 0x80685600, capability)
        finally:
            os.close(file)
    except OSError:
        return None
    video_capture, video_capture_mplane = 0x1, 0x1000
    return bool(int.from_bytes(capability[88:92], sys.byteorder) & (video_capture | video_capture_mplane))


def _bundle() -> list[Check]:
    from firewall.bundle import load_bundle
    from firewall.errors import BundleError

    try:
        bundle = load_bundle("default")
    except BundleError as error:
        advice = _ADVICE_REINSTALL.format("perception-firewall")
        return [Check("default bundle", False, short(error), advice, required=True)]
    size = sum(map(len, bundle.files.values())) / 1e6
    detail = f"{bundle.manifest.name}, {len(bundle.files)} files, {size:.1f} MB, SHA-256 {bundle.sha256[:12]}"
    return [Check("default bundle", True, detail, required=True)]


def _accepted_versions() -> list[Check]:
    """Where the versions of signed bundles are remembered. Nothing is made."""
    from firewall.bundle.trust import state_file
    from firewall.errors import BundleError

    advice = (
        "only for signed bundles with --trust: name a file that can be written with FIREWALL_TRUST_STATE (in a "
        "container: on a volume, so that it outlives it)"
    )
    try:
        file = state_file()
    except BundleError as error:
        return [Check("accepted versions", False, str(error).partition(";")[0], advice)]
    there = next(path for path in (file, *file.absolute().parents) if os.access(path, os.F_OK))
    if os.access(there, os.W_OK | (os.X_OK if there.is_dir() else os.R_OK)):
        return [Check("accepted versions", True, f"remembered in {file}")]
    return [Check("accepted versions", False, f"can't be remembered in {file}: {there} can't be written", advice)]


def _temporary_files() -> list[Check]:
    # As tempfile looks for one, which writes a file to try.
    named = [os.environ[name] for name in ("TMPDIR", "TEMP", "TMP") if os.environ.get(name)]
    for folder in (*named, "/tmp", "/var/tmp", "/usr/tmp"):  # noqa: S108 - only asked whether it can be written
        if os.access(folder, os.W_OK | os.X_OK):
            return [Check("temporary files (lab)", True, folder)]
    advice = "only for 'firewall lab' and export: name a folder that can be written with TMPDIR"
    return [Check("temporary files (lab)", False, "no folder for them can be written", advice)]
