"""Built TensorRT engines ("plans"), kept on disk under a key, and never used unless key and hash fit.

A plan is executable code for one GPU and one version of TensorRT, and its format has no protection of its own: whoever
may write the file decides what runs. So a plan is only made here, on the device, from a bundle's verified ONNX; the
folder and its files must belong to whoever runs the firewall (or to root) and nobody else may write to them. The hash
beside a plan finds damage and mix-ups; it is no signature.

Each plan is two files: `NAME.plan` and `NAME.json`, the note with its key, its SHA-256 and what was read back from it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from firewall.bundle.onnx_bytes import PRECISIONS, Precision
from firewall.bundle.strict import Sha256, Strict
from firewall.errors import EngineError, UsageError
from firewall.host.file_writing import replace_file
from firewall.host.user_folder import place_of

__all__ = ["FrameSizes", "Plan", "PlanCache", "PlanKey", "Profile", "Target", "plan_folder", "precision_named"]

_LARGEST_PLAN = 4 << 30
_LARGEST_NOTE = 1 << 20
_BUILD = "build it on this device with 'firewall export tensorrt'"


class Profile(Strict):
    """Batch sizes that a plan takes: fewest, the one that it is fastest at, most."""

    least: int = Field(1, ge=1)
    best: int = Field(ge=1)
    most: int = Field(ge=1, le=4096)

    @model_validator(mode="after")
    def _in_order(self) -> Profile:
        if not self.least <= self.best <= self.most:
            raise ValueError(f"batch sizes {self.least}, {self.best}, {self.most} must not fall")
        return self


class FrameSizes(Strict):
    """Sizes of whole frames that a plan takes, each (height, width) in pixels: smallest, the one that it is fastest at,
    largest."""

    least: tuple[int, int]
    best: tuple[int, int]
    most: tuple[int, int]

    @model_validator(mode="after")
    def _in_order(self) -> FrameSizes:
        sides = zip(self.least, self.best, self.most, strict=True)
        if not all(1 <= least <= best <= most for least, best, most in sides):
            raise ValueError(f"frame sizes {self.least}, {self.best}, {self.most} must not fall")
        return self


@dataclass(frozen=True, slots=True)
class Target:
    """A network, and where it is to run.

    Attributes:
        onnx: SHA-256 of the ONNX file in the bundle.
        output: Name of the output that the plan gives.
        tensorrt: Version of the package.
        gpu: Name of the GPU, as CUDA gives it.
        compute_capability: Such as "8.7", as CUDA gives it.
    """

    onnx: str
    output: str
    tensorrt: str
    gpu: str
    compute_capability: str


class PlanKey(Strict):
    """What a plan depends on; another value of any of these needs another plan.

    Attributes:
        onnx: SHA-256 of the ONNX file in the bundle, before anything was done to it.
        output: Name of the output that the plan gives.
        tensorrt: Version of the package.
        gpu: As CUDA names them.
        compute_capability: Such as "8.7", as CUDA gives it.
        precision: What the plan computes in.
        profile: Batch sizes that it takes.
        frame: Frames that it takes, if the network reads whole frames of any size. None: the size is fixed.
    """

    onnx: Sha256
    output: str
    tensorrt: str
    gpu: str
    compute_capability: str = Field(pattern=r"^[0-9]+\.[0-9]+$")
    precision: Precision
    profile: Profile
    frame: FrameSizes | None = None

    def shapes(self, read: tuple[int, ...]) -> list[tuple[int, ...]]:
        """Smallest, best and largest shape of an input whose shape is `read`, -1 where a side is free."""
        batches = (self.profile.least, self.profile.best, self.profile.most)
        if self.frame is None:
            return [(count, *read[1:]) for count in batches]
        sides = (self.frame.least, self.frame.best, self.frame.most)
        return [(count, *read[1:-2], *size) for count, size in zip(batches, sides, strict=True)]

    @property
    def target(self) -> Target:
        """The key without precision and profile."""
        return Target(self.onnx, self.output, self.tensorrt, self.gpu, self.compute_capability)

    @property
    def name(self) -> str:
        """Stem of the plan's files."""
        told = self.model_dump(exclude_none=True)  # plans of before there were frames keep their names
        digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
        return f"{self.onnx[:12]}-{self.precision}-{digest[:16]}"


