"""`firewall lab ...`: everything offline. Heavy packages are imported inside the command that needs them."""

from __future__ import annotations

import typer

from firewall.lab.commands.adaptive import attack_adaptive
from firewall.lab.commands.attention import train_attention
from firewall.lab.commands.calibrate import calibrate
from firewall.lab.commands.certify import certify_app, certify_report, masked, train_masked
from firewall.lab.commands.classifiers import classifiers, train_classifier
from firewall.lab.commands.conditional import conditional
from firewall.lab.commands.database import attack, database_app, report_app
from firewall.lab.commands.default_report import default_report
from firewall.lab.commands.demo import demo
from firewall.lab.commands.detectors import train_image_cnn, train_residual, train_statistics
from firewall.lab.commands.evaluate import evaluate
from firewall.lab.commands.evaluate_attacks import evaluate_app, evaluate_attacks
from firewall.lab.commands.evaluate_scenes import evaluate_scenes
from firewall.lab.commands.evaluate_tracks import evaluate_tracks
from firewall.lab.commands.finder import add_finder, train_finder
from firewall.lab.commands.fuse import fuse
from firewall.lab.commands.golden import golden
from firewall.lab.commands.import_evidence import import_evidence
from firewall.lab.commands.jury import add_jury, jury, train_juror
from firewall.lab.commands.label_detectors import train_agreement, train_correction, train_stability
from firewall.lab.commands.norms import add_values, certify_linf, train_certified, train_denoiser, train_smoothed
from firewall.lab.commands.over_time import drift, tracks
from firewall.lab.commands.papers import PASSED_ON, paper, paper_pages
from firewall.lab.commands.pixel_detectors import judge, leave_one_out
from firewall.lab.commands.provenance import provenance
from firewall.lab.commands.spatial import attack_app, attack_spatial, certify_spatial, train_spatial
from firewall.lab.commands.unseen import unseen
from firewall.lab.commands.within import within

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
train_app.command("smoothed")(train_smoothed)
train_app.command("denoiser")(train_denoiser)
train_app.command("certified")(train_certified)
train_app.command("juror")(train_juror)
train_app.command("finder")(train_finder)
app.command()(masked)
app.command()(jury)
app.command("add-jury")(add_jury)
app.command("add-finder")(add_finder)
app.command("add-values")(add_values)
train_app.command("spatial")(train_spatial)
app.add_typer(attack_app, name="attack")
attack_app.command("database")(attack)
attack_app.command("spatial")(attack_spatial)
attack_app.command("adaptive")(attack_adaptive)
app.command()(judge)
app.command("leave-one-out")(leave_one_out)
app.command()(fuse)
app.command()(conditional)
app.command()(unseen)
app.command()(tracks)
app.command()(drift)
app.command()(provenance)
app.add_typer(certify_app, name="certify")
certify_app.command("spatial")(certify_spatial)
certify_app.command("linf")(certify_linf)
app.add_typer(database_app, name="database")
app.add_typer(report_app, name="report")
app.command("paper", context_settings=PASSED_ON, add_help_option=False)(paper)
report_app.command("papers", context_settings=PASSED_ON, add_help_option=False)(paper_pages)
report_app.command("default")(default_report)
report_app.command("certify")(certify_report)
app.command()(calibrate)
app.add_typer(evaluate_app, name="evaluate")
evaluate_app.command("database")(evaluate)
evaluate_app.command("attacks")(evaluate_attacks)
evaluate_app.command("scenes")(evaluate_scenes)
evaluate_app.command("tracks")(evaluate_tracks)
app.command()(demo)
app.command("import-evidence")(import_evidence)
app.command()(golden)
app.command()(within)
