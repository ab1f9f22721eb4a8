"""`firewall lab train finder` and `add-finder`: the network that says where in a frame the signs are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from firewall.lab.commands.options import Bundle
from firewall.lab.commands.output import write_json
from firewall.lab.commands.training_options import Training, with_training

__all__ = ["add_finder", "train_finder"]


@with_training
def train_finder(
    *,
    scenes: Annotated[
        list[Path],
        typer.Option(
            metavar="PACK|DIR",
            help="Road frames with the signs' boxes: GTSDB, as a pack or its own folder. Of packs whose boxes have "
            "names only the surroundings are learned from. May be repeated.",
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the finder and its run.")] = Path("runs/finder"),
    frames_without: Annotated[
        list[str] | None,
        typer.Option(
            metavar="N:R",
            help="Frames that are left for judging: every N-th from number R on. Once for each --scenes, in their "
            "order; the last counts for the rest.  [default: 5:0]",
        ),
    ] = None,
    frames_held: Annotated[
        str, typer.Option(metavar="N:R", help="Frames that the threshold is chosen on; they are not trained on.")
    ] = "10:1",
    tracks_without: Annotated[
        str, typer.Option(metavar="N:R", help="Tracks of GTSRB whose signs are not pasted.")
    ] = "2:1",
    boxes_on_nothing: Annotated[
        float, typer.Option(help="Boxes on nothing in a frame, on average, that the threshold allows.")
    ] = 0.5,
    epochs: Annotated[int, typer.Option(min=1, help="Passes of --windows windows.")] = 24,
    windows: Annotated[int, typer.Option(min=1, help="Windows of the frames in a pass.")] = 3000,
    side: Annotated[int, typer.Option(help="Width and height of a window in pixels, a multiple of 32.")] = 448,
    batch: Annotated[int, typer.Option(min=1, help="Windows in each step.")] = 12,
    learning_rate: Annotated[float, typer.Option(min=0, help="Highest learning rate of the schedule.")] = 3e-3,
    start: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of another run whose weights are the first ones.  [default: random]"),
    ] = None,
    training: Training,
) -> None:
    """Train a finder of traffic signs, export it to ONNX, choose its threshold and measure it.

    Stop it at any time (Ctrl-C, kill); the same command goes on from the last finished epoch.
    """
    from firewall.lab.datasets import data_root
    from firewall.lab.training.finder.sign_finder import train_sign_finder
    from firewall.lab.training.finder.training import FinderSettings

    settings = FinderSettings(
        epochs=epochs,
        batch=batch,
        learning_rate=learning_rate,
        seed=training.seed,
        windows=windows,
        side=side,
        frames_without=tuple(frames_without or ["5:0"]),
        frames_held=frames_held,
        tracks_without=tracks_without,
        bfloat16=training.bfloat16,
    )
    card = train_sign_finder(
        scenes,
        data_root(training.data),
        out,
        settings,
        nothing=boxes_on_nothing,
        threads=training.threads,
        workers=training.workers,
        device=training.device,
        start=start,
    )
    write_json(card, None)


def add_finder(
    finder: Annotated[
        Path,
        typer.Option(
            metavar="DIR", help="Folder of the finder, or a bundle, such as 'default', whose finder is taken."
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The new bundle; may be the bundle's own folder.")],
    bundle: Bundle = "default",
    precision: Annotated[
        str | None,
        typer.Option(
            help="Turn the finder into fp32, fp16 or int8 (for the CPU; scales from --scenes) first; then measure it "
            "with 'lab evaluate scenes'.  [default: as it is]"
        ),
    ] = None,
    scenes: Annotated[
        Path | None, typer.Option(metavar="PACK|DIR", help="Road frames that int8 takes its scales from, 32 at least.")
    ] = None,
    frames: Annotated[str, typer.Option(metavar="N:R", help="Of --scenes every N-th frame from number R on.")] = "1:0",
) -> None:
    """Put a sign finder into a bundle, or in place of the one that it has: '--regions signs' then looks with it."""
    from firewall.bundle import load_bundle
    from firewall.bundle.onnx_bytes import PRECISIONS
    from firewall.errors import UsageError
    from firewall.lab.calibration.finder_bundle import with_finder
    from firewall.lab.datasets.scenes import open_scenes

    chosen = next((known for known in PRECISIONS if known == precision), None)
    if precision is not None and chosen is None:
        raise UsageError(f"--precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    if (chosen == "int8") != (scenes is not None):
        raise UsageError(
            "--precision int8 and --scenes go together: its scales come from frames, and nothing else does"
        )
    given = load_bundle(bundle)
    shown = () if scenes is None else open_scenes(scenes, given.manifest.classifier.labels).chosen(frames).frames
    written = with_finder(given, finder, out, chosen, shown)
    typer.echo(f"{out}: {written.manifest.name}, SHA-256 {written.sha256}")
