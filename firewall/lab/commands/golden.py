"""`firewall lab golden`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from firewall.lab.commands.options import Bundle

__all__ = ["golden"]


def golden(
    *,
    out: Annotated[Path, typer.Option(metavar="DIR", help="The new bundle; may be the bundle's own folder.")],
    bundle: Bundle = "default",
    images: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE|DIR", help="Pictures of a sign each, benign and attacked ones. May be repeated."),
    ] = None,
    demo: Annotated[
        int,
        typer.Option(
            min=0, max=14, help="Take so many benign signs that the demo draws, as many attacked ones, and a scene."
        ),
    ] = 0,
    version: Annotated[int | None, typer.Option(min=1, help="Raise the bundle's version to this.")] = None,
) -> None:
    """Put golden frames into a bundle: 'firewall serve' judges them at its start and every few minutes, and withholds
    everything while one of them has another verdict than now.

    Do this last: commands that change what a bundle says leave its golden frames out. Then sign it.
    """
    from firewall.bundle import load_bundle
    from firewall.errors import UsageError
    from firewall.lab.calibration.golden import candidates, with_golden

    if not images and not demo:
        raise UsageError("name pictures with --images, or take drawn signs with --demo 4")
    written = with_golden(
        load_bundle(bundle),
        out,
        candidates(images or []),
        drawn=demo,
        version=version,
        tell=lambda line: typer.echo(line, err=True),
    )
    count = len(written.manifest.golden or ())
    typer.echo(f"{out}: {written.manifest.name} version {written.manifest.version}, {count} golden frames")
