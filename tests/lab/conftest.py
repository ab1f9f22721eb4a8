"""A GTSRB in miniature, in the official layout: 43 colours for signs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


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
