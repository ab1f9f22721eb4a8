"""Benign and adversarial images of a database together, with what the classifier says of their transformed copies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from firewall.errors import DataError
from firewall.lab.database.database import Database
from firewall.lab.database.variants import BLOCK, Variants, of_images
from firewall.lab.models import Protected

__all__ = ["Swept", "sweep"]


@dataclass(frozen=True, eq=False)
class Swept:
    """What the classifier says of N images, the benign ones first.

    Args:
        variants: Its logits.
        labels: Int64 (N,), the true classes as the classifier counts them.
        attack: (N,), "" where benign.
        split: (N,), train, dev or eval.
        group: Int64 (N,); images of one group (a track, or an image and what was made of it) are in one split.
    """

    variants: Variants
    labels: npt.NDArray[np.int64]
    attack: npt.NDArray[np.str_]
    split: npt.NDArray[np.str_]
    group: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def adversarial(self) -> npt.NDArray[np.bool_]:
        """Which images were attacked."""
        return np.asarray(self.attack != "")

    @property
    def attacks(self) -> list[str]:
        """The attacks of which there are images, in the database's order."""
        return list(dict.fromkeys(self.attack[self.adversarial].tolist()))

    def require(self, what: str, normal: Sequence[str], adversarial: Sequence[str]) -> None:
        """Check that there are images where they are needed.

        Args:
            what: The database's name, for the error.
            normal: Splits that need a benign image.
            adversarial: Splits that need an attacked image.

        Raises:
            DataError: One of them has none.
        """
        for split in ("train", "dev", "eval"):
            here = self.split == split
            clean, bad = int((here & ~self.adversarial).sum()), int((here & self.adversarial).sum())
            if (split in normal and not clean) or (split in adversarial and not bad):
                groups = len(np.unique(self.group))
                wanted = "normal and attacked images" if split in adversarial else "normal images"
                raise DataError(
                    f"{what} has {clean} normal and {bad} attacked images in its split {split!r}, where {wanted} are "
                    f"needed (its {groups} groups fall to train, dev and eval by 70, 15 and 15 %); attack more images: "
                    "firewall lab attack with a higher --limit and another --out"
                )

    def subset(self, where: npt.NDArray[np.bool_]) -> Swept:
        """Some of the images."""
        return Swept(
            self.variants.subset(where), self.labels[where], self.attack[where], self.split[where], self.group[where]
        )


def sweep(
    database: Database,
    classifier: Protected,
    operations: Sequence[str],
    attacks: Sequence[str] | None = None,
    limit: int | None = None,
    normals: int | None = None,
) -> Swept:
    """Classify a database's images and their copies. Copies are classified once and kept with the database.

    Args:
        database: Any.
        classifier: The one that the database was made on.
        operations: Which copies.
        attacks: Names; None: all of the database's.
        limit: Images of each attack at most, the first ones. They come in an order that the seed drew, so the first are
            a fair sample.
        normals: Benign images at most, the first ones.

    Returns:
        What the classifier says.

    Raises:
        UsageError: The database doesn't have one of the attacks.
        DataError: The classifier is another one, or an attack that was named has no images yet.
    """
    card = database.card
    parts = [_first(database, database.normal, classifier, operations, "normal images", normals)]
    entries = [list(card.normal[:normals])]
    names = [""] * len(entries[0])
    for name in card.attacks if attacks is None else attacks:
        attacked = database.attacked(name)
        if attacks is not None and attacked.attempted == 0:
            raise DataError(f"{database.folder} holds nothing of the attack {name!r} yet; make it, or name others")
        parts.append(_first(database, attacked.images, classifier, operations, name, limit))
        entries.append([card.normal[entry.normal] for entry in attacked.entries[:limit]])
        names += [name] * len(entries[-1])
    flat = [entry for part in entries for entry in part]
    return Swept(
        Variants(
            tuple(operations),
            np.concatenate([part.original for part in parts]),
            np.concatenate([part.copies for part in parts]),
        ),
        np.array([entry.label for entry in flat], np.int64) + classifier.offset,
        np.array(names),
        np.array([entry.split for entry in flat]),
        np.array([entry.group for entry in flat], np.int64),
    )


def _first(
    database: Database,
    images: npt.NDArray[np.uint8],
    classifier: Protected,
    operations: Sequence[str],
    what: str,
    limit: int | None,
) -> Variants:
    """Of the first `limit` images, but always of whole blocks: those are what others compute and keep."""
    if limit is None or limit < BLOCK:
        return of_images(database, images[:limit], classifier, operations, what)
    whole = of_images(database, images[: -(-limit // BLOCK) * BLOCK], classifier, operations, what)
    return Variants(whole.operations, whole.original[:limit], whole.copies[:limit])
