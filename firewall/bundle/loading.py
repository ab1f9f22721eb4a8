"""The bundle: everything the edge needs to judge, in one folder, checked before any of it is used.

`manifest.json` names each file with its SHA-256. The hash is checked over the very bytes that are loaded: a file is
read once, compared, and only those bytes are handed on. Nothing in a bundle is pickled.

`manifest.json.sig`, where there is one, is an Ed25519 signature of the manifest's exact bytes; since those hold the
hash of every other file, it vouches for the whole. Whose signatures count stands in firewall.bundle.trust.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from firewall.bundle.external_data import has_external_data
from firewall.bundle.provenance import Provenance
from firewall.bundle.signature import SIGNATURE_BYTES
from firewall.bundle.trust import Standing, Trust
from firewall.bundle.written_precision import Precision, precision_of
from firewall.errors import BundleError

__all__ = [
    "DEFAULT",
    "Bundle",
    "Calibration",
    "ClassifierSpec",
    "DetectorSpec",
    "FileSpec",
    "FusionSpec",
    "FusionTerm",
    "InputSpec",
    "Manifest",
    "PatchSpec",
    "Seen",
    "load_bundle",
    "write_bundle",
]

#: The traffic-sign bundle that comes with the package.
DEFAULT = Path(__file__).parents[1] / "assets" / "default_bundle"
MANIFEST = "manifest.json"
SIGNATURE = f"{MANIFEST}.sig"
_LARGEST_FILE = 1 << 30
_LARGEST_MANIFEST = 16 << 20
_LARGEST_BUNDLE = 2 << 30
_MOST_FILES = 64


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _plain_name(name: str) -> str:
    if name != Path(name).name or name.startswith(".") or name in (MANIFEST, SIGNATURE):
        raise ValueError("a file of a bundle must lie in the bundle's own folder")
    return name


FileName = Annotated[str, AfterValidator(_plain_name)]


class FileSpec(_Strict):
    """sha256: lower-case hexadecimal of the whole file. bytes: its length."""

    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    bytes: int = Field(ge=1, le=_LARGEST_FILE)


class InputSpec(_Strict):
    """How pixels become the network's input: (value / 255 - mean) / std, float32 NCHW, RGB."""

    name: str = "image"
    width: int = Field(ge=8, le=2048)
    height: int = Field(ge=8, le=2048)
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)


class ClassifierSpec(_Strict):
    """The classifier to protect: an ONNX file whose output is logits (N, classes). precision: what it computes in; the
    thresholds were set with it, and hold for no other."""

    file: FileName
    input: InputSpec
    output: str = "logits"
    precision: Precision = "fp32"
    labels: tuple[str, ...] = Field(min_length=2)


class Seen(_Strict):
    """Images that a detector was fitted to, or that thresholds were set on. dataset, part: as `lab attack` names them.
    database: SHA-256 of the file of its normal images, empty where there is none. groups: the numbers of the images'
    groups (a track, near duplicates) with spaces between. The data set numbers them, so they tell which images of
    another database of it have been seen."""

    dataset: str
    part: str
    database: str = ""
    splits: tuple[str, ...] = ()
    groups: str = Field(pattern="^([0-9]+( [0-9]+)*)?$")


class DetectorSpec(_Strict):
    """A detector by name, what it was built with, and the score above which an image is withheld. fitted: what a
    trained one was fitted to, None where nothing was fitted or it isn't known."""

    name: str
    parameters: dict[str, Any] = {}
    threshold: float
    fitted: Seen | None = None


class FusionTerm(_Strict):
    """How one detector's score counts: weight * clip((score - centre) / unit, 0, cap) ** power.

    release_below: once this detector has been asked, a sum below this releases without asking those after it.
    withhold_above: a score above this withholds, whatever the sum.
    """

    detector: str
    centre: float
    unit: float = Field(gt=0)
    weight: float = Field(ge=0)
    release_below: float | None = None
    withhold_above: float | None = None


class FusionSpec(_Strict):
    """One suspicion out of all scores, see firewall.decision.fusion.

    terms: in the order in which the detectors are asked. threshold: a sum above it withholds; it takes the place of the
    detectors' own thresholds. fitted: the images that the weights and early exits were fitted to."""

    terms: tuple[FusionTerm, ...] = Field(min_length=1)
    cap: float = Field(gt=0)
    power: float = Field(1.0, ge=1)
    threshold: float
    fitted: Seen | None = None


class PatchSpec(_Strict):
    """Release only labels that no sticker can have changed, see firewall.decision.masking.

    area: of the largest square sticker, 0..1 of the region's. masks: along a side, so there are masks * masks. rounds:
    1: a label under every mask; 2: under every two, which also says that no sticker could stop double masking from
    naming it. fill: grey value of a mask."""

    area: float = Field(gt=0, lt=1)
    masks: int = Field(6, ge=2, le=16)
    rounds: Literal[1, 2] = 1
    fill: int = Field(128, ge=0, le=255)


