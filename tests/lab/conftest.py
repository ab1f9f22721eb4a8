"""A GTSRB in miniature, in the official layout: 43 colours for signs; and drawn signs with a database of attacks."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from firewall.demo.scene import Encounter, render

#: Normal images of the database: two chunks of an attack's 32.
DATABASE_LIMIT = 40
DATABASE_ATTACKS = ("fgsm", "pgd-0.01", "deepfool")


@pytest.fixture(scope="session")
def small_gtsrb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """43 classes, 3 tracks of 2 frames each, and 2 test images a class."""
    root = tmp_path_factory.mktemp("gtsrb")
    generator = np.random.default_rng(0)
    colours = generator.integers(0, 256, (43, 3))

    def picture(label: int) -> Image.Image:
        noise = generator.normal(colours[label], 12, (24, 22, 3))
        return Image.fromarray(np.clip(noise, 0, 255).astype(np.uint8))

    for label in range(43):
        folder = root / "Final_Training" / "Images" / f"{label:05d}"
        folder.mkdir(parents=True)
        rows = ["Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId"]
        for track in range(3):
            for frame in range(2):
                name = f"{track:05d}_{frame:05d}.ppm"
                picture(label).save(folder / name)
                rows.append(f"{name};22;24;2;2;20;22;{label}")
        (folder / f"GT-{label:05d}.csv").write_text("\n".join(rows) + "\n")
    folder = root / "Final_Test" / "Images"
    folder.mkdir(parents=True)
    rows = ["Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId"]
    for number in range(86):
        picture(number % 43).save(folder / f"{number:05d}.ppm")
        rows.append(f"{number:05d}.ppm;22;24;2;2;20;22;{number % 43}")
    (root / "GT-final_test.csv").write_text("\n".join(rows) + "\n")
    return root


def _once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder that `make` fills, given a new one's path: by the first of several workers, for all of them."""
    base = factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / f"lab-{name}"
    with shared.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not shared.exists():
            partial = shared.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            make(partial)
            partial.rename(shared)
    return shared


@pytest.fixture(scope="session")
def signs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a sub-folder for each of the first six classes, nine drawn signs in each. Nobody writes there."""
    return _once(tmp_path_factory, "signs", _draw)


def _draw(root: Path) -> None:
    for label in range(6):
        folder = root / f"{label:05d}"
        folder.mkdir(parents=True)
        for number in range(9):
            light = ("day", "dusk", "overcast")[number % 3]
            encounter = Encounter(label, seed=7000 + 10 * label + number, side="right", light=light, steps=10)
            pixels, (x, y, width, height) = render(encounter, 6 + number % 3)
            margin = width // 8
            crop = pixels[max(0, y - margin) : y + height + margin, max(0, x - margin) : x + width + margin]
            Image.fromarray(crop).save(folder / f"{number}.png")


@pytest.fixture(scope="session")
def made(signs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished adversarial database of the drawn signs, made by the command that a user runs.

    Each worker has a copy of its own, since tests keep things in its folder.
    """

    def attack(folder: Path) -> None:
        command = [sys.executable, "-m", "firewall", "lab", "attack", "--dataset", f"folder:{signs}"]
        command += ["--out", str(folder), "--attacks", ",".join(DATABASE_ATTACKS)]
        command += ["--limit", str(DATABASE_LIMIT), "--workers", "2"]
        result = subprocess.run(command, check=False, capture_output=True, text=True, timeout=240)
        assert result.returncode == 0, result.stderr

    shared = _once(tmp_path_factory, "database", attack)
    return Path(shutil.copytree(shared, tmp_path_factory.mktemp("database") / "db"))
