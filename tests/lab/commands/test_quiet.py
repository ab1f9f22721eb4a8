"""The lab sends nothing and keeps nothing but where it is told to; what is edge is in tests/contracts."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the lab extra is not installed")

from tests.tracing import require_strace, silent, traced

FIREWALL = (sys.executable, "-m", "firewall")
RESULTS = Path(__file__).resolve().parents[3] / "benchmarks" / "results" / "papers"


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder."""
    return tmp_path_factory.mktemp("q")


@pytest.fixture
def short() -> Iterator[Path]:
    """An empty folder with a path as short as Ray's sockets need it."""
    with tempfile.TemporaryDirectory(prefix="q", dir="/tmp") as name:
        yield Path(name)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_lab_is_silent(folder: Path, signs: Path) -> None:
    """A database made by two processes, and pages with pictures: all is written where they are told to, no list of
    fonts in the user's home, and the temporary files are gone at the end."""
    require_strace()
    out = folder / "out"
    out.mkdir()
    attack = ("attack", "--dataset", f"folder:{signs}", "--attacks", "fgsm", "--limit", 8, "--workers", 2)
    for number, step in enumerate(
        (
            (*attack, "--out", out / "db"),
            ("report", "papers", "--results", RESULTS, "--out", out / "pages"),
        )
    ):
        (below := folder / str(number)).mkdir()
        trace = traced(below, *FIREWALL, "lab", *step)
        silent(trace, out, below / "tmp", Path("/dev/shm"))
        assert trace.left == [], step
    assert (out / "db" / "card.json").is_file() and list((out / "pages").glob("*.html"))


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_ray_stays_on_this_machine(short: Path) -> None:
    """`--backend ray`: Ray's own processes talk on the loopback alone, ask no cloud where they run, report no usage,
    keep no token in the user's home, and their files are gone when they are; the jobs see the user's home."""
    require_strace()
    pytest.importorskip("ray")
    work = short / "jobs.py"
    work.write_text(
        "import os\nfrom firewall.lab.database.backends import in_any_order\n"
        "def job(number):\n    return number * 2, os.environ['HOME'], os.environ['ORT_DISABLE_TELEMETRY']\n"
        "if __name__ == '__main__':\n"
        "    print(sorted(in_any_order(job, [1, 2, 3], backend='ray', workers=2)))\n"
    )
    trace = traced(short, sys.executable, work)

    home = str(short / "home")
    assert trace.stdout.splitlines()[-1] == str([(2, home, "1"), (4, home, "1"), (6, home, "1")])
    silent(trace, short / "tmp", Path("/dev/shm"))
    assert trace.left == []
