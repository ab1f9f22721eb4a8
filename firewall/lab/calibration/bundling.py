"""A classifier and benign images -> a calibrated bundle: `firewall lab calibrate`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from firewall.bundle import Bundle, ClassifierSpec, Seen, write_bundle
from firewall.bundle.certificate import CERTIFICATE_FILE
from firewall.bundle.manifest import network_files
from firewall.bundle.onnx_bytes import Precision, precision_of
from firewall.bundle.stickers import STICKERS_FILE
from firewall.bundle.values import VALUES_FILE, VALUES_NETWORK
from firewall.decision.over_time import DRIFT_FILE, TRACKS_FILE
from firewall.errors import DataError, UsageError
from firewall.export.precision import prepare, to_float16, to_int8, with_whole_weights
from firewall.frame import Pixels
from firewall.lab.calibration.preparation import IMAGES, check_wiring
from firewall.lab.calibration.settings import BenignImages, BenignSource, CalibrationSettings, NetworkSettings
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

__all__ = ["calibrate_folder", "calibration_tracks", "rewritten", "wired", "with_masked", "without_golden"]

#: Benign images that say how large activations get; more change little.
_SCALES_FROM = 256
_MASKED = "masked.onnx"
#: Its name where a juror already asks the file of the first name about the whole image: that one stays as it is.
_MASKED_BESIDE = "masks.onnx"
#: Fields and files of a bundle that no verdict on a picture depends on.
_SAME_VERDICTS = frozenset({"provenance", "version", "name", "created", "calibration", "versions", "citations"})
_BESIDE_VERDICTS = frozenset({CERTIFICATE_FILE, DRIFT_FILE, STICKERS_FILE, TRACKS_FILE, VALUES_FILE, VALUES_NETWORK})


def rewritten(bundle: Bundle, out: Path, files: Mapping[str, bytes], **changed: Any) -> Bundle:
    """Write a bundle with some files and fields changed.

    How the given bundle was made is not how the result was: its provenance is left out unless `changed` has another.
    So are its golden frames, unless `changed` has others, if another verdict could be given on them now.

    Args:
        bundle: The bundle.
        out: Folder of the new bundle; may be the bundle's own.
        files: Name -> content; added, or in place of files of the same names.
        **changed: Fields of the manifest.

    Raises:
        BundleError: The result is no valid manifest.
    """
    fields = {field: getattr(bundle.manifest, field) for field in type(bundle.manifest).model_fields}
    del fields["files"], fields["provenance"]
    kept = bundle.files
    same = changed.keys() <= _SAME_VERDICTS and files.keys() <= _BESIDE_VERDICTS
    if "golden" not in changed and not same:
        kept = without_golden(bundle)
        fields["golden"] = None
    return write_bundle(out, {**kept, **files}, **{**fields, **changed})


def without_golden(bundle: Bundle) -> dict[str, bytes]:
    """Name -> content of a bundle's files but its golden frames."""
    golden = {frame.file for frame in bundle.manifest.golden or ()}
    return {name: content for name, content in bundle.files.items() if name not in golden}


def with_masked(bundle: Bundle, classifier: Path, out: Path) -> Bundle:
    """Write a bundle with another classifier for masked images.

    Args:
        bundle: The bundle.
        classifier: Folder of the classifier that is asked about masked images.
        out: Folder of the new bundle; may be the bundle's own.

    Raises:
        DataError: The folder holds no classifier.
        BundleError: It has other labels.
    """
    _, spec, content = load_card(classifier)
    known = {name: file for name, file in bundle.files.items() if name != STICKERS_FILE}  # of the network before
    file = _MASKED_BESIDE if _MASKED in network_files(bundle.manifest.detectors) else _MASKED
    changed = spec.model_copy(update={"file": file})
    return rewritten(replace(bundle, files=known), out, {file: content}, masked_classifier=changed)


def calibration_tracks(root: Path, split: dict[str, Any]) -> gtsrb.Gtsrb:
    """The GTSRB training tracks that a classifier was not trained on.

    Args:
        root: Folder of GTSRB.
        split: As the classifier's card has it: calibration_share and seed.
    """
    signs = gtsrb.load_train(root)
    _, mask = gtsrb.split_tracks(signs, float(split["calibration_share"]), int(split["seed"]))
    return signs.subset(mask)


