"""`firewall export ...`: from a trained classifier to a signed bundle. Heavy packages are imported inside commands."""

from __future__ import annotations

import typer

__all__ = ["app"]

app = typer.Typer(
    help="Offline: a trained classifier -> ONNX -> a signed bundle, compared at each step.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
