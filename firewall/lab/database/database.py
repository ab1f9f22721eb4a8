"""Read a database: what is in it, whether it is whole, and its images for training and measuring."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from firewall.errors import DataError, UsageError
from firewall.lab.database.card import Card, NormalImage, Split, read_card, write_card
from firewall.lab.database.jobs import Adversarial, Finished, finished, jobs_of
from firewall.lab.database.shards import read_shard, shard_path

__all__ = ["Attacked", "Database"]


@dataclass(frozen=True, eq=False)
class Attacked:
    """The adversarial images of one attack, in the order of their benign images.

    Args:
        images: Uint8 (N, H, W, C).
        entries: What is known of each; `entries[i].normal` is its place among the benign images.
        attempted: How many images have been attacked so far.
        seconds: Time of the attacks, on one thread.
    """

    images: npt.NDArray[np.uint8]
    entries: tuple[Adversarial, ...]
    attempted: int
    seconds: float


class Database:
    """A database. Every shard is checked against its SHA-256 when it is read.

    Args:
        folder: Where it lies.

    Raises:
        DataError: There is none, it has another format version, or a file is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.card: Card = read_card(folder)

    @cached_property
    def normal(self) -> npt.NDArray[np.uint8]:
        """The benign images, uint8 (N, H, W, C); `card.normal` says what is known of each."""
        images = read_shard(self.folder, self.card.normal_shard)
        if len(images) != len(self.card.normal):
            raise DataError(f"{self.folder} lists {len(self.card.normal)} normal images and holds {len(images)}")
        return images

    @cached_property
    def reserve(self) -> npt.NDArray[np.uint8]:
        """Benign images that are not attacked, uint8 (N, H, W, C), N 0 or more; see `reserve_entries`."""
        if self.card.reserve is None:
            return np.zeros((0, *self.normal.shape[1:]), np.uint8)
        images = read_shard(self.folder, self.card.reserve.shard)
        if len(images) != len(self.card.reserve.images):
            raise DataError(
                f"{self.folder} lists {len(self.card.reserve.images)} images in reserve, holds {len(images)}"
            )
        return images

    @property
    def reserve_entries(self) -> tuple[NormalImage, ...]:
        """What is known of each image of `reserve`."""
        return () if self.card.reserve is None else self.card.reserve.images

    def attacked(self, attack: str) -> Attacked:
        """The images of one attack so far.

        Args:
            attack: A name of the registry.

        Returns:
            Those on which the attack succeeded as stored.

        Raises:
            UsageError: The database has no such attack.
            DataError: A file is damaged.
        """
        records = self._records(attack)
        shape = self.normal.shape[1:]
        parts = [read_shard(self.folder, record.shard) for record in records if record.shard]
        entries = tuple(entry for record in records for entry in record.images)
        images = np.concatenate(parts) if parts else np.zeros((0, *shape), np.uint8)
        if images.shape != (len(entries), *shape):
            raise DataError(f"{self.folder} lists {len(entries)} images of {attack} and holds {len(images)}")
        attempted, seconds = sum(record.attempted for record in records), sum(record.seconds for record in records)
        return Attacked(images, entries, attempted, seconds)

    def split_of(self, entry: Adversarial | NormalImage) -> Split:
        """The split of a benign image, and of everything made of it."""
        return entry.split if isinstance(entry, NormalImage) else self.card.normal[entry.normal].split

    def where(self, split: Split | None) -> npt.NDArray[np.bool_]:
        """Which benign images are in a split.

        Args:
            split: `train`, `dev` or `eval`; None: any.

        Returns:
            Bool (N,), of `normal`.
        """
        return np.array([split is None or entry.split == split for entry in self.card.normal])

    def info(self) -> dict[str, Any]:
        """Counts, as `firewall lab database info --json` prints them.

        Returns:
            What JSON holds. `splits` counts the benign images that are attacked, `reserve_splits` those that are not.
        """
        records = {attack: self._records(attack) for attack in self.card.attacks}
        splits = Counter(entry.split for entry in self.card.normal)
        reserved = Counter(entry.split for entry in self.reserve_entries)
        return {
            "classifier_sha256": self.card.classifier.sha256,
            "dataset": self.card.dataset.spec,
            "part": self.card.dataset.part,
            "normal": len(self.card.normal),
            "adversarial": {name: sum(len(part.images) for part in parts) for name, parts in records.items()},
            "attempted": {name: sum(part.attempted for part in parts) for name, parts in records.items()},
            "splits": {name: splits[name] for name in get_args(Split)},
            "reserve": len(self.reserve_entries),
            "reserve_splits": {name: reserved[name] for name in get_args(Split)},
            "classifier": self.card.classifier.name,
            "seconds": {name: round(sum(part.seconds for part in parts), 3) for name, parts in records.items()},
            "size": [self.card.classifier.height, self.card.classifier.width, self.card.classifier.channels],
            "seed": self.card.seed,
            "created": self.card.created,
        }

    def verify(self, *, repair: bool = False) -> list[str]:
        """Check all files.

        Args:
            repair: Remove damaged shards of attacks with their records, and a damaged reserve, so that 'firewall lab
                attack' makes them again.

        Returns:
            What is wrong, one line each; empty if the database is whole.
        """
        faults: list[str] = []
        try:
            _ = self.normal
        except DataError as error:
            faults.append(f"{error} (the normal images: everything rests on them, so make the database again)")
        try:
            _ = self.reserve
        except DataError as error:
            faults.append(f"{error} (the reserve: 'firewall lab attack --reserve' makes it again once it is removed)")
            if repair and self.card.reserve is not None:
                shard_path(self.folder, self.card.reserve.shard).unlink(missing_ok=True)
                self.card = self.card.model_copy(update={"reserve": None})
                write_card(self.folder, self.card)
        for attack in self.card.attacks:
            for job in jobs_of(self.card, attack):
                path = job.record(self.folder)
                try:
                    record = self._checked(path)
                    if (
                        record is not None
                        and record.shard
                        and len(read_shard(self.folder, record.shard)) != len(record.images)
                    ):
                        raise DataError(f"{path} lists another number of images than its shard holds")
                except DataError as error:
                    faults.append(str(error))
                    if repair:
                        self._forget(path)
        return faults

    @staticmethod
    def _checked(path: Path) -> Finished | None:
        if not path.exists():
            return None
        try:
            return Finished.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise DataError(f"{path} is damaged ({type(error).__name__})") from error

    def _forget(self, path: Path) -> None:
        try:
            shard = Finished.model_validate_json(path.read_bytes()).shard
        except (OSError, ValidationError):
            shard = ""
        path.unlink(missing_ok=True)
        if shard:
            shard_path(self.folder, shard).unlink(missing_ok=True)

    def _records(self, attack: str) -> list[Finished]:
        if attack not in self.card.attacks:
            raise UsageError(f"{self.folder} has no attack {attack!r}; it has {', '.join(self.card.attacks)}")
        records = (finished(self.folder, job) for job in jobs_of(self.card, attack))
        return [record for record in records if record is not None]
