"""A user who is a number without an entry, without HOME, as containers have them; and other poor surroundings: a folder
to start in that is gone, no place for temporary files, descriptors that the caller closed, files for the owner alone.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from firewall.bundle import load_bundle, write_bundle
from firewall.bundle.cli import sign_bundle
from firewall.bundle.signature import generate
from firewall.bundle.trust import Trust, state_file
from firewall.engines.plan_cache import PlanCache
from firewall.errors import BundleError, EngineError
from firewall.host.user_folder import user_folder

NUMBER = 12345
_LIBRARY = """
import numpy as np
from firewall import Firewall
print(Firewall.load("default", threads=1).screen(np.full((40, 40, 3), 90, np.uint8)).decision)
"""
_BENCH = ("bench", "--samples", "3", "--warm-up", "1", "--fps", "off", "--cold-starts", "1", "--energy-seconds", "0")
_SERVE = ("serve", "--max-frames", "2", "--http", "off")
#: The user has no entry; where we may, the number is real as well.
_NO_ENTRY = "import pwd\ndef _nobody(number): raise KeyError(number)\npwd.getpwuid = _nobody\n"
_COMMAND = _NO_ENTRY + "import sys\nfrom firewall.cli import main\nmain()"

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def as_nobody() -> tuple[str, ...]:
    """What comes before a command: it may read all (Python may lie in a home), but write only what the number may."""
    if os.geteuid() or shutil.which("setpriv") is None:
        return ()
    drop = ("setpriv", "--reuid", str(NUMBER), "--regid", str(NUMBER), "--clear-groups")
    return (*drop, "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that everybody may read and write."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        yield Path(name)


@pytest.fixture
def nobody() -> Run:
    """Run firewall (or code, with code=...) as nobody, with no environment but `variables`."""
    before = as_nobody()
    if before and subprocess.run([*before, "true"], capture_output=True, check=False).returncode:
        before = ()  # a container that may not hand on what reads all

    def run(*arguments: object, code: str = _COMMAND, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*before, sys.executable, "-c", code, *map(str, arguments)],
            env={"PATH": os.environ.get("PATH", os.defpath), "PYTHONDONTWRITEBYTECODE": "1", **variables},
            cwd="/",
            capture_output=True,
            text=True,
            timeout=110,
            check=False,
        )

    return run


@pytest.fixture
def picture(shared: Path) -> Path:
    """An image to judge."""
    Image.fromarray(np.full((40, 40, 3), 90, np.uint8)).save(shared / "grey.png")
    return shared / "grey.png"


@pytest.fixture
def signed(shared: Path) -> tuple[Path, Path]:
    """A bundle that a key signed, and the public key."""
    generate(shared / "k")
    made = load_bundle()
    fields = made.manifest.model_dump(exclude={"files", "name", "version"})
    write_bundle(shared / "bundle", made.files, name="mine", version=1, **fields)
    sign_bundle(shared / "bundle", shared / "k")
    return shared / "bundle", shared / "k.pub"


@pytest.mark.parametrize("home", [None, "", "not/absolute", "/nonexistent"])
def test_the_main_jobs_need_no_home(home: str | None, nobody: Run, picture: Path) -> None:
    """Issue 15, row 6: screen, serve, the Python API, bench and doctor work where HOME is missing, empty, no path, or
    not there, and there is no place for temporary files either."""
    variables = {"TMPDIR": "/nonexistent"} if home is None else {"TMPDIR": "/nonexistent", "HOME": home}
    more = () if home is not None else (_SERVE, _BENCH, ("doctor",), ("bundle", "verify"))
    for command in (("screen", picture), *more):
        done = nobody(*command, **variables)
        assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    if not home:
        done = nobody(code=_NO_ENTRY + _LIBRARY, **variables)
        assert done.stdout.strip() == "withhold", done.stderr


def test_a_trusted_key_and_the_packages_bundle_need_no_home(
    nobody: Run, picture: Path, signed: tuple[Path, Path]
) -> None:
    """The state is asked for when a signed bundle is loaded, not because a key is named; then it is one line that says
    what to do, exit code 1; with a file named, the bundle is used and remembered."""
    bundle, key = signed
    done = nobody("screen", picture, "--trust", key)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    for command in (("screen", picture), (*_SERVE, "--source", picture)):
        done = nobody(*command, "--bundle", bundle, "--trust", key)
        assert done.returncode == 1 and done.stdout == "" and done.stderr.count("\n") == 1, done.stderr
        assert done.stderr.startswith("firewall: error: user ")
        assert "has no home to remember in which versions" in done.stderr and "FIREWALL_TRUST_STATE" in done.stderr
    done = nobody("screen", picture, "--bundle", bundle, "--trust", key, HOME="/nonexistent")
    if os.geteuid() or as_nobody():  # root may make a folder anywhere
        assert done.returncode == 1 and "can't remember the bundle's version in /nonexistent/" in done.stderr
        assert done.stderr.count("\n") == 1
    state = bundle.parent / "state"
    done = nobody("screen", picture, "--bundle", bundle, "--trust", key, FIREWALL_TRUST_STATE=str(state / "b.json"))
    assert done.returncode == 0, done.stderr
    assert json.loads((state / "b.json").read_text())["mine"]["version"] == 1


def test_the_doctor_tells(nobody: Run, shared: Path) -> None:
    """Without a home, or with one that isn't there, it says that versions of signed bundles can't be remembered and
    what to do; with a file that can be written it says where they are. The main job needs none of it."""
    code = f"{_NO_ENTRY}from firewall import doctor\ndoctor.render(doctor._accepted_versions(), as_json=True)"
    named = {"FIREWALL_TRUST_STATE": f"{shared}/b"}
    for variables, ok in (({}, False), ({"HOME": "/nonexistent"}, False), (named, True)):
        if variables.get("HOME") and not (os.geteuid() or as_nobody()):
            continue  # root may make a folder anywhere
        (found,) = json.loads(nobody(code=code, **variables).stdout)
        assert found["name"] == "accepted versions" and found["ok"] is ok and not found["required"], found
        assert ok or "FIREWALL_TRUST_STATE" in found["advice"]


def test_the_users_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """XDG's rules: an absolute variable, else the home that HOME or the entry names, else none; plans for TensorRT and
    accepted versions are refused then in one line that names the variable."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for value in ("", "relative"):
        monkeypatch.setenv("XDG_STATE_HOME", value)
        assert user_folder("XDG_STATE_HOME") == tmp_path / ".local" / "state"
    monkeypatch.setenv("XDG_STATE_HOME", "/x")
    assert user_folder("XDG_STATE_HOME") == Path("/x")
    for name in ("HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "FIREWALL_TRUST_STATE", "FIREWALL_PLANS"):
        monkeypatch.delenv(name, raising=False)
    assert user_folder("XDG_CACHE_HOME") == Path("~/.cache").expanduser()

    def nobody(number: int) -> None:
        raise KeyError(number)

    monkeypatch.setattr("pwd.getpwuid", nobody)
    assert user_folder("XDG_STATE_HOME") is None
    assert Trust.configured().users_state
    with pytest.raises(BundleError, match=r"has no home.*FIREWALL_TRUST_STATE"):
        state_file()
    with pytest.raises(EngineError, match=r"has no home.*FIREWALL_PLANS"):
        PlanCache()


@pytest.mark.parametrize("command", [("screen",), _SERVE, ("doctor",), _BENCH], ids=lambda command: command[0])
def test_a_current_folder_that_is_gone(command: tuple[str, ...], tmp_path: Path, picture: Path) -> None:
    """The folder in which a command is started was removed: the jobs run, and the doctor tells instead of giving up."""
    (gone := tmp_path / "gone").mkdir()
    code = f"import os, sys\nos.rmdir({str(gone)!r})\nfrom firewall.cli import main\nmain()"
    named = (*command, str(picture)) if command == ("screen",) else command
    done = subprocess.run(
        [sys.executable, "-P" if sys.version_info >= (3, 11) else "-s", "-c", code, *named],
        cwd=gone,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    if command == ("doctor",):
        assert "the current folder can't be used" in done.stdout and "could not be looked at" not in done.stdout


def test_descriptors_that_the_caller_closed(tmp_path: Path, picture: Path) -> None:
    """stdin, stdout and stderr closed (`<&- >&- 2>&-`): the verdict lines go into their file, and no other line does,
    since the file doesn't get the number that libraries print to."""
    lines = tmp_path / "lines.jsonl"
    command = f"exec {sys.executable} -m firewall {' '.join(_SERVE)} --output jsonl:{lines} <&- >&- 2>&-"
    assert subprocess.run(["/bin/sh", "-c", command], timeout=110, check=False).returncode == 0
    verdicts = [json.loads(line) for line in lines.read_text().splitlines()]
    assert verdicts and all("decision" in verdict for verdict in verdicts)


def test_files_for_the_owner_alone(tmp_path: Path) -> None:
    """umask 077, and no standard input: a verdict file is made and holds the verdicts."""
    command = f"umask 077; exec {sys.executable} -m firewall {' '.join(_SERVE)} --output jsonl:{tmp_path}/v <&-"
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "v").stat().st_mode & 0o077 == 0 and (tmp_path / "v").stat().st_size > 0
