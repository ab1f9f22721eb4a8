"""Train the signs' jurors longer on an NVIDIA GPU, in ten minutes. Tried on a processor only: never run on a GPU.

    python recipes/jury_on_gpu.py pack --data DIR --scenes PACK [--scenes PACK ...] --out signs.npz [--megabytes 40]
    python recipes/jury_on_gpu.py train --packed signs.npz --out DIR [--minutes 10] [--gather DIR] [--device cuda]

`pack` runs where the data is and makes one small file of what the jurors learn from and are judged on: crops of up to
64 pixels, evenly thinned out until they fit. `train` runs where the GPU is, in a copy of the checkout: nothing is
downloaded, compiled or installed, but what `NEEDED` names has to be there:

    PYTHONPATH=. python3 recipes/jury_on_gpu.py train --packed signs.npz --out jury --gather "$OUT"

The jurors train side by side, each in a process of its own. Each measures how long an epoch takes and takes as many as
fit into the time. Killed, the same command goes on from the last finished epochs, with the schedule that it had.
DIR/KIND then holds checkpoint, log, `juror.onnx` and `card.json`, for `firewall lab add-jury`. --gather leaves one
KIND.tar.gz each, whose checkpoint has the averaged weights alone. It is less data than `firewall lab train juror` has.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Sequence
from pathlib import Path

KINDS = ("robust", "coarse", "edges")
#: What has to be there to train: names of modules.
NEEDED = ("torch", "numpy", "cv2", "PIL", "scipy", "onnx", "onnxscript", "onnxruntime", "rich", "yaml")
NEEDED += ("pydantic", "pydantic_settings")
#: Longer side of a crop in the packed file, in pixels, and the share of the file that crops without a sign get.
_SIDE, _OTHERS = 64, 0.25
#: Seconds at the end for export and figures, and by how much slower epochs may become than the measured one.
_RESERVE, _SLACK = 60.0, 1.15
_BATCH, _RATE = 256, 4e-3


def main() -> None:
    """Read the command line and do it; a mistake is one line and exit code 2 or 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    packing = commands.add_parser("pack", help="make one small file of the data")
    packing.add_argument("--data", type=Path, required=True, help="folder with GTSRB")
    packing.add_argument("--scenes", type=Path, action="append", default=[], help="as of 'firewall lab train juror'")
    packing.add_argument("--out", type=Path, required=True, help="the file, .npz")
    packing.add_argument("--megabytes", type=float, default=40, help="largest size of the file [%(default)s]")
    training = commands.add_parser("train", help="train on that file")
    training.add_argument("--packed", type=Path, required=True, help="the file that 'pack' made")
    training.add_argument("--out", type=Path, required=True, help="folder of the jurors")
    training.add_argument("--minutes", type=float, default=10, help="for all, export included [%(default)s]")
    training.add_argument("--epochs", type=int, help="so many, however long they take [as many as fit into the time]")
    training.add_argument("--kinds", default=",".join(KINDS), help="[%(default)s]")
    training.add_argument("--device", default="cuda", help="cuda, cuda:N or cpu [%(default)s]")
    training.add_argument("--batch", type=int, default=_BATCH, help="[%(default)s]")
    training.add_argument("--workers", type=int, help="processes that prepare images, for each juror [cores / jurors]")
    training.add_argument("--gather", type=Path, help="folder for one archive a juror")
    training.add_argument("--deadline", type=float, help=argparse.SUPPRESS)  # of the process of one juror
    arguments = parser.parse_args()
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        _stop(
            f"python at {sys.executable} lacks {', '.join(missing)}: bring their wheels along, or take another python"
        )
    from firewall.errors import FirewallError

    try:
        if arguments.command == "pack":
            pack(arguments.data, arguments.scenes, arguments.out, arguments.megabytes)
        elif arguments.deadline is not None:
            train_one(arguments)
        else:
            train_all(arguments)
    except FirewallError as error:
        _stop(str(error), error.exit_code)