class _Note(Strict):
    """NAME.json. network: SHA-256 of the ONNX that the plan was built from, precision written in. layers: what was read
    back from the built engine. made: whatever else is worth knowing."""

    format: Literal[1] = 1
    key: PlanKey
    sha256: Sha256
    bytes: int = Field(ge=1, le=_LARGEST_PLAN)
    network: Sha256
    layers: dict[str, int]
    made: dict[str, Any] = Field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """A plan whose key and hash fit.

    Attributes:
        key: What the plan was built for.
        content: The very bytes that were hashed; the rest as in its note.
        network: SHA-256 of the ONNX that it was built from.
        layers: Type -> layers that multiply in it.
        made: Whatever else is worth knowing.
    """

    key: PlanKey
    content: bytes
    network: str
    layers: dict[str, int]
    made: dict[str, Any]


class PlanCache:
    """The plans in a folder.

    Args:
        folder: None = `plan_folder()`. It is made when a plan is stored.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = plan_folder() if folder is None else folder

    def load(self, key: PlanKey) -> Plan:
        """The plan for a key.

        Raises:
            EngineError: If there is none, or it is not the one that was built for this key.
        """
        self._check_folder()
        note = self._note(self.folder / f"{key.name}.json")
        path = self.folder / f"{key.name}.plan"
        if note.key != key:
            raise EngineError(f"{path} was built for another key than {_short(key)}; it is not loaded: {_BUILD}")
        content = _read(path, _LARGEST_PLAN)
        found = hashlib.sha256(content).hexdigest()
        if len(content) != note.bytes or found != note.sha256:
            raise EngineError(
                f"{path} is not the file that was built (SHA-256 {found[:12]}..., expected {note.sha256[:12]}...); "
                f"it is not loaded: {_BUILD}"
            )
        return Plan(key, content, note.network, note.layers, note.made)

    def find(self, target: Target, precision: Precision | None = None) -> Plan:
        """The one plan for this network and device. Of several the one with the largest batch or frame is taken.

        Args:
            target: Network and device.
            precision: Which, if there are plans of several.

        Returns:
            The plan, checked.

        Raises:
            EngineError: If there is none, if it is ambiguous, or if it is not the file that was built.
        """
        keys = [key for key in self.entries() if key.target == target and precision in (None, key.precision)]
        place = f"{target.gpu} (compute capability {target.compute_capability}) and TensorRT {target.tensorrt}"
        if not keys:
            kind = "" if precision is None else f"{precision} "
            raise EngineError(
                f"no {kind}TensorRT plan for network {target.onnx[:12]} on {place} in {self.folder}; {_BUILD}"
            )
        there = sorted({key.precision for key in keys})
        if len(there) > 1:
            raise EngineError(
                f"{self.folder} has plans of precision {', '.join(there)} for network {target.onnx[:12]}; name "
                "one with FIREWALL_PRECISION, or remove those that are not to be used"
            )
        return self.load(max(keys, key=_reach))

    def entries(self) -> list[PlanKey]:
        """Of all plans whose notes can be read and lie under the right name; the others can't be loaded anyway."""
        self._check_folder()
        keys = []
        for path in sorted(self.folder.glob("*.json")):
            with contextlib.suppress(EngineError):
                key = self._note(path).key
                if key.name == path.stem:
                    keys.append(key)
        return keys

    def store(
        self, key: PlanKey, content: bytes, *, network: str, layers: Mapping[str, int], made: Mapping[str, Any]
    ) -> Path:
        """Write a plan and its note; path of the plan.

        Raises:
            EngineError: If the folder can't be used.
        """
        self.prepare()
        note = _Note(
            key=key,
            sha256=hashlib.sha256(content).hexdigest(),
            bytes=len(content),
            network=network,
            layers=dict(layers),
            made=dict(made),
        )
        path = self.folder / f"{key.name}.plan"
        text = json.dumps(note.model_dump(mode="json"), indent=1) + "\n"
        # A plan without its note is never loaded, so the note goes first and comes last.
        note_path = path.with_suffix(".json")
        try:
            note_path.unlink(missing_ok=True)
            replace_file(path, content, mode=0o600)
            replace_file(note_path, text.encode(), mode=0o600)
        except OSError as error:
            raise EngineError(f"can't write {path} ({error.strerror}); name another folder with --out") from error
        return path

    def timing(self, tensorrt: str, gpu: str) -> bytes:
        """What TensorRT has measured on this GPU so far; empty if nothing, or if the file may not be trusted."""
        try:
            self._check_folder()
            return _read(self._timing_file(tensorrt, gpu), _LARGEST_PLAN)
        except EngineError:
            return b""

    def store_timing(self, tensorrt: str, gpu: str, content: bytes) -> None:
        """Keep it for the next build, which is then faster; a disk that is full is no reason to fail."""
        with contextlib.suppress(OSError):
            replace_file(self._timing_file(tensorrt, gpu), content, mode=0o600)

    def prepare(self) -> None:
        """Make the folder, if it isn't there. Raises EngineError if it can't be, or if others may write to it."""
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise EngineError(f"can't make {self.folder} ({error.strerror}); name another folder with --out") from error
        self._check_folder()

    def _timing_file(self, tensorrt: str, gpu: str) -> Path:
        digest = hashlib.sha256(f"{tensorrt}\n{gpu}".encode()).hexdigest()[:16]
        return self.folder / f"timing-{digest}.cache"

    def _check_folder(self) -> None:
        try:
            found = self.folder.stat()
        except FileNotFoundError as error:
            raise EngineError(f"there are no TensorRT plans in {self.folder}; {_BUILD}") from error
        except OSError as error:
            raise EngineError(f"can't read {self.folder} ({error.strerror}); {_BUILD}") from error
        if not stat.S_ISDIR(found.st_mode):
            raise EngineError(f"{self.folder} is no folder; name one that plans may be kept in")
        _check_owner(found, self.folder)

    def _note(self, path: Path) -> _Note:
        content = _read(path, _LARGEST_NOTE)
        try:
            return _Note.model_validate_json(content)
        except ValidationError as error:
            raise EngineError(f"{path} is no note of a TensorRT plan of this version; {_BUILD}") from error


