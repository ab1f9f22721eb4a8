"""The card of an adversarial database: what it was made of and how, so that anybody can judge it or make it again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from firewall.errors import DataError
from firewall.lab.database.shards import write_file

__all__ = [
    "FORMAT",
    "Card",
    "ClassifierEntry",
    "DatasetEntry",
    "Device",
    "Entry",
    "NormalImage",
    "Reserve",
    "Split",
    "read_card",
    "write_card",
]

#: Version of the layout on disk. A database of another version is refused, never guessed at.
FORMAT = 1

CARD = "card.json"

Split = Literal["train", "dev", "eval"]
Device = Literal["cpu", "cuda"]


class Entry(BaseModel):
    """What every record of a database is: immutable, and unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class DatasetEntry(Entry):
    """Where the normal images come from. spec, part: what `open_dataset` was asked for; a folder only by its name."""

    spec: str
    part: str
    name: str
    classes: int
    licence: str
    citation: str
    notes: str = ""


class ClassifierEntry(Entry):
    """What was attacked. sha256: of the file that defines it. card: its accuracy, as its maker states it."""

    spec: str
    name: str
    sha256: str
    channels: int
    height: int
    width: int
    offset: int
    card: dict[str, Any] = Field(default_factory=dict)


class NormalImage(Entry):
    """One normal image, correctly classified. index: of the image in the data set. group: images of one group (a track,
    near duplicates) are in one split. top5: the classifier's classes, most likely first, as the data set counts them.
    """

    source: str
    index: int
    group: int
    split: Split
    label: int
    top5: tuple[int, ...]


class Reserve(Entry):
    """Further normal images that are never attacked, to set thresholds and measure false-positive rates on. asked: how
    many. looked_at: how many of the data set were classified for them, after those that the attacked ones came from."""

    asked: int
    looked_at: int
    images: tuple[NormalImage, ...]
    shard: str


class Card(Entry):
    """attacks: registry name -> parameters and criterion. seed: of the choice of images and of the attacks. limit: how
    many normal images were asked for. looked_at: how many of the data set were classified until so many were right."""

    format: Literal[1] = 1
    firewall: str
    torch: str
    created: str
    device: Device
    seed: int
    dataset: DatasetEntry
    classifier: ClassifierEntry
    labels: tuple[str, ...]
    limit: int
    looked_at: int
    normal: tuple[NormalImage, ...]
    normal_shard: str
    attacks: dict[str, dict[str, Any]]
    reserve: Reserve | None = None


def read_card(folder: Path) -> Card:
    """The card of the database in `folder`. Raises DataError if there is none, or none that this version can read."""
    path = folder / CARD
    try:
        text = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{folder} is no adversarial database ({CARD}: {error.strerror}); make one with 'firewall lab attack'"
        ) from error
    try:
        content = json.loads(text)
        version = content["format"]
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(f"{path} is not a database's card; restore it, or make the database again") from error
    if version != FORMAT:
        raise DataError(
            f"{path} has format {version!r}, this firewall reads format {FORMAT}; use the version of the firewall that "
            "made it, or make the database again"
        )
    try:
        return Card.model_validate_json(text)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"])
        raise DataError(
            f"{path} is damaged at {where}: {fault['msg']}; restore it, or make the database again"
        ) from error


def write_card(folder: Path, card: Card) -> None:
    """Replace the card; a reader sees the old or the new one, whole."""
    # A database without a reserve stays one that versions before reserves can read.
    text = card.model_dump_json(indent=1, exclude={"reserve"} if card.reserve is None else None)
    write_file(folder / CARD, (text + "\n").encode())
