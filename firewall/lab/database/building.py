"""Make a database, or go on with one: plan, lock, hand out the jobs, count.

Every finished job is recorded, so the process can be killed at any moment. The same command then continues, and ends
with the same bytes as a run that was never interrupted.
"""

from __future__ import annotations

import dataclasses
import fcntl
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from firewall import __version__
from firewall.errors import DataError, UsageError
from firewall.lab.attacks import by_name
from firewall.lab.database.backends import Backend, in_any_order
from firewall.lab.database.card import (
    CARD,
    Card,
    ClassifierEntry,
    DatasetEntry,
    Device,
    Reserve,
    read_card,
    write_card,
)
from firewall.lab.database.jobs import Job, Place, finished, jobs_of, run_job
from firewall.lab.database.selection import choose
from firewall.lab.database.shards import write_shard
from firewall.lab.datasets import Dataset, open_dataset
from firewall.lab.datasets.classes import matched
from firewall.lab.models import Protected, open_classifier

__all__ = ["Built", "Plan", "alone", "build"]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a database is to be made of: the options of `firewall lab attack`.

    Args:
        dataset: As `open_dataset` takes it.
        classifier: As `open_classifier` takes it.
        attacks: Names of the registry.
        limit: How many benign images to attack, 1 or more.
        seed: What the choice of images and the attacks' random numbers depend on.
        part: The data set's part.
        data: Folder of the data sets and classifiers; None: the usual places.
        device: Where the network runs: `cpu` or `cuda`.
        reserve: How many further benign images, which are not attacked; 0 leaves a database with the reserve that it
            has.
    """

    dataset: str
    classifier: str
    attacks: tuple[str, ...]
    limit: int
    seed: int = 0
    part: str = "test"
    data: Path | None = None
    device: Device = "cpu"
    reserve: int = 0


@dataclass(frozen=True, slots=True)
class Built:
    """What a run has done.

    Args:
        done: Jobs finished in this run.
        before: Jobs that had been finished before.
        seconds: How long this run took.
        failures: One line for each job that failed; the same command tries them again.
    """

    done: int
    before: int
    seconds: float
    failures: tuple[str, ...]


def build(folder: Path, plan: Plan, *, backend: Backend = "local", workers: int = 0) -> Built:
    """Make a database as planned, or go on with it.

    Args:
        folder: Where it is written.
        plan: What it is made of.
        backend: Who does the jobs.
        workers: Processes at a time; 0: one for each core.

    Returns:
        What this run has done.

    Raises:
        UsageError: An attack is unknown or needs gradients that the classifier doesn't give, the device isn't there, or
            an option differs from the database's.
        DataError: Data can't be read, the disk is full, or another process works on the folder.
    """
    if not plan.attacks:
        raise UsageError("name at least one attack with --attacks, for example --attacks fgsm,pgd,deepfool")
    for name in plan.attacks:
        by_name(name)
    if plan.limit < 1:
        raise UsageError(f"--limit must be at least 1 image, got {plan.limit}")
    if plan.reserve < 0:
        raise UsageError(f"--reserve must be 0 (none) or more images, got {plan.reserve}")
    if plan.device == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: torch finds no GPU here; use --device cpu")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"can't make the folder {folder}: {error.strerror}") from error
    with alone(folder):
        for left in folder.rglob("*.partial"):  # of a run that was killed
            left.unlink(missing_ok=True)
        card = _continued(folder, plan) if (folder / CARD).exists() else _begun(folder, plan)
        place = Place(str(folder), plan.classifier, None if plan.data is None else str(plan.data), plan.device)
        # The same images for all attacks first: whatever stops a long run, every attack has some.
        jobs = sorted((job for name in plan.attacks for job in jobs_of(card, name)), key=lambda job: job.start)
        open_jobs = [job for job in jobs if finished(folder, job) is None]
        started = time.monotonic()
        failures = _work(place, jobs, open_jobs, backend, workers)
        seconds = time.monotonic() - started
    return Built(len(open_jobs) - len(failures), len(jobs) - len(open_jobs), seconds, tuple(failures))


def _begun(folder: Path, plan: Plan) -> Card:
    data = open_dataset(plan.dataset, plan.data, part=plan.part)
    classifier = open_classifier(plan.classifier, plan.data)
    if classifier.channels != data.images[0].shape[2]:
        raise UsageError(
            f"the classifier {classifier.name} takes {classifier.channels} channels, the images of {data.name} have "
            f"{data.images[0].shape[2]}; choose a classifier made for them"
        )
    if len(data.class_names) + classifier.offset > len(classifier.labels):
        raise UsageError(
            f"the classifier {classifier.name} knows {len(classifier.labels)} classes, {data.name} has "
            f"{len(data.class_names)}; choose a classifier made for them"
        )
    data = matched(data, classifier.labels[classifier.offset :])
    entries, images, looked_at = choose(data, classifier, plan.limit, plan.seed)
    card = Card(
        firewall=__version__,
        torch=torch.__version__,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        device=plan.device,
        seed=plan.seed,
        dataset=DatasetEntry(
            spec=_public(plan.dataset),
            part=plan.part,
            name=data.name,
            classes=len(data.class_names),
            licence=data.licence,
            citation=data.citation,
            notes=data.notes,
        ),
        classifier=ClassifierEntry(
            spec=Path(plan.classifier).name,
            name=classifier.name,
            sha256=classifier.sha256,
            channels=classifier.channels,
            height=classifier.height,
            width=classifier.width,
            offset=classifier.offset,
            card=classifier.card,
        ),
        labels=data.class_names,
        limit=plan.limit,
        looked_at=looked_at,
        normal=tuple(entries),
        normal_shard=write_shard(folder, images),
        attacks=_parameters(plan, classifier.differentiable),
        reserve=_reserved(folder, data, classifier, plan, looked_at) if plan.reserve else None,
    )
    write_card(folder, card)
    return card


def _reserved(folder: Path, data: Dataset, classifier: Protected, plan: Plan, start: int) -> Reserve:
    """The next images of the same order, stored just as those that are attacked."""
    entries, images, looked_at = choose(data, classifier, plan.reserve, plan.seed, start=start)
    return Reserve(asked=plan.reserve, looked_at=looked_at, images=tuple(entries), shard=write_shard(folder, images))


def _continued(folder: Path, plan: Plan) -> Card:
    card = read_card(folder)
    asked = {
        "--dataset": (_public(plan.dataset), card.dataset.spec),
        "--part": (plan.part, card.dataset.part),
        "--limit": (plan.limit, card.limit),
        "--seed": (plan.seed, card.seed),
        "--device": (plan.device, card.device),
    }
    if plan.reserve and card.reserve is not None:
        asked["--reserve"] = (plan.reserve, card.reserve.asked)
    for option, (new, old) in asked.items():
        if new != old:
            raise UsageError(f"{folder} was begun with {option} {old}, not {new}; use that, or another --out")
    classifier = open_classifier(plan.classifier, plan.data)
    if classifier.sha256 != card.classifier.sha256:
        raise UsageError(
            f"{folder} was begun on the classifier {card.classifier.name} ({card.classifier.sha256[:12]}), not on "
            f"{classifier.name} ({classifier.sha256[:12]}); use that one, or another --out"
        )
    parameters = _parameters(plan, classifier.differentiable)
    for name in parameters.keys() & card.attacks.keys():
        if parameters[name] != card.attacks[name]:
            raise UsageError(
                f"{folder} holds {name} with other parameters, made by firewall {card.firewall}; use another --out"
            )
    if plan.reserve and card.reserve is None:
        opened = open_dataset(plan.dataset, plan.data, part=plan.part)
        data = matched(opened, classifier.labels[classifier.offset :])
        card = card.model_copy(update={"reserve": _reserved(folder, data, classifier, plan, card.looked_at)})
        write_card(folder, card)
    if not parameters.keys() <= card.attacks.keys():
        card = card.model_copy(update={"attacks": {**card.attacks, **parameters}})
        write_card(folder, card)
    return card


def _public(dataset: str) -> str:
    """A folder by its name alone: cards are passed on, and paths are nobody's business."""
    kind, colon, path = dataset.partition(":")
    return f"{kind}:{Path(path).name}" if colon else dataset


