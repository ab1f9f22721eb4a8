"""What a bundle promises of its verdicts, with exact bounds: `certificate.json`, a file of the bundle.

`firewall lab certify firewall` makes it from evaluations of the bundle, and `firewall bundle show` shows it. It decides
nothing. It names the hash of what judges (classifier, detectors, thresholds, fusion, and their files), so a certificate
that was copied from another bundle is refused.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal

from pydantic import Field, model_validator

from firewall.bundle import Bundle, Manifest
from firewall.bundle.manifest import CONDITIONAL_FILE, network_files
from firewall.bundle.strict import Sha256, Strict
from firewall.errors import BundleError

__all__ = ["CERTIFICATE_FILE", "CertificateSpec", "ConformalSpec", "EvaluatedSpec", "RateSpec", "certificate", "judges"]

CERTIFICATE_FILE = "certificate.json"
_REMEDY = "firewall lab certify firewall"


class RateSpec(Strict):
    """How often something undesired happened, and the largest rate that is compatible with it (Clopper and Pearson).

    All bounds are one-sided. Values are None if the evaluation doesn't say how frames fall into groups; then
    `upper_if_independent` is all there is, and it is no promise.

    Attributes:
        images: Frames that were looked at.
        hits: Frames on which it happened. Frames of a group are not independent, so no bound uses this count.
        upper_if_independent: Bound of the rate if the frames were independent.
        groups: Groups of frames.
        drawn_hits: Groups of which one frame, drawn at random, is a hit.
        upper: Bound of the rate at a random frame of a new group.
        upper_jointly: The same if all rates of the certificate are to hold at once.
        group_hits: Groups with at least one hit.
        group_upper: Bound of the rate at which a new group has any hit.
    """

    images: int = Field(ge=1)
    hits: int = Field(ge=0)
    upper_if_independent: float = Field(ge=0, le=1)
    groups: int | None = Field(None, ge=1)
    drawn_hits: int | None = Field(None, ge=0)
    upper: float | None = Field(None, ge=0, le=1)
    upper_jointly: float | None = Field(None, ge=0, le=1)
    group_hits: int | None = Field(None, ge=0)
    group_upper: float | None = Field(None, ge=0, le=1)

    @model_validator(mode="after")
    def _possible(self) -> RateSpec:
        most = self.images if self.groups is None else self.groups
        known = [hits for hits in (self.drawn_hits, self.group_hits) if hits is not None]
        if self.hits > self.images or any(hits > most for hits in known):
            raise ValueError(f"more hits than images or groups: {self.hits} of {self.images}, {known} of {most}")
        return self


class ConformalSpec(Strict):
    """The promise that the thresholds were set with.

    Attributes:
        rate: The promised false-positive rate, a mean over calibrations.
        unit: What has to be exchangeable.
        count: Units that the thresholds were set on.
        needed: The fewest units with which this rate can be promised.
        holds: Whether `count` is at least `needed`.
        conditional: If each unit had one frame, the rate of this very calibration lies below this value with the
            certificate's confidence.
        contradicted: Whether an evaluation's lower bound lies above the promised rate.
    """

    rate: float = Field(gt=0, lt=1)
    unit: Literal["groups", "images"]
    count: int = Field(ge=1)
    needed: int = Field(ge=1)
    holds: bool
    conditional: float | None = Field(None, ge=0, le=1)
    contradicted: bool | None = None


class EvaluatedSpec(Strict):
    """One evaluation of the bundle.

    Attributes:
        file: Name of the JSON file that `firewall lab evaluate` wrote.
        sha256: SHA-256 of that file.
        dataset: Data set of the database.
        part: Part of the data set.
        split: Split of the database.
        false_alarms: Benign images that were withheld.
        misses: Attack -> of its images that still fooled the classifier, how many were released.
        families: Kind of attack -> the same for all its attacks together.
        notes: The evaluation's own notes.
    """

    file: str
    sha256: Sha256
    dataset: str
    part: str
    split: str
    false_alarms: RateSpec
    misses: dict[str, RateSpec]
    families: dict[str, RateSpec] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()


class CertificateSpec(Strict):
    """The content of `certificate.json`.

    Attributes:
        judges: What it was made for, see the function of that name.
        confidence: Confidence of each bound.
        bounds: How many bounds hold jointly.
        conformal: The promise that the thresholds were set with.
        evaluations: What was measured.
        not_covered: What the certificate says nothing about, one line each.
    """

    judges: Sha256
    confidence: float = Field(gt=0.5, lt=1)
    bounds: int = Field(ge=1)
    conformal: ConformalSpec
    evaluations: tuple[EvaluatedSpec, ...] = Field(min_length=1)
    not_covered: tuple[str, ...]


def judges(manifest: Manifest) -> str:
    """SHA-256 of all that a verdict depends on: classifier, detectors, thresholds and fusion, and their files."""
    files = {manifest.classifier.file, *network_files(manifest.detectors), *({CONDITIONAL_FILE} & set(manifest.files))}
    content: dict[str, Any] = {
        "classifier": manifest.classifier.model_dump(mode="json"),
        "detectors": [spec.model_dump(mode="json", exclude={"fitted"}) for spec in manifest.detectors],
        "fusion": None if manifest.fusion is None else manifest.fusion.model_dump(mode="json", exclude={"fitted"}),
        "files": {name: manifest.files[name].sha256 for name in sorted(files)},
        **({} if manifest.patches is None else {"patches": manifest.patches.model_dump(mode="json")}),
    }
    if manifest.patches is not None and manifest.masked_classifier is not None:
        masked = manifest.masked_classifier
        content["masked_classifier"] = masked.model_dump(mode="json") | {"sha256": manifest.files[masked.file].sha256}
    return hashlib.sha256(json.dumps(content, sort_keys=True, allow_nan=False).encode()).hexdigest()


def certificate(bundle: Bundle) -> CertificateSpec | None:
    """The certificate in a bundle.

    Args:
        bundle: A verified bundle.

    Returns:
        Its certificate, or None if it has none.

    Raises:
        BundleError: If the certificate is not valid, or was made for another bundle.
    """
    spec = bundle.part(CERTIFICATE_FILE, CertificateSpec, _REMEDY)
    if spec is not None and spec.judges != judges(bundle.manifest):
        raise BundleError(
            f"{CERTIFICATE_FILE} of bundle {bundle.path} was made for other detectors or thresholds; it says nothing "
            f"about this bundle: make it again with '{_REMEDY}'"
        )
    return spec
