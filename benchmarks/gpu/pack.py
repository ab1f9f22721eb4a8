"""What a bare machine with a GPU needs beside the checkout: `make gpu-pack`, into .gpu-pack.

    python benchmarks/gpu/pack.py [--out .gpu-pack] [--python 3.12] [--part-mib 36] [--wheel FILE ...]

The test of the kernels, built for sm_90 (needs nvcc), and wheels of the packages that such machines mostly lack, for
one version of Python on x86-64. A wheel above --part-mib is cut into parts, to be carried in several calls; check.py
puts them together. --wheel adds one, such as onnxruntime-gpu's: 244 MiB, of which the code for sm_90 alone takes 73, so
that no single call of 64 MiB can carry it. pack.json lists all that is in it, with sizes and hashes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
#: Packages that loading a bundle takes and that a machine for machine learning mostly lacks -> how they are imported.
WHEELS = {
    "pydantic": "pydantic",
    "pydantic-core": "pydantic_core",
    "pydantic-settings": "pydantic_settings",
    "typing-inspection": "typing_inspection",
    "python-dotenv": "dotenv",
    "cryptography": "cryptography",
    "cffi": "cffi",
    "pycparser": "pycparser",
    "simplejpeg": "simplejpeg",
}
PLATFORMS = ("manylinux_2_34_x86_64", "manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")


def pinned() -> dict[str, str]:
    """Package -> its version in constraints.txt."""
    lines = [line.partition("#")[0].strip() for line in (ROOT / "constraints.txt").read_text().splitlines()]
    return dict(line.split("==") for line in lines if line.count("==") == 1 and ";" not in line)


def fetch(out: Path, python: str) -> list[str]:
    """Put the wheels into a folder; names of those that could not be had."""
    versions, missing = pinned(), []
    for name in WHEELS:
        wanted = f"{name}=={versions[name]}" if name in versions else name
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:"]
        command += ["--python-version", python, "--implementation", "cp", "-d", str(out), wanted]
        for platform in PLATFORMS:
            command += ["--platform", platform]
        if subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode:
            missing.append(name)
    return missing


def cut(path: Path, out: Path, most: int) -> list[str]:
    """Names of a wheel's parts in a folder; the wheel itself where it is small enough."""
    if path.stat().st_size <= most:
        if path.parent != out:
            shutil.copy2(path, out)
        return [path.name]
    content, names = path.read_bytes(), []
    for number, start in enumerate(range(0, len(content), most)):
        names.append(f"{path.name}.{number:02d}")
        (out / names[-1]).write_bytes(content[start : start + most])
    if path.parent == out:
        path.unlink()
    return names


def module_of(wheel: Path) -> str:
    """How a wheel's package is imported."""
    name = wheel.name.partition("-")[0].replace("_", "-").lower()
    return WHEELS.get(name, "onnxruntime" if name.startswith("onnxruntime") else name.replace("-", "_"))


def main() -> int:
    """Fetch, cut, list."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / ".gpu-pack")
    parser.add_argument("--python", default="3.12")
    parser.add_argument("--part-mib", type=int, default=36)
    parser.add_argument("--wheel", type=Path, action="append", default=[])
    parser.add_argument("--parity", type=Path, help="gpu_parity, built for the GPU")
    arguments = parser.parse_args()
    out = arguments.out
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    missing = fetch(out, arguments.python)
    wheels: dict[str, Any] = {}
    for path in (*sorted(out.glob("*.whl")), *arguments.wheel):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        size, parts = path.stat().st_size, cut(path, out, arguments.part_mib << 20)
        always = path in arguments.wheel  # asked for by name: it takes the place of what is there
        wheels[path.name] = {
            "module": module_of(path),
            "bytes": size,
            "sha256": digest,
            "parts": parts,
            "always": always,
        }
    if arguments.parity is not None:
        shutil.copy2(arguments.parity, out / "gpu_parity")
    told = {"python": arguments.python, "wheels": wheels, "not_there": missing, "gpu_parity": bool(arguments.parity)}
    (out / "pack.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    size = sum(path.stat().st_size for path in out.iterdir())
    sys.stdout.write(f"{out}: {len(wheels)} wheels, {size / (1 << 20):.1f} MiB\n")
    if missing:
        sys.stdout.write(f"not there for Python {arguments.python}: {', '.join(missing)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
