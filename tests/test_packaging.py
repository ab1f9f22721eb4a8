"""What is shipped: a wheel without anything it shouldn't hold, that installs and works where nothing else is."""

from __future__ import annotations

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Iterator
from email.parser import Parser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

CHECKOUT = Path(__file__).resolve().parents[1]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def _run(*command: object, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [str(part) for part in command],
        cwd="/",
        env={**kept, **environment},
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel built from that sdist (so the sdist holds all that a build needs), tagged
    as `make wheels` tags it."""
    folder = tmp_path_factory.mktemp("dist")
    done = _run(sys.executable, "-m", "build", "--outdir", folder, CHECKOUT)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    recipe = runpy.run_path(str(CHECKOUT / "recipes" / "wheels.py"))
    (path,) = folder.glob("perception_firewall-*.whl")
    recipe["tagged"](path)
    return folder


@pytest.fixture(scope="module")
def wheel(dist: Path) -> Iterator[zipfile.ZipFile]:
    """The wheel, open."""
    (path,) = dist.glob("perception_firewall-*.whl")
    with zipfile.ZipFile(path) as file:
        yield file


@pytest.fixture(scope="module")
def empty(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """bin/ of a virtual environment that holds nothing but the wheel and what it asks for."""
    home = tmp_path_factory.mktemp("venv")
    venv.create(home)
    (path,) = dist.glob("perception_firewall-*.whl")
    pip = (sys.executable, "-m", "pip", "--python", home / "bin" / "python")  # to put one there takes a while
    done = _run(*pip, "install", "-q", "-c", CHECKOUT / "constraints.txt", path)
    assert done.returncode == 0, done.stderr[-4000:]
    return home / "bin"


def _shipped(folder: Path) -> set[str]:
    """Every file under firewall/ that isn't made by running or building it."""
    files = set()
    for root, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if name != "__pycache__"]
        files |= {(Path(root) / name).relative_to(folder.parent).as_posix() for name in names}
    return {file for file in files if not file.endswith((".pyc", ".so"))}


def test_the_wheel_holds_the_package_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    """Every file of firewall/ (export/ as firewall/export), the compiled part and the metadata; no other folder."""
    names = {name for name in wheel.namelist() if not name.endswith("/")}
    packaged = {name for name in names if name.startswith("firewall/")}
    (compiled,) = (name for name in packaged if name.endswith(".so"))
    assert compiled.startswith("firewall/_native.")
    assert packaged - {compiled} == _shipped(CHECKOUT / "firewall")
    assert {"firewall/cli.py", "firewall/py.typed", "firewall/export/__init__.py"} <= packaged
    assert all(".dist-info/" in name for name in names - packaged)
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_default_bundle_is_in_the_wheel(wheel: zipfile.ZipFile) -> None:
    """The default bundle comes with the package, at most 10 MB of it."""
    bundle = [entry for entry in wheel.infolist() if entry.filename.startswith("firewall/assets/default_bundle/")]
    assert "firewall/assets/default_bundle/manifest.json" in {entry.filename for entry in bundle}
    assert sum(entry.file_size for entry in bundle) <= 10_000_000


def test_the_lab_is_an_extra(wheel: zipfile.ZipFile) -> None:
    """Plain `pip install` asks for none of the lab's libraries; they stand behind their extras."""
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    metadata = Parser().parsestr(wheel.read(name).decode())
    plain = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert len(plain) >= 4
    libraries = ("torch", "scikit-learn", "scipy", "matplotlib", "foolbox", "onnx>", "onnxscript", "joblib")
    assert not [line for line in plain if line.startswith(libraries)]
    assert not [line for line in plain if line.startswith(("paho", "python-can", "cantools", "mcap"))]
    extras = {"lab", "export", "gpu", "pycuda", "tensorrt", "mqtt", "can", "mcap", "cluster", "recipe", "dev"}
    assert extras == set(metadata.get_all("Provides-Extra", []))


