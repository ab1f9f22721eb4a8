"""`firewall lab tracks` and `firewall lab drift`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from firewall.lab.commands.options import Bundle, Data, Json, Seed, names_of, with_options
from firewall.lab.commands.output import write_json

if TYPE_CHECKING:
    from pydantic import BaseModel

    from firewall.lab.database import Database as Opened
    from firewall.lab.measurement.bundle_verdicts import Judge
    from firewall.lab.models import Protected

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


@dataclass(frozen=True)
class Subject:
    """A bundle and benign tracks: the options of that name."""

    database: Path
    bundle: str
    own_normals: bool
    data: Path | None
    json_file: Path | None
    out: Path | None
    seed: int

    def opened(self) -> tuple[Judge, Protected, Opened]:
        """The bundle, its classifier and the database."""
        from firewall.bundle import load_bundle
        from firewall.lab.database import Database as Opened
        from firewall.lab.measurement.bundle_verdicts import judge_of
        from firewall.lab.models import open_classifier

        loaded, classifier = load_bundle(self.bundle), open_classifier(self.bundle, self.data)
        return judge_of(loaded, classifier), classifier, Opened(self.database)

    def write(self, file: str, spec: BaseModel, report: dict[str, Any]) -> None:
        """The bundle with this file if --out asks for it, and the report."""
        from firewall.bundle import load_bundle
        from firewall.lab.evaluation.over_time import with_file

        if self.out is not None:
            with_file(load_bundle(self.bundle), self.out, file, spec)
        write_json(report, self.json_file)


def _subject(
    *,
    database: Database,
    bundle: Bundle = "default",
    own_normals: Own = False,
    data: Data = None,
    json_file: Json = None,
    out: Out = None,
    seed: Seed = 0,
) -> Subject:
    return Subject(database, bundle, own_normals, data, json_file, out, seed)


@with_options("subject", _subject)
def tracks(
    *,
    subject: Subject,
    judge: Annotated[list[Path] | None, typer.Option(metavar="DB", help="Further databases to evaluate on.")] = None,
    rate: Annotated[
        float, typer.Option(help="Share of benign tracks that may have a frame withheld for the track's evidence.")
    ] = 0.05,
    attacks: Annotated[str, typer.Option(help="With commas.  [default: all complete ones]")] = "",
    confirm: Annotated[
        int, typer.Option(min=1, max=30, help="Consecutive frames that have to show a label before it is released.")
    ] = 3,
) -> None:
    """Set the limit of evidence over time on half of the benign tracks, and evaluate it on the others.

    Tracks that a detector of the bundle was fitted to take no part. The classifier's outputs are kept in the databases'
    folders.
    """
    from firewall.lab.database import Database as Opened
    from firewall.lab.evaluation.over_time import TracksSettings, tracks_report
    from firewall.service import TRACKS_FILE

    settings = TracksSettings(
        rate, names_of(attacks), every=not subject.own_normals, data=subject.data, seed=subject.seed
    )
    bundle, classifier, database = subject.opened()
    others = [Opened(folder) for folder in judge or []]
    spec, report = tracks_report(bundle, classifier, database, others, settings)
    subject.write(TRACKS_FILE, spec.model_copy(update={"confirm": confirm}), report)


@with_options("subject", _subject)
def drift(
    *,
    subject: Subject,
    stream: Annotated[Path, typer.Option(metavar="DB", help="Database of other tracks, which come as a stream.")],
    shifts: Annotated[
        str, typer.Option(help="Shifts to measure, with commas, as 'lab evaluate --shift' names them.")
    ] = "blur,noise,dark",
    before: Annotated[int, typer.Option(min=1, help="Images of a stream before the shift.")] = 100,
    repeats: Annotated[int, typer.Option(min=1, help="Random orders of the stream.")] = 20,
    run_length: Annotated[
        float, typer.Option(help="The probability of a false alarm by the N-th sign is N / this.")
    ] = 10_000.0,
) -> None:
    """Make the drift monitor's reference from benign tracks, and measure how many signs it takes to notice a shift."""
    from firewall.lab.database import Database as Opened
    from firewall.lab.evaluation.over_time import DriftSettings, drift_report
    from firewall.service import DRIFT_FILE

    every = not subject.own_normals
    settings = DriftSettings(names_of(shifts), before, repeats, run_length, every, subject.data, subject.seed)
    spec, report = drift_report(*subject.opened(), Opened(stream), settings)
    subject.write(DRIFT_FILE, spec, report)
