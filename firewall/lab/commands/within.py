"""`firewall lab within`: which part of a camera's frames is worth looking at."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from firewall.lab.commands.options import Bundle, Json
from firewall.lab.commands.output import write_json

__all__ = ["within"]


def within(
    scenes: Annotated[
        Path, typer.Option(metavar="PACK|DIR", help="Annotated frames, as 'lab evaluate scenes' takes them.")
    ],
    frames_without: Annotated[
        str | None,
        typer.Option(metavar="EVERY:OFFSET", help="Frames that are left for judging: 5:0 is every fifth."),
    ] = None,
    share: Annotated[float, typer.Option(help="Share of the signs that the part holds whole, at least.")] = 0.995,
    bundle: Bundle = "default",
    json_file: Json = None,
) -> None:
    """Propose the part of the frames for 'firewall serve --within': the smallest one that holds nearly all signs.

    What lies outside of it is never found. 'lab evaluate scenes --within', on other frames, measures what that costs.
    """
    from firewall.bundle import load_bundle
    from firewall.lab.datasets.scenes import open_scenes
    from firewall.lab.evaluation.scenes.parts import proposed

    opened = open_scenes(scenes, load_bundle(bundle).manifest.classifier.labels)
    some = opened if frames_without is None else opened.without(frames_without)
    some.check()
    write_json(proposed(some, share).to_json(), json_file)
