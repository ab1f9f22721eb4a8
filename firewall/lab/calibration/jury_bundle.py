"""Put jurors into a bundle: `firewall lab add-jury`."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from firewall.bundle import Bundle, DetectorSpec, Manifest
from firewall.bundle.manifest import CONDITIONAL_FILE, network_files
from firewall.detectors import Keyed, Rejection, build
from firewall.detectors.draws import DrawSpec
from firewall.detectors.juror import JurorParameters, is_juror
from firewall.detectors.keyed import KeyedParameters
from firewall.detectors.rejection import NOT_A_SIGN, OBSTRUCTED, REJECTIONS, RejectionParameters
from firewall.detectors.stability import StabilityParameters, StabilityScale
from firewall.engines import OnnxRuntimeNetwork
from firewall.errors import BundleError, DataError, UsageError
from firewall.lab.calibration.bundling import rewritten
from firewall.lab.models.juror import CLEAR
from firewall.lab.models.onnx_reading import parse_onnx
from firewall.transforms.operations import parse_operation

__all__ = ["MASKED", "read_juror", "with_jury"]

#: Stands for the bundle's own classifier for masked images.
MASKED = Path("masked")
#: Until limits are calibrated: at least as probable as all else together, and a standard deviation of 2 % of full
#: luminance, and a mean Hellinger distance of .3.
_FIRST_LIMIT, _LEAST_CONTRAST, _LARGEST_DISTANCE = 0.0, 0.02, 0.3
#: Parts of a bundle that were measured or fitted with the detectors that it had.
_OUTDATED = ("tracks.json", "drift.json", "certificate.json", CONDITIONAL_FILE)
_NOTE = "a jury was put in afterwards: no rate has been measured since"


def with_jury(
    bundle: Bundle,
    folders: Sequence[Path],
    out: Path,
    *,
    without: Sequence[str] = (),
    copies: Sequence[str] = (),
    temperature: float = 4.0,
    keyed: int = 0,
    keyed_jurors: Sequence[str] = (),
) -> Bundle:
    """Write a bundle with jurors and the contrast detector beside, or in place of, the detectors that it has.

    Jurors that it has already are replaced. Where jurors know the class "not a sign", the detector `not-a-sign` asks
    them for it, unless it is left out. A juror of the kind `clear` is asked by the detector `obstructed` alone. Its
    fusion, tracks, drift, certificate and measured rates don't know the
    jurors, so they are left out: set limits with `firewall lab conditional`, then add tracks and drift.

    Args:
        bundle: The bundle.
        folders: Of `firewall lab train juror` or `firewall lab jury`; MASKED for the bundle's own classifier for masked
            images, which is then asked about the whole image too.
        out: Folder of the new bundle; may be the bundle's own. What it held as a bundle before is replaced.
        without: Detectors of the bundle to leave out.
        copies: Operations of the `stability` detector, in place of its own; none: it stays as it is. Its score is then
            the mean distance itself, 0..1, since conditional limits say what is usual.
        temperature: Its temperature, with `copies`.
        keyed: Copies of a keyed sweep, in place of one that the bundle may have; 0: it stays as it is.
        keyed_jurors: Names of jurors that are asked about these copies beside the classifier, such as `robust`.

    Raises:
        UsageError: A detector to leave out isn't there, an operation is unknown, no juror is named, two jurors have one
            name, or the keyed sweep is to ask one that isn't there.
        DataError: A folder holds no juror, or one for another classifier.
        BundleError: A juror's network can't be used.
    """
    manifest, classes = bundle.manifest, len(bundle.manifest.classifier.labels)
    there = [spec.name for spec in manifest.detectors]
    for name in without:
        if name not in (*there, *REJECTIONS):
            raise UsageError(f"--without names {name!r}, which the bundle doesn't have; it has {', '.join(there)}")
    if not folders and not keyed:
        raise UsageError("name the folder of at least one juror with --juror")
    replaced = {name for name in there if is_juror(name) and folders} | {"contrast"}
    replaced |= {Keyed.name} if keyed else set()
    replaced |= set(REJECTIONS) if folders else set()
    kept = tuple(spec for spec in manifest.detectors if spec.name not in {*without, *replaced})
    needed = {*network_files(kept), *(spec.file for spec in manifest.classifiers)}
    dropped = set(network_files(manifest.detectors)) - needed
    files = {name: content for name, content in bundle.files.items() if name not in {*dropped, *_OUTDATED}}
    if copies:
        kept = (*(spec for spec in kept if spec.name != "stability"), _stability(copies, temperature))
    added: dict[str, DetectorSpec] = {}
    named: set[str] = set()
    asked: dict[str, list[dict[str, Any]]] = {name: [] for name in REJECTIONS}
    for folder in folders:
        if folder == MASKED and not folder.exists():
            spec = _masked_juror(manifest)
            added[spec.name] = spec
            continue
        spec, content, card = read_juror(folder)
        if spec.name in named:
            raise UsageError(f"two jurors are called {spec.name}; a jury has each kind once")
        named.add(spec.name)
        _check(folder, spec, content, card, bundle)
        files[str(spec.parameters["file"])] = content
        if spec.name == f"juror-{CLEAR}":
            _asked(OBSTRUCTED, spec, content, classes)
            asked[OBSTRUCTED].append(spec.parameters)
            continue
        added[spec.name] = spec
        with contextlib.suppress(BundleError):  # it has the classifier's classes and no other
            _asked(NOT_A_SIGN, spec, content, classes)
            asked[NOT_A_SIGN].append(spec.parameters)
    if keyed or keyed_jurors:
        added[Keyed.name] = _keyed(keyed, keyed_jurors, (*kept, *added.values()))
    for name, jurors in asked.items():
        if jurors and name not in without:
            parameters = RejectionParameters.model_validate({"jurors": jurors}).model_dump(mode="json")
            added[name] = DetectorSpec(name=name, parameters=parameters, threshold=_FIRST_LIMIT)
    contrast = DetectorSpec(name="contrast", threshold=-math.log(_LEAST_CONTRAST))
    written = rewritten(
        Bundle(bundle.path, manifest, files, bundle.sha256),
        out,
        {},
        detectors=(contrast, *kept, *added.values()),
        fusion=None,
        **_unmeasured(manifest, {spec.name for spec in kept}),
    )
    for name in {*bundle.files} - {*files}:
        with contextlib.suppress(OSError):
            (out / name).unlink(missing_ok=True)  # no part of the bundle any more
    return written


def _masked_juror(manifest: Manifest) -> DetectorSpec:
    spec = manifest.masked_classifier
    if spec is None:
        raise UsageError("--juror masked is the bundle's classifier for masked images, but it has none: 'lab masked'")
    if spec.input.mean != (0.0, 0.0, 0.0) or spec.input.std != (1.0, 1.0, 1.0):
        raise UsageError("--juror masked: a juror reads pixels in 0..1, but the masked classifier has a mean or std")
    parameters = JurorParameters(file=spec.file, width=spec.input.width, height=spec.input.height)
    return DetectorSpec(name="juror-masked", parameters=parameters.model_dump(), threshold=_FIRST_LIMIT)


def _stability(copies: Sequence[str], temperature: float) -> DetectorSpec:
    for name in copies:
        parse_operation(name)
    parameters = StabilityParameters(
        operations=tuple(copies), scales=(StabilityScale(temperature=temperature, median=0.0, above=1.0),)
    )
    return DetectorSpec(name="stability", parameters=parameters.model_dump(), threshold=_LARGEST_DISTANCE)


def _keyed(copies: int, names: Sequence[str], detectors: Sequence[DetectorSpec]) -> DetectorSpec:
    jurors = {spec.name.removeprefix("juror-"): spec.parameters for spec in detectors if is_juror(spec.name)}
    for name in names:
        if name not in jurors:
            raise UsageError(f"--keyed-jurors names {name!r}; the bundle's jurors are {', '.join(jurors) or 'none'}")
    if not 1 <= copies <= 64:
        raise UsageError(f"--keyed is a number of copies from 1 to 64, got {copies}")
    asked = tuple(JurorParameters.model_validate(jurors[name]) for name in names)
    parameters = KeyedParameters(draw=DrawSpec(copies=copies), jurors=asked)
    return DetectorSpec(name=Keyed.name, parameters=parameters.model_dump(mode="json"), threshold=_FIRST_LIMIT)


def read_juror(folder: Path) -> tuple[DetectorSpec, bytes, dict[str, Any]]:
    """A trained juror.

    Args:
        folder: Of `firewall lab train juror`, or one juror's of `firewall lab jury`.

    Returns:
        The detector with a provisional threshold, its ONNX file, and its card.

    Raises:
        DataError: The folder holds no juror, or its file is not the one that was measured.
    """
    try:
        card: dict[str, Any] = json.loads((folder / "card.json").read_text(encoding="utf-8"))
        if "juror" not in card and isinstance(card.get("jurors"), dict):
            named = ", ".join(f"--juror {folder / kind}" for kind in card["jurors"])
            raise DataError(f"{folder} is the folder of a whole jury; name its jurors: {named}")
        about = card["juror"]
        name = f"juror-{about['kind']}"
        content = (folder / Path(str(about["file"])).name).read_bytes()
        parameters = JurorParameters(file=f"{name}.onnx", width=about["width"], height=about["height"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"{error.strerror}: {error.filename}" if isinstance(error, OSError) else f"card.json: {error!r}"
        raise DataError(f"{folder} holds no juror ({reason}); train one with 'firewall lab train juror'") from error
    if hashlib.sha256(content).hexdigest() != card.get("sha256"):
        raise DataError(f"{folder / about['file']} is not the file that its card.json describes; train it again")
    if not is_juror(name):
        raise DataError(f"{folder}: {name!r} is no name for a juror; small letters, digits and hyphens are allowed")
    return DetectorSpec(name=name, parameters=parameters.model_dump(), threshold=_FIRST_LIMIT), content, card


def _check(folder: Path, spec: DetectorSpec, content: bytes, card: dict[str, Any], bundle: Bundle) -> None:
    """Raises DataError for a juror of another classifier, BundleError for one whose network can't be used."""
    classifier = bundle.manifest.classifier
    wanted = classifier.labels
    own = hashlib.sha256(bundle.files[classifier.file]).hexdigest()
    taught = card.get("classifier")
    if isinstance(taught, str) and taught != own:
        raise DataError(
            f"the juror in {folder} was taught by another classifier (SHA-256 {taught[:12]}, this bundle's is "
            f"{own[:12]}); train one for this with 'firewall lab jury'"
        )
    stored = {entry.key: entry.value for entry in parse_onnx(str(folder), content).metadata_props}
    labels = None
    with contextlib.suppress(ValueError):  # what others write there needn't be labels
        labels = json.loads(stored.get("labels", ""))
    if isinstance(labels, list) and tuple(labels[: len(wanted)]) != wanted:
        place = next((n for n, pair in enumerate(zip(labels, wanted, strict=False)) if pair[0] != pair[1]), None)
        first = f"class {place} is {labels[place]!r} there and {wanted[place]!r} here" if place is not None else "fewer"
        raise DataError(
            f"the juror in {folder} is one for other labels: {len(labels)} outputs for {len(wanted)} classes, {first}; "
            "train one for this classifier"
        )
    try:
        build(spec, lambda file: OnnxRuntimeNetwork(content, file, threads=1), len(wanted))
    except BundleError as error:
        raise BundleError(f"{folder}: {error}") from error


def _asked(name: str, juror: DetectorSpec, content: bytes, classes: int) -> None:
    """Raises BundleError where the juror has no class behind the classifier's."""
    Rejection(name, {"jurors": [juror.parameters]}, lambda file: OnnxRuntimeNetwork(content, file, threads=1), classes)


def _unmeasured(manifest: Manifest, kept: set[str]) -> dict[str, Any]:
    """The manifest's measurements without those that the other detectors made."""
    calibration, numerics = manifest.calibration, manifest.numerics
    notes = "; ".join(part for part in (calibration.notes.replace(_NOTE, "").strip("; "), _NOTE) if part)
    if numerics is not None:
        margin = {name: value for name, value in numerics.margin.items() if name in kept}
        numerics = numerics.model_copy(update={"margin": margin}) if margin else None
    return {
        "calibration": calibration.model_copy(update={"rates": {}, "attacks": {}, "notes": notes}),
        "numerics": numerics,
    }
