"""A trained classifier's folder and normal images -> a calibrated bundle."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from firewall.bundle import MANIFEST, Bundle, ClassifierSpec, Seen, load_bundle, write_bundle
from firewall.bundle.written_precision import Precision, precision_of
from firewall.errors import DataError, UsageError
from firewall.export.precision import prepare, to_float16, to_int8
from firewall.frame import Pixels
from firewall.lab.calibration.thresholds import DETECTORS, calibrate
from firewall.lab.database import Database
from firewall.lab.database.normals import calibration_normals
from firewall.lab.datasets import gtsrb
from firewall.lab.datasets.packs import load_images
from firewall.lab.models.onnx_file import specify
from firewall.lab.training.detectors.one_class import ONE_CLASS
from firewall.lab.training.trained import Trained, load_trained
from firewall.transforms import resize

__all__ = ["calibrate_folder", "calibration_tracks", "load_card"]

#: Normal images that say how large activations get; more change little.
_SCALES_FROM = 256
_MASKED = "masked.onnx"


def load_card(folder: Path, options: Mapping[str, str] | None = None) -> tuple[dict[str, Any], ClassifierSpec, bytes]:
    """The card of a classifier's folder, the classifier's specification, and its ONNX file.

    folder: made by 'firewall lab train classifier', or a bundle's, or `default`, or an ONNX file of anybody's. options:
    how that file wants its pixels, and its labels: see `firewall.lab.models.onnx_file.Options`.
    """
    if ".onnx" in folder.name and not folder.is_dir():
        spec, content, note = specify(str(folder), options or {})
        return {"notes": note}, spec, content
    if options:
        raise UsageError(f"--{next(iter(options))} is for an ONNX file; {folder} says itself how it is to be run")
    if str(folder) == "default" or (folder / MANIFEST).is_file():
        bundle = load_bundle(folder)
        classifier = bundle.manifest.classifier
        return {"split": bundle.manifest.calibration.split}, classifier, bundle.files[classifier.file]
    try:
        card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
        spec = ClassifierSpec.model_validate(card["classifier"])
        return card, spec, (folder / spec.file).read_bytes()
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"{folder} is not a classifier's folder ({error}); make one with 'firewall lab train'"
        ) from error


def rewritten(bundle: Bundle, out: Path, files: Mapping[str, bytes], **changed: Any) -> Bundle:
    """`bundle` written to `out` with `files` added or replaced and fields of its manifest changed. `out` may be the
    bundle's own folder. Raises BundleError for a manifest that isn't one any more.

    How `bundle` was made is not how the result was, so its provenance is left out unless `changed` gives another."""
    fields = {field: getattr(bundle.manifest, field) for field in type(bundle.manifest).model_fields}
    del fields["files"], fields["provenance"]
    return write_bundle(out, {**bundle.files, **files}, **{**fields, **changed})


def with_masked(bundle: Bundle, classifier: Path, out: Path) -> Bundle:
    """`bundle` with the classifier of a folder as the one that is asked about masked images, written to `out`.

    Raises DataError for a folder of no classifier, BundleError for one of other labels or another input size.
    """
    _, spec, content = load_card(classifier)
    return rewritten(bundle, out, {_MASKED: content}, masked_classifier=spec.model_copy(update={"file": _MASKED}))


def calibration_tracks(root: Path, split: dict[str, Any]) -> gtsrb.Gtsrb:
    """The GTSRB training tracks that a classifier with this `split` was not trained on."""
    signs = gtsrb.load_train(root)
    _, mask = gtsrb.split_tracks(signs, float(split["calibration_share"]), int(split["seed"]))
    return signs.subset(mask)


def calibrate_folder(
    folder: Path,
    out: Path,
    *,
    detectors: Sequence[str],
    gtsrb_root: Path | None,
    images: Path | None,
    database: Path | None = None,
    judged: Sequence[str] = ("eval",),
    rate: float,
    sweep: int,
    name: str,
    citations: Sequence[str] = (),
    options: Mapping[str, str] | None = None,
    precision: Precision | None = None,
) -> Bundle:
    """Calibrate on GTSRB's calibration tracks, on any normal images, or on a database's, and write the bundle to `out`.

    detectors: names, and folders of trained ones. judged: splits of the database that are kept for judging, and so are
    not calibrated on. Nor are groups that a detector was fitted to: on those its scores are lower than on images that
    it meets for the first time, and its threshold would be too low. options: as of `load_card`. precision: what the
    classifier is turned into first, "fp16" or "int8" (its scales from some of the normal images); the thresholds are
    then set with that. None: as it is.
    """
    card, spec, content = load_card(folder, options)
    normal: list[Pixels]
    labels: npt.NDArray[np.int64] | None = None
    tracks: int | None = None
    used: Seen | None = None
    notes = str(card.get("notes", ""))
    folders = [name for name in detectors if name not in DETECTORS and Path(name).is_dir()]
    trained = [load_trained(Path(name)) for name in folders]
    if gtsrb_root is not None:
        if "split" not in card:
            raise UsageError(
                f"--gtsrb takes the tracks that {folder} was not trained on, which an ONNX file doesn't tell; name "
                "benign images that it was not trained on with --images"
            )
        data = calibration_tracks(gtsrb_root, card["split"])
        normal, labels, tracks = data.images, data.labels, len(np.unique(data.tracks))
        description = f"GTSRB training images of {tracks} tracks kept out of training, correctly classified"
        used = Seen(dataset="gtsrb", part="kept-out", groups=" ".join(map(str, np.unique(data.tracks))))
        _unseen_tracks(trained, used)
    elif images is not None:
        normal = load_images(images)
        if any(name in detectors for name in ("stability", "confidence", *ONE_CLASS)):
            notes = "; ".join(
                part for part in (notes, "what is usual was measured on the images that set the thresholds") if part
            )
        description = f"{len(normal)} images of {images.name}"
    elif database is not None:
        opened, own = Database(database), hashlib.sha256(content).hexdigest()
        if opened.card.classifier.sha256 != own:
            raise DataError(
                f"{database} was made on another classifier (SHA-256 {opened.card.classifier.sha256[:12]}, this one is "
                f"{own[:12]}); its normal images are those that the other names rightly: use a database of this one"
            )
        found = calibration_normals(opened, [(each.name, each.fitted) for each in trained], judged)
        normal, used = list(found.images), found.seen
        citations = [*citations, opened.card.dataset.citation] if opened.card.dataset.citation else citations
        notes = "; ".join(part for part in (notes, found.notes) if part)
        tracks = len(used.groups.split())
        description = (
            f"{len(normal)} normal images of {tracks} groups, splits {' and '.join(used.splits)}, of a database of "
            f"{used.dataset}, part {used.part}"
        )
    else:
        raise DataError("no normal images were named")
    if precision is not None:
        if database is not None:
            raise UsageError(f"--precision makes another classifier of {folder}: name benign images with --images")
        content = _converted(content, precision, spec, normal, folder)
    return calibrate(
        spec,
        content,
        normal,
        out,
        detectors=[name for name in detectors if name not in folders],
        trained=trained,
        data=description,
        labels=labels,
        tracks=tracks,
        rate=rate,
        sweep=sweep,
        name=name,
        citations=citations,
        split=card.get("split"),
        seen=used,
        notes=notes,
    )


def _converted(
    content: bytes, precision: Precision, spec: ClassifierSpec, normal: Sequence[Pixels], folder: Path
) -> bytes:
    written = precision_of(content, str(folder))
    if written == precision:
        return content
    if written != "fp32":
        raise UsageError(f"{folder} computes in {written}, and can't be turned into {precision}; name the fp32 one")
    if precision == "fp32":
        return content
    if precision == "fp16":
        return to_float16(content)
    places = np.unique(np.linspace(0, len(normal) - 1, _SCALES_FROM).astype(np.int64))
    images = [resize(np.ascontiguousarray(normal[place]), spec.input.width, spec.input.height) for place in places]
    return to_int8(content, prepare(np.stack(images), spec.input), target="cpu")


def _unseen_tracks(trained: Sequence[Trained], used: Seen) -> None:
    """Raises DataError if a detector was fitted to one of the tracks."""
    tracks = set(used.groups.split())
    for detector in trained:
        fitted = detector.fitted
        if fitted is None or fitted.dataset != used.dataset or fitted.part == "test":
            continue
        shared = tracks & set(fitted.groups.split())
        if shared:
            raise DataError(
                f"the detector {detector.name} was fitted to {len(shared)} of the {len(tracks)} tracks of --gtsrb; "
                "calibrate on its database with --database, which leaves them out"
            )
