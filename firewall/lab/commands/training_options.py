"""Options of commands that train a network on images of signs; the same for each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from firewall.lab.commands.options import Data, Seed, Threads, Workers, with_options

__all__ = ["Training", "with_training"]

Device = Annotated[str, typer.Option(help="What trains: cpu, cuda or cuda:N.")]
BFloat16 = Annotated[
    bool, typer.Option("--bfloat16", help="Faster on processors that have it (see 'bf16' in lscpu), and on GPUs.")
]


@dataclass(frozen=True)
class Training:
    """How a network is trained, whatever it learns: the options of that name."""

    bfloat16: bool
    device: str
    data: Path | None
    seed: int
    threads: int
    workers: int


def _training(
    *,
    bfloat16: BFloat16 = False,
    device: Device = "cpu",
    data: Data = None,
    seed: Seed = 0,
    threads: Threads = 2,
    workers: Workers = 1,
) -> Training:
    return Training(bfloat16, device, data, seed, threads, workers)


#: Gives a command all these options in the place of its parameter `training`.
with_training = with_options("training", _training)
