"""Train the sign finder: resumable, the same result for the same seed and thread count."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from firewall.errors import DataError, UsageError
from firewall.lab.models.finder import COARSEST, Finder
from firewall.lab.training.finder.loss import finder_loss
from firewall.lab.training.finder.material import Material
from firewall.lab.training.finder.measuring import figures, look, matched, network_finder, threshold_for
from firewall.lab.training.finder.scenes import Ground, Windows, last_mined, read_mined, write_mined
from firewall.lab.training.loop import Schedule, fit, read_checkpoint

__all__ = ["FinderSettings", "load_finder", "train_finder"]

#: After each epoch so many-th part of the frames is searched for what the finder takes for signs and isn't.
_PARTS = 4
#: From this score on, and at most so many in a frame.
_SURE, _MOST = 0.08, 6


@dataclass(frozen=True)
class FinderSettings(Schedule):
    """What determines a run, besides the schedule.

    Args:
        windows: Windows that are drawn in an epoch.
        side: Width and height of a window in pixels, a multiple of 32.
        frames_without: Frames that are left for judging, as text.
        frames_held: Frames that the threshold is chosen on, as text.
        tracks_without: Tracks of GTSRB that aren't pasted, as text.
        bfloat16: Whether passes run in bfloat16, which is faster on processors that have it.
    """

    epochs: int = 24
    batch: int = 12
    weight_decay: float = 0.01
    moving_average: float = 0.996
    windows: int = 3000
    side: int = 448
    frames_without: tuple[str, ...] = ("5:0",)
    frames_held: str = "10:1"
    tracks_without: str = "2:1"
    bfloat16: bool = False

    def __post_init__(self) -> None:
        if self.side % COARSEST or self.side < 4 * COARSEST:
            raise UsageError(f"a window's side must be a multiple of {COARSEST}, at least 128, got {self.side}")


def train_finder(
    material: Material,
    out: Path,
    settings: FinderSettings,
    *,
    nothing: float,
    threads: int = 2,
    workers: int = 1,
    device: str = "cpu",
    start: Path | None = None,
) -> Finder:
    """Train on windows of the frames.

    Writes `out/checkpoint.pt`, `out/log.jsonl` and `out/held.jsonl` after each epoch, and continues from a checkpoint
    of the same settings.

    Args:
        material: Frames and signs.
        out: Folder of the run.
        settings: Of the training.
        nothing: Boxes on nothing a frame at which the held frames' recall is logged.
        threads: Threads of torch.
        workers: Processes that prepare windows.
        device: What trains: cpu, cuda or cuda:N.
        start: Checkpoint of another run whose weights are the first ones; once this run has a checkpoint of its own, it
            goes on from that. None: random ones.

    Returns:
        The averaged network in evaluation mode, on the device.

    Raises:
        DataError: The checkpoint belongs to other settings, or there are too few windows.
        UsageError: There is no such device.
    """
    torch.set_num_threads(threads)
    torch.manual_seed(settings.seed)
    windows = Windows(
        material.grounds, material.others, material.signs, side=settings.side, seed=settings.seed, mined=out
    )
    fresh = Finder()
    if start is not None:
        fresh.load_state_dict(load_finder(start)[0].state_dict())
        out.mkdir(parents=True, exist_ok=True)
        known = [row for row in last_mined(start.parent) if row[0] < len(material.grounds)]
        write_mined(out, 0, known)
    network: nn.Module = fresh.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    trained = fit(
        network,
        windows,
        settings.windows,
        settings,
        out,
        loss=finder_loss,
        held=_watched(material, out, nothing),
        workers=workers,
        bfloat16=settings.bfloat16,
        device=device,
    )
    return cast(Finder, trained)


def load_finder(path: Path) -> tuple[Finder, int]:
    """The averaged network of a checkpoint of `train_finder`, and how many epochs it has had.

    Raises:
        DataError: The file is damaged, or a checkpoint of something else.
    """
    saved = read_checkpoint(path)
    try:
        average = AveragedModel(Finder(), use_buffers=True)
        average.load_state_dict(saved["average"])
    except (KeyError, TypeError, RuntimeError) as error:
        raise DataError(
            f"{path} is no checkpoint of 'firewall lab train finder' ({type(error).__name__}: {error})"
        ) from error
    return cast(Finder, average.module.eval()), int(saved["epoch"])


def _watched(material: Material, out: Path, nothing: float) -> Callable[[nn.Module], float]:
    """Recall on the held frames for the log; on the way what the finder takes for signs in the others is stored."""

    def held(network: nn.Module) -> float:
        network.eval()
        epoch = _epochs(out / "log.jsonl")  # that were finished before this one
        seen = look(network_finder(network), material.held)
        found = figures(seen, threshold_for(seen, nothing))
        with (out / "held.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"epoch": epoch + 1, **found}) + "\n")
        part = epoch % _PARTS
        before = [row for row in read_mined(out, epoch) if row[0] % _PARTS != part]
        write_mined(out, epoch + 1, [*before, *_mistakes(network, material.grounds, part)])
        return float(found["recall"]["all"]["recall"] or 0.0)

    return held


def _epochs(log: Path) -> int:
    return log.read_text(encoding="utf-8").count("\n") if log.exists() else 0


def _mistakes(network: nn.Module, grounds: Sequence[Ground], part: int) -> list[tuple[int, float, float]]:
    find = network_finder(network)
    mistakes: list[tuple[int, float, float]] = []
    for place in range(part, len(grounds), _PARTS):
        corners, scores = find(grounds[place].pixels)
        _, free = matched(grounds[place].boxes[:, :4], corners, scores)
        for x0, y0, x1, y1 in corners[free & (scores >= _SURE)][:_MOST].tolist():
            mistakes.append((place, round((x0 + x1) / 2, 1), round((y0 + y1) / 2, 1)))
    return mistakes