def test_the_sdist_holds_what_a_build_needs(dist: Path) -> None:
    """Sources, headers, licence and tests are in the sdist; what a build or a run left behind is not."""
    (path,) = dist.glob("perception_firewall-*.tar.gz")
    with tarfile.open(path) as file:
        names = {name.partition("/")[2] for name in file.getnames()}
    wanted = "pyproject.toml CMakeLists.txt LICENSE README.md runtime/CMakeLists.txt runtime/include/firewall/simd.hpp"
    assert set(wanted.split()) <= names
    assert {"firewall/cli.py", "tests/test_packaging.py", "tests/native/test_simd.cpp"} <= names
    unwanted = (".venv", ".git/", "build/", "dist/", "shared", "runs/")
    assert not [name for name in names if name.startswith(unwanted) or "__pycache__" in name or name.endswith(".so")]


def test_an_empty_environment_runs_the_command(empty: Path) -> None:
    """Installed alone, without torch: `firewall --help` and --version end with 0."""
    done = _run(empty / "firewall", "--help")
    assert done.returncode == 0, done.stderr
    assert "serve" in done.stdout
    done = _run(empty / "firewall", "--version")
    assert (done.returncode, done.stdout) == (0, "perception-firewall 0.2.0\n")


def test_an_empty_environment_imports_the_edge(empty: Path) -> None:
    """Installed alone, every edge module imports, the native part loads; no torch and no bare `export` is there."""
    code = """
import importlib, importlib.util, pkgutil
import firewall, firewall.config, firewall.sources
from firewall import native
for found in pkgutil.walk_packages(firewall.__path__, "firewall."):
    if not found.name.startswith(("firewall.lab.", "firewall.export.", "firewall.__main__")):
        importlib.import_module(found.name)
assert importlib.util.find_spec("torch") is None
assert importlib.util.find_spec("export") is None
assert importlib.util.find_spec("firewall.export") is not None
print(native.load().version(), firewall.__version__)
"""
    done = _run(empty / "python", "-W", "error", "-c", code)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "0.2.0 0.2.0\n"


def test_an_empty_environment_screens_a_frame(empty: Path) -> None:
    """Installed alone, the default bundle judges a picture: noise is withheld."""
    code = """
import numpy as np
from firewall import Firewall
noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
print(Firewall.load("default", threads=1).screen(noise).decision)
"""
    done = _run(empty / "python", "-c", code)
    assert (done.returncode, done.stdout) == (0, "withhold\n"), done.stderr


def test_a_tagged_wheel_is_installed_and_screens_a_file(dist: Path, empty: Path, tmp_path: Path) -> None:
    """The wheel of this machine as `make wheels` hands it out: a manylinux tag that JetPack 6 (glibc 2.35) takes, and
    `firewall screen` judges a picture with what was installed from it."""
    (path,) = dist.glob("perception_firewall-*.whl")
    tag = re.search(r"-manylinux_2_(\d+)_(x86_64|aarch64)\.whl$", path.name)
    assert tag is not None and int(tag[1]) <= 35
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    done = _run(empty / "firewall", "screen", tmp_path / "noise.png")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["decision"] == "withhold"


