"""The bundle, who signed it and what it promises: the only thing that crosses from the lab to the edge."""

from firewall.bundle.loading import DEFAULT, Bundle, load_bundle, write_bundle
from firewall.bundle.manifest import (
    MANIFEST,
    SIGNATURE,
    Calibration,
    ClassifierSpec,
    DetectorSpec,
    FileSpec,
    FinderSpec,
    FusionSpec,
    FusionTerm,
    GoldenFrame,
    InputSpec,
    Manifest,
    PatchSpec,
    Seen,
)

__all__ = [
    "DEFAULT",
    "MANIFEST",
    "SIGNATURE",
    "Bundle",
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
    "load_bundle",
    "write_bundle",
]
