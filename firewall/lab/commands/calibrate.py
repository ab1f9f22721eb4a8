"""`firewall lab calibrate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from firewall.errors import UsageError
from firewall.lab.commands.onnx_options import Wiring, with_wiring
from firewall.lab.commands.options import names_of
from firewall.lab.commands.output import write_json

__all__ = ["calibrate"]

_CITATION = (
    "GTSRB: J. Stallkamp, M. Schlipsing, J. Salmen, C. Igel. Man vs. computer: benchmarking machine learning "
    "algorithms for traffic sign recognition. Neural Networks 32, 2012."
)


@with_wiring
def calibrate(
    *,
    classifier: Annotated[
        Path, typer.Option(help="Folder of 'lab train classifier', a bundle, 'default', or PATH.onnx.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the new bundle.")],
    detectors: Annotated[
        str | None,
        typer.Option(
            help="With commas: agreement, agreement-two-sided, confidence, stability, statistics-one-class, "
            "residual-one-class, or folders of trained detectors.  "
            "[default: agreement,confidence; for an ONNX file also stability]"
        ),
    ] = None,
    wiring: Wiring,
    gtsrb: Annotated[
        Path | None,
        typer.Option(help="Folder of GTSRB: calibrate on its tracks that the classifier was not trained on."),
    ] = None,
    images: Annotated[Path | None, typer.Option(help="Calibrate on any folder or pack of benign images.")] = None,
    database: Annotated[
        Path | None,
        typer.Option(
            metavar="DB",
            help="Calibrate on a database's benign images, attacked or in reserve, that no detector was fitted to.",
        ),
    ] = None,
    judged: Annotated[
        str,
        typer.Option(help="Splits of the database that are kept for evaluation, not calibrated on; 'none' for none."),
    ] = "eval",
    false_positive_rate: Annotated[
        float, typer.Option(help="Share of benign images that may be withheld, between 0 and 1.")
    ] = 0.01,
    sweep: Annotated[int, typer.Option(help="Number of JPEG qualities of the agreement detector: 16 or 76.")] = 16,
    name: Annotated[str, typer.Option(help="Name of the bundle.")] = "traffic-signs",
) -> None:
    """Set thresholds on benign images alone and write a bundle."""
    from firewall.lab.calibration.bundling import calibrate_folder
    from firewall.lab.calibration.settings import BenignSource, CalibrationSettings, NetworkSettings
    from firewall.lab.database.normals import named_splits

    if sum(source is not None for source in (gtsrb, images, database)) != 1:
        raise UsageError("name the benign images by one of --gtsrb, --images and --database")
    kept = () if judged == "none" else named_splits(judged, "--judged")
    own = ".onnx" in classifier.name or classifier.is_file()
    chosen = detectors or ("agreement,stability,confidence" if own else "agreement,confidence")
    citations = [_CITATION] if gtsrb else []
    bundle = calibrate_folder(
        classifier,
        out,
        BenignSource(gtsrb, images, database, kept),
        CalibrationSettings(names_of(chosen), false_positive_rate, sweep, name, citations),
        NetworkSettings(wiring.options, accept_preparation=wiring.accept_preparation),
        tell=lambda line: typer.echo(line, err=True),
    )
    write_json(bundle.manifest.calibration.model_dump(mode="json"), None)
