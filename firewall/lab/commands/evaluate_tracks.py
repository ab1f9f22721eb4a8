"""`firewall lab evaluate tracks`."""

from __future__ import annotations

from typing import Annotated

import typer

from firewall.lab.commands.options import Bundle, Data, Json, Seed, Work, names_of
from firewall.lab.commands.output import write_json

__all__ = ["evaluate_tracks"]


def evaluate_tracks(
    work: Work,
    bundle: Bundle = "default",
    attacks: Annotated[
        str,
        typer.Option(
            metavar="NAMES",
            help="Attacks of each frame, with '@aimed' behind them all to one wrong class; or draws that stay on the "
            "sign, such as shadow. 'usual' is five.",
        ),
    ] = "usual",
    sources: Annotated[
        str, typer.Option(metavar="NAMES", help="real: GTSRB's kept-out tracks; made: from single signs of GTSDB.")
    ] = "real,made",
    limit: Annotated[
        int, typer.Option(min=1, help="Tracks of each source to attack, each frame of them named right before.")
    ] = 60,
    frames: Annotated[int, typer.Option(min=1, max=30, help="Frames of a track.")] = 10,
    draws: Annotated[int, typer.Option(min=1, help="Of so many random draws the most confident one is taken.")] = 300,
    confirm: Annotated[
        int | None,
        typer.Option(
            min=1, max=30, help="Frames that have to agree before a label goes out.  [default: as 'serve' has it]"
        ),
    ] = None,
    seed: Seed = 0,
    data: Data = None,
    json_file: Json = None,
) -> None:
    """Attack whole tracks, frame by frame, and say for how many a wrong label goes out at any of their frames.

    Frames go through the firewall and then through the track policy, as when a stream is guarded. The worst attack
    comes first; benign tracks stand beside.
    """
    from firewall.lab.evaluation.crops.track_measuring import USUAL, TrackSettings, measure_tracks

    names = USUAL if attacks == "usual" else names_of(attacks)
    settings = TrackSettings(names, names_of(sources), limit, frames, draws, confirm, data, seed)
    write_json(measure_tracks(bundle, settings, work), json_file)