def calibrate_folder(
    folder: Path,
    out: Path,
    source: BenignSource,
    settings: CalibrationSettings,
    network: NetworkSettings | None = None,
    *,
    tell: Callable[[str], None] = lambda _: None,
) -> Bundle:
    """Calibrate a classifier on benign images and write a bundle.

    Groups that a trained detector was fitted to are not calibrated on: there its scores are lower than on images that
    it sees for the first time, and its threshold would be too low.

    Args:
        folder: Of the classifier, a bundle, or an ONNX file.
        out: Folder of the new bundle.
        source: Of the benign images.
        settings: Detectors, rate and so on.
        network: How the classifier is read; None for the defaults.
        tell: Gets lines on how the classifier fits the images.

    Raises:
        UsageError: An option doesn't fit the classifier.
        DataError: There are too few images, or the classifier doesn't fit them.
    """
    network = network or NetworkSettings()
    card, spec, content = load_card(folder, network.options)
    folders = [name for name in settings.detectors if name not in DETECTORS and Path(name).is_dir()]
    trained = [load_trained(Path(name)) for name in folders]
    if source.gtsrb is not None:
        found = _from_gtsrb(source.gtsrb, folder, card, trained)
    elif source.images is not None:
        found = _from_images(source.images, spec, settings)
    elif source.database is not None:
        found = _from_database(source.database, source.judged, content, trained)
    benign = found.benign
    check_enough(len(benign.images), settings.rate, settings.detectors)  # before any is classified
    note = wired(spec, content, found.shown, card, network.accept_preparation, tell)
    notes = "; ".join(part for part in (str(card.get("notes", "")), benign.notes, note) if part)
    if network.precision is not None:
        if source.database is not None:
            raise UsageError(f"--precision makes another classifier of {folder}: name benign images with --images")
        content = _converted(content, network.precision, spec, benign.images, folder)
    named = replace(
        settings,
        detectors=[name for name in settings.detectors if name not in folders],
        citations=[*settings.citations, *found.citations],
    )
    benign = replace(benign, notes=notes, split=card.get("split") or {})
    return calibrate(spec, content, benign, out, named, trained)


@dataclass(frozen=True, eq=False)
class _Found:
    """Benign images; some of them with their labels, to see whether the classifier fits them; what to cite."""

    benign: BenignImages
    shown: Labelled
    citations: tuple[str, ...] = ()


def _from_gtsrb(root: Path, folder: Path, card: Mapping[str, Any], trained: Sequence[Trained]) -> _Found:
    if "split" not in card:
        raise UsageError(
            f"--gtsrb takes the tracks that {folder} was not trained on, which an ONNX file doesn't say; name benign "
            "images that it was not trained on with --images"
        )
    data = calibration_tracks(root, card["split"])
    tracks = np.unique(data.tracks)
    used = Seen(dataset="gtsrb", part="kept-out", groups=" ".join(map(str, tracks)))
    _unseen_tracks(trained, used)
    description = f"GTSRB training images of {len(tracks)} tracks kept out of training, correctly classified"
    benign = BenignImages(data.images, description, data.labels, len(tracks), used)
    return _Found(benign, some_of(data.images, data.labels, IMAGES))


def _from_images(path: Path, spec: ClassifierSpec, settings: CalibrationSettings) -> _Found:
    found = load_images(path)
    check_enough(len(found), settings.rate, settings.detectors)  # before they are all read
    width, height = spec.input.width, spec.input.height
    shown, notes = labelled(path, spec.labels, IMAGES, keep=lambda image: resize(image, width, height)), []
    read = at_size(found, width, height)
    if copies := repeated(read):
        say(
            f"{copies} of the {len(read)} images of {path} have the pixels of an earlier one; copies say nothing new: "
            f"the rate rests on {len(read) - copies} images, take others for the rest"
        )
        notes.append(f"{copies} of the images are copies of others")
    if any(name in settings.detectors for name in ("stability", "confidence", *ONE_CLASS)):
        notes.append("what is usual was measured on the images that set the thresholds")
    description = f"{len(read)} images of {printable(path.resolve().name)}"
    return _Found(BenignImages(read, description, notes="; ".join(notes)), shown)


def _from_database(path: Path, judged: Sequence[str], content: bytes, trained: Sequence[Trained]) -> _Found:
    opened, own = Database(path), hashlib.sha256(content).hexdigest()
    if opened.card.classifier.sha256 != own:
        raise DataError(
            f"{path} was made on another classifier (SHA-256 {opened.card.classifier.sha256[:12]}, this one is "
            f"{own[:12]}); its benign images are those that the other one gets right: use a database of this one"
        )
    kept = calibration_normals(opened, [(each.name, each.fitted) for each in trained], judged)
    used, tracks = kept.seen, len(kept.seen.groups.split())
    description = (
        f"{len(kept.images)} benign images of {tracks} groups, splits {' and '.join(used.splits)}, of a database of "
        f"{used.dataset}, part {used.part}"
    )
    benign = BenignImages(kept.images, description, tracks=tracks, seen=used, notes=kept.notes)
    citation = opened.card.dataset.citation
    return _Found(benign, some_of(list(kept.images), None, IMAGES), (citation,) if citation else ())


def wired(
    spec: ClassifierSpec,
    content: bytes,
    shown: Labelled,
    card: Mapping[str, Any],
    accept: bool,
    tell: Callable[[str], None],
) -> str:
    """A note on how the classifier fits the benign images. Raises DataError if it doesn't, unless that is accepted."""
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
    if written == "fp16":  # perhaps it is only stored so, and computes in float32
        content = with_whole_weights(content)
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
