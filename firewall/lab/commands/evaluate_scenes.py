"""`firewall lab evaluate scenes`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from firewall.lab.commands.options import Bundle, Json, Seed
from firewall.lab.commands.output import write_json

__all__ = ["evaluate_scenes"]


def evaluate_scenes(
    scenes: Annotated[
        Path | None,
        typer.Option(
            metavar="PACK|DIR",
            help="Annotated frames: a pack, GTSDB's folder with gt.txt, YOLO's images and labels, or COCO's .json.",
        ),
    ] = None,
    bundle: Bundle = "default",
    regions: Annotated[
        str | None, typer.Option(help="Where to look: signs, detector, whole or X,Y,W,H.  \\[default: signs]")
    ] = None,
    region_detector: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Your own region detector, as 'firewall serve' takes it.")
    ] = None,
    within: Annotated[
        str | None,
        typer.Option(metavar="X,Y,W,H", help="The part of each frame that is looked at, as 'firewall serve' takes it."),
    ] = None,
    frames: Annotated[
        str, typer.Option(metavar="EVERY:OFFSET", help="Which frames: 5:0 is every fifth, from the first on.")
    ] = "1:0",
    limit: Annotated[int | None, typer.Option(min=1, help="The first so many of them.")] = None,
    attack: Annotated[
        str | None, typer.Option(metavar="NAME", help="Also attack signs inside their frames, such as linf-8.")
    ] = None,
    compress: Annotated[
        str, typer.Option(metavar="CHANNEL", help="With --attack: what the frame then goes through, or 'none'.")
    ] = "jpeg-90",
    signs: Annotated[int, typer.Option(min=1, help="With --attack: how many signs.")] = 40,
    made_sequences: Annotated[
        int, typer.Option(min=0, help="Also judge so many sequences, made of single frames, with tracks on.")
    ] = 0,
    video: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also count the labels released in a video, with tracks on.")
    ] = None,
    device: Annotated[str, typer.Option(help="Of classifier and detector: cpu, cuda or tensorrt.")] = "cpu",
    threads: Annotated[int, typer.Option(min=0, help="Threads of them; 0: one for each core.")] = 1,
    work: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Rows are kept here; a stopped run goes on with them."),
    ] = None,
    seed: Seed = 0,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a page with every miss, wrong release and phantom.")
    ] = None,
    json_file: Json = None,
) -> None:
    """Judge whole frames: signs found, released right and wrong, and labels released where no sign is.

    The finder and the firewall run as behind a camera, without tracks; only sequences and videos have them.
    """
    from firewall.config import Part, load_region_detector
    from firewall.lab.evaluation.scenes.attacked import Attacking
    from firewall.lab.evaluation.scenes.guard import Looking
    from firewall.lab.evaluation.scenes.measuring import Settings, measure

    detector = None if region_detector is None else load_region_detector(region_detector)
    part = None if within is None else Part.named(within)
    place = regions or ("signs" if detector is None else "detector")
    settings = Settings(
        looking=Looking(bundle, place.strip(), detector, part, device, threads),
        scenes=scenes,
        frames=frames,
        limit=limit,
        attack=None if attack is None else Attacking(attack, compress, signs, seed),
        made=made_sequences,
        video=video,
        seed=seed,
    )
    found = measure(settings, work, pictures=html is not None)
    write_json(found.summary, json_file)
    if html is not None:
        from firewall.lab.reports import scenes as page

        page.write(found, html)
