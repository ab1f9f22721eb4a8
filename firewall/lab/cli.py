"""`firewall lab ...`: everything offline. Heavy packages are imported inside the command that needs them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from firewall.errors import UsageError
from firewall.lab.commands.attention import train_attention
from firewall.lab.commands.certify import certify_app, certify_report, masked, train_masked
from firewall.lab.commands.classifiers import classifiers, train_classifier
from firewall.lab.commands.database import attack, database_app, report_app
from firewall.lab.commands.default_report import default_report
from firewall.lab.commands.detectors import train_image_cnn, train_residual, train_statistics
from firewall.lab.commands.fusing import fuse, unseen
from firewall.lab.commands.judging import judge, leave_one_out
from firewall.lab.commands.label_detectors import train_agreement, train_correction, train_stability
from firewall.lab.commands.onnx_options import (
    Accept,
    Channels,
    Labels,
    Mean,
    Output,
    Preparation,
    Range,
    Size,
    Std,
    wiring_options,
)
from firewall.lab.commands.over_time import drift, tracks
from firewall.lab.commands.papers import PASSED_ON, paper, paper_pages
from firewall.lab.commands.provenance import provenance
from firewall.lab.commands.spatial import attack_app, attack_spatial, certify_spatial, train_spatial

__all__ = ["app"]

app = typer.Typer(
    help="Offline: train, calibrate, attack, evaluate.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
train_app = typer.Typer(help="Train a network. Runs can be interrupted and resumed.", no_args_is_help=True)
app.add_typer(train_app, name="train")
train_app.command("classifier")(train_classifier)
app.command()(classifiers)
train_app.command("agreement")(train_agreement)
train_app.command("stability")(train_stability)
train_app.command("statistics")(train_statistics)
train_app.command("correction")(train_correction)
train_app.command("image-cnn")(train_image_cnn)
train_app.command("residual")(train_residual)
train_app.command("attention")(train_attention)
train_app.command("masked")(train_masked)
app.command()(masked)
train_app.command("spatial")(train_spatial)
app.add_typer(attack_app, name="attack")
attack_app.command("database")(attack)
attack_app.command("spatial")(attack_spatial)
app.command()(judge)
app.command("leave-one-out")(leave_one_out)
app.command()(fuse)
app.command()(unseen)
app.command()(tracks)
app.command()(drift)
app.command()(provenance)
app.add_typer(certify_app, name="certify")
certify_app.command("spatial")(certify_spatial)
app.add_typer(database_app, name="database")
app.add_typer(report_app, name="report")
app.command("paper", context_settings=PASSED_ON, add_help_option=False)(paper)
report_app.command("papers", context_settings=PASSED_ON, add_help_option=False)(paper_pages)
report_app.command("default")(default_report)
report_app.command("certify")(certify_report)

Data = Annotated[Path, typer.Option(help="Folder with GTSRB: the official layout or gtsrb_*.npz packs.")]

_CITATION = (
    "GTSRB: J. Stallkamp, M. Schlipsing, J. Salmen, C. Igel. Man vs. computer: benchmarking machine learning "
    "algorithms for traffic sign recognition. Neural Networks 32, 2012."
)


@app.command()
def calibrate(
    classifier: Annotated[
        Path, typer.Option(help="Folder made by 'lab train classifier', a bundle, 'default', or PATH.onnx.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the new bundle.")],
    detectors: Annotated[
        str | None,
        typer.Option(
            help="Comma-separated: agreement, agreement-two-sided, confidence, stability, statistics-one-class, "
            "residual-one-class, or folders of trained ones.  "
            "[default: agreement,confidence; of an ONNX file stability too]"
        ),
    ] = None,
    labels: Labels = None,
    size: Size = None,
    preparation: Preparation = None,
    channels: Channels = None,
    value_range: Range = None,
    mean: Mean = None,
    std: Std = None,
    output: Output = None,
    accept_preparation: Accept = False,
    gtsrb: Annotated[
        Path | None,
        typer.Option(help="GTSRB folder: its calibration tracks, kept out of training, are the normal images."),
    ] = None,
    images: Annotated[Path | None, typer.Option(help="Any folder or pack of normal images.")] = None,
    database: Annotated[
        Path | None,
        typer.Option(
            metavar="DB", help="A database: its normal images that no detector was fitted to, and its reserve."
        ),
    ] = None,
    judged: Annotated[
        str, typer.Option(help="Splits of the database that are kept for judging: not calibrated on. 'none' for none.")
    ] = "eval",
    false_positive_rate: Annotated[float, typer.Option(help="Share of normal images that may be withheld.")] = 0.01,
    sweep: Annotated[int, typer.Option(help="Number of JPEG qualities: 16 or 76.")] = 16,
    name: Annotated[str, typer.Option(help="Name of the bundle.")] = "traffic-signs",
) -> None:
    """Set thresholds on normal images alone and write a bundle."""
    from firewall.lab.calibration import bundling
    from firewall.lab.database.normals import named_splits

    if sum(source is not None for source in (gtsrb, images, database)) != 1:
        raise UsageError("name the normal images by one of --gtsrb, --images and --database")
    if sweep not in (16, 76):
        raise UsageError(f"--sweep must be 16 or 76, got {sweep}")
    given = wiring_options(
        labels=labels,
        size=size,
        preparation=preparation,
        channels=channels,
        range=value_range,
        mean=mean,
        std=std,
        output=output,
    )
    own = ".onnx" in classifier.name or classifier.is_file()
    chosen = detectors or ("agreement,stability,confidence" if own else "agreement,confidence")
    bundle = bundling.calibrate_folder(
        classifier,
        out,
        detectors=[part for part in chosen.split(",") if part],
        gtsrb_root=gtsrb,
        images=images,
        database=database,
        judged=() if judged == "none" else named_splits(judged, "--judged"),
        rate=false_positive_rate,
        sweep=sweep,
        name=name,
        citations=[_CITATION] if gtsrb else [],
        options=given,
        accept_preparation=accept_preparation,
        tell=lambda line: typer.echo(line, err=True),
    )
    typer.echo(json.dumps(bundle.manifest.calibration.model_dump(mode="json"), indent=1))


@app.command()
def evaluate(
    bundle: Annotated[str, typer.Option(help="'default' or the folder of a bundle.")] = "default",
    database: Annotated[
        Path | None, typer.Option(metavar="DB", help="Made by 'firewall lab attack' on the bundle's classifier.")
    ] = None,
    split: Annotated[
        str, typer.Option(help="What to judge on: train, dev or eval, several with commas, or all.")
    ] = "eval",
    calibration: Annotated[
        Path | None,
        typer.Option(
            metavar="DB", help="Set the thresholds for 1 % and 5 % on this database. [default: the other splits]"
        ),
    ] = None,
    shift: Annotated[
        bool, typer.Option("--shift", help="Also judge under JPEG, blur, darkness, noise, rain, fog.")
    ] = False,
    leave_one_out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="JSON of detectors judged on attacks that they never saw: shown."),
    ] = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a page with curves and histograms.")] = None,
    gtsrb: Annotated[
        Path | None, typer.Option(help="Instead of a database: attack GTSRB test images of this folder on the spot.")
    ] = None,
    attacks: Annotated[
        str, typer.Option(help="With --gtsrb: comma-separated names; 'usual' is eight of them, 'all' takes hours.")
    ] = "usual",
    limit: Annotated[
        int | None,
        typer.Option(min=10, help="With --gtsrb: images to attack; with --shift: of each kind. [default: 500, 200]"),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Choice of images and the attacks' randomness.")] = 0,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the result as JSON.")] = None,
) -> None:
    """Measure a bundle and each of its detectors on the attacks of a database.

    With --gtsrb: attack test images on the spot and compare the forms of the agreement detector (16 and 76 qualities,
    one- and two-sided).
    """
    if (database is None) == (gtsrb is None):
        raise UsageError("name the attacked images by either --database or --gtsrb")
    if database is not None:
        shifts = (limit or 200) if shift else 0
        _assess(bundle, database, split, calibration, json_file, html, shifts, seed, leave_one_out)
        return
    from firewall.lab.evaluation import attacked

    if gtsrb is None or html is not None or calibration is not None or shift or leave_one_out is not None:
        raise UsageError("--html, --calibration, --shift and --leave-one-out need --database")
    chosen = {"usual": list(attacked.USUAL), "all": None}
    names = chosen[attacks] if attacks in chosen else [part for part in attacks.split(",") if part]
    result = attacked.evaluate(gtsrb, bundle, names, limit=limit or 500, seed=seed)
    attacked.render(result, Console())
    if json_file is not None:
        json_file.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def _assess(
    bundle: str,
    folder: Path,
    split: str,
    calibration: Path | None,
    json_file: Path | None,
    html: Path | None,
    shift: int,
    seed: int,
    leave_one_out: Path | None,
) -> None:
    from firewall.bundle import load_bundle
    from firewall.lab.database import Database
    from firewall.lab.evaluation.assessment import assess
    from firewall.lab.models import open_classifier
    from firewall.lab.reports import evaluation
    from firewall.lab.reports.leave_one_out import read_leave_one_out

    left_out = None if leave_one_out is None else read_leave_one_out(leave_one_out)
    reference = None if calibration is None else Database(calibration)
    classifier = open_classifier(bundle)
    assessment = assess(load_bundle(bundle), Database(folder), classifier, split, reference, shift=shift, seed=seed)
    if left_out is not None:
        assessment.summary["leave_one_out"] = left_out
    text = json.dumps(assessment.summary, indent=1)
    if json_file is None:
        typer.echo(text)
    else:
        json_file.write_text(text + "\n", encoding="utf-8")
    if html is not None:
        evaluation.write(assessment, html)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="File of the attacked signs.")],
    bundle: Annotated[str, typer.Option(help="'default' or the folder of a bundle.")] = "default",
    seed: Annotated[int, typer.Option(min=0, help="The attacks' randomness.")] = 0,
) -> None:
    """Attack the demo's signs on the bundle's classifier and store them losslessly."""
    from firewall.lab.database import demonstration

    typer.echo(json.dumps(demonstration.make(out, bundle, seed=seed), indent=1))
