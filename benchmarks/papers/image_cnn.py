"""`python -m benchmarks.papers image-cnn`: Table 6 and Fig. 2 of Nguyen H., Kuribayashi et al."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console

from benchmarks.papers.image_cnn_detector import detector_tables
from benchmarks.papers.image_cnn_runs import (
    ATTACKS,
    FAMILIES,
    RUNS,
    Images,
    Run,
    held_by_image,
    quality_100,
    read_images,
    read_run,
    train_run,
)
from benchmarks.papers.image_cnn_tables import Answers, by_attack, figures, history, left_out, load_answers, table6
from firewall.errors import DataError
from firewall.lab.database import Database
from firewall.lab.database.shards import write_file

__all__ = ["image_cnn", "train_runs"]

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Outputs = Callable[[Pixels], Floats]

_PAPER = (
    "H. H. Nguyen, M. Kuribayashi, J. Yamagishi, I. Echizen. Effects of image processing operations on adversarial "
    "noise and their use in detecting and correcting adversarial images"
)
#: One paragraph for each difference to the paper.
_NOTES = """
Images: traffic signs (GTSRB) at 48x48 instead of ILSVRC 2012 at the networks' own size; the attacked network is the
default sign classifier, not VGG and ResNet; ten attacks instead of twelve on each of four networks.

Both classes have one file history, lossless; the paper saved adversarial images alone as JPEG of quality 100. What that
does is measured in a table of its own, with the high-pass network.

"same": a quarter of the images of the kept-out tracks' train split, drawn by image as in the paper, so frames of the
same track, and the normal image of an adversarial one, can be in training. "honest": the same trained network on
GTSRB's official test images, of which neither it nor the classifier saw a track; their copies here are of 32x32 pixels
and were enlarged, for both classes alike.

480 normal and as many adversarial images an epoch, each attack as often as the others; the paper has several times as
many images, 84 % of them adversarial. Accuracy is given for the paper's share of 83.89 % adversarial images at the
network's own boundary (a softmax of 0.5): a detector that calls everything adversarial gets 83.89 %.

The loss without softmax is -y adv - (1 - y) norm, as the text has it (equation 3 as printed has logarithms); since it
is unbounded the other output is pulled down alike, and outputs count up to 10.

Fine-tuning begins with sign classification on GTSRB tracks outside both databases, since no ImageNet weights are
here; learning rates as in the paper (5e-4; fine-tuning with softmax 5e-5), AdamW, one cycle, few epochs (the large
networks 4 unless `runs` says otherwise, high-pass 10): far shorter than a training to the end, so a large network's
number says what a small budget gives. These settings were fixed beforehand; nothing was chosen on either set that is
reported.

Large networks, and the one with two file histories, were asked about at most FEW normal images and FEW of each attack,
evenly over the set.

Batch normalisation as in the papers of the networks; its statistics were recomputed after training, on training
images of both classes alike.

The high-pass network is ours: its form was chosen by the dev split of the kept-out tracks, in two short trials. What it
finds is fine noise, by an attack or by a camera: see the tables of normal images after a shift, and of attacks never
shown, of which those that move pixels or paint stickers pass it.

