"""Options that say how an ONNX file reads pixels and gives classes; the same for every command that takes one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["Accept", "Channels", "Labels", "Mean", "Output", "Preparation", "Range", "Size", "Std", "wiring_options"]

Labels = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="ONNX file: its labels, one line for each class, or JSON. [default: those in it]"
    ),
]
Size = Annotated[str | None, typer.Option(metavar="HxW", help="ONNX file: input size, if the file leaves it open.")]
Preparation = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="ONNX file: a common choice of --range, --mean, --std: 0..1, 0..255, -1..1, imagenet, cifar10, caffe "
        "(BGR). [default: 0..1]",
    ),
]
Channels = Annotated[
    str | None,
    typer.Option(metavar="ORDER", help="ONNX file: order of its input channels, rgb or bgr (OpenCV). [default: rgb]"),
]
Range = Annotated[
    float | None, typer.Option("--range", help="ONNX file: largest pixel value before mean and std. [default: 1]")
]
Mean = Annotated[
    str | None,
    typer.Option(help="ONNX file: mean, one number or one for each channel in the network's order. [default: 0]"),
]
Std = Annotated[str | None, typer.Option(help="ONNX file: standard deviation, as --mean. [default: 1]")]
Output = Annotated[
    str | None, typer.Option(metavar="NAME", help="ONNX file: the output with the classes, if it has several.")
]
Accept = Annotated[
    bool,
    typer.Option(
        "--accept-preparation",
        help="Go on although the benign images say that the network's pixels are prepared in a wrong way.",
    ),
]


def wiring_options(**given: object) -> dict[str, str]:
    """The options that were given (not None), as `firewall.lab.models.options` reads them."""
    return {name: str(value) for name, value in given.items() if value is not None}
