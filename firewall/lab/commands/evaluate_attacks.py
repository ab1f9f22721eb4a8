"""`firewall lab evaluate attacks`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from firewall.errors import UsageError
from firewall.lab.commands.groups import DatabaseUnlessNamed
from firewall.lab.commands.options import Bundle, Data, Json, Seed, Work, names_of
from firewall.lab.commands.output import write_json

__all__ = ["evaluate_app", "evaluate_attacks"]

evaluate_app = typer.Typer(
    cls=DatabaseUnlessNamed,
    help="Measure a bundle on attacks; 'lab evaluate attacks' makes them at the crops' own size and judges each crop; "
    "'lab evaluate scenes' judges whole road scenes.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def evaluate_attacks(
    work: Work,
    bundle: Bundle = "default",
    attacks: Annotated[str, typer.Option(metavar="NAMES", help="Attacks, with commas; 'usual' is eleven.")] = "usual",
    family: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of these only the attacks of a family, such as light.")
    ] = None,
    images: Annotated[
        str, typer.Option(help="gtsrb/kept-out, gtsrb/test, gtsdb, or a folder with a sub-folder for each class.")
    ] = "gtsdb",
    calibration: Annotated[
        str | None,
        typer.Option(help="Benign images for thresholds, named the same way.  [default: other groups of --images]"),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Images to attack, each named right before.")] = 300,
    benign: Annotated[
        int,
        typer.Option(
            min=1, help="Benign images to judge, as they are and under each change, and to set thresholds on."
        ),
    ] = 1000,
    changes: Annotated[
        str, typer.Option(metavar="NAMES", help="Changes of benign images, with commas; 'all', or 'none'.")
    ] = "all",
    seed: Seed = 0,
    data: Data = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a page with what was released wrongly.")
    ] = None,
    json_file: Json = None,
) -> None:
    """Attack crops, judge each by the whole firewall, and say for how many a wrong label is released.

    The worst attack comes first. An attack counts with all its images that the classifier named right before, whether
    it succeeds or not; what it does to the bare classifier stands beside it.
    """
    from firewall.lab.evaluation.crops.changes import CHANGES
    from firewall.lab.evaluation.crops.families import members
    from firewall.lab.evaluation.crops.measuring import USUAL, Settings, measure

    names = USUAL if attacks == "usual" else names_of(attacks)
    chosen = {"all": tuple(CHANGES), "none": ()}.get(changes, names_of(changes))
    unknown = [name for name in chosen if name not in CHANGES]
    if unknown:
        raise UsageError(f"unknown change {unknown[0]!r}; known: all, none, {', '.join(CHANGES)}")
    settings = Settings(
        attacks=names if family is None else members(family, names),
        images=images,
        limit=limit,
        benign=benign,
        calibration=calibration,
        changes=chosen,
        data=data,
        seed=seed,
    )
    found = measure(bundle, settings, work)
    write_json(found.summary, json_file)
    if html is not None:
        from firewall.lab.reports import crops

        crops.write(found, html)
