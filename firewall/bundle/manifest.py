"""The schema of `manifest.json`: classifier, detectors, thresholds, calibration, and a hash of every file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from firewall.bundle.numerics import Numerics
from firewall.bundle.onnx_bytes import Precision
from firewall.bundle.patch_spec import PatchSpec
from firewall.bundle.provenance import Provenance
from firewall.bundle.strict import Sha256, Strict
from firewall.verdict import Reason

__all__ = [
    "CONDITIONAL_FILE",
    "LARGEST_FILE",
    "MANIFEST",
    "SIGNATURE",
    "Calibration",
    "ClassifierSpec",
    "DetectorSpec",
    "FileSpec",
    "FinderSpec",
    "FusionSpec",
    "FusionTerm",
    "GoldenFrame",
    "InputSpec",
    "Manifest",
    "PatchSpec",
    "Seen",
    "network_files",
]

MANIFEST = "manifest.json"
SIGNATURE = f"{MANIFEST}.sig"
#: Limits by the size of a region, see firewall.bundle.conditional. Where a bundle has this file it is the rule.
CONDITIONAL_FILE = "conditional.json"
#: The longest file of a bundle, in bytes.
LARGEST_FILE = 1 << 30
_LARGEST_BUNDLE = 2 << 30
_MOST_FILES = 64


def _plain_name(name: str) -> str:
    if name != Path(name).name or name.startswith(".") or name in (MANIFEST, SIGNATURE):
        raise ValueError("a file of a bundle must lie in the bundle's own folder")
    return name


FileName = Annotated[str, AfterValidator(_plain_name)]


class FileSpec(Strict):
    """One file of a bundle.

    Attributes:
        sha256: SHA-256 of the whole file, lower-case hexadecimal.
        bytes: Its length in bytes.
    """

    sha256: Sha256
    bytes: int = Field(ge=1, le=LARGEST_FILE)


class InputSpec(Strict):
    """How pixels become the network's input: (value / 255 - mean) / std, float32 NCHW, RGB.

    Attributes:
        name: Name of the network's input.
        width: Width of the input in pixels.
        height: Height of the input in pixels.
        mean: Subtracted from each channel, in units of 0..1.
        std: Divides each channel after that.
    """

    name: str = "image"
    width: int = Field(ge=8, le=2048)
    height: int = Field(ge=8, le=2048)
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)


class ClassifierSpec(Strict):
    """The classifier to protect.

    Attributes:
        file: An ONNX file of the bundle.
        input: Size and preparation of its input.
        output: Name of the output that holds the logits (N, classes).
        precision: What it computes in. The thresholds were set with it and hold for no other.
        labels: Name of each class, in the order of the logits.
    """

    file: FileName
    input: InputSpec
    output: str = "logits"
    precision: Precision = "fp32"
    labels: tuple[str, ...] = Field(min_length=2)


class FinderSpec(Strict):
    """The network that says where in a frame signs are, see firewall.regions.sign_finder.

    Its input is float32 (N, 3, H, W), RGB 0..255; its output float32 (N, 5, H / stride, W / stride), see
    firewall.regions.finder_map.

    Attributes:
        file: An ONNX file of the bundle.
        input: Name of the network's input.
        output: Name of the network's output.
        stride: Pixels of the input to a place of the output, along each side.
        multiple: What the input's sides are multiples of, in pixels; frames are filled up with black.
        threshold: Places with a lower score, 0..1, are no sign.
        margin: What is added to a sign's box on each side, as a share of that side, before it is classified.
        precision: What it computes in.
    """

    file: FileName
    input: str = "image"
    output: str = "map"
    stride: int = Field(8, ge=1, le=64)
    multiple: int = Field(32, ge=1, le=256)
    threshold: float = Field(gt=0, lt=1)
    margin: float = Field(0.0, ge=0, le=0.5)
    precision: Precision = "fp32"


class Seen(Strict):
    """Images that a detector was fitted to, or that thresholds were set on.

    Attributes:
        dataset: Name of the data set, as `firewall lab attack` uses it.
        part: Part of the data set, named the same way.
        database: SHA-256 of the file that holds the benign images of the database; empty if there is none.
        splits: Splits of the database that were used.
        groups: Numbers of the images' groups (a track, or near duplicates), separated by spaces. The data set gives
            the numbers, so they also say which images of another database of this data set have been seen.
    """

    dataset: str
    part: str
    database: str = ""
    splits: tuple[str, ...] = ()
    groups: str = Field(pattern="^([0-9]+( [0-9]+)*)?$")


class DetectorSpec(Strict):
    """One detector.

    Attributes:
        name: Which detector, see firewall.detectors.
        parameters: What it is built with.
        threshold: A score above it withholds the label.
        fitted: What a trained detector was fitted to. None if nothing was fitted, or if it isn't known.
    """

    name: str
    parameters: dict[str, Any] = Field(default_factory=dict)
    threshold: float
    fitted: Seen | None = None


class FusionTerm(Strict):
    """How one detector's score counts: weight * clip((score - centre) / unit, 0, cap) ** power.

    Attributes:
        detector: Name of the detector.
        centre: The score from which it counts.
        unit: How far above `centre` a score counts 1 before it is weighted.
        weight: Weight of the term in the sum.
        release_below: If the sum is below this once this detector has been asked, the label is released without
            asking the detectors after it.
        withhold_above: A score above this withholds the label, whatever the sum.
    """

    detector: str
    centre: float
    unit: float = Field(gt=0)
    weight: float = Field(ge=0)
    release_below: float | None = None
    withhold_above: float | None = None


class FusionSpec(Strict):
    """One suspicion from all scores, see firewall.decision.fusion.

    Attributes:
        terms: One for each detector, in the order in which the detectors are asked.
        cap: The largest value that a term has before power and weight.
        power: Exponent of each term.
        threshold: A sum above it withholds the label. It replaces the detectors' own thresholds.
        fitted: The images that the weights and early exits were fitted to.
    """

    terms: tuple[FusionTerm, ...] = Field(min_length=1)
    cap: float = Field(gt=0)
    power: float = Field(1.0, ge=1)
    threshold: float
    fitted: Seen | None = None


class Calibration(Strict):
    """What the thresholds were set on, and what was measured with them.

    Attributes:
        data: The calibration images, in words.
        images: How many there are.
        tracks: How many tracks or groups they form, None if that isn't known.
        false_positive_rate: The share of benign images that may be withheld, 0..1.
        split: How the calibration images were kept out of the classifier's training, so that they can be found again.
        rates: Measured rates by name, 0..1.
        attacks: Measured rates by attack and name, 0..1.
        notes: Anything else a reader should know.
        seen: Exactly which images they are, where that is known.
    """

    data: str
    images: int = Field(ge=1)
    tracks: int | None = None
    false_positive_rate: float = Field(gt=0, lt=1)
    split: dict[str, str | int | float] = Field(default_factory=dict)
    rates: dict[str, float] = Field(default_factory=dict)
    attacks: dict[str, dict[str, float]] = Field(default_factory=dict)
    notes: str = ""
    seen: Seen | None = None


class GoldenFrame(Strict):
    """A picture of the bundle, and what the bundle says of it on every device that works: firewall.service.golden.

    Attributes:
        file: A picture of the bundle, PNG.
        regions: What is judged: the whole picture, or the regions that the bundle's finder finds in it.
        released: The classes that are released, 0-based, in ascending order.
        withheld: The reasons of the other verdicts, in alphabetical order.
    """

    file: FileName
    regions: Literal["whole", "signs"] = "whole"
    released: tuple[int, ...] = ()
    withheld: tuple[Reason, ...] = ()

    @model_validator(mode="after")
    def _says_something(self) -> GoldenFrame:
        if not self.released and not self.withheld:
            raise ValueError(f"golden frame {self.file} has no verdict; name the classes or reasons that it gets")
        return self


class Manifest(Strict):
    """`manifest.json`, format 1.

    Attributes:
        format: Version of this schema.
        name: Name of the bundle.
        version: Version of the bundle; devices that trust a key never go back to a lower one.
        created: When it was made, as text.
        files: Every file of the bundle with its length and hash.
        classifier: The classifier to protect.
        detectors: What judges its input.
        fusion: How the scores become one suspicion. None: each detector has its own threshold.
        correction: Parameters of firewall.decision.correction, None if withheld labels are not corrected.
        patches: Release only labels that no sticker of this size can have changed. None: that isn't asked for.
        masked_classifier: Asked instead of the classifier whether a label holds under masks. A network that was
            trained with masks keeps more labels. It has the classifier's labels; its input may have a size of its own.
        finder: Says where in a frame signs are, for '--regions signs'. None: the bundle is of another kind of image.
        calibration: What the thresholds were set on.
        golden: Pictures that a guard judges at its start and now and then. None: there are none.
        numerics: The margin in the thresholds for another processor's arithmetic. None: there is no margin.
        versions: Versions of the programs that made the bundle.
        citations: Sources of its data and methods.
    """

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
    finder: FinderSpec | None = None
    calibration: Calibration
    golden: tuple[GoldenFrame, ...] | None = Field(None, min_length=1, max_length=32)
    numerics: Numerics | None = None
    versions: dict[str, str] = Field(default_factory=dict)
    citations: tuple[str, ...] = ()
    provenance: Provenance | None = None

    @property
    def classifiers(self) -> tuple[ClassifierSpec, ...]:
        """The classifier, and the one for masked images if there is one."""
        return (self.classifier,) if self.masked_classifier is None else (self.classifier, self.masked_classifier)

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
        if masked is not None and (masked.labels != own.labels or masked.file == own.file):
            raise ValueError(
                f"the masked classifier {masked.file} needs a file of its own and the classifier's "
                f"{len(own.labels)} labels in the same order; it has {len(masked.labels)} labels"
            )
        return self

    @model_validator(mode="after")
    def _golden_frames_fit(self) -> Manifest:
        for frame in self.golden or ():
            wrong = [label for label in frame.released if not 0 <= label < len(self.classifier.labels)]
            if wrong:
                raise ValueError(f"golden frame {frame.file} expects class {wrong[0]}, which there is not")
            if frame.regions == "signs" and self.finder is None:
                raise ValueError(f"golden frame {frame.file} needs a finder, and the bundle has none")
        return self

    @property
    def networks(self) -> tuple[ClassifierSpec | FinderSpec, ...]:
        """The classifiers, and the finder if there is one: what names a file and its precision."""
        return self.classifiers if self.finder is None else (*self.classifiers, self.finder)

    @model_validator(mode="after")
    def _finder_has_a_file_of_its_own(self) -> Manifest:
        if self.finder is not None:
            taken = {spec.file for spec in self.classifiers} | set(network_files(self.detectors))
            if self.finder.file in taken:
                raise ValueError(f"the finder's file {self.finder.file} is another network's too; it needs its own")
            if self.finder.multiple % self.finder.stride:
                raise ValueError(
                    f"the finder's multiple {self.finder.multiple} must be one of its stride {self.finder.stride}"
                )
        return self

    @model_validator(mode="after")
    def _each_detector_once(self) -> Manifest:
        names = [spec.name for spec in self.detectors]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:  # scores are kept by name: one of them would not count
            raise ValueError(f"a bundle holds each detector once; {', '.join(twice)} is there more than once")
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


def network_files(detectors: tuple[DetectorSpec, ...]) -> list[str]:
    """The files that detectors name as their networks, in their order."""
    named = [part for spec in detectors for part in (spec.parameters, *_jurors(spec.parameters))]
    return [str(part["file"]) for part in named if "file" in part]


def _jurors(parameters: dict[str, Any]) -> list[dict[str, Any]]:
    """The jurors that a detector asks; whether they are given as they should is checked where it is built."""
    listed = parameters.get("jurors", ())
    return [part for part in listed if isinstance(part, dict)] if isinstance(listed, list | tuple) else []
