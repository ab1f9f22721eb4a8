"""The option `--cores` of the commands that judge."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["CoreNumbers"]

#: Cores as `taskset -c` takes them.
CoreNumbers = Annotated[
    str | None,
    typer.Option(
        "--cores",
        metavar="LIST",
        help="Cores that judge, one thread each, such as 2-3,5; everything else runs on the others. Threads of this "
        "machine alone, also with --device cuda.  \\[default: any core for all]",
    ),
]
