"""What `firewall bench` writes: the schema of its JSON, which `firewall bench compare` reads."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from firewall.bench.fields import Summary
from firewall.errors import UsageError

__all__ = [
    "FORMAT",
    "ColdStart",
    "DeviceTimes",
    "Energy",
    "FixedRate",
    "FullRate",
    "GuardedSeries",
    "Memory",
    "PacedKind",
    "Report",
    "Series",
    "read",
]

FORMAT = 2
_LARGEST = 64 << 20


class _Part(BaseModel):
    model_config = ConfigDict(populate_by_name=True, allow_inf_nan=False)


class Series(_Part):
    """One frame after the other, as fast as they are done. throughput: frames a second. shares: of the time, 0..1, in
    each stage. samples_ms, stages_ms: raw, in the order taken."""

    latency: Summary
    throughput: float
    stages: dict[str, Summary]
    shares: dict[str, float]
    samples_ms: list[float] = Field(min_length=1)
    stages_ms: dict[str, list[float]] = {}


class GuardedSeries(Series):
    """With the firewall. decisions: of all verdicts. verdicts, classified: a frame's mean number of verdicts and of
    images that the classifier saw."""

    decisions: dict[str, int]
    verdicts: float
    classified: float


class FullRate(_Part):
    """One kind of pictures at full rate, with and without the firewall on the same pictures in turns. added: what the
    firewall adds, the differences frame by frame; added_median: the median's 95 % interval (block bootstrap)."""

    pictures: int
    guarded: GuardedSeries = Field(alias="with_firewall")
    unguarded: Series = Field(alias="without_firewall")
    added: Summary
    added_median: tuple[float, float]

    @model_validator(mode="after")
    def _pairs(self) -> FullRate:
        if len(self.guarded.samples_ms) != len(self.unguarded.samples_ms):
            raise ValueError("as many samples are needed with the firewall as without it")
        return self


class PacedKind(_Part):
    """One kind of pictures at a fixed rate. age: from the moment a frame was due until its verdicts were there. late:
    judged after the deadline. dropped: never judged, since a newer frame was due already."""

    due: int
    late: int
    dropped: int
    age: Summary | None
    ages_ms: list[float]


class FixedRate(_Part):
    """With the firewall at a camera's rate. missed: late or dropped, as a share 0..1 of the frames that were due."""

    fps: float
    deadline_ms: float
    due: int
    late: int
    dropped: int
    missed: float
    age: Summary | None
    latency: Summary | None
    kinds: dict[str, PacedKind]


class DeviceTimes(_Part):
    """Parts of one classification of a batch on a device, in milliseconds. None where the device has no such part or
    the engine doesn't tell; `reason` says which."""

    batch: int | None = None
    host_to_device: Summary | None = None
    compute: Summary | None = None
    device_to_host: Summary | None = None
    enqueue: Summary | None = None
    reason: str = ""


class ColdStart(_Part):
    """In fresh processes, in seconds, the median of `runs`: interpreter, imports, loading (the bundle is verified and
    the networks are built), the first verdict with every detector asked, and all of it from the start of the process.
    The files may still have been in the system's cache."""

    runs: int
    interpreter: float
    imports: float
    load: float
    first_verdict: float
    total: float
    totals: list[float]


class Memory(_Part):
    """In MB (10^6 bytes). loaded, peak: resident set of a fresh process, once the bundle is loaded and at most after
    it has judged. gpu: what the GPU's used memory grew by. benchmark_peak: this process, with all pictures in it."""

    loaded: float | None = None
    peak: float | None = None
    gpu: float | None = None
    gpu_reason: str = ""
    benchmark_peak: float


class Energy(_Part):
    """Of one window of work, by the board's own sensors. power: mean and highest of the total in mW. rails: mean in mW.
    a_frame: joules, None for the window without work."""

    seconds: float
    readings: int
    frames: int
    power: float
    highest: float
    rails: dict[str, float]
    a_frame: float | None
    total_of: list[str]


class Report(_Part):
    """One run. complete: False if it was stopped before its end; `stopped` then says where. The fields from `image` on
    are those of the first format: the normal pictures with the firewall at full rate, `p90` and `p99` as in Summary."""

    format: Literal[2] = 2
    complete: bool
    stopped: str | None
    platform: str
    machine: dict[str, Any]
    jetson: dict[str, Any] | None
    jetson_after: dict[str, Any] | None
    jetson_events: list[str]
    bundle: dict[str, Any]
    settings: dict[str, Any]
    full_rate: dict[str, FullRate]
    not_measured: dict[str, str]
    fixed_rate: list[FixedRate]
    device_times: DeviceTimes
    cold_start: ColdStart | None
    memory: Memory
    energy: dict[str, Energy] | None
    image: str
    threads: int
    warm_up: int
    samples: int
    classified: float
    minimum: float | None
    mean: float | None
    p50: float | None
    p90: float | None
    p99: float | None
    maximum: float | None
    stages: dict[str, float]
    samples_ms: list[float]

    def to_json(self) -> str:
        """Indented JSON of all fields; a list of numbers is one line."""
        text = json.dumps(self.model_dump(mode="json", by_alias=True), indent=1, allow_nan=False)
        return re.sub(r"\[[-+.\deE,\s]+\]", lambda match: re.sub(r"\s+", "", match.group()).replace(",", ", "), text)


def read(path: Path) -> Report:
    """A report that `firewall bench --json` has written. Raises UsageError in one line if it is none."""
    try:
        if path.stat().st_size > _LARGEST:
            raise UsageError(f"{path} is larger than any report of 'firewall bench'; name a file that its --json wrote")
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise UsageError(f"can't read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not JSON; name a file that 'firewall bench --json' wrote") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        found = content.get("format", 1) if isinstance(content, dict) and "samples_ms" in content else None
        what = "is no report of 'firewall bench'" if found is None else f"is a report of format {found}, not {FORMAT}"
        raise UsageError(f"{path} {what}; measure again with 'firewall bench --json FILE'")
    try:
        return Report.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"{path} is damaged: {where}: {first['msg'].lower()}; measure again") from error
