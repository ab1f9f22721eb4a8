"""`firewall lab certify ...`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from firewall.lab.commands.options import Bundle, Data, Json, Seed, Workers, with_options
from firewall.lab.commands.options import Threads as TorchThreads
from firewall.lab.commands.output import write_json

__all__ = ["certify_app", "certify_report", "masked", "train_masked"]

certify_app = typer.Typer(
    help="Prove that no attack within a stated budget changes a label, and bound the rates that were measured.",
    no_args_is_help=True,
)

Classifier = Annotated[
    str, typer.Option("--bundle", help="'default', a bundle, a folder of 'lab train', or an ONNX file.")
]
DatasetName = Annotated[str, typer.Option("--dataset", help="Data set, as for 'lab attack'.")]
Part = Annotated[str, typer.Option(help="Part of the data set.")]
Limit = Annotated[int, typer.Option(help="Number of images, drawn by the seed.")]
Threads = Annotated[int, typer.Option(min=0, help="Threads of the classifier; 0 = one for each core.")]


@dataclass(frozen=True)
class Subject:
    """A classifier and images, whatever is proved of them: the options of that name."""

    bundle: str
    dataset: str
    part: str
    seed: int
    threads: int
    data: Path | None
    json_file: Path | None

    def certify(
        self,
        prove: partial[dict[str, Any]],
        limit: int,
        *,
        own_pixels: bool = False,
        more: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Write the certificates of so many images; see firewall.lab.certification.classifier.certified."""
        from firewall.lab.certification.classifier import certified

        about = (self.dataset, self.part, limit, self.seed, self.data)
        options: dict[str, Any] = {"threads": self.threads, "result": self.json_file, "own_pixels": own_pixels}
        found, journal = certified(self.bundle, prove, *about, **options)
        found["about"] |= more or {}
        write_json(found, self.json_file)
        journal.done()
        return found


def _subject(
    *,
    bundle: Classifier = "default",
    dataset: DatasetName = "gtsrb",
    part: Part = "test",
    seed: Seed = 0,
    threads: Threads = 1,
    data: Data = None,
    json_file: Json = None,
) -> Subject:
    return Subject(bundle, dataset, part, seed, threads, data, json_file)


@certify_app.command("firewall")
def certify_firewall(
    evaluation: Annotated[
        list[Path],
        typer.Option(metavar="FILE", help="JSON of 'lab evaluate --database' of this bundle; may be given repeatedly."),
    ],
    bundle: Bundle = "default",
    confidence: Annotated[float, typer.Option(help="Confidence of each bound, between 0 and 1.")] = 0.95,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write the bundle with it; may be the bundle's own folder.")
    ] = None,
    json_file: Json = None,
) -> None:
    """Bound the false-positive rate, and the share of attacked images released by attack and family, exactly.

    The bounds are of Clopper and Pearson (1934); the result also says what they do not cover.
    """
    from firewall.bundle import load_bundle
    from firewall.bundle.certificate import CERTIFICATE_FILE
    from firewall.lab.certification.firewall_certificate import certify
    from firewall.lab.evaluation.over_time import with_file

    loaded = load_bundle(bundle)
    spec = certify(loaded, evaluation, confidence=confidence)
    if out is not None:
        with_file(loaded, out, CERTIFICATE_FILE, spec)
    write_json(spec.model_dump(mode="json"), json_file)


@certify_app.command("patch")
@with_options("subject", _subject)
def certify_patch(
    *,
    subject: Subject,
    limit: Limit = 200,
    area: Annotated[
        float, typer.Option(help="Area of the largest square that may change, as a share of the network's input.")
    ] = 0.02,
    masks: Annotated[
        int, typer.Option(help="Masks along each side; more masks are smaller, hide less and cost more.")
    ] = 6,
    rounds: Annotated[
        int, typer.Option(min=1, max=2, help="1: only what one round releases and certifies, over tau; far quicker.")
    ] = 2,
    finer: Annotated[
        int,
        typer.Option(
            help="With --rounds 1: masks along a side, 2 to 6, asked within each mask that is unsure; 0: none."
        ),
    ] = 0,
    choose: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="Choose the tau of rule 'object' that releases this share; 0.97 is usual."),
    ] = None,
    choose_on: Annotated[
        str, typer.Option(help="Part of the data set that --choose looks at, or folder:PATH.")
    ] = "kept-out",
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write the bundle with the curve in it; may be the bundle's own folder."),
    ] = None,
    demand: Annotated[
        bool, typer.Option("--demand", help="With --choose and --out: the bundle asks for these masks and tau itself.")
    ] = False,
) -> None:
    """Prove which images keep their label under any sticker within a square of that area, and what masks release.

    Double masking: PatchCleanser (Xiang et al. 2022); the curve over tau is of one round, see docs/certificates.md.

    Stop it at any time; with --json the same command goes on from the last image.
    """
    from firewall.lab.certification.patches import certify_patches
    from firewall.lab.certification.sticker_bundle import check_wanted, chosen_by, with_curve

    check_wanted(subject.bundle, choose, choose_on, subject.part, out, demand=demand)
    prove = partial(certify_patches, area=area, along=masks, rounds=rounds, finer=finer)
    tau, looked_at = None, dict[str, Any]()
    if choose is not None:
        other = (choose_on, "test") if choose_on.startswith("folder:") else (subject.dataset, choose_on)
        about = (*other, limit, subject.seed, subject.data)
        tau, looked_at = chosen_by(subject.bundle, partial(prove, rounds=1), about, choose, subject.threads)
    found = subject.certify(prove, limit, own_pixels=True, more={} if tau is None else {"chosen": tau})
    if out is not None:
        written = with_curve(subject.bundle, found, out, tau, choose, looked_at, demand=demand)
        typer.echo(f"{out}: {written.manifest.name}, SHA-256 {written.sha256}", err=True)


