"""What a bundle promises of its verdicts, with exact bounds: `certificate.json`, a file of the bundle.

It is made by `firewall lab certify firewall` from evaluations of the bundle, and shown by `firewall bundle show`.
Nothing is released or withheld for it. It is bound to what judges (classifier, detectors, thresholds, fusion, and their
files), so that one which was copied into another bundle is told from one of its own.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from firewall.bundle import Bundle, Manifest
from firewall.errors import BundleError

__all__ = ["CERTIFICATE_FILE", "CertificateSpec", "ConformalSpec", "EvaluatedSpec", "RateSpec", "certificate", "judges"]

CERTIFICATE_FILE = "certificate.json"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class RateSpec(_Strict):
    """How often something undesired happened, and the largest rate that is compatible with it (Clopper and Pearson).

    hits of images: what was seen, frame by frame; frames of a group are no independent draws, so no bound rests on it.
    drawn_hits of groups: of one frame drawn from each group. upper: of the rate at a random frame of a new group, and
    upper_jointly where all rates of the certificate shall hold at once. group_hits, group_upper: a group counts as hit
    if any of its frames is. All bounds are one-sided. None: the evaluation doesn't tell how the frames fall into
    groups; then `upper_if_independent`, of the frames, is all there is, and no promise.
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


class ConformalSpec(_Strict):
    """The promise that the thresholds were set with. unit: what has to be exchangeable. count: how many units they were
    set on; needed: the fewest with which the rate can be promised at all. holds: whether there are as many.
    conditional: had each unit one frame, the rate of this very calibration lies below it with the given confidence (the
    promise itself is of the mean over calibrations). contradicted: an evaluation's lower bound lies above the rate.
    """

    rate: float = Field(gt=0, lt=1)
    unit: Literal["groups", "images"]
    count: int = Field(ge=1)
    needed: int = Field(ge=1)
    holds: bool
    conditional: float | None = Field(None, ge=0, le=1)
    contradicted: bool | None = None


class EvaluatedSpec(_Strict):
    """One evaluation. file, sha256: of the JSON of `firewall lab evaluate`. misses: by attack, of its images that still
    fooled the classifier how many were released. families: of all attacks of a kind together. notes: the evaluation's.
    """

    file: str
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    dataset: str
    part: str
    split: str
    false_alarms: RateSpec
    misses: dict[str, RateSpec]
    families: dict[str, RateSpec] = {}
    notes: tuple[str, ...] = ()


class CertificateSpec(_Strict):
    """judges: see the function of that name. confidence: of each bound. bounds: how many hold jointly."""

    judges: str = Field(pattern="^[0-9a-f]{64}$")
    confidence: float = Field(gt=0.5, lt=1)
    bounds: int = Field(ge=1)
    conformal: ConformalSpec
    evaluations: tuple[EvaluatedSpec, ...] = Field(min_length=1)
    not_covered: tuple[str, ...]


def judges(manifest: Manifest) -> str:
    """SHA-256 of all that a verdict depends on: classifier, detectors, thresholds and fusion, and their files."""
    files = {
        manifest.classifier.file,
        *(str(s.parameters["file"]) for s in manifest.detectors if "file" in s.parameters),
    }
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
    """The certificate in a bundle, None if there is none. Raises BundleError if it is no valid one, or another's."""
    content = bundle.files.get(CERTIFICATE_FILE)
    if content is None:
        return None
    try:
        spec = CertificateSpec.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BundleError(
            f"{CERTIFICATE_FILE} of bundle {bundle.path} is not valid: {where}: {first['msg']}; make it anew with "
            "'firewall lab certify firewall'"
        ) from error
    if spec.judges != judges(bundle.manifest):
        raise BundleError(
            f"{CERTIFICATE_FILE} of bundle {bundle.path} was made for other detectors or thresholds; it says nothing "
            "of this bundle: make it anew with 'firewall lab certify firewall'"
        )
    return spec