class Calibration(_Strict):
    """What the thresholds were set on, and what was measured with them. rates: name -> share 0..1. split: how the
    calibration images were kept out of the classifier's training, so that they can be found again. seen: which
    they are, where that is known."""

    data: str
    images: int = Field(ge=1)
    tracks: int | None = None
    false_positive_rate: float = Field(gt=0, lt=1)
    split: dict[str, str | int | float] = {}
    rates: dict[str, float] = {}
    attacks: dict[str, dict[str, float]] = {}
    notes: str = ""
    seen: Seen | None = None


class Manifest(_Strict):
    """`manifest.json`, format 1. masked_classifier: asked in the classifier's place whether a label holds under masks
    (`patches`): one that was trained with masks keeps more of them. It has the classifier's labels and input size."""

    format: Literal[1] = 1
    name: str
    version: int = Field(1, ge=1)
    created: str
    files: dict[FileName, FileSpec]
    classifier: ClassifierSpec
    detectors: tuple[DetectorSpec, ...] = Field(min_length=1)
    fusion: FusionSpec | None = None
    correction: dict[str, Any] | None = None
    patches: PatchSpec | None = None
    masked_classifier: ClassifierSpec | None = None
    calibration: Calibration
    versions: dict[str, str] = {}
    citations: tuple[str, ...] = ()
    provenance: Provenance | None = None

    @model_validator(mode="after")
    def _fits_into_memory(self) -> Manifest:
        total = sum(spec.bytes for spec in self.files.values())
        if len(self.files) > _MOST_FILES or total > _LARGEST_BUNDLE:
            raise ValueError(
                f"{len(self.files)} files of {total} bytes together; {_MOST_FILES} and {_LARGEST_BUNDLE} are allowed"
            )
        return self

    @model_validator(mode="after")
    def _masked_classifier_answers_the_same_question(self) -> Manifest:
        masked, own = self.masked_classifier, self.classifier
        if masked is not None:
            wanted, there = ((spec.input.width, spec.input.height, spec.labels) for spec in (own, masked))
            if wanted != there or masked.file == own.file:
                raise ValueError(
                    f"the masked classifier {masked.file} needs a file of its own, the classifier's labels and its "
                    f"input of {wanted[0]}x{wanted[1]} pixels; it has {len(masked.labels)} labels and "
                    f"{there[0]}x{there[1]} pixels"
                )
        return self

    @model_validator(mode="after")
    def _fusion_asks_every_detector_once(self) -> Manifest:
        if self.fusion is not None:
            asked, there = [term.detector for term in self.fusion.terms], [spec.name for spec in self.detectors]
            if sorted(asked) != sorted(there):
                raise ValueError(
                    f"the fusion asks {', '.join(asked)}, but the bundle's detectors are {', '.join(there)}"
                )
        return self


@dataclass(frozen=True)
class Bundle:
    """A verified bundle. `files` holds the bytes that were hashed; `sha256` is the manifest's own hash. standing: why
    it may be used; key: the fingerprint of the trusted key that signed it, or empty."""

    path: Path
    manifest: Manifest
    files: dict[str, bytes]
    sha256: str
    standing: Standing = "unsigned"
    key: str = ""

    @property
    def unsigned(self) -> bool:
        """Nobody who is trusted here vouches for it: every verdict has to say so."""
        return self.standing == "unsigned"


