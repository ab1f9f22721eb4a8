"""From road scenes and GTSRB to a finder's folder: `finder.onnx`, `card.json` and the run that made them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from firewall.errors import DataError, UsageError
from firewall.export.onnx import export_map
from firewall.export.precision import with_half_weights
from firewall.lab.models.finder import CHANNELS, COARSEST, STRIDE, WHITE, reading_bytes
from firewall.lab.training.finder.material import load_material, parse_every
from firewall.lab.training.finder.measuring import figures, look, network_finder, threshold_for
from firewall.lab.training.finder.training import FinderSettings, train_finder
from firewall.lab.training.loop import CHECKPOINT, checked_device

__all__ = ["MARGIN", "train_sign_finder"]

#: What is added to a box before it is classified, as a share of its side. Of 353 signs of GTSDB's frames that are not
#: for judging, boxes shifted by 3.5 % of a side, the default bundle (version 3) withheld 11 without a margin, 8 with
#: 0.03, 4 with 0.05 and with 0.08, 5 with 0.1. More costs overlap with the sign.
MARGIN = 0.05
_CITATION = (
    "S. Houben, J. Stallkamp, J. Salmen, M. Schlipsing, C. Igel. Detection of traffic signs in real-world images: the "
    "German Traffic Sign Detection Benchmark. IJCNN 2013. J. Stallkamp, M. Schlipsing, J. Salmen, C. Igel. Man vs. "
    "computer: Benchmarking machine learning algorithms for traffic sign recognition. Neural Networks 32, 2012."
)


def train_sign_finder(
    scenes: Sequence[Path],
    data: Path,
    out: Path,
    settings: FinderSettings,
    *,
    nothing: float,
    threads: int,
    workers: int,
    device: str = "cpu",
    start: Path | None = None,
) -> dict[str, Any]:
    """Train (or go on training), export, choose the threshold and measure, all on frames that are not for judging.

    Args:
        scenes: Packs of scenes with the signs' boxes, or folders of GTSDB.
        data: Folder of GTSRB.
        out: Folder of the finder and its run.
        settings: Of the training.
        nothing: The threshold is the lowest with at most so many boxes on nothing in a held frame, on average.
        threads: Threads of torch.
        workers: Processes that prepare windows.
        device: What trains: cpu, cuda or cuda:N.
        start: Folder of another run that this one goes on from with its own schedule.

    Returns:
        The card.

    Raises:
        DataError: Data is missing or damaged, or a checkpoint belongs to other settings.
        UsageError: A choice of frames is none, or there is no such device.
    """
    checked_device(device)
    if not scenes or not 0 < nothing <= 100:
        raise UsageError("name scenes with --scenes, and with --boxes-on-nothing a number above 0, such as 0.5")
    material = load_material(
        scenes,
        data,
        without=[parse_every(text, "--frames-without") for text in settings.frames_without],
        held=parse_every(settings.frames_held, "--frames-held"),
        tracks_without=parse_every(settings.tracks_without, "--tracks-without"),
    )
    begun = None if start is None else start / CHECKPOINT
    if begun is not None and not begun.is_file():
        raise DataError(f"{start} holds no {CHECKPOINT}; name the folder of a run of 'firewall lab train finder'")
    network = train_finder(
        material, out, settings, nothing=nothing, threads=threads, workers=workers, device=device, start=begun
    )
    file = out / "finder.onnx"
    export_map(reading_bytes(network), file, multiple=COARSEST, stride=STRIDE, outputs=CHANNELS, white=WHITE)
    content = with_half_weights(file.read_bytes())
    file.write_bytes(content)
    seen = look(network_finder(network), material.held)
    threshold = round(threshold_for(seen, nothing), 4)
    card = {
        "finder": {"file": file.name, "stride": STRIDE, "multiple": COARSEST, "threshold": threshold, "margin": MARGIN},
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "training": {
            "data": material.about,
            "signs to paste": len(material.signs),
            "epochs": settings.epochs,
            "windows an epoch": settings.windows,
            "window": settings.side,
            "seed": settings.seed,
            "started from": None if begun is None else hashlib.sha256(begun.read_bytes()).hexdigest(),
        },
        "threshold": f"the lowest with at most {nothing:g} boxes on nothing in each of the held frames, on average",
        "held frames": figures(seen, threshold),
        "citation": _CITATION,
        "versions": {"torch": torch.__version__, "numpy": np.__version__},
    }
    (out / "card.json").write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    return card
