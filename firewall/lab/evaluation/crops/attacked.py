"""Attacked crops: made once, stored without loss, and found again by what they were made of."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from rich.console import Console
from rich.progress import track

from firewall.errors import DataError, UsageError
from firewall.lab.attacks import attack_crops, by_name
from firewall.lab.database.shards import write_file
from firewall.lab.datasets.packs import load_pack
from firewall.lab.evaluation.crops.images import Crops
from firewall.lab.models import Protected

__all__ = ["attacked", "check", "kept"]

Pixels = npt.NDArray[np.uint8]

#: Crops that are attacked and stored together: what is lost when a run is killed.
_CHUNK, _LARGE = 16, 32


def check(names: tuple[str, ...], classifier: Protected) -> None:
    """Look at the names before hours of work begin.

    Args:
        names: Of attacks.
        classifier: To be attacked.

    Raises:
        UsageError: There is none, one is unknown or named twice, or needs gradients that the classifier doesn't give.
    """
    if not names:
        raise UsageError("name at least one attack with --attacks, for example --attacks pgd-0.03,stickers")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"--attacks names {', '.join(twice)} more than once; name each attack once")
    blind = [name for name in names if by_name(name).needs_gradient and not classifier.differentiable]
    if blind:
        why = classifier.card.get("gradients", "an operator is unknown")
        raise UsageError(
            f"the classifier {classifier.name} gives no gradients ({why}), which {', '.join(blind)} need; choose "
            "attacks that need none"
        )


def attacked(name: str, classifier: Protected, crops: Crops, folder: Path, seed: int) -> Crops:
    """The crops as an attack makes them; those that `folder` holds are not made again.

    Args:
        name: Of the attack.
        classifier: To be attacked.
        crops: Images that it names right.
        folder: Each chunk is a pack there, named by the SHA-256 of what it was made of: classifier, attack with its
            parameters, pixels, labels and seed.
        seed: Of the attack's random numbers.

    Returns:
        The attacked crops, with the labels, groups and sources of the unchanged ones.

    Raises:
        DataError: There is no room, or the images don't fit the classifier.
        EngineError: The classifier gives no usable outputs.
    """
    # Attacks that are fitted to many images at once get as many as they ask for.
    size = asked if (asked := by_name(name).chunk) > _LARGE else _CHUNK
    made: list[Pixels] = []
    places = range(0, len(crops), size)
    attack = by_name(name)
    criterion: Any = attack.criterion
    parameters = [attack.name, dataclasses.asdict(attack), type(criterion).__name__, dataclasses.asdict(criterion)]
    for start in track(places, f"attacking: {name}", transient=True, console=Console(stderr=True)):
        chunk = crops.take(np.arange(start, min(start + size, len(crops))))

        def make(own: int, chunk: Crops = chunk) -> list[Pixels]:
            seen = (classifier.width, classifier.height)
            return attack_crops(name, classifier.network, chunk.images, chunk.labels, own, size=seen)

        made += kept(name, classifier, chunk, folder, seed, make, parameters)
    return Crops(made, crops.labels, crops.groups, crops.sources)


def kept(
    name: str,
    classifier: Protected,
    chunk: Crops,
    folder: Path,
    seed: int,
    make: Callable[[int], list[Pixels]],
    parameters: Any = (),
) -> list[Pixels]:
    """Attacked images that are made once.

    Args:
        name: Of the attack.
        classifier: That is attacked.
        chunk: What the images are made of.
        folder: They are a pack there, named by the SHA-256 of all these.
        seed: Of the attack's random numbers.
        make: Seed of the chunk's own -> the images, uint8 (h, w, 3) each. With it equal images in two chunks don't get
            equal random starts.
        parameters: Of the attack, ready for JSON.

    Returns:
        What `make` gave, now or before.

    Raises:
        DataError: There is no room, or the disk is damaged.
    """
    folder.mkdir(parents=True, exist_ok=True)
    key = _key(name, classifier, chunk, seed, parameters)
    file = folder / f"{key}.npz"
    found = _read(file, len(chunk))
    if found is None:
        _write(file, name, chunk, make(int(key[:12], 16)))
        found = _read(file, len(chunk))
    if found is None:
        raise DataError(f"{file} can't be read again after it was written; is the disk damaged? Name another --work")
    return found


def _key(name: str, classifier: Protected, chunk: Crops, seed: int, parameters: Any) -> str:
    made_of = hashlib.sha256(json.dumps([classifier.sha256, name, parameters, seed], default=str).encode())
    for image, label, source in zip(chunk.images, chunk.labels.tolist(), chunk.sources, strict=True):
        made_of.update(f"{image.shape} {label} {source}".encode() + np.ascontiguousarray(image).tobytes())
    return made_of.hexdigest()[:32]


def _write(file: Path, name: str, chunk: Crops, images: list[Pixels]) -> None:
    """A pack (see `firewall.lab.datasets.packs`): PNG files one after another, and a column for each fact."""
    blobs = []
    for image in images:
        png = io.BytesIO()
        Image.fromarray(image).save(png, "PNG")
        blobs.append(png.getvalue())
    pack = io.BytesIO()
    np.savez(
        pack,
        blob=np.frombuffer(b"".join(blobs), np.uint8),
        off=np.cumsum([0, *map(len, blobs)]).astype(np.int64),
        label=chunk.labels,
        group=chunk.groups,
        source=np.array(chunk.sources),
        attack=np.array([name] * len(images)),
    )
    write_file(file, pack.getvalue())


def _read(file: Path, count: int) -> list[Pixels] | None:
    """The images of a chunk; None if it isn't there or is damaged: it is made again then, to the same bytes."""
    if not file.exists():
        return None
    try:
        images, _ = load_pack(file)
    except DataError:
        return None
    return images if len(images) == count else None
