"""`firewall export ...`: from a trained classifier to a signed bundle. Heavy packages are imported inside commands."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from firewall.bundle.cli import AllowUnsigned, TrustedKeys, sign_bundle
from firewall.errors import UsageError
from firewall.export.device_command import export_tensorrt
from firewall.lab.commands.onnx_options import Wiring, with_wiring

if TYPE_CHECKING:
    from firewall.export.parity import Parity
    from firewall.frame import Pixels

__all__ = ["app"]

app = typer.Typer(
    help="Offline: turn a trained classifier into ONNX and a signed bundle; each step is verified.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Out = Annotated[Path, typer.Option(help="File or folder to write.")]
JsonFile = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the result as JSON.")]


@app.command("onnx")
def export_onnx(
    checkpoint: Annotated[
        Path, typer.Option(metavar="F", help="checkpoint.pt from 'lab train classifier', or its folder.")
    ],
    out: Out,
    images: Annotated[
        Path | None,
        typer.Option(help="Folder or pack of images to compare with. \\[default: test images of its data set]"),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="The most images that are used, spread evenly.")] = 256,
    data: Annotated[Path | None, typer.Option(help="Folder of the data sets.")] = None,
    json_file: JsonFile = None,
) -> None:
    """Write a trained classifier as ONNX: any batch size, normalisation inside, labels in its metadata. Nothing is
    written unless it gives the same results as torch on real images."""
    import numpy as np

    from firewall import __version__
    from firewall.engines import OnnxRuntimeNetwork
    from firewall.export.checkpoint import read_trained
    from firewall.export.onnx import export_classifier
    from firewall.export.parity import compare
    from firewall.host.onnxruntime import ort
    from firewall.lab.datasets import data_root, open_dataset
    from firewall.lab.datasets.packs import load_images
    from firewall.transforms import resize

    trained = read_trained(checkpoint)
    if images is None:
        found: Sequence[Pixels] = open_dataset(trained.dataset, data_root(data), part="test").images
        source = f"{trained.dataset} test images"
    else:
        found, source = load_images(images), f"images of {images.name}"
    coloured = (np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image for image in _spread(found, limit))
    pixels = np.stack([resize(np.ascontiguousarray(image), trained.size, trained.size) for image in coloured])
    export_classifier(trained.network, out, size=trained.size, labels=trained.labels, images=pixels)
    values = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2), np.float32) / np.float32(255)
    exported = OnnxRuntimeNetwork(out.read_bytes(), str(out))
    found_there = [exported(values[start : start + 64]) for start in range(0, len(values), 64)]
    parity = compare(trained.logits(values), np.concatenate(found_there))
    parity.check(f"onnxruntime {ort.__version__} against torch")
    typer.echo(
        f"{out}: {trained.architecture}, {len(trained.labels)} classes, float32 (N, 3, {trained.size}, {trained.size}) "
        f"RGB 0..1, {out.stat().st_size} bytes"
    )
    table = Table("torch against onnxruntime", "", box=None)
    _add_parity(table, parity, source)
    Console().print(table)
    if json_file is not None:
        result = {"architecture": trained.architecture, "images": source, **parity.to_json(), "firewall": __version__}
        json_file.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


@app.command("bundle")
@with_wiring
def export_bundle(
    *,
    classifier: Annotated[
        Path,
        typer.Option(
            help="PATH.onnx, a folder from 'lab train classifier', or a bundle that is to be calibrated again."
        ),
    ],
    out: Out,
    detectors: Annotated[
        str, typer.Option(help="Comma-separated names as in 'lab calibrate', or folders of trained detectors.")
    ] = "agreement,stability,confidence",
    images: Annotated[Path | None, typer.Option(help="Folder or pack of benign images to calibrate on.")] = None,
    database: Annotated[
        Path | None, typer.Option(metavar="DB", help="Calibrate on the benign images of a database instead.")
    ] = None,
    fit: Annotated[
        Path | None,
        typer.Option(
            metavar="DB", help="Fuse the detectors; weights and early exits are fitted to this database's attacks."
        ),
    ] = None,
    wiring: Wiring,
    precision: Annotated[
        str | None,
        typer.Option(
            help="Turn the classifier into int8 (for the CPU; scales from the benign images) or fp16 first. "
            "\\[default: as it is]"
        ),
    ] = None,
    false_positive_rate: Annotated[float, typer.Option(help="Share of benign images that may be withheld.")] = 0.01,
    name: Annotated[str, typer.Option(help="Name of the bundle; each name has its own versions.")] = "traffic-signs",
    version: Annotated[
        int, typer.Option(min=1, help="Version of the bundle; devices never go back to a lower one.")
    ] = 1,
    key: Annotated[
        Path | None, typer.Option(metavar="KEY", help="Private key to sign with, from 'firewall bundle keygen'.")
    ] = None,
    passphrase_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="File whose first line is the key's passphrase.")
    ] = None,
) -> None:
    """Calibrate detectors for a classifier and write a bundle; it is signed if a key is given."""
    from firewall.bundle import load_bundle
    from firewall.bundle.onnx_bytes import PRECISIONS
    from firewall.bundle.signature import read_passphrase, read_private
    from firewall.bundle.trust import Trust
    from firewall.lab.calibration.bundling import calibrate_folder
    from firewall.lab.calibration.fusion_bundle import FusionSettings, fuse
    from firewall.lab.calibration.settings import BenignSource, CalibrationSettings, NetworkSettings
    from firewall.lab.database import Database
    from firewall.lab.models import open_classifier

    if (images is None) == (database is None):
        raise UsageError("name the benign images by one of --images and --database")
    if fit is not None and database is None:
        raise UsageError("--fit needs --database: a fusion's threshold is set on benign images whose groups are known")
    chosen = next((known for known in PRECISIONS if known == precision), None)
    if precision is not None and chosen is None:
        raise UsageError(f"--precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    if version > 1 and key is None:
        raise UsageError("--version is written when the bundle is signed; give --key too")
    if key is not None:
        read_private(key, read_passphrase(passphrase_file))  # a wrong passphrase is refused before the work begins
    bundle = calibrate_folder(
        classifier,
        out,
        BenignSource(images=images, database=database),
        CalibrationSettings([part for part in detectors.split(",") if part], rate=false_positive_rate, name=name),
        NetworkSettings(wiring.options, chosen, wiring.accept_preparation),
        tell=lambda line: typer.echo(line, err=True),
    )
    if fit is not None and database is not None:
        protected = open_classifier(str(out))
        bundle = fuse(
            bundle, protected, Database(fit), Database(database), out, FusionSettings(rate=false_positive_rate)
        ).bundle
    if key is not None:
        fingerprint = sign_bundle(out, key, passphrase=passphrase_file, version=version)
        bundle = load_bundle(out, trust=Trust())
    signed = f"signed by {fingerprint}" if key is not None else "unsigned: sign it with 'firewall bundle sign'"
    manifest = bundle.manifest
    typer.echo(
        f"{out}: {manifest.name} version {manifest.version}, {', '.join(spec.name for spec in manifest.detectors)}, "
        f"calibrated on {manifest.calibration.images} images, {manifest.classifier.precision}, {signed}"
    )


app.command("tensorrt")(export_tensorrt)


@app.command("verify")
def export_verify(
    images: Annotated[Path, typer.Option(help="Folder or pack of images to compare with.")],
    bundle: Annotated[str, typer.Option(help="'default' or the folder of a bundle.")] = "default",
    trust: TrustedKeys = None,
    allow_unsigned: AllowUnsigned = None,
    limit: Annotated[int, typer.Option(min=1, help="The most images that are used, spread evenly.")] = 100,
    threads: Annotated[int, typer.Option(min=0, max=256, help="Threads of ONNX Runtime; 0 = one per core.")] = 0,
    plans: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of TensorRT plans, as in 'export tensorrt --out'.")
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Compare torch, ONNX Runtime and TensorRT on all networks of a bundle: what each says, and the firewall's labels
    and verdicts. A GPU is tried by ONNX Runtime's CUDA provider, if it is installed, and by TensorRT in every precision
    that a plan was built for on this device.

    Exit code 1 if they differ by more than rounding, or in any label or verdict.
    """
    from firewall.bundle import load_bundle
    from firewall.bundle.trust import Trust
    from firewall.export.images import read_images
    from firewall.export.on_device import open_cuda, open_finders, open_plans
    from firewall.export.verification import Verified, verify

    loaded = load_bundle(bundle, trust=Trust.configured(trust, allow_unsigned, remember=False))
    found = read_images(images, limit)
    opened, missing = open_plans(loaded, folder=plans)
    finders, no_finder = open_finders(loaded, folder=plans)
    on_cuda, cuda_finders, no_cuda = open_cuda(loaded)
    results = verify(loaded, found, threads=threads, plans=[*opened, *on_cuda], finders=[*finders, *cuda_finders])
    for result in results:
        table = Table(f"{result.network}: {result.reference} against {result.runtime}", "", box=None)
        if isinstance(result, Verified):
            beside = result.score is None
            _add_parity(table, result.logits, f"asked for {images.name}" if beside else f"of {images.name}")
            if not beside:
                table.add_row("same verdict", f"{result.logits.images - len(result.apart)} of {result.logits.images}")
                table.add_row("largest difference of a score", f"{result.score:.3g}")
        else:
            table.add_row("largest difference", f"{result.maps.largest:.3g} (allowed {result.maps.allowed:.3g})")
            table.add_row("mean difference", f"{result.maps.mean:.3g}")
            table.add_row("same boxes and verdicts", f"{result.frames - len(result.apart)} of {result.frames} frames")
        Console().print(table)
    reasons = {"TensorRT": missing, "TensorRT, sign finder": "" if missing == no_finder else no_finder, "CUDA": no_cuda}
    for what, why in reasons.items():
        if why:
            typer.echo(f"{what}: {why}")
    if json_file is not None:
        compared = [result.to_json() for result in results]
        content = {"bundle": loaded.manifest.name, "sha256": loaded.sha256, "compared": compared, **reasons}
        json_file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    for result in results:
        result.check()


def _add_parity(table: Table, parity: Parity, source: str) -> None:
    table.add_row("images", f"{parity.images} {source}")
    table.add_row("largest difference of a logit", f"{parity.largest:.3g} (allowed {parity.allowed:.3g})")
    table.add_row("mean difference", f"{parity.mean:.3g}")
    table.add_row("same label", f"{parity.same_label} of {parity.images}")
    table.add_row("same five likeliest, in order", f"{parity.same_top5} of {parity.images}")


def _spread(images: Sequence[Pixels], limit: int) -> Iterator[Pixels]:
    """At most `limit` images at even distances from the first to the last, decoded one at a time."""
    from firewall.export.images import spread

    return (images[place] for place in spread(range(len(images)), limit))
