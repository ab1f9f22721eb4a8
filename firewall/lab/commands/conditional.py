"""`firewall lab conditional`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from firewall.lab.commands.options import Bundle, Data, Json, Seed, names_of
from firewall.lab.commands.output import write_json

__all__ = ["conditional"]


def conditional(
    out: Annotated[Path, typer.Option(metavar="DIR", help="The new bundle; may be the bundle's own folder.")],
    bundle: Bundle = "default",
    images: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[@PART[/SPLIT]]",
            help="Benign images in tracks or groups; may be repeated.  [default: gtsrb@kept-out, gtsrb@test/train]",
        ),
    ] = None,
    false_positive_rate: Annotated[
        float, typer.Option(help="Share of benign images that may be withheld, between 0 and 1.")
    ] = 0.01,
    power: Annotated[float, typer.Option(help="Exponent of the sum, 1 to 64.")] = 1.0,
    summed: Annotated[
        str | None,
        typer.Option(
            "--sum", help="Detectors that add to the sum, with commas.  [default: jurors, stability, keyed, obstructed]"
        ),
    ] = None,
    edges: Annotated[
        str, typer.Option(help="Shorter sides in pixels at which a new group begins, with commas; none: one group.")
    ] = "20,24,32,40,55,80",
    least_tracks: Annotated[int, typer.Option(help="A group with fewer tracks joins its neighbour.")] = 20,
    frames: Annotated[int, typer.Option(help="The most frames of a track.")] = 6,
    far: Annotated[int, typer.Option(help="Smaller copies of each frame, as from farther away.")] = 2,
    shift: Annotated[
        str, typer.Option(help="Weather and camera to calibrate for, with commas, or all, or none.")
    ] = "all",
    shift_share: Annotated[float, typer.Option(help="How much such images weigh together, 0 to below 1.")] = 0.2,
    smallest: Annotated[int, typer.Option(help="The least shorter side, in pixels, of regions that are judged.")] = 16,
    longest: Annotated[float, typer.Option(help="How many times as long as wide a region may be.")] = 2.0,
    also: Annotated[
        str,
        typer.Option(
            help="Further changes of benign images, as 'lab evaluate attacks --changes' names them, with commas, or "
            "all, or none: they take no part in the limits, but the bundle states what is withheld of them."
        ),
    ] = "all",
    data: Data = None,
    json_file: Json = None,
    seed: Seed = 0,
) -> None:
    """Set limits by size for all detectors of a bundle, on benign images alone.

    The result decides in place of thresholds and fusion: nothing is released before every detector was asked.
    """
    from rich.console import Console

    from firewall.bundle import load_bundle
    from firewall.bundle.description import describe, render_conditional
    from firewall.errors import UsageError
    from firewall.lab.calibration.conditional import ConditionalSettings, benign_images
    from firewall.lab.calibration.conditional import conditional as make
    from firewall.lab.datasets.shifts import SHIFTS
    from firewall.lab.evaluation.crops.changes import CHANGES

    try:
        borders = () if edges.strip() in ("", "none") else tuple(int(edge) for edge in names_of(edges))
    except ValueError as error:
        raise UsageError(f"--edges takes whole numbers with commas, got {edges!r}") from error
    shifts = tuple(SHIFTS) if shift == "all" else () if shift in ("", "none") else names_of(shift)
    rest = tuple(name for name in CHANGES if name not in shifts)
    further = rest if also == "all" else () if also in ("", "none") else names_of(also)
    if unknown := [name for name in further if name not in CHANGES]:
        raise UsageError(f"--also: unknown change {unknown[0]!r}; known: all, none, {', '.join(CHANGES)}")
    settings = ConditionalSettings(
        false_positive_rate,
        power,
        None if summed is None else names_of(summed),
        borders,
        least_tracks,
        frames,
        far,
        shifts,
        shift_share,
        seed,
        smallest,
        longest,
    )
    loaded = load_bundle(bundle)
    found = [benign_images(loaded, name, data) for name in images or ("gtsrb@kept-out", "gtsrb@test/train")]
    written = make(loaded, found, out, settings, also={name: CHANGES[name] for name in further})
    render_conditional(describe(written.bundle)["conditional"], Console())
    for name in written.report["left_out"]:
        typer.echo(f"{name} was set with the rule that the bundle had, and is left out: make it again")
    typer.echo(f"{out}: {written.bundle.manifest.name}, SHA-256 {written.bundle.sha256}")
    if json_file is not None:
        write_json(written.report, json_file)
