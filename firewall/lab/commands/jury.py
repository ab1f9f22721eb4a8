"""`firewall lab train juror`, `jury` and `add-jury`: networks that give a second opinion on the classifier's label."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from firewall.lab.commands.onnx_options import Wiring, with_wiring
from firewall.lab.commands.options import Bundle, names_of
from firewall.lab.commands.output import write_json
from firewall.lab.commands.training_options import Training, with_training

__all__ = ["add_jury", "jury", "train_juror"]


@with_training
def train_juror(
    *,
    kind: Annotated[
        str,
        typer.Option(
            help="robust, coarse (smaller input), edges (local normalisation), or clear (says whether something lies "
            "on the sign)."
        ),
    ] = "robust",
    scenes: Annotated[
        list[Path] | None,
        typer.Option(
            help="Road scenes to learn 'not a sign' from: a pack with the signs' boxes, or images without signs. May "
            "be repeated."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run.  [default: runs/jury/KIND]")] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the training images.")] = 24,
    learning_rate: Annotated[float, typer.Option(min=0, help="Highest learning rate of the schedule.")] = 3e-3,
    without: Annotated[
        str,
        typer.Option(
            help="Obstructions, or whole families (channel, light, occlusion, pose, subspace), that are drawn in no "
            "augmentation, with commas, so that they stay unseen."
        ),
    ] = "",
    start: Annotated[Path | None, typer.Option(help="Checkpoint of a juror to go on from, with its own kind.")] = None,
    attacked: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Share of each batch that is attacked with full-band noise.  [default: 0.4; of the kind clear: 0]",
        ),
    ] = None,
    smooth: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Share that is attacked smoothly.  [default: 0.25; of the kind clear: 0]"),
    ] = None,
    weather: Annotated[float, typer.Option(min=0, max=1, help="Share of the versions in bad weather.")] = 0.2,
    obstructed: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the versions with something on the sign.")
    ] = 0.4,
    others: Annotated[
        float, typer.Option(min=0, max=1, help="Images of no sign in each pass, as a share of the signs.")
    ] = 0.2,
    spoilt: Annotated[
        float,
        typer.Option(min=0, max=1, help="Of these the share that is half a sign, or a sign on its side or its head."),
    ] = 0.0,
    training: Training,
) -> None:
    """Train a juror for traffic signs (GTSRB), export it to ONNX and measure it.

    Stop it at any time (Ctrl-C, kill); the same command goes on from the last finished epoch.
    """
    from firewall.lab.datasets import data_root
    from firewall.lab.models.juror import CLEAR
    from firewall.lab.training.jury.sign_juror import train_sign_juror
    from firewall.lab.training.jury.training import JurorSettings

    usual = JurorSettings(attacked=0, smooth=0) if kind == CLEAR else JurorSettings()
    settings = JurorSettings(
        kind=kind,
        epochs=epochs,
        learning_rate=learning_rate,
        seed=training.seed,
        without=names_of(without),
        attacked=usual.attacked if attacked is None else attacked,
        smooth=usual.smooth if smooth is None else smooth,
        weather=weather,
        obstructed=obstructed,
        other_share=others,
        spoilt=spoilt,
        start="" if start is None else str(start),
        bfloat16=training.bfloat16,
    )
    folder = Path("runs") / "jury" / kind if out is None else out
    card = train_sign_juror(
        data_root(training.data),
        folder,
        scenes or [],
        settings,
        threads=training.threads,
        workers=training.workers,
        device=training.device,
    )
    write_json(card, None)


@with_training
@with_wiring
def jury(
    *,
    images: Annotated[
        str,
        typer.Option(
            metavar="DIR|DATASET/PART",
            help="Benign images to learn from: a folder (sub-folders named as the labels help), a pack, or a data set "
            "such as cifar10/train. A fifth is kept out for judging.",
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the jury: one sub-folder for each juror.")],
    classifier: Annotated[
        Path, typer.Option(help="PATH.onnx, 'default', a bundle, or a folder of 'lab train classifier'.")
    ] = Path("default"),
    kinds: Annotated[
        str,
        typer.Option(help="With commas: robust, coarse (smaller input), edges (local normalisation)."),
    ] = "robust,coarse,edges",
    epochs: Annotated[
        int | None,
        typer.Option(min=1, help="Passes over the images.  [default: for 300,000 versions of them, 6 to 60 passes]"),
    ] = None,
    scenes: Annotated[
        list[Path] | None,
        typer.Option(
            help="Images that show none of the classes (a folder or pack; of a pack with boxes what is outside them). "
            "With some, the jurors learn 'not a sign' as well. May be repeated."
        ),
    ] = None,
    mirror: Annotated[
        bool, typer.Option("--mirror", help="A mirrored image shows the same class: cats, but no signs or letters.")
    ] = False,
    bundle: Annotated[
        Path | None,
        typer.Option(
            metavar="NEW",
            help="Also write a bundle: classifier, confidence and the jury, thresholds set on the images kept out.",
        ),
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the bundle.")] = "own-jury",
    false_positive_rate: Annotated[
        float, typer.Option(help="Share of benign images that the bundle may withhold, between 0 and 1.")
    ] = 0.01,
    wiring: Wiring,
    training: Training,
) -> None:
    """Train a jury for a classifier of your own, from its answers to benign images.

    Stop it at any time (Ctrl-C, kill); the same command goes on from the last finished epoch.
    """
    from firewall.lab.calibration.own_jury import JuryBundle, make_jury
    from firewall.lab.calibration.settings import NetworkSettings
    from firewall.lab.training.jury.own_jury import JuryPlan

    card = make_jury(
        classifier,
        NetworkSettings(wiring.options, accept_preparation=wiring.accept_preparation),
        images,
        scenes or [],
        out,
        JuryPlan(
            names_of(kinds),
            epochs,
            training.seed,
            mirror,
            training.bfloat16,
            training.threads,
            training.workers,
            training.device,
        ),
        bundle=None if bundle is None else JuryBundle(bundle, name, false_positive_rate),
        data=training.data,
        tell=lambda line: typer.echo(line, err=True),
    )
    write_json(card, None)


def add_jury(
    out: Annotated[Path, typer.Option(metavar="DIR", help="The new bundle; may be the bundle's own folder.")],
    jurors: Annotated[
        list[Path] | None,
        typer.Option(
            "--juror", metavar="DIR", help="Folder of a juror, or 'masked', the bundle's own; may be repeated."
        ),
    ] = None,
    bundle: Bundle = "default",
    without: Annotated[str, typer.Option(help="Detectors of the bundle to leave out, with commas.")] = "",
    copies: Annotated[
        str, typer.Option(help="Operations of the stability detector, with commas.  [default: as it is]")
    ] = "",
    temperature: Annotated[float, typer.Option(min=0.01, help="Its temperature, with --copies.")] = 4.0,
    keyed: Annotated[int, typer.Option(help="Copies of a keyed sweep, 1 to 64; 0: as it is.")] = 0,
    keyed_jurors: Annotated[
        str, typer.Option(help="Jurors asked about these copies beside the classifier, with commas, such as robust.")
    ] = "",
) -> None:
    """Put jurors and the contrast detector into a bundle; 'lab conditional' sets their limits afterwards."""
    from firewall.bundle import load_bundle
    from firewall.lab.calibration.jury_bundle import with_jury

    written = with_jury(
        load_bundle(bundle),
        jurors or [],
        out,
        without=names_of(without),
        copies=names_of(copies),
        temperature=temperature,
        keyed=keyed,
        keyed_jurors=names_of(keyed_jurors),
    )
    typer.echo(f"{out}: {written.manifest.name}, SHA-256 {written.sha256}")
