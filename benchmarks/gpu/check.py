"""Everything that a GPU has to show, in one run of under eight minutes, on a machine that may have next to nothing.

    python3 benchmarks/gpu/check.py [--out DIR] [--pack DIR] [--limit SECONDS]

Needs Python 3.10 and no package. It looks at what is there (driver, nvcc, compute-sanitizer, packages), takes what is
missing from the pack that `make gpu-pack` made, builds what can be built, and does each step in a process of its own
with a time limit. What a step told is written to DIR/check.json before the next one begins, so that a run that is cut
off leaves what it found. A step that can't be done is written down with the reason; it is a failure only where nothing
at all could be compared. Exit code 1 if a step failed. Never run on a GPU so far.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
#: Step -> seconds it may take; together below the eight minutes that a lent machine gives.
LIMITS = {
    "machine": 30,
    "packages": 60,
    "parity, prebuilt": 40,
    "build": 150,
    "parity": 40,
    "memcheck": 60,
    "racecheck": 60,
    "synccheck": 60,
    "kernels in Python": 90,
    "networks, ONNX Runtime": 120,
    "networks, TensorRT": 120,
    "networks, torch": 120,
    "benchmark": 120,
}
#: Packages by the name that they are imported by; the lab's and the server's aren't needed here.
PACKAGES = ("numpy", "PIL", "cv2", "onnxruntime", "onnx", "typer", "rich", "pydantic", "pydantic_settings", "yaml")
MORE = ("cryptography", "simplejpeg", "av", "cuda.bindings", "torch", "torchvision", "tensorrt", "pytest", "nanobind")


class Check:
    """The run: what is known so far, and how much time is left."""

    def __init__(self, out: Path, pack: Path, limit: float) -> None:
        self.out, self.pack = out, pack
        self.ends = time.monotonic() + limit
        self.work = out / "work"
        self.work.mkdir(parents=True, exist_ok=True)
        #: Files in the checkout that are only there while this runs.
        self.lent: list[Path] = []
        self.told: dict[str, Any] = {"format": 1, "steps": {}, "complete": False}
        paths = [str(ROOT), str(self.work / "site")]
        self.environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}
        # CUDA's libraries as PyTorch brings them, for ONNX Runtime's provider.
        brought = [str(folder) for path in sys.path for folder in sorted(Path(path).glob("nvidia/*/lib"))]
        listed = os.pathsep.join([*brought, *filter(None, [os.environ.get("LD_LIBRARY_PATH")])])
        self.environment |= {"LD_LIBRARY_PATH": listed} if listed else {}
        self.environment["FIREWALL_PLANS"] = str(self.work / "plans")

    def save(self) -> None:
        """Write what is known."""
        partial = self.out / "check.json.partial"
        partial.write_text(json.dumps(self.told, indent=1) + "\n", encoding="utf-8")
        partial.replace(self.out / "check.json")

    def note(self, name: str, status: str, **more: Any) -> None:
        """Write down one step: done, failed, or not done with the reason."""
        self.told["steps"][name] = {"status": status, **more}
        self.save()
        sys.stdout.write(f"{name}: {status}{'  ' + str(more['why']) if more.get('why') else ''}\n")
        sys.stdout.flush()

    def run(
        self, name: str, command: Sequence[object], *, skipped: int | None = None, reads: Path | None = None
    ) -> bool:
        """Do a step.

        Args:
            name: One of LIMITS.
            command: What is run.
            skipped: Exit code that says it can't be done here.
            reads: JSON that it leaves, which is kept.

        Returns:
            Whether it is done.
        """
        limit = min(LIMITS[name], self.ends - time.monotonic())
        if limit < 1:
            self.note(name, "not done", why="no time was left")
            return False
        started, log = time.monotonic(), self.out / f"{name.replace(', ', '-').replace(' ', '-')}.log"
        with log.open("w", encoding="utf-8") as file:
            try:
                code = subprocess.run(
                    [str(part) for part in command],
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    cwd=ROOT,
                    env=self.environment,
                    timeout=limit,
                    check=False,
                ).returncode
            except subprocess.TimeoutExpired:
                code = 124
            except OSError as error:
                file.write(f"{command[0]}: {error.strerror}\n")
                code = 127
        lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
        why = f"it took longer than {limit:.0f} s" if code == 124 else lines[-1][:300] if lines else f"exit code {code}"
        status = "done" if code == 0 else "not done" if code == skipped else "failed"
        more: dict[str, Any] = {"seconds": round(time.monotonic() - started, 1)}
        if status != "done":
            more["why"] = why
        elif lines:
            more["said"] = lines[-1][:300]
        if reads is not None and reads.is_file():
            more["found"] = json.loads(reads.read_text(encoding="utf-8"))
        self.note(name, status, **more)
        return status == "done"


def machine(check: Check) -> dict[str, Any]:
    """What is on this machine."""

    def said(*command: str) -> str:
        program = shutil.which(command[0]) or ""
        if not program:
            return ""
        try:
            done = subprocess.run([program, *command[1:]], capture_output=True, text=True, timeout=20, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return "does not answer"
        lines = done.stdout.strip().splitlines() or done.stderr.strip().splitlines()
        return lines[-1].strip() if lines else ""

    def there(name: str) -> bool:
        try:
            return importlib.util.find_spec(name) is not None
        except (ImportError, ValueError):
            return False

    found = {
        "system": platform.platform(),
        "python": platform.python_version(),
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "gpu": said("nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"),
        "nvcc": said("nvcc", "--version"),
        "compute-sanitizer": said("compute-sanitizer", "--version"),
        "cmake": said("cmake", "--version"),
        "g++": said("g++", "-dumpfullversion"),
        "packages": {name: there(name) for name in (*PACKAGES, *MORE)},
    }
    check.told["machine"] = found
    status = "done" if found["gpu"] and found["gpu"] != "does not answer" else "failed"
    check.note("machine", status, **({} if status == "done" else {"why": "nvidia-smi shows no GPU"}))
    return found


def packages(check: Check) -> None:
    """Put those of the pack that are missing here beside the others."""
    listed = check.pack / "pack.json"
    if not listed.is_file():
        check.note("packages", "not done", why=f"there is no pack in {check.pack.name}: make gpu-pack makes it")
        return
    wheels = json.loads(listed.read_text(encoding="utf-8"))["wheels"]
    wanted = []
    for name, wheel in wheels.items():
        if importlib.util.find_spec(wheel["module"]) is not None and not wheel["always"]:
            continue
        file = _whole(check, name, wheel)
        if file is not None:
            wanted.append(file)
    if not wanted:
        check.note("packages", "done", said="nothing was missing")
        return
    options = ("--no-index", "--no-deps", "--no-compile", "--quiet", "--upgrade", "--target", check.work / "site")
    check.run("packages", [sys.executable, "-m", "pip", "install", *options, *wanted])


def _whole(check: Check, name: str, wheel: dict[str, Any]) -> Path | None:
    """A wheel of the pack, put together of its parts; None if one is missing or altered."""
    parts = [check.pack / part for part in wheel["parts"]]
    if not all(part.is_file() for part in parts):
        return None
    if len(parts) == 1:
        return parts[0]
    path = check.work / name
    with path.open("wb") as file:
        for part in parts:
            file.write(part.read_bytes())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return path if digest == wheel["sha256"] else None


def build(check: Check, found: dict[str, Any]) -> Path | None:
    """The runtime with its kernels for this GPU, its test, and the module for this Python. None: it can't be built."""
    missing = [name for name in ("nvcc", "cmake", "g++") if not found[name]]
    if not found["packages"]["nanobind"]:
        missing.append("nanobind")
    if missing:
        check.note("build", "not done", why=f"not here: {', '.join(missing)}")
        return None
    folder = check.work / "build"
    options = ["-DCMAKE_BUILD_TYPE=Release", "-DFIREWALL_BUILD_TESTS=ON", "-DFIREWALL_BUILD_PYTHON=ON"]
    options += ["-DFIREWALL_CUDA=ON", "-DCMAKE_CUDA_ARCHITECTURES=native", f"-DPython_EXECUTABLE={sys.executable}"]
    jobs = max(1, (os.cpu_count() or 1))
    configure = " ".join(f"'{part}'" for part in ("cmake", "-S", ROOT, "-B", folder, *options))
    make = f"cmake --build '{folder}' --parallel {jobs} --target _native --target gpu_parity"
    if not check.run("build", ["sh", "-c", f"{configure} && {make}"]):
        return None
    for module in folder.glob("runtime/python/_native*.so"):
        target = ROOT / "firewall" / module.name
        if not target.exists():  # else it is installed
            shutil.copy2(module, target)
            check.lent.append(target)
    return folder