def test_the_lab_without_its_extra_says_what_to_install(empty: Path, tmp_path: Path) -> None:
    """`firewall lab train` without torch is one line that names the extra, not a traceback."""
    done = _run(empty / "firewall", "lab", "train", "classifier", "--data", tmp_path, "--out", tmp_path / "run")
    assert done.returncode == 1
    assert "perception-firewall[lab]" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(
    shutil.which("cmake") is None and shutil.which("cmake", path=str(Path(sys.executable).parent)) is None,
    reason="needs cmake",
)
def test_a_missing_compiler_is_named(tmp_path: Path) -> None:
    """Without a C++ compiler the build says which package to install."""
    cmake = shutil.which("cmake", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
    assert cmake is not None
    done = _run(cmake, "-S", CHECKOUT, "-B", tmp_path, CXX=str(tmp_path / "no-such-compiler"))
    assert done.returncode != 0
    assert "No working C++ compiler was found" in done.stderr
    assert "apt-get install g++" in done.stderr


@pytest.fixture
def bare_checkout(tmp_path: Path) -> Path:
    """As much of a checkout as make needs before it installs anything."""
    checkout = tmp_path / "checkout"
    (checkout / "runtime").mkdir(parents=True)
    for name in ("Makefile", "pyproject.toml", "constraints.txt", "CMakeLists.txt"):
        shutil.copy(CHECKOUT / name, checkout)
    return checkout


def test_make_names_a_missing_python(bare_checkout: Path) -> None:
    """`make serve` without Python is one clear line, before anything is made."""
    done = _run("make", "-C", bare_checkout, "serve", PYTHON="no-such-python")
    assert done.returncode != 0
    assert "'no-such-python' was not found: install Python 3.10 or newer" in done.stderr
    assert not (bare_checkout / ".venv").exists()


def test_make_names_a_missing_compiler(bare_checkout: Path, tmp_path: Path) -> None:
    """`make serve` without a C++ compiler is one clear line that names the packages, before anything is made."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("sh", "find", "rm", "touch"):
        (tools / name).symlink_to(str(shutil.which(name)))
    done = _run(str(shutil.which("make")), "-C", bare_checkout, "serve", PATH=str(tools), PYTHON=sys.executable, CXX="")
    assert done.returncode != 0
    assert "no C++ compiler was found" in done.stderr
    assert "apt-get install" in done.stderr
    assert not (bare_checkout / ".venv").exists()


def test_the_makefile_names_nothing_that_it_does_not_define(bare_checkout: Path) -> None:
    """Issue 15, row 18: every variable that a recipe uses is defined; packages to install were named by one that was
    not, and so never installed."""
    (bare_checkout / "calls.mk").write_text("CI ?=\nCUDACXX ?=\ninclude Makefile\n")
    done = _run(
        "make", "-C", bare_checkout, "-f", "calls.mk", "--warn-undefined-variables", "-n", "help", "test", "gpu-check"
    )
    assert done.returncode == 0 and "undefined variable" not in done.stderr, done.stderr
    for package in ("g++-aarch64-linux-gnu", "qemu-user-static", "strace", "chromium", "ffmpeg"):
        assert package in done.stdout


@pytest.mark.parametrize("fails", ["", "mypy", "ctest"])
def test_pytest_waits_for_linters_and_compilers(fails: str, bare_checkout: Path) -> None:
    """`make test` runs the linters beside the native tests; pytest starts, once for coverage and once for the rest,
    when all of them have ended well, and not at all where one failed. What they start isn't told of our jobs."""
    programs, log = bare_checkout / ".venv" / "bin", bare_checkout / "log"
    programs.mkdir(parents=True)
    for name in ("ruff", "mypy", "lint-imports", "clang-format", "python", "mkdocs", "cmake", "ctest"):
        said = f'echo "{name} $2$MAKEFLAGS" >> {log}\nsleep 0.05\necho "end {name}" >> {log}'
        (programs / name).write_text(f'#!/bin/sh\n{said}\n[ {name} != "$FAILS" ]\n')
        (programs / name).chmod(0o755)
    (bare_checkout / "tests" / "native").mkdir(parents=True)
    (bare_checkout / "tests" / "native" / "aarch64.sh").write_text("#!/bin/sh\n")
    (bare_checkout / "tests" / "native" / "aarch64.sh").chmod(0o755)
    (bare_checkout / "only.mk").write_text("include Makefile\ndebian-packages aarch64-packages:\n")
    # MLServer is there: installing it is asked for in CI and would fail with a Python that only writes its name.
    for file in ("tests/gate/mlserver_model/requirements.txt", "build/mlserver/.installed"):
        (bare_checkout / file).parent.mkdir(parents=True)
        (bare_checkout / file).write_text("mlserver\n")
    for stamp in (".python", ".edge", ".dev"):
        (bare_checkout / ".venv" / stamp).touch()

    done = _run("make", "-C", bare_checkout, "-f", "only.mk", "test", "NVCC=none", FAILS=fails)

    lines = log.read_text().splitlines()
    assert bool(done.returncode) == bool(fails), done.stderr
    assert ("python pytest" in lines) == (not fails)
    if not fails:
        first = lines.index("python pytest")
        assert lines[first:] == ["python pytest", "end python"] * 2
        # The linters were not through when the first compiler ran, nor was it then.
        assert lines.index("cmake .") < lines.index("mkdocs --strict")
        assert lines[:first].count("end ctest") == 2 and "end mkdocs" in lines[:first]


@pytest.mark.parametrize(("ci", "code"), [("", 0), ("true", 2)])
def test_a_part_that_is_left_out_is_a_failure_in_ci(ci: str, code: int, bare_checkout: Path, tmp_path: Path) -> None:
    """Without the compiler for aarch64, as an ordinary user: `make test` goes on and names the packages; in CI it ends
    there. As root `apt-get` is asked for them, and in CI it has to succeed."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("sh", "find", "rm", "touch", "grep"):
        (tools / name).symlink_to(str(shutil.which(name)))
    for name, answer in (("uname", "echo x86_64"), ("id", "echo ${NUMBER:-1000}"), ("dpkg-query", "exit 1")):
        (tools / name).write_text(f"#!/bin/sh\n{answer}\n")
        (tools / name).chmod(0o755)
    (tools / "apt-get").write_text("#!/bin/sh\nexit 100\n")
    (tools / "apt-get").chmod(0o755)
    (bare_checkout / ".venv").mkdir()
    (bare_checkout / "part.mk").write_text("part: aarch64-test\ninclude Makefile\n")
    for stamp in (".python", ".edge", ".dev"):
        (bare_checkout / ".venv" / stamp).touch()
    named = (str(shutil.which("make")), "-C", bare_checkout, "-f", "part.mk", "part")
    done = _run(*named, PATH=str(tools), CI=ci)
    assert done.returncode == code, done.stderr
    assert (
        "Left out: the native tests for aarch64 (g++-aarch64-linux-gnu qemu-user-static are not installed)"
        in done.stderr
    )
    done = _run(*named, PATH=str(tools), CI=ci, NUMBER="0")
    assert done.returncode == code, done.stderr
    assert ("apt-get could not install g++-aarch64-linux-gnu qemu-user-static" in done.stderr) == bool(ci)


@pytest.mark.parametrize("ci", ["", "true"])
def test_a_test_without_its_package_fails_in_ci(ci: str, tmp_path: Path) -> None:
    """The tests' own hook: a skip for want of a package is a failure where CI is set, one for want of a GPU or of data
    is none; a file that skips as a whole counts too."""
    (tmp_path / "conftest.py").write_text("from tests.in_ci import *\n")
    (tmp_path / "test_some.py").write_text(
        "import pytest\n"
        "def test_a(): pytest.skip('strace is not installed: apt-get install strace')\n"
        "def test_b(): pytest.skip('the native runtime was built without CUDA: not compiled')\n"
        "def test_c(): pytest.skip('the packs are not here')\n"
        "@pytest.mark.skipif(True, reason='openssl is not installed')\ndef test_d(): pass\n"
    )
    (tmp_path / "test_whole.py").write_text("import pytest\npytest.importorskip('nothing_of_that_name')\n")
    command = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "/dev/null", "--rootdir", tmp_path)
    done = _run(*command, tmp_path, "--continue-on-collection-errors", CI=ci, PYTHONPATH=str(CHECKOUT))
    if ci:
        assert done.returncode == 1 and "1 failed, 2 skipped, 2 errors" in done.stdout, done.stdout
    else:
        assert done.returncode == 0 and "5 skipped" in done.stdout, done.stdout