@certify_app.command("smoothing")
@with_options("subject", _subject)
def certify_smoothing(
    *,
    subject: Subject,
    limit: Limit = 100,
    sigma: Annotated[
        float, typer.Option(help="Standard deviation of the noise, as a share of the range of a pixel value.")
    ] = 0.05,
    samples: Annotated[int, typer.Option(help="Noisy copies of each image.")] = 1000,
    selection: Annotated[int, typer.Option(help="Other noisy copies, by which the class is chosen.")] = 100,
    alpha: Annotated[float, typer.Option(help="Probability that an image's certificate is wrong.")] = 0.001,
) -> None:
    """Prove by randomized smoothing the l2 radius within which the smoothed classifier's label can't change.

    Randomized smoothing: Cohen, Rosenfeld and Kolter (2019).

    Stop it at any time; with --json the same command goes on from the last image.
    """
    from firewall.lab.certification.smoothing import certify_smoothing as smoothed

    prove = partial(smoothed, sigma=sigma, samples=samples, alpha=alpha, selection=selection, seed=subject.seed)
    subject.certify(prove, limit)


@certify_app.command("flow")
def certify_flow(
    network: Annotated[str, typer.Option(help="A folder of 'lab train classifier', such as lenet's, or an ONNX file.")],
    dataset: DatasetName = "mnist",
    part: Part = "test",
    limit: Limit = 20,
    budget: Annotated[
        float, typer.Option(help="Largest total variation of the flow, as for 'lab certify spatial'.")
    ] = 1.0,
    noise: Annotated[float, typer.Option(help="Largest additional noise on each pixel value, 0 to 1.")] = 0.0,
    attack: Annotated[
        int, typer.Option(min=0, help="Steps of a search for such a flow that each image is attacked with; 0: none.")
    ] = 40,
    restarts: Annotated[int, typer.Option(min=1, help="From how many flows the search begins.")] = 2,
    proved: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Result of this command for a larger budget: what that certified is certified here too, at once.",
        ),
    ] = None,
    seed: Seed = 0,
    data: Data = None,
    json_file: Json = None,
) -> None:
    """Prove that no flow field within a budget changes a small convolutional network's label.

    lower_bound: over all flows, the label's logit is proved to exceed every other logit by this much; certified means
    that it is above 0. attacked: the least margin that a search for such flows reached.

    Stop it at any time; with --json the same command goes on with the next image.
    """
    from firewall.lab.certification.flows import certify_flows
    from firewall.lab.certification.spatial_attack import Search

    search = Search(steps=attack, restarts=restarts) if attack else None
    options: dict[str, Any] = {
        "attack": search,
        "proved": proved,
        "seed": seed,
        "data": data,
        "result": json_file,
    }
    found, journal = certify_flows(network, dataset, part, limit, budget, noise, **options)
    write_json(found, json_file)
    journal.done()


