"""`firewall lab tracks` and `firewall lab drift`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from firewall.errors import FirewallError

__all__ = ["drift", "tracks"]

Bundle = Annotated[str, typer.Option(help="'default' or the folder of a bundle.")]
Database = Annotated[
    Path, typer.Option(metavar="DB", help="Database whose groups are tracks, made on the bundle's classifier.")
]
Json = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the result as JSON.")]
Out = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Write the bundle with it; may be the bundle's own folder.")
]
Data = Annotated[Path | None, typer.Option(help="Folder of the data sets. [default: $FIREWALL_DATA, data, ...]")]
Own = Annotated[
    bool, typer.Option("--own-normals", help="Normal tracks from the database, not from all of its data set.")
]
Seed = Annotated[int, typer.Option(min=0, help="Which tracks are which, and orders.")]


def tracks(
    database: Database,
    bundle: Bundle = "default",
    judge: Annotated[list[Path] | None, typer.Option(metavar="DB", help="Further databases to judge on.")] = None,
    rate: Annotated[float, typer.Option(help="Share of normal tracks that may be withheld for their sum.")] = 0.05,
    attacks: Annotated[str, typer.Option(help="Comma-separated; all complete ones if none is named.")] = "",
    confirm: Annotated[
        int, typer.Option(min=1, max=30, help="Of the bundle: frames running that show a label before its release.")
    ] = 1,
    own_normals: Own = False,
    data: Data = None,
    json_file: Json = None,
    out: Out = None,
    seed: Seed = 0,
) -> None:
    """Set the limit of evidence over time on half of the normal tracks, and judge it on the others.

    Other tracks than those that a detector of the bundle was fitted to. The classifier's outputs are kept in the
    databases' folders.
    """
    from firewall.lab.database import Database as Opened
    from firewall.lab.evaluation.over_time import tracks_report, with_file
    from firewall.lab.models import open_classifier
    from firewall.screening import Firewall
    from firewall.service import TRACKS_FILE

    guard = Firewall.load(bundle, threads=1)
    spec, report = tracks_report(
        guard,
        open_classifier(bundle, data),
        Opened(database),
        [Opened(folder) for folder in judge or []],
        data=data,
        every=not own_normals,
        rate=rate,
        attacks=[part for part in attacks.split(",") if part],
        seed=seed,
    )
    if out is not None:
        with_file(guard.bundle, out, TRACKS_FILE, spec.model_copy(update={"confirm": confirm}))
    _tell(report, json_file)


def drift(
    database: Database,
    stream: Annotated[Path, typer.Option(metavar="DB", help="Database of other tracks: the stream.")],
    bundle: Bundle = "default",
    shifts: Annotated[str, typer.Option(help="Comma-separated, as 'lab evaluate' knows them.")] = "blur,noise,dark",
    before: Annotated[int, typer.Option(min=1, help="Images of a stream before the shift.")] = 100,
    repeats: Annotated[int, typer.Option(min=1, help="Orders in which the images come.")] = 20,
    run_length: Annotated[float, typer.Option(help="A false alarm by the Nth sign: probability N / this.")] = 10_000.0,
    own_normals: Own = False,
    data: Data = None,
    json_file: Json = None,
    out: Out = None,
    seed: Seed = 0,
) -> None:
    """Make the drift monitor's reference of normal tracks, and measure how many signs it takes to notice a shift."""
    from firewall.lab.database import Database as Opened
    from firewall.lab.evaluation.over_time import drift_report, with_file
    from firewall.lab.models import open_classifier
    from firewall.screening import Firewall
    from firewall.service import DRIFT_FILE

    guard = Firewall.load(bundle, threads=1)
    spec, report = drift_report(
        guard,
        open_classifier(bundle, data),
        Opened(database),
        Opened(stream),
        data=data,
        every=not own_normals,
        shifts=[part for part in shifts.split(",") if part],
        before=before,
        repeats=repeats,
        run_length=run_length,
        seed=seed,
    )
    if out is not None:
        with_file(guard.bundle, out, DRIFT_FILE, spec)
    _tell(report, json_file)


def _tell(report: dict[str, object], json_file: Path | None) -> None:
    text = json.dumps(report, indent=1) + "\n"
    if json_file is None:
        typer.echo(text, nl=False)
        return
    try:
        json_file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise FirewallError(f"can't write {json_file}: {error.strerror}") from error
