"""Which commit a build is of: the part of the build that asks git, and what an installed package tells."""

from __future__ import annotations

import subprocess
from importlib import metadata
from pathlib import Path

import pytest

from firewall import doctor
from firewall.host.commit import built_from

SCRIPT = Path(__file__).parents[2] / "runtime" / "python" / "commit.cmake"
NAME = ("-c", "user.name=a", "-c", "user.email=a@example.org")


def git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", "-C", folder, *NAME, *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def told(source: Path, file: Path) -> str | None:
    """What a build of that folder writes."""
    command = ["cmake", f"-DSOURCE={source}", f"-DFILE={file}", "-P", str(SCRIPT)]
    subprocess.run(command, check=True, capture_output=True)
    return file.read_text().strip() if file.exists() else None


def test_a_build_writes_its_commit_where_git_is_there(tmp_path: Path) -> None:
    """The commit of a checkout; with `-changed` if a file that git knows is another; nothing for a folder that is no
    checkout, or lies inside of another project's. What a build before it wrote is gone then."""
    source, file = tmp_path / "source", tmp_path / "commit.txt"
    (source / "inside").mkdir(parents=True)
    assert told(source, file) is None
    git(source, "init", "-q")
    (source / "a").write_text("a")
    git(source, "add", "a")
    git(source, "commit", "-q", "-m", "a")
    commit = git(source, "rev-parse", "HEAD")
    (source / "untracked").write_text("")
    assert told(source, file) == commit and len(commit) == 40
    (source / "a").write_text("b")
    assert told(source, file) == f"{commit}-changed"
    assert told(source / "inside", file) is None


def _installed(folder: Path, commit: str | None, direct: str | None = None) -> None:
    """Something that looks like an installed package, with what its build wrote."""
    about = folder / "some_package-1.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: some-package\nVersion: 1\n")
    if direct is not None:
        (about / "direct_url.json").write_text(direct)
    if commit is not None:
        (folder / "firewall").mkdir()
        (folder / "firewall" / "commit.txt").write_text(commit)


@pytest.mark.parametrize(
    ("commit", "direct", "expected"),
    [
        ("a" * 40 + "\n", None, "a" * 40),
        ("a" * 40 + "-changed\n", '{"url": "file:///x.whl"}', "a" * 40 + "-changed"),
        ("a" * 40, '{"dir_info": {"editable": true}}', None),
        ("main", None, None),
        (None, None, None),
        ("a" * 40, "{", None),
    ],
)
def test_an_installed_package_tells_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, commit: str | None, direct: str | None, expected: str | None
) -> None:
    """Without git: from the file that the build wrote. An editable install tells none: its files go on changing."""
    _installed(tmp_path, commit, direct)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert metadata.version("some-package") == "1"
    assert built_from("some-package") == expected


def test_a_package_that_is_not_installed() -> None:
    """Nobody knows."""
    assert built_from("no-such-package-is-installed") is None


def test_the_doctor_says_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a line of its own, and what to do where it is not known."""
    monkeypatch.setattr(doctor, "built_from", lambda: "a" * 40)
    (check,) = doctor._commit()
    assert (check.ok, check.detail) == (True, "a" * 40)
    monkeypatch.setattr(doctor, "built_from", lambda: None)
    (check,) = doctor._commit()
    assert check.ok is None and "make wheels" in check.advice