def train_masked(
    out: Annotated[Path, typer.Option(help="Folder for checkpoint, log, ONNX file and card.")],
    start: Annotated[
        str,
        typer.Option(
            help="Sign classifier to refine: 'default', a bundle, or a folder of 'lab train'; 'none': random weights."
        ),
    ] = "default",
    area: Annotated[
        float, typer.Option(help="Area of the largest square that may change, as a share of the network's input.")
    ] = 0.02,
    masks: Annotated[int, typer.Option(help="Masks along each side, as for 'lab certify patch'.")] = 6,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs of --images images each.")] = 12,
    images: Annotated[int, typer.Option(min=1, help="Images drawn in each epoch.")] = 4000,
    rate: Annotated[float, typer.Option(help="Largest learning rate.")] = 1e-3,
    worst: Annotated[
        int, typer.Option(min=1, help="Towards the end, train on the worst of this many pairs of masks.")
    ] = 1,
    network: Annotated[
        str, typer.Option(help="'sign': the sign classifier's; 'masks': one that also sees which pixels are hidden.")
    ] = "sign",
    size: Annotated[int, typer.Option(help="Width and height of the input in pixels; masks: 48 or 64.")] = 48,
    extra: Annotated[int, typer.Option(help="masks: residual blocks more at each of the lower resolutions.")] = 0,
    pairs: Annotated[float, typer.Option(help="Share of the images under two masks, the others under one.")] = 1.0,
    central: Annotated[float, typer.Option(help="Share of the masks that lie about the middle.")] = 0.0,
    long: Annotated[float, typer.Option(help="Share of the masks that are long and thin.")] = 0.0,
    least: Annotated[
        int, typer.Option(min=0, help="Smallest mask's side in pixels; 0: 3 less than those of --masks.")
    ] = 0,
    distil: Annotated[
        float, typer.Option(help="Weight, 0 to 1, of what the default classifier says of the whole image.")
    ] = 0.0,
    smoothing: Annotated[float, typer.Option(min=0, max=1, help="Label smoothing.")] = 0.08,
    easy: Annotated[float, typer.Option(min=0, max=1, help="Share of the training before --worst begins.")] = 0.6,
    plain: Annotated[float, typer.Option(help="Share of the images without a mask.")] = 0.15,
    average: Annotated[float, typer.Option(min=0, max=1, help="What the average of the weights keeps a step.")] = 0.99,
    obstructed: Annotated[float, typer.Option(help="Share of the versions with something on the sign.")] = 0.0,
    weather: Annotated[float, typer.Option(help="Share of the versions in bad weather.")] = 0.0,
    int8: Annotated[
        bool, typer.Option("--int8", help="Write the classifier in 8 bits for the processor, beside 'whole.onnx'.")
    ] = False,
    bfloat16: Annotated[
        bool, typer.Option("--bfloat16", help="Compute in bfloat16, where the processor is fast.")
    ] = False,
    seed: Seed = 0,
    threads: TorchThreads = 2,
    workers: Workers = 1,
    data: Data = None,
) -> None:
    """Refine a copy of the sign classifier on images under two masks, for patch certificates.

    Put it into a bundle with 'lab masked'.

    Stop it at any time; the same command goes on from the last finished epoch.
    """
    from firewall.lab.datasets import data_root
    from firewall.lab.training.classifiers.masked_classifier import MaskedSettings
    from firewall.lab.training.classifiers.masked_classifier import train_masked as train

    settings = MaskedSettings(
        epochs=epochs,
        images=images,
        learning_rate=rate,
        moving_average=average,
        seed=seed,
        area=area,
        masks=masks,
        plain=plain,
        worst=worst,
        easy=easy,
        label_smoothing=smoothing,
        network=network,
        size=size,
        extra=extra,
        pairs=pairs,
        central=central,
        long=long,
        least=least,
        distil=distil,
        obstructed=obstructed,
        weather=weather,
        bfloat16=bfloat16,
    )
    card = train(data_root(data), out, settings, start=start, int8=int8, threads=threads, workers=workers)
    write_json(card, None)


def masked(
    classifier: Annotated[Path, typer.Option(metavar="DIR", help="Folder of 'lab train masked'.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The new bundle; may be the bundle's own folder.")],
    bundle: Bundle = "default",
) -> None:
    """Put a classifier that was trained with masks into a bundle.

    With --patches the edge asks it, instead of the bundle's own classifier, whether a label holds under masks. Nothing
    else changes.
    """
    from firewall.bundle import load_bundle
    from firewall.lab.calibration.bundling import with_masked

    written = with_masked(load_bundle(bundle), classifier, out)
    typer.echo(f"{out}: {written.manifest.name}, SHA-256 {written.sha256}")


def certify_report(
    results: Annotated[
        Path, typer.Option(metavar="DIR", help="JSON files of 'lab certify' and 'lab attack spatial'.")
    ] = Path("benchmarks/results/certification"),
    out: Annotated[Path, typer.Option(metavar="FILE", help="HTML file.")] = Path("certify.html"),
    bundle: Annotated[
        str, typer.Option(help="'default' or the folder of a bundle, whose certificate is shown.")
    ] = "default",
    data: Data = None,
    json_file: Json = None,
) -> None:
    """One page of all certificates: what was proved, what attacks achieved, what is not promised."""
    from firewall.bundle import load_bundle
    from firewall.lab.reports import certify

    certify.write(certify.collect(results, load_bundle(bundle)), out, json_file, data, bundle=bundle)
    typer.echo(str(out))
