"""Why a label was released or withheld."""

from __future__ import annotations

from enum import Enum

__all__ = ["Reason"]


class Reason(str, Enum):
    """Why a label was released or withheld. Few and fixed, so that they can be counted; see also `Verdict.detail`."""

    BENIGN = "benign"
    SUSPICIOUS = "suspicious"
    NOT_A_SIGN = "not a sign"
    OBSTRUCTED = "obstructed"
    UNFIT = "unfit region"
    LOW_CONTRAST = "too little contrast"
    CONTRADICTORY = "contradictory"
    UNCERTIFIED = "not certified"
    UNCONFIRMED = "not confirmed yet"
    REVOKED = "revoked"
    LATE = "late"
    NOTHING_FOUND = "nothing found"
    BAD_IMAGE = "bad image"
    SOURCE_ERROR = "source error"
    STALE = "stale"
    CAMERA_FAULT = "camera fault"
    SELF_TEST = "self-test failed"
    ENGINE_ERROR = "engine error"
    DETECTOR_ERROR = "detector error"
    UNKNOWN = "unknown"

    def __str__(self) -> str:
        return self.value