def load_bundle(name: str | Path = "default", *, trust: Trust | None = None) -> Bundle:
    """Read and verify a bundle: `default`, or the path of a bundle's folder. The one door to a bundle.

    trust: whose signatures count; None: what the environment says (`Trust.configured`).
    Raises BundleError if it is missing, altered, incomplete, of another format, not signed as it has to be, or older
    than one that was accepted before.
    """
    path = DEFAULT if str(name) == "default" else Path(name)
    # Whoever installs a package may lay its files out as links, and its integrity is the package's.
    packaged = path.resolve() == DEFAULT.resolve()
    inside = None if packaged else path.resolve()
    raw = _read(path / MANIFEST, _LARGEST_MANIFEST, inside)
    manifest = _parse(raw, path)
    standing: Standing = "package"
    key, sha256 = "", hashlib.sha256(raw).hexdigest()
    trust = Trust.configured() if trust is None else trust
    if not packaged:
        # Before anything that the manifest names is opened.
        signed = trust.keys and os.path.lexists(path / SIGNATURE)
        signature = _read(path / SIGNATURE, SIGNATURE_BYTES, inside) if signed else None
        standing, key = trust.standing(raw, signature, path)
    classifiers = [manifest.classifier, *([manifest.masked_classifier] if manifest.masked_classifier else [])]
    for file in (*(classifier.file for classifier in classifiers), *_files_of(manifest.detectors)):
        if file not in manifest.files:
            raise BundleError(f"the manifest of bundle {path} uses {file!r} but doesn't list it; build the bundle anew")
    files = {}
    for file, spec in manifest.files.items():
        content = _read(path / file, _LARGEST_FILE, inside, spec.bytes)
        found = hashlib.sha256(content).hexdigest()
        if len(content) != spec.bytes or found != spec.sha256:
            raise BundleError(
                f"{path / file} is not the file that its bundle was made with (SHA-256 {found[:12]}..., "
                f"expected {spec.sha256[:12]}...); it is not used: install the bundle anew"
            )
        if file.endswith(".onnx") and has_external_data(content, f"{path / file}"):
            raise BundleError(
                f"{path / file} keeps weights in other files, which no hash covers; save the network as one file"
            )
        files[file] = content
    for file, precision in ((classifier.file, classifier.precision) for classifier in classifiers):
        written = precision_of(files[file], f"{path / file}")
        if written != precision:
            raise BundleError(
                f"bundle {path} was calibrated for {precision}, but {file} computes in {written}; its thresholds hold "
                "for no other precision: calibrate it anew with 'firewall export bundle'"
            )
    if standing == "signed":
        trust.not_older(manifest.name, manifest.version, sha256)
    return Bundle(path, manifest, files, sha256, standing, key)


def write_bundle(path: Path, files: dict[str, bytes], **fields: Any) -> Bundle:
    """Write `files` and their manifest (`fields` are Manifest's, less `files`) and load the result back.

    The manifest is written last, so a bundle whose writing was interrupted doesn't load.
    """
    specs = {
        name: FileSpec(sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))
        for name, content in files.items()
    }
    try:
        manifest = Manifest(files=specs, **fields)
    except ValidationError as error:
        raise BundleError(f"can't write bundle {path}: {_first(error)}") from error
    path.mkdir(parents=True, exist_ok=True)
    (path / MANIFEST).unlink(missing_ok=True)
    (path / SIGNATURE).unlink(missing_ok=True)  # of what stood here before
    for name, content in files.items():
        (path / name).write_bytes(content)
    # Versions that don't know of masks refuse a bundle that asks for them, and read all others.
    unasked = {name for name in ("patches", "masked_classifier", "provenance") if getattr(manifest, name) is None}
    text = json.dumps(manifest.model_dump(mode="json", exclude=unasked), indent=1, ensure_ascii=False) + "\n"
    partial = path / f".{MANIFEST}.partial"
    partial.write_text(text, encoding="utf-8")
    partial.replace(path / MANIFEST)
    return load_bundle(path, trust=Trust())  # it was made here a moment ago, and is signed afterwards


def _files_of(detectors: tuple[DetectorSpec, ...]) -> list[str]:
    return [str(spec.parameters["file"]) for spec in detectors if "file" in spec.parameters]


def _read(path: Path, limit: int, inside: Path | None, expected: int | None = None) -> bytes:
    """The bytes of a plain file. inside: the folder that a link may not lead out of. expected: its length; no more than
    one byte beyond that is read."""
    try:
        real = path.resolve(strict=True)
        if inside is not None and not real.is_relative_to(inside):
            raise BundleError(
                f"{path} is a link out of its bundle, to {real}; it is not used: put the file itself there"
            )
        # A pipe in the place of a file would otherwise be waited for.
        with os.fdopen(os.open(real, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise BundleError(f"{path} is no plain file; install the bundle anew")
            content = file.read((limit if expected is None else expected) + 1)
    except (OSError, RuntimeError) as error:  # a loop of links is a RuntimeError before Python 3.13
        why = (error.strerror if isinstance(error, OSError) else None) or error
        raise BundleError(f"can't read {path} ({why}); name a bundle's folder or 'default' with --bundle") from error
    if len(content) > limit:
        raise BundleError(f"{path} is larger than {limit} bytes; that is no file of a bundle")
    return content


def _parse(raw: bytes, path: Path) -> Manifest:
    try:
        values = json.loads(raw)
        found = values.get("format") if isinstance(values, dict) else None
        if found != 1:
            raise BundleError(f"bundle {path} has format {found!r}, this version reads format 1; build the bundle anew")
        return Manifest.model_validate(values)
    except ValidationError as error:
        raise BundleError(f"the manifest of bundle {path} is not valid: {_first(error)}") from error
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise BundleError(f"the manifest of bundle {path} is not readable JSON ({error}); install it anew") from error


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
