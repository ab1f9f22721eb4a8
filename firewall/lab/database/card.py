"""The card of an adversarial database: what it was made of and how, so that anybody can judge it or repeat it."""

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
    """Where the benign images come from.

    Args:
        spec: What `open_dataset` was asked for; of a folder only its name.
        part: The data set's part.
        name: The data set's own name.
        classes: How many classes it has.
        licence: Under which the images may be used.
        citation: Whom to cite.
        notes: What has to be known of the images.
    """

    spec: str
    part: str
    name: str
    classes: int
    licence: str
    citation: str
    notes: str = ""


class ClassifierEntry(Entry):
    """What was attacked.

    Args:
        spec: What `open_classifier` was asked for; of a path only its name.
        name: The classifier's name.
        sha256: Of the file that defines it.
        channels: 1 or 3.
        height: Of its input, in pixels.
        width: Of its input, in pixels.
        offset: The network's class is the data set's label plus this.
        card: Its accuracy, as its maker states it.
    """

    spec: str
    name: str
    sha256: str
    channels: int
    height: int
    width: int
    offset: int
    card: dict[str, Any] = Field(default_factory=dict)


class NormalImage(Entry):
    """One benign image, correctly classified.

    Args:
        source: The image's name, the same on every machine.
        index: Its place in the data set.
        group: Images of one group (a track, near duplicates) are in one split.
        split: `train`, `dev` or `eval`.
        label: The true class, as the data set counts.
        top5: The classifier's five most likely classes, most likely first, as the data set counts.
    """

    source: str
    index: int
    group: int
    split: Split
    label: int
    top5: tuple[int, ...]


class Reserve(Entry):
    """Further benign images that are never attacked, to set thresholds and measure false-positive rates on.

    Args:
        asked: How many were asked for.
        looked_at: How many images of the data set were classified for them, after those that the attacked ones came
            from.
        images: What is known of each.
        shard: SHA-256 of the shard that holds them.
    """

    asked: int
    looked_at: int
    images: tuple[NormalImage, ...]
    shard: str


class Card(Entry):
    """What a database was made of.

    Args:
        format: Version of the layout on disk.
        firewall: Version of the firewall that began it.
        torch: Version of torch.
        created: Time in UTC, ISO 8601.
        device: Where the network ran.
        seed: Of the choice of images and of the attacks.
        dataset: Where the images come from.
        classifier: What was attacked.
        labels: The data set's class names.
        limit: How many benign images were asked for.
        looked_at: How many images were classified until so many were correct.
        normal: What is known of each benign image.
        normal_shard: SHA-256 of the shard that holds them.
        attacks: Registry name -> parameters and criterion.
        reserve: Further benign images; None without any.
    """

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
    """Read the card of a database.

    Args:
        folder: The database.

    Returns:
        The card.

    Raises:
        DataError: There is none, or none that this version can read.
    """
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
    """Replace the card; a reader sees the old or the new one, whole.

    Args:
        folder: The database.
        card: What is written.

    Raises:
        DataError: The file can't be written.
    """
    # A database without a reserve stays one that versions before reserves can read.
    text = card.model_dump_json(indent=1, exclude={"reserve"} if card.reserve is None else None)
    write_file(folder / CARD, (text + "\n").encode())
