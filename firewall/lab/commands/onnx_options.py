"""Options that say how a user's ONNX file is wired; the same for every command that takes such a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["Accept", "Channels", "Labels", "Mean", "Output", "Preparation", "Range", "Size", "Std", "wiring_options"]

Labels = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="ONNX file: its labels, a line a class, or JSON. [default: those in it]"),
]
Size = Annotated[str | None, typer.Option(metavar="HxW", help="ONNX file: input size, if it leaves it open.")]
Preparation = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="ONNX file: a usual way for --range, --mean, --std: 0..1, 0..255, -1..1, imagenet, cifar10, caffe (BGR). "
        "[default: 0..1]",
    ),
]
Channels = Annotated[
    str | None, typer.Option(metavar="ORDER", help="ONNX file: rgb, or bgr as of OpenCV. [default: rgb]")
]
Range = Annotated[
    float | None, typer.Option("--range", help="ONNX file: largest pixel value before mean and std. [default: 1]")
]
Mean = Annotated[
    str | None, typer.Option(help="ONNX file: a number, or one a channel in the network's order. [default: 0]")
]
Std = Annotated[
    str | None, typer.Option(help="ONNX file: a number, or one a channel in the network's order. [default: 1]")
]
Output = Annotated[
    str | None, typer.Option(metavar="NAME", help="ONNX file: of several outputs, the one of the classes.")
]
Accept = Annotated[
    bool,
    typer.Option(
        "--accept-preparation",
        help="Go on although the benign images say that the network is wired wrongly.",
    ),
]


def wiring_options(**given: object) -> dict[str, str]:
    """Those that were given, as `firewall.lab.models.options` reads them."""
    return {name: str(value) for name, value in given.items() if value is not None}
