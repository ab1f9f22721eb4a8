"""The bundle, whose it is and what it promises: the only thing that crosses from the lab to the edge."""

from firewall.bundle.loading import (
    DEFAULT,
    MANIFEST,
    SIGNATURE,
    Bundle,
    Calibration,
    ClassifierSpec,
    DetectorSpec,
    FileSpec,
    FusionSpec,
    FusionTerm,
    InputSpec,
    Manifest,
    PatchSpec,
    Seen,
    load_bundle,
    write_bundle,
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
    "FusionSpec",
    "FusionTerm",
    "InputSpec",
    "Manifest",
    "PatchSpec",
    "Seen",
    "load_bundle",
    "write_bundle",
]