def _parameters(plan: Plan, differentiable: bool) -> dict[str, dict[str, Any]]:
    """What the card says of each attack: its parameters and its criterion, in types that JSON has."""
    blind = [name for name in plan.attacks if by_name(name).needs_gradient and not differentiable]
    if blind:
        raise UsageError(
            f"the classifier {plan.classifier} gives no gradients, which {', '.join(blind)} need; "
            "choose black-box attacks"
        )
    described = {}
    for name in plan.attacks:
        attack = by_name(name)
        criterion: Any = attack.criterion  # of some attacks it is no parameter, so that asdict doesn't know it
        aim = {"kind": type(criterion).__name__, **dataclasses.asdict(criterion)}
        described[name] = {**dataclasses.asdict(attack), "kind": attack.name, "criterion": aim}
    return dict(json.loads(json.dumps(described)))  # as a card that is read again has them


def _work(place: Place, jobs: Sequence[Job], open_jobs: Sequence[Job], backend: Backend, workers: int) -> list[str]:
    """Do the jobs that are open, with a progress bar over all; what went wrong, one line each."""
    failures: list[str] = []
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    left = sum(job.stop - job.start for job in open_jobs)
    total = sum(job.stop - job.start for job in jobs)
    started = time.monotonic()
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("attacking", total=total, completed=total - left, rate="")
        done = 0
        for number, (job, failure) in enumerate(
            in_any_order(partial(_answer, place), open_jobs, backend=backend, workers=workers), start=1
        ):
            done += job.stop - job.start
            if failure:
                failures.append(failure)
            rate = done / (time.monotonic() - started)
            progress.update(
                bar,
                advance=job.stop - job.start,
                description=f"attacking ({job.attack})",
                rate=f"{rate:.2f} images/s, {len(open_jobs) - number} jobs left",
            )
    return failures


def _answer(place: Place, job: Job) -> tuple[Job, str]:
    return job, run_job(place, job)


@contextmanager
def alone(folder: Path, option: str = "--out") -> Iterator[None]:
    """Only one run at a time writes a folder; the lock goes with the process that holds it.

    Args:
        folder: It exists.
        option: What the user names it with.

    Raises:
        DataError: Another process is at work on it.
    """
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise DataError(f"another process is at work on {folder}; wait for it, or name another {option}") from error
        yield