At 48x48 the two networks are as published but for Xception's first two convolutions, which are padded; their last maps
are 2x2.
"""
#: How many normal images, and of each attack, the large networks are asked about, and whoever has two histories.
_FEW = 160


def train_runs(
    database: Path,
    judged: Path,
    out: Path,
    *,
    starts: Mapping[str, Path],
    plan: Sequence[Run] = RUNS,
    attacks: tuple[str, ...] = ATTACKS,
    only: str = "",
    epochs: int | None = None,
    threads: int = 1,
) -> list[str]:
    """Train what is not yet trained, and keep what each network says in `out / NAME / outputs.npz`.

    Stopped at any time, the same call goes on.

    Args:
        database: To train on.
        judged: To measure on.
        out: Folder of the runs.
        starts: Network -> checkpoint of `python -m benchmarks.papers start`; runs that lack theirs are left out.
        plan: The runs.
        attacks: Names.
        only: Train the runs whose name holds this.
        epochs: Of the large networks; None: as planned.
        threads: Threads of torch.

    Returns:
        The names of the runs that were trained.

    Raises:
        DataError: The databases are of two classifiers, or an attack is not finished in one.
    """
    console, done = Console(stderr=True), []
    first, second = Database(database), Database(judged)
    if first.card.classifier.sha256 != second.card.classifier.sha256:
        raise DataError(f"{judged} was made on another classifier than {database}; name one of the same")
    fitted, held = held_by_image(read_images(first, "train", attacks))
    sets = {
        "held": held,
        "dev": read_images(first, "dev", attacks),
        "judged": read_images(second, None, attacks),
    }
    for run in plan:
        file, start = out / run.name / "outputs.npz", starts.get(run.network)
        if file.exists() or only not in run.name or (run.start and start is None):
            continue
        console.print(run.name)
        began = time.process_time()
        setting = replace(run, epochs=epochs) if epochs and run.network != "high-pass" else run
        answer = train_run(setting, fitted, sets["dev"], out, start=start, threads=threads)
        seconds = time.process_time() - began
        found = _answers(run, answer, sets)
        np.savez(file.with_suffix(".partial.npz"), **{**found, "seconds": np.float64(seconds)})
        file.with_suffix(".partial.npz").replace(file)
        done.append(run.name)
    return done


def _answers(run: Run, answer: Outputs, sets: Mapping[str, Images]) -> Answers:
    found: Answers = {}
    for name, whole in sets.items():
        images = whole
        if run.leave_out:
            left = {attack: images.attacks[attack] for attack in FAMILIES[run.leave_out] if attack in images.attacks}
            images = Images(images.normal, images.tracks, left)
        elif run.network != "high-pass" or run.history != "same":
            images = images.limited(_FEW)
        found[f"{name}/normal"], found[f"{name}/tracks"] = answer(images.normal), images.tracks
        if run.history == "jpeg":
            found[f"{name}/normal-100"] = answer(quality_100(images.normal))
        if name == "dev":
            continue
        for attack, (pixels, tracks) in images.attacks.items():
            saved = quality_100(pixels) if run.history == "jpeg" else pixels
            found[f"{name}/{attack}"], found[f"{name}/{attack}/tracks"] = answer(saved), tracks
            if run.history == "jpeg":
                found[f"{name}/{attack}/lossless"] = answer(pixels)
    return found


def image_cnn(
    database: Path,
    judged: Path,
    out: Path,
    json_file: Path,
    *,
    detector: Path | None = None,
    wide: Path | None = None,
    plan: Sequence[Run] = RUNS,
    attacks: tuple[str, ...] = ATTACKS,
) -> dict[str, Any]:
    """Write the results of the finished runs, and of a trained detector's folder, as JSON.

    Args:
        database: What was trained on.
        judged: What is measured on.
        out: Folder of the runs.
        json_file: File of the results.
        detector: Folder of a trained detector.
        wide: A database of many attacks on the judged images, for those that the detector never saw.
        plan: The runs.
        attacks: Names.

    Returns:
        What the file holds.

    Raises:
        DataError: No run is finished.
    """
    folders = [out / run.name for run in plan if (out / run.name / "outputs.npz").exists()]
    runs = {read_run(folder): load_answers(folder / "outputs.npz") for folder in folders}
    if not runs:
        raise DataError(f"{out} has no finished run; train some with 'python -m benchmarks.papers image-cnn --train'")
    tables = [table6(runs), *by_attack(runs)]
    tables += [table for table in (left_out(runs), history(runs)) if table["rows"]]
    if detector is not None:
        tables += detector_tables(detector, Database(database), Database(judged), wide, attacks)
    small = "--network high-pass --augment shifts --epochs 20 --threads 1 --out runs/detectors/image-cnn-best"
    small += f" --attacks {','.join(ATTACKS)}"
    missing = [run.name for run in plan if out / run.name not in folders]
    result: dict[str, Any] = {
        "method": "image CNN",
        "paper": _PAPER + ", section 4, Table 6 and Fig. 2.",
        "differences": _differences(missing),
        "tables": tables,
        "figures": figures(runs),
        "runs": {
            run.name: {**asdict(run), "cpu_seconds": round(float(answers["seconds"]))} for run, answers in runs.items()
        },
        "commands": [
            "python -m benchmarks.papers start --network resnet50 --out runs/papers/image-cnn/start-resnet50",
            "python -m benchmarks.papers start --network xception --out runs/papers/image-cnn/start-xception",
            f"firewall lab train image-cnn --database runs/databases/kept-out {small}",
            "python -m benchmarks.papers image-cnn --train --json benchmarks/results/papers/image_cnn.json",
        ],
    }
    json_file.parent.mkdir(parents=True, exist_ok=True)
    write_file(json_file, (json.dumps(result, indent=1) + "\n").encode())
    return result


def _differences(missing: list[str]) -> list[str]:
    notes = _NOTES.strip().split("\n\n")
    notes = [" ".join(note.split()).replace("FEW", str(_FEW)) for note in notes]
    return notes + ([f"Not trained yet: {', '.join(missing)}."] if missing else [])
