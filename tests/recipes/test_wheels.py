"""`make wheels`: a wheel for aarch64 is cross-built, tagged, and its library loaded by an emulated loader.

The x86-64 wheel is installed and used by tests/test_packaging.py.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "wheels.py"
PYTHON = f"cp3{sys.version_info[1]}"
SYSROOT = "/usr/aarch64-linux-gnu"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

# Gives the library what Python would, by name alone, and then loads it and looks for its entry.
_LOADER = """
#include <dlfcn.h>
#include <stdio.h>
int main(int argc, char **argv) {
  void *library = dlopen(argv[1], RTLD_NOW);
  if (!library) { puts(dlerror()); return 1; }
  puts(dlsym(library, "PyInit__native") ? "PyInit__native" : dlerror());
  return 0;
}
"""


def run(*command: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        list(map(str, command)),
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=800,
    )


@pytest.fixture(scope="module")
def aarch64(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel for aarch64, cross-built by the command itself."""
    if platform.machine() != "x86_64" or shutil.which("aarch64-linux-gnu-g++") is None:
        pytest.skip("g++-aarch64-linux-gnu is not installed")
    folder = tmp_path_factory.mktemp("wheels")
    done = run(sys.executable, RECIPE, "--machine", "aarch64", "--out", folder, sys.executable)
    assert done.returncode == 0, done.stderr[-4000:]
    (wheel,) = folder.iterdir()
    assert done.stdout.split() == [str(wheel)]
    return wheel


@pytest.fixture
def library(aarch64: Path, tmp_path: Path) -> Path:
    """What was compiled, taken out of the wheel."""
    with zipfile.ZipFile(aarch64) as file:
        (name,) = [name for name in file.namelist() if name.endswith(".so")]
        return Path(file.extract(name, tmp_path))


def test_its_name_and_tag(aarch64: Path, library: Path) -> None:
    """The tag is of the symbols that readelf sees: nothing newer than JetPack 6's C and C++ libraries (glibc 2.35 and
    GCC 12's) is needed; the file is 64-bit Arm code, and named as a Python on aarch64 looks for it."""
    tag = re.fullmatch(rf"perception_firewall-[0-9.]+-{PYTHON}-{PYTHON}-manylinux_2_(\d+)_aarch64\.whl", aarch64.name)
    assert tag is not None and int(tag[1]) <= 35, aarch64.name
    with zipfile.ZipFile(aarch64) as file:
        (about,) = [name for name in file.namelist() if name.endswith(".dist-info/WHEEL")]
        assert f"Tag: {PYTHON}-{PYTHON}-manylinux_2_{tag[1]}_aarch64\n" in file.read(about).decode()
        assert file.testzip() is None
    assert library.name.endswith("-aarch64-linux-gnu.so")
    header = run("readelf", "-h", library).stdout
    assert "ELF64" in header and "AArch64" in header
    versions = set(re.findall(r"Name: (\w+?)_([\d.]+)", run("readelf", "-V", library).stdout))
    assert ("GLIBC", "2.17") in versions
    newest = {kind: max(_number(each) for name, each in versions if name == kind) for kind, _ in versions}
    assert newest["GLIBC"] <= (2, int(tag[1])) and newest["GLIBCXX"] <= (3, 4, 30) and newest["CXXABI"] <= (1, 3, 13)


def test_an_emulated_loader_takes_it(library: Path, tmp_path: Path) -> None:
    """qemu's aarch64 with the C and C++ libraries of the cross-compiler: every symbol is found but Python's, which
    stand-ins give, and the start-up code runs."""
    if shutil.which("qemu-aarch64-static") is None:
        pytest.skip("qemu-user-static is not installed: apt-get install qemu-user-static")
    undefined = run("aarch64-linux-gnu-nm", "-D", "--undefined-only", library).stdout
    python = sorted(set(re.findall(r" U (_?Py\w+)", undefined)))
    assert len(python) > 50
    (tmp_path / "python.c").write_text("".join(f"long {name}[64];\n" for name in python))
    (tmp_path / "loader.c").write_text(_LOADER)
    compiler = ("aarch64-linux-gnu-gcc", "-w")
    for command in (
        (*compiler, "-shared", "-fPIC", "-o", tmp_path / "libpython.so", tmp_path / "python.c"),
        (*compiler, "-o", tmp_path / "loader", tmp_path / "loader.c", "-ldl"),
    ):
        done = run(*command)
        assert done.returncode == 0, done.stderr
    emulated = ("qemu-aarch64-static", "-L", SYSROOT, "-E", f"LD_PRELOAD={tmp_path}/libpython.so")
    done = run(*emulated, tmp_path / "loader", library)
    assert (done.returncode, done.stdout) == (0, "PyInit__native\n"), done.stdout + done.stderr


def _number(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


@pytest.fixture
def wheels() -> ModuleType:
    """The recipe as a module."""
    spec = importlib.util.spec_from_file_location("wheels_recipe", RECIPE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_wheel_of_another_machine_is_not_passed_on(wheels: ModuleType, aarch64: Path, tmp_path: Path) -> None:
    """What was built is looked at: another processor, another name, no library or two."""
    suffix = f".cpython-3{sys.version_info[1]}-aarch64-linux-gnu.so"
    wheels.check(aarch64, "aarch64", suffix)
    with pytest.raises(wheels.WheelError, match="its library is for EM_AARCH64, and not for EM_X86_64"):
        wheels.check(aarch64, "x86_64", suffix)
    with pytest.raises(wheels.WheelError, match="alone"):
        wheels.check(aarch64, "aarch64", suffix.replace("aarch64", "x86_64"))
    shutil.copy(aarch64, tmp_path / aarch64.name)
    with zipfile.ZipFile(tmp_path / aarch64.name, "a") as file:
        file.writestr("firewall/libcuda.so.1", b"")
    with pytest.raises(wheels.WheelError, match=r"libcuda\.so\.1"):
        wheels.check(tmp_path / aarch64.name, "aarch64", suffix)


def test_what_can_not_be_made_is_one_line(tmp_path: Path) -> None:
    """A Python that isn't there, one that is too old, no cross-compiler."""
    old = tmp_path / "python3.9"
    old.write_text('#!/bin/sh\necho \'[[3, 9], "x86_64", ".so", true]\'\n')
    bare = tmp_path / "python3.12"
    bare.write_text(f'#!/bin/sh\necho \'[[3, 12], "{platform.machine()}", ".so", false]\'\n')
    for file in (old, bare):
        file.chmod(0o755)
    here = str(Path(sys.executable).parent)
    for python, said, path in (
        ("no-such-python", "no-such-python can't be run; name a Python of 3.10, 3.11, 3.12, 3.13", os.environ["PATH"]),
        (old, "is Python 3.9; wheels are made for 3.10, 3.11, 3.12, 3.13", os.environ["PATH"]),
        (bare, "has no Python.h; install its headers: apt-get install python3.12-dev", os.environ["PATH"]),
        (
            sys.executable,
            "aarch64-linux-gnu-g++ was not found; install it: apt-get install g++-aarch64-linux-gnu",
            here,
        ),
    ):
        if path is here and (platform.machine() == "aarch64" or shutil.which("aarch64-linux-gnu-g++", path=here)):
            continue
        done = run(sys.executable, RECIPE, "--machine", "aarch64", "--out", tmp_path / "out", python, PATH=path)
        assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
        assert done.stderr.startswith("wheels: error: ") and said in done.stderr
    assert not (tmp_path / "out").exists()
