"""A database as files that any program reads: lossless PNGs and one table."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from rich.console import Console
from rich.progress import track

from firewall.errors import DataError
from firewall.lab.database.database import Database
from firewall.lab.database.shards import write_file

__all__ = ["COLUMNS", "export", "png"]

COLUMNS = (
    "file", "kind", "attack", "split", "source", "true_label", "clean_label", "adversarial_label", "linf", "l2",
)  # fmt: skip


def export(database: Database, folder: Path) -> int:
    """Write every image and `index.csv`.

    The table has the columns COLUMNS; linf and l2 are of pixels / 255, and kind is normal, adversarial, or reserve for
    benign images that were not attacked. It is written last: where it is, all files are.

    Args:
        database: What is exported.
        folder: A new or empty folder.

    Returns:
        The number of images.

    Raises:
        DataError: The folder is not empty, or a file can't be read or written.
    """
    if folder.exists() and any(folder.iterdir()):
        raise DataError(f"{folder} is not empty; name a new folder")
    table = io.StringIO()
    writer = csv.DictWriter(table, COLUMNS, lineterminator="\n")
    writer.writeheader()
    rows = 0
    for row, image in track(_rows(database), "exporting", transient=True, console=Console(stderr=True)):
        path = folder / row["file"]
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, png(image))
        writer.writerow(row)
        rows += 1
    write_file(folder / "index.csv", table.getvalue().encode())
    return rows


def png(image: npt.NDArray[np.uint8]) -> bytes:
    """An image as a PNG file.

    Args:
        image: Uint8 (H, W, C), C 1 or 3.

    Returns:
        The file's bytes.
    """
    file = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(file, format="PNG")
    return file.getvalue()


def _rows(database: Database) -> Iterator[tuple[dict[str, Any], npt.NDArray[np.uint8]]]:
    entries = database.card.normal
    for number, (entry, image) in enumerate(zip(entries, database.normal, strict=True)):
        yield (
            _row(f"normal/{number:06d}.png", "normal", "", entry.split, entry.source, entry.label, entry.top5[0]),
            image,
        )
    for number, (entry, image) in enumerate(zip(database.reserve_entries, database.reserve, strict=True)):
        file = f"reserve/{number:06d}.png"
        yield _row(file, "reserve", "", entry.split, entry.source, entry.label, entry.top5[0]), image
    for attack in database.card.attacks:
        attacked = database.attacked(attack)
        for adversarial, image in zip(attacked.entries, attacked.images, strict=True):
            entry = entries[adversarial.normal]
            row = _row(
                f"{attack}/{adversarial.normal:06d}.png",
                "adversarial",
                attack,
                entry.split,
                entry.source,
                entry.label,
                entry.top5[0],
            )
            facts = {"adversarial_label": adversarial.top5[0], "linf": adversarial.linf, "l2": adversarial.l2}
            yield {**row, **facts}, image


def _row(file: str, kind: str, attack: str, split: str, source: str, label: int, clean: int) -> dict[str, Any]:
    values = (file, kind, attack, split, source, label, clean, "", 0.0, 0.0)
    return dict(zip(COLUMNS, values, strict=True))
