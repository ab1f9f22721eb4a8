"""`firewall lab report default`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from firewall.errors import FirewallError
from firewall.lab.commands.options import Bundle, Data, Split
from firewall.lab.commands.output import write_json

__all__ = ["default_report"]


def default_report(
    database: Annotated[
        Path, typer.Option(metavar="DB", help="Attacks on images that nothing was trained or calibrated on.")
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="HTML file.")] = Path("default.html"),
    bundle: Bundle = "default",
    split: Split = "all",
    calibration: Annotated[
        Path | None,
        typer.Option(metavar="DB", help="Thresholds for 1 % and 5 % false positives are set on its benign images."),
    ] = None,
    unseen: Annotated[
        Path | None,
        typer.Option(
            metavar="DB", help="A database of more kinds of attacks; with --calibration all of its splits are used."
        ),
    ] = None,
    results: Annotated[
        Path,
        typer.Option(metavar="DIR", help="Folder of the JSON results on fusion, tracks, cost and left-out attacks."),
    ] = Path("benchmarks/results/default"),
    shift: Annotated[
        int,
        typer.Option(
            min=0, metavar="N", help="Also evaluate N benign images in rain, fog, blur and so on; 0 for none."
        ),
    ] = 300,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Also write the measurements as JSON.")
    ] = None,
    data: Data = None,
) -> None:
    """One page to read before trusting a bundle: wrong-release rates, data, shift, cost, what it can't do."""
    try:
        from firewall.lab.reports import default
    except ImportError as error:
        raise FirewallError(f"reports need the lab extra ({error}): pip install 'perception-firewall[lab]'") from error
    from firewall.bundle import load_bundle
    from firewall.lab.database import Database
    from firewall.lab.evaluation.bundle_on_database import evaluate_on_database
    from firewall.lab.models import open_classifier

    loaded, classifier = load_bundle(bundle), open_classifier(bundle, data)
    reference = None if calibration is None else Database(calibration)
    seen = evaluate_on_database(loaded, Database(database), classifier, split, reference, shift=shift)
    whole = split if reference is None else "all"  # otherwise some of its images have to set thresholds
    more = None if unseen is None else evaluate_on_database(loaded, Database(unseen), classifier, whole, reference)
    default.write(loaded, seen, more, default.read_results(results), out)
    if json_file is not None:
        parts = {"seen": seen.summary, "unseen": None if more is None else more.summary}
        write_json(parts, json_file)
    typer.echo(str(out))
