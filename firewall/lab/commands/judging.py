"""`firewall lab judge`: a trained detector of pixels on databases that it never saw."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["judge"]


def judge(
    detector: Annotated[Path, typer.Argument(metavar="DETECTOR", help="Folder of 'lab train residual' or image-cnn.")],
    database: Annotated[Path, typer.Option(metavar="DB", help="It was trained on: dev sets the thresholds.")],
    others: Annotated[str, typer.Option(help="Comma-separated further databases, judged on all their images.")] = "",
    originals: Annotated[bool, typer.Option(help="Also shift images before they are resized.")] = True,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the result as JSON.")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of the data sets.")] = None,
) -> None:
    """Judge a trained detector of pixels: by attack, and normal images under noise, JPEG, blur, light, rain.

    Takes seconds, since nothing is classified; 'firewall lab evaluate' judges whole bundles.
    """
    from firewall.lab.database import Database
    from firewall.lab.training.judging import judge as judged
    from firewall.lab.training.trained import load_trained

    further = [Database(Path(name)) for name in others.split(",") if name]
    result = judged(load_trained(detector), Database(database), further, data=data, originals=originals)
    text = json.dumps(result, indent=1) + "\n"
    if json_file is None:
        typer.echo(text)
    else:
        json_file.write_text(text, encoding="utf-8")
