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
    """Frames one after the other, as fast as they are done.

    Attributes:
        latency: Of a frame.
        throughput: Frames a second.
        stages: Stage -> time of a frame in it.
        shares: Stage -> its share of the time, 0 to 1.
        samples_ms: Latencies in the order taken, in milliseconds.
        stages_ms: Stage -> times in the order taken, in milliseconds.
    """

    latency: Summary
    throughput: float
    stages: dict[str, Summary]
    shares: dict[str, float]
    samples_ms: list[float] = Field(min_length=1)
    stages_ms: dict[str, list[float]] = {}


class GuardedSeries(Series):
    """With the firewall.

    Attributes:
        decisions: Decision and reason -> number of verdicts.
        verdicts: Mean number of verdicts of a frame.
        classified: Mean number of images of a frame that the classifier saw.
    """

    decisions: dict[str, int]
    verdicts: float
    classified: float


class FullRate(_Part):
    """One kind of pictures at full rate, with and without the firewall on the same pictures in turns.

    Attributes:
        pictures: Number of pictures.
        guarded: With the firewall.
        unguarded: Without it.
        added: What the firewall adds: the differences frame by frame.
        added_median: The 95 % interval of their median (block bootstrap), in milliseconds.
    """

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
    """One kind of pictures at a fixed rate.

    Attributes:
        due: Frames that were due.
        late: Frames judged after the deadline.
        dropped: Frames never judged, since a newer one was due already.
        age: Milliseconds from the moment a frame was due until its verdicts were there; None if none was judged.
        ages_ms: The same, in the order taken.
    """

    due: int
    late: int
    dropped: int
    age: Summary | None
    ages_ms: list[float]


class FixedRate(_Part):
    """With the firewall at a camera's rate.

    Attributes:
        fps: Frames a second.
        deadline_ms: Milliseconds from the moment a frame is due.
        due: Frames that were due, of all kinds; so are the next four.
        late: See PacedKind.
        dropped: See PacedKind.
        missed: Late or dropped, as a share 0 to 1 of those that were due.
        age: See PacedKind.
        latency: Milliseconds that the firewall took for a frame.
        kinds: The same by kind of pictures.
    """

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
    """Parts of one classification of a batch on a device, in milliseconds.

    A part is None where the device has no such part or the engine can't measure it; `reason` says which.

    Attributes:
        batch: Images in the batch.
        host_to_device: Copying to the device.
        compute: Computing.
        device_to_host: Copying back.
        enqueue: How long queueing keeps the host busy.
        reason: Why parts are missing.
    """

    batch: int | None = None
    host_to_device: Summary | None = None
    compute: Summary | None = None
    device_to_host: Summary | None = None
    enqueue: Summary | None = None
    reason: str = ""


class ColdStart(_Part):
    """From the start of a fresh process to its first verdict, in seconds, the median of all runs.

    The files may still have been in the system's cache.

    Attributes:
        runs: Number of processes.
        interpreter: Until Python runs.
        imports: Until everything is imported.
        load: Until the bundle is verified and the networks are built.
        first_verdict: Of one picture, with every detector asked.
        total: All of it.
        totals: The same, one for each run.
    """

    runs: int
    interpreter: float
    imports: float
    load: float
    first_verdict: float
    total: float
    totals: list[float]


class Memory(_Part):
    """Memory in MB (10^6 bytes).

    Attributes:
        loaded: Resident set of a fresh process once the bundle is loaded.
        peak: At most, after it has judged a picture.
        gpu: What the GPU's used memory grew by.
        gpu_reason: Why that is not known.
        benchmark_peak: The most that this process used, with all pictures in it.
    """

    loaded: float | None = None
    peak: float | None = None
    gpu: float | None = None
    gpu_reason: str = ""
    benchmark_peak: float


class Energy(_Part):
    """The energy of one window of work, by the board's own sensors.

    Attributes:
        seconds: Length of the window.
        readings: How often the sensors were read.
        frames: Frames that were screened in it.
        power: Mean of the total in mW.
        highest: Highest total in mW.
        rails: Rail -> mean in mW.
        a_frame: Joules a frame; None for the window without work.
        total_of: Rails that the total is the sum of.
    """

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
    """Read a report.

    Args:
        path: File that `firewall bench --json` wrote.

    Returns:
        The report.

    Raises:
        UsageError: If the file can't be read, or is no report of this format.
    """
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
