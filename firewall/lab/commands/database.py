"""`firewall lab attack`, `firewall lab database ...` and `firewall lab report database`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from firewall.errors import DataError, FirewallError, UsageError
from firewall.lab.commands.options import Data, Seed, names_of
from firewall.lab.commands.output import write_json

__all__ = ["attack", "database_app", "report_app"]

database_app = typer.Typer(help="Inspect, check and export a database of attacked images.", no_args_is_help=True)
report_app = typer.Typer(help="Write reports as HTML pages.", no_args_is_help=True)

Folder = Annotated[Path, typer.Argument(metavar="DB", help="Folder made by 'firewall lab attack'.")]


def attack(
    dataset: Annotated[
        str,
        typer.Option(help="gtsrb, mnist, cifar10, imagenet, nips17 or folder:PATH (with a sub-folder for each class)."),
    ],
    attacks: Annotated[
        str,
        typer.Option(help="Names of attacks with commas, or 'all'; perhaps with a channel, as in pgd-0.03@jpeg-90."),
    ],
    out: Annotated[Path, typer.Option(metavar="DB", help="Folder of the database; an existing one is continued.")],
    classifier: Annotated[
        str,
        typer.Option(help="'default', a bundle, a folder of 'lab train classifier', an ONNX file or a pack's name."),
    ] = "default",
    limit: Annotated[int, typer.Option(help="How many correctly classified images to attack.")] = 1000,
    reserve: Annotated[
        int,
        typer.Option(
            help="How many further benign images to keep unattacked, for thresholds; added if the database has none."
        ),
    ] = 0,
    seed: Seed = 0,
    part: Annotated[
        str, typer.Option(help="Part of the data set: test, train, or a further part that it has.")
    ] = "test",
    data: Data = None,
    backend: Annotated[
        str, typer.Option(help="local (processes) or ray (the cluster at RAY_ADDRESS, or a new one on this machine).")
    ] = "local",
    workers: Annotated[int, typer.Option(help="Number of processes; 0 = one for each core.")] = 0,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
) -> None:
    """Attack a classifier and keep the images that still fool it after rounding, storing and reading again.

    Stop it at any time (Ctrl-C, kill); the same command goes on where it stopped.
    """
    if backend not in ("local", "ray"):
        raise UsageError(f"--backend must be local or ray, got {backend!r}")
    if device not in ("cpu", "cuda"):
        raise UsageError(f"--device must be cpu or cuda, got {device!r}")
    if workers < 0:
        raise UsageError(f"--workers must be 0 (one for each core) or more, got {workers}")
    from firewall.lab.attacks import ATTACKS
    from firewall.lab.database import Database, Plan, build

    names = tuple(ATTACKS) if attacks == "all" else tuple(dict.fromkeys(names_of(attacks)))
    plan = Plan(dataset, classifier, names, limit, seed, part, data, "cuda" if device == "cuda" else "cpu", reserve)
    built = build(out, plan, backend="ray" if backend == "ray" else "local", workers=workers)
    console = Console(stderr=True)
    for failure in built.failures:
        console.print(f"firewall: {failure}", markup=False, highlight=False, soft_wrap=True)
    write_json(Database(out).info(), None)
    if built.failures:
        raise DataError(f"{len(built.failures)} jobs failed and were left out; the same command tries them again")


@database_app.command("info")
def info(
    folder: Folder,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")] = False,
) -> None:
    """Show what a database holds: images by attack and split."""
    from firewall.lab.database import Database

    facts = Database(folder).info()
    if as_json:
        typer.echo(json.dumps(facts))
        return
    console = Console()
    console.print(
        f"{facts['normal']} benign images of {facts['dataset']} for {facts['classifier']} "
        f"({facts['classifier_sha256'][:12]}); "
        + ", ".join(f"{name} {count}" for name, count in facts["splits"].items())
    )
    if facts["reserve"]:
        counts = ", ".join(f"{name} {count}" for name, count in facts["reserve_splits"].items())
        console.print(f"{facts['reserve']} further benign images in reserve, not attacked; {counts}")
    table = Table("attack", "attempted", "kept", "share", "s an image")
    for column in table.columns[1:]:
        column.justify = "right"
    for name, kept in facts["adversarial"].items():
        tried, seconds = facts["attempted"][name], facts["seconds"][name]
        rates = (f"{kept / tried:.3f}", f"{seconds / tried:.3g}") if tried else ("-", "-")
        table.add_row(name, str(tried), str(kept), *rates)
    console.print(table)


@database_app.command("verify")
def verify(
    folder: Folder,
    repair: Annotated[
        bool, typer.Option("--repair", help="Remove damaged files, so that 'lab attack' makes them again.")
    ] = False,
) -> None:
    """Check every file against its SHA-256. Exit code 1 if anything is damaged."""
    from firewall.lab.database import Database

    faults = Database(folder).verify(repair=repair)
    for fault in faults:
        typer.echo(fault, err=True)
    if faults:
        raise DataError(f"{len(faults)} damaged files in {folder}" + ("; what could be removed was" if repair else ""))
    typer.echo("whole")


@database_app.command("export")
def export(folder: Folder, to: Annotated[Path, typer.Argument(metavar="DIR", help="New or empty folder.")]) -> None:
    """Write the images as lossless PNGs, with an index.csv."""
    from firewall.lab.database import Database
    from firewall.lab.database.exporting import export as write

    typer.echo(f"{write(Database(folder), to)} images in {to}")


@report_app.command("database")
def report(
    folders: Annotated[list[Path], typer.Argument(metavar="DB...", help="Folders made by 'firewall lab attack'.")],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="HTML file.  [default: report.html in the first DB]")
    ] = None,
) -> None:
    """Write a page with tables and example pictures, and the tables as Markdown beside it.

    Of several databases it also compares the attack success rates by attack and classifier.
    """
    from firewall.lab.database import Database

    try:
        from firewall.lab.reports import database
    except ImportError as error:
        raise FirewallError(f"reports need the lab extra ({error}): pip install 'perception-firewall[lab]'") from error
    for path in database.write([Database(folder) for folder in folders], out or folders[0] / "report.html"):
        typer.echo(str(path))
