"""`firewall lab train juror`: networks that give a second opinion on the classifier's label."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from firewall.lab.commands.options import Bundle, Data, Seed, Threads, Workers, names_of
from firewall.lab.commands.output import write_json

__all__ = ["add_jury", "train_juror"]


def train_juror(
    kind: Annotated[
        str, typer.Option(help="robust, coarse (smaller input) or edges (local normalisation).")
    ] = "robust",
    scenes: Annotated[
        list[Path] | None,
        typer.Option(
            help="Road scenes to learn 'not a sign' from: a pack with the signs' boxes, or images without signs. May "
            "be repeated."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run.  [default: runs/jury/KIND]")] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the training images.")] = 24,
    learning_rate: Annotated[float, typer.Option(min=0, help="Highest learning rate of the schedule.")] = 3e-3,
    without: Annotated[
        str, typer.Option(help="Obstructions that are not drawn, with commas, so that they stay unseen.")
    ] = "",
    bfloat16: Annotated[
        bool, typer.Option("--bfloat16", help="Faster on processors that have it (see 'bf16' in lscpu).")
    ] = False,
    data: Data = None,
    seed: Seed = 0,
    threads: Threads = 2,
    workers: Workers = 1,
) -> None:
    """Train a juror for traffic signs (GTSRB), export it to ONNX and measure it.

    Stop it at any time (Ctrl-C, kill); the same command goes on from the last finished epoch.
    """
    from firewall.lab.datasets import data_root
    from firewall.lab.training.jury.sign_juror import train_sign_juror
    from firewall.lab.training.jury.training import JurorSettings

    settings = JurorSettings(
        kind=kind, epochs=epochs, learning_rate=learning_rate, seed=seed, without=names_of(without), bfloat16=bfloat16
    )
    folder = Path("runs") / "jury" / kind if out is None else out
    card = train_sign_juror(data_root(data), folder, scenes or [], settings, threads=threads, workers=workers)
    write_json(card, None)


def add_jury(
    jurors: Annotated[list[Path], typer.Option("--juror", metavar="DIR", help="Folder of a juror; may be repeated.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The new bundle; may be the bundle's own folder.")],
    bundle: Bundle = "default",
    without: Annotated[str, typer.Option(help="Detectors of the bundle to leave out, with commas.")] = "",
) -> None:
    """Put jurors and the contrast detector into a bundle; 'lab conditional' sets their limits afterwards."""
    from firewall.bundle import load_bundle
    from firewall.lab.calibration.jury_bundle import with_jury

    written = with_jury(load_bundle(bundle), jurors, out, without=names_of(without))
    typer.echo(f"{out}: {written.manifest.name}, SHA-256 {written.sha256}")
