"""`firewall lab certify ...`."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from firewall.errors import FirewallError

__all__ = ["certify_app", "certify_report", "masked", "train_masked"]

certify_app = typer.Typer(
    help="Prove what no attack within a stated budget can do, and bound what attacks did.", no_args_is_help=True
)

Bundle = Annotated[str, typer.Option(help="'default' or the folder of a bundle.")]
Classifier = Annotated[
    str, typer.Option("--bundle", help="'default', a bundle, a folder of 'lab train', or an ONNX file.")
]
DatasetName = Annotated[str, typer.Option("--dataset", help="As of 'lab attack'.")]
Part = Annotated[str, typer.Option(help="Of the data set.")]
Limit = Annotated[int, typer.Option(help="Images, drawn by the seed.")]
Seed = Annotated[int, typer.Option(min=0, help="Choice of images, and noise.")]
Threads = Annotated[int, typer.Option(min=0, help="Of the classifier; 0 = one for each core.")]
Data = Annotated[Path | None, typer.Option(help="Folder of the data sets. [default: $FIREWALL_DATA, data, ...]")]
Json = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the result as JSON.")]


@certify_app.command("firewall")
def certify_firewall(
    evaluation: Annotated[
        list[Path],
        typer.Option(metavar="FILE", help="JSON of 'lab evaluate --database' of this bundle; may be given repeatedly."),
    ],
    bundle: Bundle = "default",
    confidence: Annotated[float, typer.Option(help="Of each bound.")] = 0.95,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write the bundle with it; may be the bundle's own folder.")
    ] = None,
    json_file: Json = None,
) -> None:
    """Exact bounds on false alarms, and on misses by attack and by family of attacks; what they do not cover."""
    from firewall.bundle import load_bundle
    from firewall.bundle.certificate import CERTIFICATE_FILE
    from firewall.lab.certification.firewall_certificate import certify
    from firewall.lab.evaluation.over_time import with_file

    loaded = load_bundle(bundle)
    spec = certify(loaded, evaluation, confidence=confidence)
    if out is not None:
        with_file(loaded, out, CERTIFICATE_FILE, spec)
    tell(spec.model_dump(mode="json"), json_file)


@certify_app.command("patch")
def certify_patch(
    bundle: Classifier = "default",
    dataset: DatasetName = "gtsrb",
    part: Part = "test",
    limit: Limit = 200,
    area: Annotated[float, typer.Option(help="Of the largest square sticker, as a share of the region's.")] = 0.02,
    masks: Annotated[int, typer.Option(help="Along each side; smaller and more masks hide less and cost more.")] = 6,
    seed: Seed = 0,
    threads: Threads = 1,
    data: Data = None,
    json_file: Json = None,
) -> None:
    """By double masking: which images keep their label under any sticker within a square of that area.

    Stop it at any time; with --json the same command goes on from the last image.
    """
    from firewall.lab.certification.classifier import certified
    from firewall.lab.certification.patches import certify_patches

    certify = partial(certify_patches, area=area, along=masks)
    found, journal = certified(bundle, certify, dataset, part, limit, seed, data, threads=threads, result=json_file)
    tell(found, json_file)
    journal.done()


@certify_app.command("smoothing")
def certify_smoothing(
    bundle: Classifier = "default",
    dataset: DatasetName = "gtsrb",
    part: Part = "test",
    limit: Limit = 100,
    sigma: Annotated[float, typer.Option(help="Of the noise, as a share of the range of a value.")] = 0.05,
    samples: Annotated[int, typer.Option(help="Noisy copies of each image.")] = 1000,
    alpha: Annotated[float, typer.Option(help="Probability that an image's certificate is wrong.")] = 0.001,
    seed: Seed = 0,
    threads: Threads = 1,
    data: Data = None,
    json_file: Json = None,
) -> None:
    """By randomized smoothing: the l2 radius within which the smoothed classifier's label can't change.

    Stop it at any time; with --json the same command goes on from the last image.
    """
    from firewall.lab.certification.classifier import certified
    from firewall.lab.certification.smoothing import certify_smoothing as smoothed

    certify = partial(smoothed, sigma=sigma, samples=samples, alpha=alpha, seed=seed)
    found, journal = certified(bundle, certify, dataset, part, limit, seed, data, threads=threads, result=json_file)
    tell(found, json_file)
    journal.done()


@certify_app.command("flow")
def certify_flow(
    network: Annotated[str, typer.Option(help="A folder of 'lab train classifier', such as lenet's, or an ONNX file.")],
    dataset: DatasetName = "mnist",
    part: Part = "test",
    limit: Limit = 20,
    budget: Annotated[
        float, typer.Option(help="Largest total variation of the flow, as for 'lab certify spatial'.")
    ] = 1.0,
    noise: Annotated[float, typer.Option(help="Noise of at most so much on each value (0..1) on top.")] = 0.0,
    seed: Seed = 0,
    data: Data = None,
    json_file: Json = None,
) -> None:
    """Prove that no flow field within a budget takes a small convolutional network's label away.

    lower_bound is proved for the label's logit less the largest other, over all flows; certified means that it is > 0.
    """
    from firewall.lab.certification.flows import certify_flows

    tell(certify_flows(network, dataset, part, limit, budget, noise, seed=seed, data=data), json_file)


def train_masked(
    out: Annotated[Path, typer.Option(help="Folder for checkpoint, log, ONNX file and card.")],
    start: Annotated[
        str,
        typer.Option(
            help="The sign classifier to refine: 'default', a bundle, or a folder of 'lab train'; 'none': begin anew."
        ),
    ] = "default",
    area: Annotated[float, typer.Option(help="Of the largest square sticker, as a share of the region's.")] = 0.02,
    masks: Annotated[int, typer.Option(help="Along each side, as for 'lab certify patch'.")] = 6,
    epochs: Annotated[int, typer.Option(min=1, help="Of so many --images.")] = 12,
    images: Annotated[int, typer.Option(min=1, help="Drawn in each epoch.")] = 4000,
    rate: Annotated[float, typer.Option(help="Largest learning rate.")] = 1e-3,
    worst: Annotated[
        int, typer.Option(min=1, help="Show the worst of so many pairs of masks towards the end of the training.")
    ] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Kept-out tracks, order, augmentation and masks.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="Threads of torch.")] = 2,
    workers: Annotated[int, typer.Option(min=0, help="Processes that augment images.")] = 1,
    data: Data = None,
) -> None:
    """Refine a copy of the sign classifier on images under two masks, for patch certificates; calibrate it anew.

    Stop it at any time; the same command goes on from the last finished epoch.
    """
    from firewall.lab.datasets import data_root
    from firewall.lab.training.classifiers.masked_classifier import MaskedSettings
    from firewall.lab.training.classifiers.masked_classifier import train_masked as train

    settings = MaskedSettings(
        epochs=epochs, images=images, area=area, masks=masks, learning_rate=rate, worst=worst, seed=seed
    )
    tell(train(data_root(data), out, settings, start=start, threads=threads, workers=workers), None)


def masked(
    classifier: Annotated[Path, typer.Option(metavar="DIR", help="Made by 'lab train masked'.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The new bundle; may be the bundle's own folder.")],
    bundle: Bundle = "default",
) -> None:
    """Put a classifier that was trained with masks into a bundle: where --patches is given it is asked in place of the
    bundle's own whether a label holds under masks. Nothing else changes."""
    from firewall.bundle import load_bundle
    from firewall.lab.calibration.bundling import with_masked

    written = with_masked(load_bundle(bundle), classifier, out)
    typer.echo(f"{out}: {written.manifest.name}, SHA-256 {written.sha256}")


def certify_report(
    results: Annotated[
        Path, typer.Option(metavar="DIR", help="JSON files of 'lab certify' and 'lab attack spatial'.")
    ] = Path("benchmarks/results/certification"),
    out: Annotated[Path, typer.Option(metavar="FILE", help="HTML file.")] = Path("certify.html"),
    bundle: Annotated[str, typer.Option(help="Its certificate is shown: 'default' or a folder.")] = "default",
    data: Data = None,
    json_file: Json = None,
) -> None:
    """One page of all certificates: what was proved, what attacks reached, what is not promised."""
    from firewall.bundle import load_bundle
    from firewall.lab.reports import certify

    certify.write(certify.collect(results, load_bundle(bundle)), out, json_file, data)
    typer.echo(str(out))


def tell(result: object, json_file: Path | None) -> None:
    """Write `result` as JSON, to stdout if no file is named. Raises FirewallError if the file can't be written."""
    text = json.dumps(result, indent=1) + "\n"
    if json_file is None:
        typer.echo(text, nl=False)
        return
    try:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise FirewallError(f"can't write {json_file}: {error.strerror}") from error
