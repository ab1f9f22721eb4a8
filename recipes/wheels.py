"""Wheels for x86-64 and aarch64 from one machine, so that a Jetson compiles nothing: `make wheels`.

A wheel holds the native runtime, compiled for one version of Python on one kind of processor. The other processor's is
cross-compiled. Each wheel is then tagged with the oldest manylinux platform that its symbols allow, as auditwheel finds
it. JetPack 6 has Python 3.10, JetPack 7 has 3.12: name those that you want.

    python recipes/wheels.py --out dist python3.10 python3.12
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from elftools.elf.elffile import ELFFile

ROOT = Path(__file__).resolve().parents[1]
VERSIONS = ("3.10", "3.11", "3.12", "3.13")
MACHINES = {"x86_64": "EM_X86_64", "aarch64": "EM_AARCH64"}
COMPILER = "aarch64-linux-gnu-g++"
_ASKED = (
    "import json, os, platform, sys, sysconfig; print(json.dumps([sys.version_info[:2], platform.machine(), "
    "sysconfig.get_config_var('EXT_SUFFIX'), os.path.exists(os.path.join(sysconfig.get_path('include'), 'Python.h'))]))"
)


class WheelError(Exception):
    """A wheel that can't be made; the message is for people."""


class Interpreter:
    """A Python that wheels are made for.

    Attributes:
        path: The program.
        version: Such as (3, 12).
        suffix: What names of extension modules end with on this machine.

    Raises:
        WheelError: If it can't be run, has no headers or is not supported.
    """

    def __init__(self, name: str) -> None:
        found = shutil.which(name)
        try:
            done = subprocess.run([found or name, "-c", _ASKED], capture_output=True, text=True, check=True)
            version, machine, self.suffix, headers = json.loads(done.stdout)
        except (OSError, ValueError, subprocess.CalledProcessError) as error:
            raise WheelError(f"{name} can't be run; name a Python of {', '.join(VERSIONS)}") from error
        self.path, self.version = found or name, ".".join(map(str, version))
        if self.version not in VERSIONS:
            raise WheelError(f"{name} is Python {self.version}; wheels are made for {', '.join(VERSIONS)}")
        if machine != platform.machine():
            raise WheelError(f"{name} is a Python for {machine}, this machine is {platform.machine()}")
        if not headers:
            raise WheelError(f"{name} has no Python.h; install its headers: apt-get install python{self.version}-dev")


def build(interpreter: Interpreter, machine: str, out: Path) -> Path:
    """Build one wheel and tag it.

    Args:
        interpreter: The Python that it is for.
        machine: x86_64 or aarch64.
        out: Folder for the wheel.

    Returns:
        The wheel's file.

    Raises:
        WheelError: If it can't be built, or isn't what it should be.
    """
    options, environment = [], dict(os.environ)
    suffix = interpreter.suffix
    if machine != platform.machine():
        if (platform.machine(), machine) != ("x86_64", "aarch64"):
            raise WheelError(
                f"wheels for {machine} can't be made on {platform.machine()}: there is no cross-compiler for it"
            )
        if shutil.which(COMPILER) is None:
            raise WheelError(f"{COMPILER} was not found; install it: apt-get install g++-aarch64-linux-gnu")
        suffix = suffix.replace(platform.machine(), machine)
        defined = {"SYSTEM_NAME": "Linux", "SYSTEM_PROCESSOR": machine, "CXX_COMPILER": COMPILER}
        options = [f"-Ccmake.define.CMAKE_{name}={value}" for name, value in defined.items()]
        # What Python itself and scikit-build-core ask for when a build is for another machine. The headers are this
        # machine's: both are 64-bit and little-endian, and no type of the interface differs.
        environment |= {"_PYTHON_HOST_PLATFORM": f"linux-{machine}", "SETUPTOOLS_EXT_SUFFIX": suffix}
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="wheel-") as folder:
        pip = [sys.executable, "-m", "pip", "--python", interpreter.path, "--disable-pip-version-check"]
        run([*pip, "wheel", "-qq", "--no-deps", "--wheel-dir", folder, *options, str(ROOT)], environment)
        (built,) = Path(folder).glob("*.whl")
        check(built, machine, suffix)
        wheel = tagged(built)
        placed = out / wheel.name
        shutil.move(wheel, placed)
    return placed


def check(wheel: Path, machine: str, suffix: str) -> None:
    """Look into a wheel: one native library, for this processor, under the name that this Python looks for.

    Raises:
        WheelError: If it isn't so.
    """
    with zipfile.ZipFile(wheel) as file:
        libraries = [name for name in file.namelist() if ".so" in Path(name).name]
        if libraries != [f"firewall/_native{suffix}"]:
            raise WheelError(f"{wheel.name} holds {libraries}, and not firewall/_native{suffix} alone")
        found = ELFFile(BytesIO(file.read(libraries[0]))).header["e_machine"]
    if found != MACHINES[machine]:
        raise WheelError(f"{wheel.name}: its library is for {found}, and not for {MACHINES[machine]}")


def tagged(wheel: Path) -> Path:
    """Give a wheel the tag of the oldest manylinux platform that it runs on, in the place of linux.

    Returns:
        The wheel's new file, beside the old one, which is gone.

    Raises:
        WheelError: If auditwheel knows no such platform: the library needs something that isn't everywhere.
    """
    shown = run([sys.executable, "-m", "auditwheel", "show", str(wheel)])
    found = re.search(r'platform\s+tag:\s+"(manylinux_[0-9]+_[0-9]+_\w+)"', shown)
    if found is None:
        raise WheelError(f"{wheel.name} fits no manylinux platform: {' '.join(shown.split())[:400]}")
    name = run([sys.executable, "-m", "wheel", "tags", "--remove", "--platform-tag", found[1], str(wheel)])
    return wheel.with_name(Path(name.split()[-1]).name)


def run(command: Sequence[str], environment: dict[str, str] | None = None) -> str:
    """What a program prints.

    Raises:
        WheelError: If it fails, with the end of what it said.
    """
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise WheelError(f"{' '.join(command[:4])} ... failed:\n{(done.stdout + done.stderr)[-4000:]}")
    return done.stdout


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="folder for the wheels (dist)")
    parser.add_argument(
        "--machine", action="append", choices=sorted(MACHINES), help="x86_64, aarch64 or both (default)"
    )
    parser.add_argument("pythons", nargs="*", help="Pythons; default: this one, and python3.10 to 3.13 as far as found")
    given = parser.parse_args()
    machines = given.machine or (["aarch64"] if platform.machine() == "aarch64" else sorted(MACHINES, reverse=True))
    chosen: dict[str, Interpreter] = {}
    try:
        for name in given.pythons or [sys.executable, *(f"python{version}" for version in VERSIONS)]:
            try:
                interpreter = Interpreter(name)
            except WheelError as error:
                if given.pythons:
                    raise
                sys.stderr.write(f"left out: {error}\n")
                continue
            chosen.setdefault(interpreter.version, interpreter)
        for interpreter in chosen.values():
            for machine in machines:
                sys.stdout.write(f"{build(interpreter, machine, given.out.resolve())}\n")
                sys.stdout.flush()
    except WheelError as error:
        sys.stderr.write(f"wheels: error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
