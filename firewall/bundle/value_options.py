"""The option of `serve`, `screen` and `gate` that asks about changes of every value."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["Values"]

Values = Annotated[
    str | None,
    typer.Option(
        "--values",
        metavar="EPS",
        help="Release only labels that are proved for changes of every value of the network's input by at most EPS, "
        "such as 2/255; the bundle needs a network for it ('firewall lab add-values').",
    ),
]
