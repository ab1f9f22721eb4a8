"""Crops of a guard's quarantine, sorted into folders of classes: `firewall lab import-evidence`.

A crop goes into the folder of the class that the classifier gave it, if the guard wrote that down (`--operator`), else
into `unlabelled`. That class is what an attack wanted to be read, so a person has to look at each picture. What came
from where stands in `evidence.csv`: a case that stands there is not taken again, whatever has become of its picture.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from firewall.errors import DataError
from firewall.host.file_writing import replace_file
from firewall.sinks.evidence import EVIDENCE, RECORD, case_folders
from firewall.sources.uri import printable

__all__ = ["JOURNAL", "UNLABELLED", "Imported", "import_evidence"]

#: The list of what came from where.
JOURNAL = "evidence.csv"
#: The folder of crops whose class isn't known.
UNLABELLED = "unlabelled"
_TOLD = ("reason", "camera", "track", "frame_id", "time")
_LARGEST_RECORD = 1 << 20
_LARGEST_CROP = 1 << 30


@dataclass(frozen=True)
class _Row:
    """One line of the list."""

    file: str
    case: str
    label: str
    label_name: str
    reason: str
    camera: str
    track: str
    frame_id: str
    time: str
    region: str
    bundle: str
    sha256: str


_COLUMNS = tuple(each.name for each in fields(_Row))


@dataclass(frozen=True)
class Imported:
    """What an import came to.

    Attributes:
        taken: Crops that were copied.
        there: Cases that had been taken before.
        without: Cases without a crop: nothing was found in the picture, or it couldn't be judged.
        bad: Cases that are not as they were written, or went while they were read.
    """

    taken: int
    there: int
    without: int
    bad: int


def import_evidence(
    quarantine: Path,
    out: Path,
    *,
    labels: Sequence[str] = (),
    bundle: str = "",
    tell: Callable[[str], None] = lambda _: None,
) -> Imported:
    """Copy the crops of a quarantine into folders of classes. A guard may write there meanwhile.

    It can be broken off and begun again: what is there stays, and nothing is taken twice.

    Args:
        quarantine: Folder of `firewall serve --output quarantine:FOLDER`.
        out: Folder of the pictures, made if there is none.
        labels: Names of the bundle's classes, by which its folders are named; others are named by number.
        bundle: The bundle's name.
        tell: Gets a line for each case that can't be used.

    Raises:
        DataError: If there is no quarantine, or the result can't be written.
    """
    try:
        folders = sorted(case_folders(quarantine).items())
    except OSError as error:
        raise DataError(
            f"can't read the quarantine {printable(str(quarantine))}: {error.strerror}; name the folder of 'firewall "
            "serve --output quarantine:FOLDER'"
        ) from error
    if not folders:
        raise DataError(f"{printable(str(quarantine))} holds no evidence; was it kept by '--output quarantine:FOLDER'?")
    if out.resolve().is_relative_to(quarantine.resolve()):
        raise DataError(f"--out {printable(str(out))} lies in the quarantine itself; name a folder elsewhere")
    names = _folder_names(labels)
    taken = there = without = bad = 0
    try:
        out.mkdir(parents=True, exist_ok=True)
        known = set(_journal(out / JOURNAL))
        with (out / JOURNAL).open("a", encoding="utf-8", newline="") as journal:
            for _, folder in folders:
                try:
                    row, crop = _read(folder, names, bundle)
                except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                    why = error.strerror if isinstance(error, OSError) else error
                    tell(f"{printable(folder.name)} is left out, it is not as a guard writes it: {why}")
                    bad += 1
                    continue
                if row.case in known:
                    there += 1
                    continue
                if crop is None:
                    without += 1
                    continue
                (out / row.file).parent.mkdir(exist_ok=True)
                replace_file(out / row.file, crop)
                journal.write(_line([getattr(row, name) for name in _COLUMNS]))
                journal.flush()
                os.fsync(journal.fileno())
                taken += 1
    except OSError as error:
        raise DataError(f"can't write {printable(str(out))}: {error.strerror}; name another --out") from error
    return Imported(taken, there, without, bad)


def _read(folder: Path, names: Sequence[str], bundle: str) -> tuple[_Row, bytes | None]:
    """A case as a row, and its crop, checked; None if it has none. Raises ValueError and such for what is no case."""
    raw = _bytes(folder / RECORD, _LARGEST_RECORD)
    record: dict[str, Any] = json.loads(raw)
    if record["schema"] != EVIDENCE:
        raise ValueError(f"schema {record['schema']!r}, this version reads {EVIDENCE}")
    verdict, digest = record["verdict"], record["sha256"].get("crop.png")
    crop = None if digest is None else _bytes(folder / "crop.png", _LARGEST_CROP)
    if crop is not None and hashlib.sha256(crop).hexdigest() != digest:
        raise ValueError("crop.png was changed")
    label, made_by = verdict.get("suspected_label"), (verdict.get("bundle") or {}).get("name", "")
    if label is not None and (type(label) is not int or not 0 <= label < 1_000_000):
        raise ValueError(f"class {label!r}")
    name = names[label] if label is not None and made_by == bundle and label < len(names) else ""
    place = name or (UNLABELLED if label is None else f"{label:05d}")
    case = f"{folder.name}-{hashlib.sha256(raw).hexdigest()[:8]}"
    told = {key: "" if (value := verdict.get(key)) is None else str(value) for key in _TOLD}
    row = _Row(
        file=f"{place}/{case}.png",
        case=case,
        label="" if label is None else str(label),
        label_name=name,
        region=" ".join(map(str, verdict["region"])),
        bundle=str(made_by),
        sha256=digest or "",
        **told,
    )
    return row, crop


def _bytes(file: Path, most: int) -> bytes:
    with os.fdopen(os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as opened:
        content = opened.read(most + 1)
    if len(content) > most:
        raise ValueError(f"{file.name} has more than {most} bytes")
    return content


def _journal(file: Path) -> Iterator[str]:
    """The cases in the list; it is begun if there is none, and a line that was cut off is dropped."""
    text = file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""
    whole = text[: text.rfind("\n") + 1]
    header = _line(_COLUMNS)
    if whole and not whole.startswith(header):
        raise DataError(f"{printable(str(file))} is not a list of 'firewall lab import-evidence'; name another --out")
    if not whole or whole != text:
        replace_file(file, (whole or header).encode())
    for row in csv.DictReader(io.StringIO(whole or header, newline="")):
        yield str(row["case"])


def _line(values: Sequence[object]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerow(" ".join(str(value).split()) for value in values)
    return text.getvalue()


def _folder_names(labels: Sequence[str]) -> list[str]:
    """A folder's name for each class: its label, or its number if another label would have the same."""
    plain = [re.sub(r"[^\w.,()+ -]", "_", label).strip(" .")[:80] for label in labels]
    folded = [name.casefold() for name in plain]
    taken = {"", UNLABELLED, *(name for name in folded if folded.count(name) > 1)}
    return [name if name.casefold() not in taken else f"{place:05d}" for place, name in enumerate(plain)]
