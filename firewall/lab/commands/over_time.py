"""`firewall lab tracks` and `firewall lab drift`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from firewall.lab.commands.options import Bundle, Data, Json, Seed, names_of
from firewall.lab.commands.output import write_json

__all__ = ["drift", "tracks"]

Database = Annotated[
    Path, typer.Option(metavar="DB", help="Made on the bundle's classifier, of a data set whose groups are tracks.")
]
Out = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Write the bundle with it; may be the bundle's own folder.")
]
Own = Annotated[
    bool, typer.Option("--own-normals", help="Take benign tracks from the database, not from its whole data set.")
]


def tracks(
    database: Database,
    bundle: Bundle = "default",
    judge: Annotated[list[Path] | None, typer.Option(metavar="DB", help="Further databases to evaluate on.")] = None,
    rate: Annotated[
        float, typer.Option(help="Share of benign tracks that may have a frame withheld for the track's evidence.")
    ] = 0.05,
    attacks: Annotated[str, typer.Option(help="With commas.  [default: all complete ones]")] = "",
    confirm: Annotated[
        int, typer.Option(min=1, max=30, help="Consecutive frames that have to show a label before it is released.")
    ] = 3,
    own_normals: Own = False,
    data: Data = None,
    json_file: Json = None,
    out: Out = None,
    seed: Seed = 0,
) -> None:
    """Set the limit of evidence over time on half of the benign tracks, and evaluate it on the others.

    Tracks that a detector of the bundle was fitted to take no part. The classifier's outputs are kept in the databases'
    folders.
    """
    from firewall.bundle import load_bundle
    from firewall.lab.database import Database as Opened
    from firewall.lab.evaluation.over_time import TracksSettings, tracks_report, with_file
    from firewall.lab.measurement.bundle_verdicts import judge_of
    from firewall.lab.models import open_classifier
    from firewall.service import TRACKS_FILE

    settings = TracksSettings(rate, names_of(attacks), every=not own_normals, data=data, seed=seed)
    loaded, classifier = load_bundle(bundle), open_classifier(bundle, data)
    others = [Opened(folder) for folder in judge or []]
    spec, report = tracks_report(judge_of(loaded, classifier), classifier, Opened(database), others, settings)
    if out is not None:
        with_file(loaded, out, TRACKS_FILE, spec.model_copy(update={"confirm": confirm}))
    write_json(report, json_file)


def drift(
    database: Database,
    stream: Annotated[Path, typer.Option(metavar="DB", help="Database of other tracks, which come as a stream.")],
    bundle: Bundle = "default",
    shifts: Annotated[
        str, typer.Option(help="Shifts to measure, with commas, as 'lab evaluate --shift' names them.")
    ] = "blur,noise,dark",
    before: Annotated[int, typer.Option(min=1, help="Images of a stream before the shift.")] = 100,
    repeats: Annotated[int, typer.Option(min=1, help="Random orders of the stream.")] = 20,
    run_length: Annotated[
        float, typer.Option(help="The probability of a false alarm by the N-th sign is N / this.")
    ] = 10_000.0,
    own_normals: Own = False,
    data: Data = None,
    json_file: Json = None,
    out: Out = None,
    seed: Seed = 0,
) -> None:
    """Make the drift monitor's reference from benign tracks, and measure how many signs it takes to notice a shift."""
    from firewall.bundle import load_bundle
    from firewall.lab.database import Database as Opened
    from firewall.lab.evaluation.over_time import DriftSettings, drift_report, with_file
    from firewall.lab.measurement.bundle_verdicts import judge_of
    from firewall.lab.models import open_classifier
    from firewall.service import DRIFT_FILE

    settings = DriftSettings(names_of(shifts), before, repeats, run_length, not own_normals, data, seed)
    loaded, classifier = load_bundle(bundle), open_classifier(bundle, data)
    judge = judge_of(loaded, classifier)
    spec, report = drift_report(judge, classifier, Opened(database), Opened(stream), settings)
    if out is not None:
        with_file(loaded, out, DRIFT_FILE, spec)
    write_json(report, json_file)
