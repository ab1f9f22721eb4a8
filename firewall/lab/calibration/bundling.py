"""A trained classifier's folder and normal images -> a calibrated bundle."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from firewall.bundle import Bundle, ClassifierSpec, Seen, write_bundle
from firewall.bundle.onnx_bytes import Precision, precision_of
from firewall.errors import DataError, UsageError
from firewall.export.precision import prepare, to_float16, to_int8
from firewall.frame import Pixels
from firewall.lab.calibration.preparation import IMAGES, check_wiring
from firewall.lab.calibration.thresholds import DETECTORS, calibrate, check_enough
from firewall.lab.database import Database
from firewall.lab.database.normals import calibration_normals
from firewall.lab.datasets import gtsrb
from firewall.lab.datasets.labelled import Labelled, labelled, some_of
from firewall.lab.datasets.notice import say
from firewall.lab.datasets.packs import load_images
from firewall.lab.datasets.reading import at_size, repeated
from firewall.lab.models.classifier_folder import load_card
from firewall.lab.training.detector_folder import Trained, load_trained
from firewall.lab.training.detectors.one_class import ONE_CLASS
from firewall.sources.uri import printable
from firewall.transforms import resize

__all__ = ["calibrate_folder", "calibration_tracks"]

#: Normal images that say how large activations get; more change little.
_SCALES_FROM = 256
_MASKED = "masked.onnx"


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
    accept_preparation: bool = False,
    tell: Callable[[str], None] = lambda _: None,
) -> Bundle:
    """Calibrate on GTSRB's calibration tracks, on any normal images, or on a database's, and write the bundle to `out`.

    detectors: names, and folders of trained ones. judged: splits of the database that are kept for judging, and so are
    not calibrated on. Nor are groups that a detector was fitted to: on those its scores are lower than on images that
    it meets for the first time, and its threshold would be too low. options: as of `load_card`. precision: what the
    classifier is turned into first, "fp16" or "int8" (its scales from some of the normal images); the thresholds are
    then set with that. None: as it is. accept_preparation: go on where the benign images say that the network gets its
    pixels otherwise than it was trained, see `check_wiring`; DataError if not. tell: is given lines on that.
    """
    card, spec, content = load_card(folder, options)
    normal: Sequence[Pixels] | Pixels
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
        shown = some_of(normal, labels, IMAGES)
    elif images is not None:
        found = load_images(images)
        check_enough(len(found), rate, detectors)  # before they are all read
        shown = labelled(images, spec.labels, IMAGES)
        normal = read = at_size(found, spec.input.width, spec.input.height)
        if copies := repeated(read):
            say(
                f"{copies} of the {len(read)} images of {images} have the pixels of an earlier one; copies say nothing "
                f"new: the rate rests on {len(read) - copies} images, take others for the rest"
            )
            notes = "; ".join(part for part in (notes, f"{copies} of the images are copies of others") if part)
        if any(name in detectors for name in ("stability", "confidence", *ONE_CLASS)):
            notes = "; ".join(
                part for part in (notes, "what is usual was measured on the images that set the thresholds") if part
            )
        description = f"{len(normal)} images of {printable(images.resolve().name)}"
    elif database is not None:
        opened, own = Database(database), hashlib.sha256(content).hexdigest()
        if opened.card.classifier.sha256 != own:
            raise DataError(
                f"{database} was made on another classifier (SHA-256 {opened.card.classifier.sha256[:12]}, this one is "
                f"{own[:12]}); its normal images are those that the other names rightly: use a database of this one"
            )
        kept = calibration_normals(opened, [(each.name, each.fitted) for each in trained], judged)
        normal, used = kept.images, kept.seen
        shown = some_of(list(normal), None, IMAGES)
        citations = [*citations, opened.card.dataset.citation] if opened.card.dataset.citation else citations
        notes = "; ".join(part for part in (notes, kept.notes) if part)
        tracks = len(used.groups.split())
        description = (
            f"{len(normal)} normal images of {tracks} groups, splits {' and '.join(used.splits)}, of a database of "
            f"{used.dataset}, part {used.part}"
        )
    else:
        raise DataError("no normal images were named")
    check_enough(len(normal), rate, detectors)  # before any is classified
    notes = "; ".join(part for part in (notes, _wired(spec, content, shown, card, accept_preparation, tell)) if part)
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


def _wired(
    spec: ClassifierSpec,
    content: bytes,
    shown: Labelled,
    card: Mapping[str, Any],
    accept: bool,
    tell: Callable[[str], None],
) -> str:
    """What is to be noted of how the classifier fits the benign images. Raises DataError if it doesn't, unless that is
    accepted."""
    channels = card.get("channels")
    own = channels in ("rgb", "bgr")  # the card of a trained one has a number there
    wiring = check_wiring(spec, content, shown, channels="bgr" if channels == "bgr" else "rgb", alternatives=own)
    for line in wiring.lines(spec.labels):
        tell(line)
    if wiring.refusal and not accept:
        raise DataError(wiring.refusal)
    return f"accepted: {wiring.refusal}" if wiring.refusal else wiring.warning


def _converted(
    content: bytes, precision: Precision, spec: ClassifierSpec, normal: Sequence[Pixels] | Pixels, folder: Path
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