def sanitized(check: Check, found: dict[str, Any], parity: Path) -> None:
    """The same program under each tool of compute-sanitizer."""
    for tool in ("memcheck", "racecheck", "synccheck"):
        if not found["compute-sanitizer"]:
            check.note(tool, "not done", why="compute-sanitizer is not here; it is part of the CUDA toolkit")
            continue
        command = ["compute-sanitizer", "--tool", tool, "--error-exitcode", "1", parity, "--quick"]
        check.run(tool, command, skipped=77)


def networks(check: Check) -> None:
    """Labels, verdicts and answers of every network on the GPU against the processor, in each way that is here."""
    script = ROOT / "benchmarks" / "gpu" / "networks.py"
    for name, way in (
        ("networks, ONNX Runtime", "cuda"),
        ("networks, TensorRT", "tensorrt"),
        ("networks, torch", "torch"),
    ):
        file = check.out / f"networks-{way}.json"
        check.run(name, [sys.executable, script, way, "--json", file], skipped=77, reads=file)


def main() -> int:
    """Do all steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", "build/gpu-check")))
    parser.add_argument("--pack", type=Path, default=ROOT / ".gpu-pack")
    parser.add_argument("--limit", type=float, default=470.0, help="seconds for all of it")
    parser.add_argument("--kernels", action="store_true", help="the kernels alone: no networks")
    arguments = parser.parse_args()
    check = Check(arguments.out.resolve(), arguments.pack, arguments.limit)
    started = time.monotonic()
    found = machine(check)
    if check.told["steps"]["machine"]["status"] == "done":
        packages(check)
        prebuilt = arguments.pack / "gpu_parity"
        if prebuilt.is_file():
            check.run("parity, prebuilt", [prebuilt], skipped=77)
        folder = build(check, found)
        parity = prebuilt if folder is None else folder / "tests/native/gpu_parity"
        if folder is not None:
            check.run("parity", [parity], skipped=77)
        if parity.is_file():
            sanitized(check, found, parity)
        if folder is not None and found["packages"]["pytest"]:
            tests = ("tests/transforms/test_cuda.py", "tests/sweep/test_device_copies.py")
            check.run("kernels in Python", [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests])
        if not arguments.kernels:
            networks(check)
        if folder is not None:
            script = ROOT / "benchmarks" / "cuda_jpeg_sweep.py"
            check.run("benchmark", [sys.executable, script, "--results", check.out / "benchmark"])
    states = [step["status"] for step in check.told["steps"].values()]
    check.told |= {"complete": True, "seconds": round(time.monotonic() - started, 1)}
    check.save()
    shutil.rmtree(check.work, ignore_errors=True)  # what goes back is small
    for file in check.lent:
        file.unlink(missing_ok=True)
    steps = check.told["steps"].items()
    compared = any(step["status"] == "done" for name, step in steps if name.startswith(("parity", "networks")))
    return 0 if compared and "failed" not in states else 1


if __name__ == "__main__":
    sys.exit(main())
