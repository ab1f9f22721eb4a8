"""A bill of materials of a wheel: `make sbom`. CycloneDX 1.6 in JSON, of the wheel and all that it needs, as they are
installed into a virtual environment of their own, with their versions and licences; checked against CycloneDX's schema.

    python recipes/sbom.py dist/perception_firewall-0.2.0-...whl --out dist
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import venv
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


class BillError(Exception):
    """A bill that can't be made; the message is for people."""


def bill(python: Path, out: Path) -> None:
    """Write the bill of all that is installed for a Python.

    Args:
        python: The program, such as bin/python of a virtual environment.
        out: The file.

    Raises:
        BillError: If it can't be written, or doesn't fit CycloneDX's schema.
    """
    project = ["--pyproject", ROOT / "pyproject.toml", "--mc-type", "application"]
    form = ["--output-format", "JSON", "--spec-version", "1.6", "--output-reproducible", "--validate"]
    run([sys.executable, "-m", "cyclonedx_py", "environment", *project, *form, "--output-file", out, python])


def installed(wheel: Path, folder: Path) -> Path:
    """The Python of a virtual environment in `folder` that holds a wheel and what it needs, in the versions that were
    tried.

    Raises:
        BillError: If it can't be installed.
    """
    venv.create(folder)
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check"]
    run([*pip, "install", "-qq", "-c", ROOT / "constraints.txt", wheel])
    return python


def run(command: Sequence[str | Path]) -> None:
    """Run a program; BillError with what it says if it fails."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BillError((done.stderr or done.stdout).strip()[-2000:])


def newest(folder: Path) -> Path:
    """The newest wheel for this machine's Python.

    Raises:
        BillError: If there is none.
    """
    tag = f"cp{sys.version_info[0]}{sys.version_info[1]}-"
    wheels = [path for path in folder.glob(f"perception_firewall-*{tag}*.whl") if "aarch64" not in path.name]
    if not wheels:
        raise BillError(f"there is no wheel for this Python ({tag[:-1]}) in {folder}; make one with 'make wheels'")
    return max(wheels, key=lambda path: path.stat().st_mtime)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", nargs="?", type=Path, help="the wheel; default: the newest in dist/")
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="folder of the bill")
    options = parser.parse_args()
    try:
        wheel = options.wheel or newest(ROOT / "dist")
        out = options.out / f"{wheel.stem}.cdx.json"
        with tempfile.TemporaryDirectory(prefix="sbom-") as folder:
            bill(installed(wheel, Path(folder)), out)
    except BillError as error:
        sys.stderr.write(f"make sbom: {error}\n")
        return 1
    sys.stdout.write(f"{out}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
