"""The papers' own experiments: `python -m benchmarks.papers agreement | statistics | image-cnn | residual | attention`.

`python -m benchmarks.papers pages --out DIR` writes a page for each paper: its numbers beside ours.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.papers.attention_commands import attention_paper
from benchmarks.papers.image_cnn_commands import image_cnn, train_start
from benchmarks.papers.label_commands import paper_agreement, paper_statistics
from firewall.cli import run

__all__ = ["app"]

app = typer.Typer(
    help="The papers' own experiments, repeated.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("agreement")(paper_agreement)
app.command("statistics")(paper_statistics)
app.command("image-cnn")(image_cnn)
app.command("start")(train_start)
app.command("attention")(attention_paper)


@app.command("residual")
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
    from benchmarks.papers.residual import CASES, Sweep, reproduce
    from firewall.errors import UsageError

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


@app.command()
def pages(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the pages.")],
    results: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder of the papers' results, one JSON file a method.")
    ] = Path("benchmarks/results/papers"),
) -> None:
    """A page for each paper: its numbers, ours with its protocol, and ours with splits by track."""
    from benchmarks.papers.pages import write

    for path in write(results, out):
        typer.echo(str(path))


if __name__ == "__main__":
    sys.exit(run(app, sys.argv[1:], "python -m benchmarks.papers"))