def precision_named() -> Precision | None:
    """FIREWALL_PRECISION, or None. Raises UsageError if it is none of PRECISIONS."""
    named = os.environ.get("FIREWALL_PRECISION")
    if not named:
        return None
    for known in PRECISIONS:
        if known == named:
            return known
    raise UsageError(f"FIREWALL_PRECISION must be one of {', '.join(PRECISIONS)}, got {named!r}")


def plan_folder() -> Path:
    """FIREWALL_PLANS, or `perception-firewall/plans` in the user's folder for caches.

    Raises EngineError where the user has none.
    """
    folder = place_of("FIREWALL_PLANS", "XDG_CACHE_HOME", "plans")
    if folder is None:
        raise EngineError(
            f"user {os.getuid()} has no home to keep TensorRT plans in; name a folder of your own with FIREWALL_PLANS"
        )
    return folder


def _reach(key: PlanKey) -> tuple[int, ...]:
    """What a plan takes, to choose the one that takes most."""
    frame = () if key.frame is None else (key.frame.most[0] * key.frame.most[1], *key.frame.best)
    return (key.profile.most, key.profile.best, *frame)


def _check_owner(found: os.stat_result, path: Path) -> None:
    if found.st_uid not in (0, os.geteuid()):
        raise EngineError(
            f"{path} belongs to user {found.st_uid}; plans are code and must belong to who runs them, or to root: "
            "name a folder of your own with FIREWALL_PLANS"
        )
    if found.st_mode & 0o022:
        raise EngineError(f"{path} can be written by others, and plans are code; mend it with: chmod go-w {path}")


def _read(path: Path, limit: int) -> bytes:
    """The bytes of a plain file that nobody else may write."""
    try:
        # A pipe in the place of a file would otherwise be waited for.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with os.fdopen(os.open(path, flags), "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode) or found.st_size > limit:
                raise EngineError(f"{path} is no plain file of at most {limit} bytes; {_BUILD}")
            _check_owner(found, path)
            return file.read(limit + 1)
    except OSError as error:
        raise EngineError(f"can't read {path} ({error.strerror}); {_BUILD}") from error


def _short(key: PlanKey) -> str:
    profile = f"{key.profile.least}-{key.profile.best}-{key.profile.most}"
    if key.frame is not None:
        profile += f" of frames up to {key.frame.most[1]}x{key.frame.most[0]}"
    return f"{key.onnx[:12]} {key.precision} {profile} on {key.gpu}, TensorRT {key.tensorrt}"
