"""The bundle: everything the edge needs to judge, in one folder, checked before any of it is used.

`manifest.json` names each file with its SHA-256. The hash is checked over the very bytes that are loaded: a file is
read once, compared, and only those bytes are handed on. Nothing in a bundle is pickled.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

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
    "Seen",
    "load_bundle",
    "write_bundle",
]

#: The traffic-sign bundle that comes with the package.
DEFAULT = Path(__file__).parent / "assets" / "default_bundle"
MANIFEST = "manifest.json"
_LARGEST_FILE = 1 << 30
_LARGEST_MANIFEST = 16 << 20


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _plain_name(name: str) -> str:
    if name != Path(name).name or name.startswith(".") or name == MANIFEST:
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
    """The classifier to protect: an ONNX file whose output is logits (N, classes)."""

    file: FileName
    input: InputSpec
    output: str = "logits"
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
    """

    detector: str
    centre: float
    unit: float = Field(gt=0)
    weight: float = Field(ge=0)
    release_below: float | None = None


class FusionSpec(_Strict):
    """One suspicion out of all scores, see firewall.fusion. terms: in the order in which the detectors are asked.

    threshold: a sum above it withholds; it takes the place of the detectors' own thresholds. fitted: the images that
    the weights and early exits were fitted to.
    """

    terms: tuple[FusionTerm, ...] = Field(min_length=1)
    cap: float = Field(gt=0)
    power: float = Field(1.0, ge=1)
    threshold: float
    fitted: Seen | None = None


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
    """`manifest.json`, format 1."""

    format: Literal[1] = 1
    name: str
    version: int = Field(1, ge=1)
    created: str
    files: dict[FileName, FileSpec]
    classifier: ClassifierSpec
    detectors: tuple[DetectorSpec, ...] = Field(min_length=1)
    fusion: FusionSpec | None = None
    correction: dict[str, Any] | None = None
    calibration: Calibration
    versions: dict[str, str] = {}
    citations: tuple[str, ...] = ()

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
    """A verified bundle. `files` holds the bytes that were hashed; `sha256` is the manifest's own hash."""

    path: Path
    manifest: Manifest
    files: dict[str, bytes]
    sha256: str


def load_bundle(name: str | Path = "default") -> Bundle:
    """Read and verify a bundle: `default`, or the path of a bundle's folder.

    Raises BundleError if it is missing, altered, incomplete, or of another format.
    """
    path = DEFAULT if str(name) == "default" else Path(name)
    raw = _read(path / MANIFEST, _LARGEST_MANIFEST)
    manifest = _parse(raw, path)
    for file in (manifest.classifier.file, *_files_of(manifest.detectors)):
        if file not in manifest.files:
            raise BundleError(f"the manifest of bundle {path} uses {file!r} but doesn't list it; build the bundle anew")
    files = {}
    for file, spec in manifest.files.items():
        content = _read(path / file, _LARGEST_FILE)
        found = hashlib.sha256(content).hexdigest()
        if len(content) != spec.bytes or found != spec.sha256:
            raise BundleError(
                f"{path / file} is not the file that its bundle was made with (SHA-256 {found[:12]}..., "
                f"expected {spec.sha256[:12]}...); it is not used: install the bundle anew"
            )
        files[file] = content
    return Bundle(path, manifest, files, hashlib.sha256(raw).hexdigest())


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
    for name, content in files.items():
        (path / name).write_bytes(content)
    text = json.dumps(manifest.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n"
    partial = path / f".{MANIFEST}.partial"
    partial.write_text(text, encoding="utf-8")
    partial.replace(path / MANIFEST)
    return load_bundle(path)


def _files_of(detectors: tuple[DetectorSpec, ...]) -> list[str]:
    return [str(spec.parameters["file"]) for spec in detectors if "file" in spec.parameters]


def _read(path: Path, limit: int) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise BundleError(
            f"can't read {path} ({error.strerror or error}); name a bundle's folder or 'default' with --bundle"
        ) from error
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
