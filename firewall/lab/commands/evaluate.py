"""`firewall lab evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from firewall.errors import UsageError
from firewall.lab.commands.options import Bundle, Json, Seed, Split, names_of
from firewall.lab.commands.output import write_json

__all__ = ["evaluate"]


def evaluate(
    bundle: Bundle = "default",
    database: Annotated[
        Path | None, typer.Option(metavar="DB", help="Made by 'firewall lab attack' on the bundle's classifier.")
    ] = None,
    split: Split = "eval",
    calibration: Annotated[
        Path | None,
        typer.Option(
            metavar="DB",
            help="Set the thresholds for 1 % and 5 % false positives on this database.  [default: the other splits]",
        ),
    ] = None,
    shift: Annotated[
        bool, typer.Option("--shift", help="Also evaluate under JPEG, blur, darkness, noise, rain, fog.")
    ] = False,
    leave_one_out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also show this JSON of 'lab leave-one-out' in the page."),
    ] = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a page with curves and histograms.")] = None,
    gtsrb: Annotated[
        Path | None, typer.Option(help="Instead of a database: attack GTSRB test images of this folder on the spot.")
    ] = None,
    attacks: Annotated[
        str, typer.Option(help="With --gtsrb: names with commas; 'usual' is eight of them, 'all' takes hours.")
    ] = "usual",
    limit: Annotated[
        int | None,
        typer.Option(
            min=10, help="With --gtsrb: images to attack; with --shift: images of each kind.  [default: 500, 200]"
        ),
    ] = None,
    seed: Seed = 0,
    json_file: Json = None,
) -> None:
    """Measure a bundle on attacks: wrong-release rate, share withheld, and how well each detector separates.

    With --gtsrb it attacks test images on the spot and compares the forms of the agreement detector (16 and 76
    qualities, one- and two-sided).
    """
    if (database is None) == (gtsrb is None):
        raise UsageError("name the attacked images by either --database or --gtsrb")
    if database is not None:
        shifts = (limit or 200) if shift else 0
        _on_database(bundle, database, split, calibration, shifts, seed, leave_one_out, html, json_file)
        return
    from firewall.lab.evaluation import bundle_on_gtsrb

    if gtsrb is None or html is not None or calibration is not None or shift or leave_one_out is not None:
        raise UsageError("--html, --calibration, --shift and --leave-one-out need --database")
    chosen = {"usual": bundle_on_gtsrb.USUAL, "all": None}
    names = chosen[attacks] if attacks in chosen else names_of(attacks)
    result = bundle_on_gtsrb.evaluate_on_gtsrb(gtsrb, bundle, names, limit=limit or 500, seed=seed)
    bundle_on_gtsrb.render(result, Console())
    if json_file is not None:
        write_json(result, json_file)


def _on_database(
    bundle: str,
    folder: Path,
    split: str,
    calibration: Path | None,
    shift: int,
    seed: int,
    leave_one_out: Path | None,
    html: Path | None,
    json_file: Path | None,
) -> None:
    from firewall.bundle import load_bundle
    from firewall.lab.database import Database
    from firewall.lab.evaluation.bundle_on_database import evaluate_on_database
    from firewall.lab.models import open_classifier
    from firewall.lab.reports import evaluation
    from firewall.lab.reports.left_out import read_left_out

    left_out = None if leave_one_out is None else read_left_out(leave_one_out)
    reference = None if calibration is None else Database(calibration)
    classifier, loaded = open_classifier(bundle), load_bundle(bundle)
    found = evaluate_on_database(loaded, Database(folder), classifier, split, reference, shift=shift, seed=seed)
    if left_out is not None:
        found.summary["leave_one_out"] = left_out
    write_json(found.summary, json_file)
    if html is not None:
        evaluation.write(found, html)
