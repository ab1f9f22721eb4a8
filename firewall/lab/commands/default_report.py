"""`firewall lab report default`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from firewall.errors import FirewallError

__all__ = ["default_report"]


def default_report(
    database: Annotated[
        Path, typer.Option(metavar="DB", help="Attacks on images that nothing was trained or calibrated on.")
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="HTML file.")] = Path("default.html"),
    bundle: Annotated[str, typer.Option(help="'default' or the folder of a bundle.")] = "default",
    split: Annotated[
        str, typer.Option(help="Of the database: train, dev or eval, several with commas, or all.")
    ] = "all",
    calibration: Annotated[
        Path | None, typer.Option(metavar="DB", help="Thresholds at 1 % and 5 % are set on its normal images.")
    ] = None,
    unseen: Annotated[
        Path | None,
        typer.Option(metavar="DB", help="A database of more kinds of attacks; with --calibration judged whole."),
    ] = None,
    results: Annotated[
        Path, typer.Option(metavar="DIR", help="Where fusion, tracks, cost and left-out attacks were written.")
    ] = Path("benchmarks/results/default"),
    shift: Annotated[
        int, typer.Option(min=0, metavar="N", help="Also N normal images in rain, fog, blur and so on; 0 for none.")
    ] = 300,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Also write what was measured here.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of the data sets and classifiers.")] = None,
) -> None:
    """One page to read before trusting a bundle: data, attacks, worst attack, shift, cost, what it can't do."""
    try:
        from firewall.lab.reports import default
    except ImportError as error:
        raise FirewallError(f"reports need the lab extra ({error}): pip install 'perception-firewall[lab]'") from error
    import json

    from firewall.bundle import load_bundle
    from firewall.lab.database import Database
    from firewall.lab.evaluation.assessment import assess
    from firewall.lab.models import open_classifier

    loaded, classifier = load_bundle(bundle), open_classifier(bundle, data)
    reference = None if calibration is None else Database(calibration)
    seen = assess(loaded, Database(database), classifier, split, reference, shift=shift)
    whole = split if reference is None else "all"  # without another database some images have to set thresholds
    more = None if unseen is None else assess(loaded, Database(unseen), classifier, whole, reference)
    default.write(loaded, seen, more, default.read_results(results), out)
    if json_file is not None:
        parts = {"seen": seen.summary, "unseen": None if more is None else more.summary}
        json_file.write_text(json.dumps(parts, indent=1) + "\n", encoding="utf-8")
    typer.echo(str(out))
