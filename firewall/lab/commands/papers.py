"""`firewall lab paper ...`: the papers' own experiments, made anew."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from firewall.lab.commands.image_cnn_paper import image_cnn
from firewall.lab.commands.label_papers import paper_agreement, paper_statistics

__all__ = ["paper_app"]

paper_app = typer.Typer(help="The papers' own experiments, made anew.", no_args_is_help=True)


@paper_app.callback()
def _papers() -> None:
    """The papers' own experiments, made anew."""


paper_app.command("image-cnn")(image_cnn)
paper_app.command("agreement")(paper_agreement)
paper_app.command("statistics")(paper_statistics)


@paper_app.command("residual")
def residual(
    out: Annotated[Path, typer.Option(help="Folder of what is done; the same command goes on with it.")],
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write tables and figures.")] = None,
    only: Annotated[str, typer.Option(help="MNIST, GTSRB or CIFAR-10; the page holds what is done.")] = "",
    epochs: Annotated[int, typer.Option(min=1, help="Of the detectors.")] = 8,
    data: Annotated[Path | None, typer.Option(help="Folder of the data sets and classifiers.")] = None,
) -> None:
    """Sun et al., the residual image: substitutes, transferability, detection by data set and compression rate.

    Takes about half an hour on one core. Stop it at any time.
    """
    from firewall.errors import UsageError
    from firewall.lab.papers.residual import CASES, Sweep, reproduce

    names = {case.name.split()[0]: case for case in CASES}
    if only and only not in names:
        raise UsageError(f"--only must be one of {', '.join(names)}, got {only!r}")
    page = reproduce(out, data, CASES, Sweep(epochs=epochs), only=names.get(only))
    text = json.dumps(page, indent=1) + "\n"
    if json_file is None:
        typer.echo(text)
    else:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(text, encoding="utf-8")