def pack(data: Path, scenes: Sequence[Path], out: Path, megabytes: float) -> None:
    """Write `out`: a pack of images with the columns label (43: no sign), held and tracks (how many to learn from)."""
    import numpy as np
    from PIL import Image

    from firewall.lab.datasets import gtsrb
    from firewall.lab.datasets.reading import at_most
    from firewall.lab.training.jury.sign_juror import without_sign

    signs = gtsrb.load_train(data)
    _, kept = gtsrb.split_tracks(signs, *gtsrb.KEPT_OUT)
    others = [crop for path in scenes for crop in without_sign(path)]
    reject = len(gtsrb.CLASS_NAMES)

    def encoded(image: np.ndarray) -> bytes:
        file = io.BytesIO()
        Image.fromarray(at_most(image, _SIDE)).save(file, format="WEBP", lossless=True)
        return file.getvalue()

    files: list[bytes] = []
    rows: list[tuple[int, bool]] = []
    share = _OTHERS if others else 0.0
    for images, labels, held, most in (
        (signs.images, signs.labels.tolist(), kept.tolist(), 1 - share),
        (others, [reject] * len(others), [False] * len(others), share),
    ):
        contents = [encoded(image) for image in images]
        total, allowed = sum(map(len, contents)), most * megabytes * 1e6
        count = len(contents) if total <= allowed else int(len(contents) * allowed / total)
        for place in np.unique(np.linspace(0, len(contents) - 1, count).astype(int)).tolist() if count else []:
            files.append(contents[place])
            rows.append((int(labels[place]), bool(held[place])))
        print(f"{count} of {len(contents)} images", file=sys.stderr)  # noqa: T201
    tracks = len(np.unique(signs.tracks[~kept]))
    np.savez(
        out,
        blob=np.frombuffer(b"".join(files), np.uint8),
        off=np.cumsum([0, *map(len, files)]),
        label=np.array([label for label, _ in rows], np.uint8),
        held=np.array([held for _, held in rows]),
        tracks=np.full(len(rows), tracks, np.int32),
    )


