"""One job: one attack on one chunk of the benign images. Any process of any machine can do any job."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from pydantic import ValidationError

from firewall.errors import DataError, FirewallError
from firewall.lab.attacks import Attack, by_name
from firewall.lab.attacks.rounding import quantise
from firewall.lab.database.card import Card, Entry, read_card
from firewall.lab.database.selection import top_classes
from firewall.lab.database.shards import decode, encode, read_shard, write_file, write_shard
from firewall.lab.models import Protected, open_classifier

__all__ = ["Adversarial", "Finished", "Job", "Place", "finished", "jobs_of", "run_job"]

_JOBS = "jobs"


class Adversarial(Entry):
    """One adversarial image.

    Args:
        normal: Its place among the benign images.
        top5: The classifier's five most likely classes, as the data set counts.
        probability: Of the most likely class.
        linf: Largest change of a value, of the stored pixels / 255.
        l2: Euclidean length of the change, of the stored pixels / 255.
        changed: Share of the pixels that differ.
    """

    normal: int
    top5: tuple[int, ...]
    probability: float
    linf: float
    l2: float
    changed: float


class Finished(Entry):
    """The record of a finished job.

    Args:
        attack: A name of the registry.
        chunk: The job's number.
        attempted: How many images were attacked.
        seconds: Time of the attack alone, on one thread.
        shard: SHA-256 of the adversarial images; "" where no image fooled.
        images: What is known of each adversarial image.
    """

    attack: str
    chunk: int
    attempted: int
    seconds: float
    shard: str
    images: tuple[Adversarial, ...]


@dataclass(frozen=True, slots=True)
class Job:
    """Attack the benign images start..stop-1 with one attack.

    Args:
        attack: A name of the registry.
        chunk: Counts the attack's jobs from 0.
        start: First image.
        stop: One past the last image.
    """

    attack: str
    chunk: int
    start: int
    stop: int

    def record(self, folder: Path) -> Path:
        """The file that says that the job is done."""
        return folder / _JOBS / self.attack / f"{self.chunk:06d}.json"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a worker finds what it needs.

    Args:
        folder: The database.
        classifier: As `open_classifier` takes it.
        data: Root of the data sets and classifiers; None: the usual places.
        device: Where the network runs.
    """

    folder: str
    classifier: str
    data: str | None
    device: str


def jobs_of(card: Card, attack: str) -> list[Job]:
    """The jobs of an attack: all images in chunks of the attack's own size, so that nothing depends on who does them.

    Args:
        card: The database's.
        attack: A name of the registry.

    Returns:
        All jobs, finished or not, in order.
    """
    size = by_name(attack).chunk
    starts = range(0, len(card.normal), size)
    return [Job(attack, number, start, min(start + size, len(card.normal))) for number, start in enumerate(starts)]


def finished(folder: Path, job: Job) -> Finished | None:
    """The record of a job.

    Args:
        folder: The database.
        job: One of its jobs.

    Returns:
        The record; None if the job has not been done.

    Raises:
        DataError: The record is damaged.
    """
    path = job.record(folder)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        return Finished.model_validate_json(content)
    except ValidationError as error:
        raise DataError(
            f"{path} is damaged; 'firewall lab database verify --repair' removes it, and 'firewall lab attack' makes "
            "it again"
        ) from error


def run_job(place: Place, job: Job) -> str:
    """Do a job and record it. Nothing is recorded of a job that fails.

    It always runs on one thread: sums of floating-point numbers depend on how they are divided, and a database may not
    depend on the number of workers.

    Args:
        place: Where everything is.
        job: What is to be done.

    Returns:
        "", or in one line what went wrong.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        _run(place, job)
    except FirewallError as error:
        return f"{job.attack} on images {job.start}..{job.stop - 1}: {error}"
    except (RuntimeError, ValueError, ArithmeticError, MemoryError) as error:  # what attacks and devices throw
        detail = " ".join(str(error).split())[:300]
        return f"{job.attack} on images {job.start}..{job.stop - 1}: {type(error).__name__}: {detail}"
    finally:
        torch.set_num_threads(threads)
    return ""


def _run(place: Place, job: Job) -> None:
    folder = Path(place.folder)
    card = read_card(folder)
    images, classifier = _opened(place, card.normal_shard, card.classifier.sha256)
    attack: Attack = by_name(job.attack)
    entries = card.normal[job.start : job.stop]
    normal = images[job.start : job.stop]
    labels = torch.tensor([entry.label + classifier.offset for entry in entries], device=place.device)
    batch = torch.from_numpy(normal).permute(0, 3, 1, 2).float().div(255).to(place.device)
    started = time.perf_counter()
    result = attack.run(classifier.network, batch, labels, _seed(card.seed, job))
    seconds = time.perf_counter() - started
    # As whoever uses the database will see it: rounded, stored, read again, and classified by the protected classifier.
    stored = decode(encode(quantise(result.cpu())), f"job {job.attack} {job.chunk}")
    logits = classifier.logits(stored)
    fooled = attack.criterion.met(torch.from_numpy(logits), labels.cpu()).numpy()
    changed = (stored != normal).any(axis=(1, 2, 3))
    kept = np.flatnonzero(fooled & changed)  # an image that came back as it was fools nobody
    shard = write_shard(folder, stored[kept]) if len(kept) else ""
    record = Finished(
        attack=job.attack,
        chunk=job.chunk,
        attempted=len(entries),
        seconds=seconds,
        shard=shard,
        images=tuple(_describe(job.start + at, normal[at], stored[at], logits[at], classifier.offset) for at in kept),
    )
    path = job.record(folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, record.model_dump_json().encode())


def _describe(
    normal: int,
    before: npt.NDArray[np.uint8],
    after: npt.NDArray[np.uint8],
    logits: npt.NDArray[np.float32],
    offset: int,
) -> Adversarial:
    change = after.astype(np.float64) - before
    likely = np.exp(logits.astype(np.float64) - logits.max())
    return Adversarial(
        normal=normal,
        top5=tuple(int(label) for label in top_classes(logits[np.newaxis], offset)[0]),
        probability=float(likely.max() / likely.sum()),
        linf=float(np.abs(change).max() / 255),
        l2=float(np.linalg.norm(change) / 255),
        changed=float((change != 0).any(axis=2).mean()),
    )


def _seed(seed: int, job: Job) -> int:
    """A seed of the job's own, so that equal images in two chunks don't get equal random starts."""
    digest = hashlib.sha256(f"{seed}:{job.attack}:{job.chunk}".encode()).digest()
    return int.from_bytes(digest[:4], "big")


@lru_cache(maxsize=1)
def _opened(place: Place, shard: str, sha256: str) -> tuple[npt.NDArray[np.uint8], Protected]:
    """The benign images and the classifier, read once in each worker."""
    classifier = open_classifier(place.classifier, None if place.data is None else Path(place.data))
    if classifier.sha256 != sha256:
        raise DataError(
            f"the classifier {place.classifier} is not the one that {place.folder} was begun with (SHA-256 differs); "
            "name that one, or another --out"
        )
    classifier.network.to(place.device)
    return read_shard(Path(place.folder), shard), classifier
