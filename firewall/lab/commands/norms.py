"""`firewall lab certify linf`, and the trainings of networks for certificates of l2 and linf."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from firewall.lab.commands.certify import DatasetName, Limit, Part
from firewall.lab.commands.options import Bundle, Data, Json, Seed
from firewall.lab.commands.output import write_json
from firewall.lab.commands.training_options import Training, with_training

__all__ = ["add_values", "certify_linf", "train_certified", "train_denoiser", "train_smoothed"]

Out = Annotated[Path, typer.Option(help="Folder for checkpoint, log, ONNX file and card.")]
Start = Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of a run of this command to begin with.")]
Epochs = Annotated[int, typer.Option(min=1, help="Passes over the training images.")]
Rate = Annotated[float, typer.Option(help="Largest learning rate.")]


Varied = Annotated[
    bool, typer.Option("--varied", help="Noise of all levels up to --sigma, to refine a copy for each from.")
]
Consistency = Annotated[float, typer.Option(help="Weight of naming two noisy copies alike.")]
Average = Annotated[float, typer.Option(min=0, max=1, help="What the average of the weights keeps a step.")]
Float32 = Annotated[bool, typer.Option("--float32", help="Don't convert the network to eight bits.")]


def _how(training: Training) -> dict[str, Any]:
    """What a training runs on."""
    on = {"threads": training.threads, "workers": training.workers}
    return {**on, "bfloat16": training.bfloat16, "device": training.device}


@with_training
def train_smoothed(
    *,
    out: Out,
    sigma: Annotated[
        float,
        typer.Option(
            help="Standard deviation of the noise, as a share of the range of a pixel value; 0: no noise, for "
            "'lab train denoiser'."
        ),
    ] = 0.25,
    varied: Varied = False,
    start: Start = None,
    epochs: Epochs = 24,
    learning_rate: Rate = 4e-3,
    consistency: Consistency = 5.0,
    average: Average = 0.995,
    float32: Float32 = False,
    width: Annotated[int, typer.Option(help="Channels of the network, a multiple of 6.")] = 48,
    blocks: Annotated[int, typer.Option(help="Residual blocks of the network, two convolutions each.")] = 0,
    training: Training,
) -> None:
    """Train a small sign classifier on noise, for 'lab certify smoothing'.

    Stop it at any time; the same command goes on from the last finished epoch.
    """
    from firewall.lab.datasets import data_root
    from firewall.lab.training.classifiers.smoothed_classifier import Run, Settings
    from firewall.lab.training.classifiers.smoothed_classifier import train_smoothed as train

    settings = Settings(
        epochs=epochs,
        learning_rate=learning_rate,
        moving_average=average,
        seed=training.seed,
        sigma=sigma,
        varied=varied,
        consistency=consistency,
        width=width,
        blocks=blocks,
    )
    run = Run(start, **_how(training), int8=not float32)
    write_json(train(data_root(training.data), out, settings, run), None)


@with_training
def train_denoiser(
    *,
    out: Out,
    classifier: Annotated[
        str,
        typer.Option(
            help="The classifier that the denoiser is put before: 'default', a bundle, a folder of 'lab train "
            "smoothed --sigma 0 --float32', or an ONNX file; 48x48 pixels."
        ),
    ] = "default",
    sigma: Annotated[
        float, typer.Option(help="Standard deviation of the noise, as a share of the range of a pixel value.")
    ] = 0.25,
    varied: Varied = False,
    start: Start = None,
    epochs: Epochs = 12,
    restoring: Annotated[
        float,
        typer.Option(help="Share of the training that only restores images; the rest is for the classifier's label."),
    ] = 0.3,
    learning_rate: Rate = 3e-3,
    consistency: Consistency = 2.0,
    average: Average = 0.995,
    float32: Float32 = False,
    training: Training,
) -> None:
    """Train a denoiser to put before a classifier that never saw noise, for 'lab certify smoothing'.

    The classifier stays as it is; the folder's ONNX file is both, one behind the other.

    Stop it at any time; the same command goes on from the last finished epoch.
    """
    from firewall.lab.datasets import data_root
    from firewall.lab.training.classifiers.denoiser import DenoiserSettings
    from firewall.lab.training.classifiers.denoiser import train_denoiser as train
    from firewall.lab.training.classifiers.smoothed_classifier import Run

    settings = DenoiserSettings(
        epochs=epochs,
        learning_rate=learning_rate,
        moving_average=average,
        seed=training.seed,
        sigma=sigma,
        varied=varied,
        consistency=consistency,
        restoring=restoring,
    )
    run = Run(start, **_how(training), int8=not float32)
    write_json(train(data_root(training.data), out, classifier, settings, run), None)


@with_training
def train_certified(
    *,
    out: Out,
    eps: Annotated[
        str,
        typer.Option(help="Largest change of a value to train against, such as 2.2/255; a little above what counts."),
    ] = "2.2/255",
    share: Annotated[float, typer.Option(help="Share of the loss that the worst case makes up, 0 to 1.")] = 0.6,
    convolutions: Annotated[int, typer.Option(help="2 or 3; 2 for 'lab certify flow', whose bounds are slow.")] = 3,
    start: Start = None,
    epochs: Epochs = 24,
    learning_rate: Rate = 4e-3,
    training: Training,
) -> None:
    """Train a small sign classifier with interval bounds, for 'lab certify linf' and 'lab certify flow'.

    The interval grows during training; with --start it is whole from the beginning.

    Stop it at any time; the same command goes on from the last finished epoch.
    """
    from firewall.bundle.values import eps_of
    from firewall.lab.certification.interval_training import Settings
    from firewall.lab.certification.interval_training import train_certified as train
    from firewall.lab.datasets import data_root

    settings = Settings(
        epochs=epochs,
        learning_rate=learning_rate,
        seed=training.seed,
        eps=eps_of(eps),
        share=share,
        convolutions=convolutions,
    )
    if start is not None:
        settings = replace(settings, warm=0.0, grown=0.01, moving_average=0.99, strength=0.6)
    write_json(train(data_root(training.data), out, settings, start=start, **_how(training)), None)


def certify_linf(
    network: Annotated[str, typer.Option(help="A folder of 'lab train certified' or another chain, or an ONNX file.")],
    eps: Annotated[
        str, typer.Option(help="Largest change of each value, as a share of its range: 2/255, or a number.")
    ] = "2/255",
    dataset: DatasetName = "gtsrb",
    part: Part = "test",
    limit: Limit = 500,
    quick: Annotated[
        bool, typer.Option("--quick", help="Don't tighten inner bounds where an image isn't certified without.")
    ] = False,
    attack: Annotated[int, typer.Option(help="Steps of PGD that each image is attacked with as well; 0: none.")] = 40,
    restarts: Annotated[int, typer.Option(help="From how many random points PGD begins.")] = 2,
    beside: Annotated[
        str | None,
        typer.Option(
            metavar="CLASSIFIER", help="Count what a guard of this classifier would release: 'default' or a folder."
        ),
    ] = None,
    seed: Seed = 0,
    data: Data = None,
    json_file: Json = None,
) -> None:
    """Prove which images keep their label however every value changes by at most --eps.

    margin: over all such images, the label's logit is proved to exceed every other logit by this much; certified means
    that it is above 0 and the label is right. The proof holds for engines that compute in float32.

    Stop it at any time; with --json the same command goes on from the last image.
    """
    from firewall.bundle.values import eps_of
    from firewall.lab.certification import linf_certificate as linf

    found, journal = linf.certify_linf(
        network,
        dataset,
        part,
        limit,
        eps_of(eps),
        attack=linf.Attacked(attack, restarts),
        tighten=not quick,
        beside=beside,
        seed=seed,
        data=data,
        result=json_file,
    )
    write_json(found, json_file)
    journal.done()


def add_values(
    network: Annotated[Path, typer.Option(metavar="DIR", help="Folder of 'lab train certified'.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The new bundle; may be the bundle's own folder.")],
    bundle: Bundle = "default",
) -> None:
    """Put a network whose labels can be proved into a bundle, for --values on the edge.

    With --values 2/255 the edge releases only labels that are proved by it for all changes of every value by at most
    that. What that costs says 'lab certify linf --network DIR --beside BUNDLE'. Without --values nothing changes.
    """
    from firewall.bundle import load_bundle
    from firewall.lab.certification.values_bundle import with_values

    written = with_values(load_bundle(bundle), network, out)
    typer.echo(f"{out}: {written.manifest.name}, SHA-256 {written.sha256}")