def train_all(arguments: argparse.Namespace) -> None:
    """One process for each kind, all at once; then the archives."""
    from firewall.lab.models.juror import juror_kind
    from firewall.lab.training.loop import checked_device

    started, kinds = time.time(), [kind.strip() for kind in arguments.kinds.split(",") if kind.strip()]
    for kind in kinds:
        juror_kind(kind)
    checked_device(arguments.device)
    cores = len(os.sched_getaffinity(0))
    workers = arguments.workers if arguments.workers is not None else max(1, cores // max(1, len(kinds)) - 1)
    deadline = started + 60 * arguments.minutes
    arguments.out.mkdir(parents=True, exist_ok=True)
    runs = []
    for kind in kinds:
        line = [sys.executable, __file__, "train", "--packed", str(arguments.packed), "--out", str(arguments.out)]
        line += ["--kinds", kind, "--device", arguments.device, "--batch", str(arguments.batch)]
        line += ["--workers", str(workers), "--deadline", str(deadline)]
        line += [] if arguments.epochs is None else ["--epochs", str(arguments.epochs)]
        with (arguments.out / f"{kind}.txt").open("a", encoding="utf-8") as log:
            runs.append((kind, subprocess.Popen(line, stdout=log, stderr=log)))
    failed = [kind for kind, run in runs if run.wait() != 0]
    for kind in kinds:
        if arguments.gather is not None:
            gather(arguments.out / kind, arguments.out / f"{kind}.txt", arguments.gather)
    print(f"{time.time() - started:.0f} s", file=sys.stderr)  # noqa: T201
    if failed:
        told = (arguments.out / f"{failed[0]}.txt").read_text(encoding="utf-8").strip().splitlines()
        _stop(f"{', '.join(failed)} failed: {told[-1] if told else 'nothing was said'} (see {arguments.out}/KIND.txt)")


def train_one(arguments: argparse.Namespace) -> None:
    """A short run that measures an epoch, then as many as fit; `plan.json` keeps the choice for a run that goes on."""
    import numpy as np

    from firewall.errors import DataError
    from firewall.lab.datasets.packs import load_pack
    from firewall.lab.training.jury.sign_juror import SignLot, train_on_lot
    from firewall.lab.training.jury.training import JurorSettings

    images, columns = load_pack(arguments.packed)
    if not {"label", "held", "tracks"} <= set(columns):
        raise DataError(f"{arguments.packed} is not a file of 'jury_on_gpu.py pack'; make it so")
    labels, held = columns["label"].astype(np.int64), columns["held"].astype(bool)
    reject = int(JurorSettings.outputs) - 1

    def part(where: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
        return [images[place] for place in np.flatnonzero(where).tolist()], labels[where]

    signs = labels < reject
    lot = SignLot(part(signs & ~held), part(signs & held), part(~signs)[0], int(columns["tracks"][0]))
    out = arguments.out / arguments.kinds
    plan, bfloat16 = out / "plan.json", arguments.device != "cpu"
    settings = JurorSettings(
        kind=arguments.kinds, epochs=1, batch=arguments.batch, learning_rate=_RATE, bfloat16=bfloat16
    )
    run = {"threads": 2, "workers": arguments.workers, "device": arguments.device}
    if plan.is_file():
        settings = dataclasses.replace(settings, **json.loads(plan.read_text(encoding="utf-8")))
    else:
        epochs = arguments.epochs or _fitting(lot, settings, out, arguments.deadline, run)
        settings = dataclasses.replace(settings, epochs=epochs)
        out.mkdir(parents=True, exist_ok=True)
        partial = plan.with_suffix(".partial")
        partial.write_text(json.dumps({"epochs": epochs, "batch": arguments.batch}), encoding="utf-8")
        partial.replace(plan)
    train_on_lot(lot, out, settings, **run)


def _fitting(lot: object, settings: object, out: Path, deadline: float, run: dict[str, object]) -> int:
    """How many epochs fit before the deadline; the second of two is measured, since the first starts the workers."""
    from firewall.lab.training.jury.sign_juror import train_on_lot

    trial = out.with_name(f"{out.name}.trial")
    shutil.rmtree(trial, ignore_errors=True)
    train_on_lot(lot, trial, dataclasses.replace(settings, epochs=2), **run)  # type: ignore[arg-type, type-var]
    lines = (trial / "log.jsonl").read_text(encoding="utf-8").splitlines()
    seconds = max(0.01, json.loads(lines[-1])["seconds"])
    shutil.rmtree(trial, ignore_errors=True)
    return max(2, int((deadline - time.time() - _RESERVE) / (_SLACK * seconds)))


def gather(folder: Path, told: Path, out: Path) -> None:
    """One archive of a juror: export, card, log, what was printed, and a checkpoint without the optimiser's state."""
    import torch

    from firewall.lab.training.loop import CHECKPOINT, read_checkpoint

    out.mkdir(parents=True, exist_ok=True)
    with tarfile.open(out / f"{folder.name}.tar.gz", "w:gz") as archive:
        for name in ("juror.onnx", "card.json", "log.jsonl", "plan.json"):
            if (folder / name).is_file():
                archive.add(folder / name, f"{folder.name}/{name}")
        if told.is_file():
            archive.add(told, f"{folder.name}/{told.name}")
        if (folder / CHECKPOINT).is_file():
            saved = read_checkpoint(folder / CHECKPOINT)
            slim = io.BytesIO()
            torch.save({name: saved[name] for name in ("average", "settings", "epoch")}, slim)
            entry = tarfile.TarInfo(f"{folder.name}/{CHECKPOINT}")
            entry.size = slim.tell()
            slim.seek(0)
            archive.addfile(entry, slim)


def _stop(message: str, code: int = 1) -> None:
    sys.stderr.write(f"jury_on_gpu.py: error: {' '.join(message.split())}\n")
    sys.exit(code)


if __name__ == "__main__":
    main()
