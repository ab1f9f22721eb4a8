"""The figures of a benchmark: what trtexec prints of a latency, and no percentile that the samples don't carry."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

__all__ = ["PERCENTILES", "Summary", "least_samples", "summary"]

#: Percentiles of a latency, beside the median.
PERCENTILES: tuple[float, ...] = (90, 95, 99, 99.9)
#: How sure a claim has to be: MLPerf's early stopping asks for 99 %.
_CONFIDENCE = 0.99


def least_samples(percentile: float) -> int:
    """How many samples a percentile needs before it may be claimed: 64 for p90, 130 for p95, 662 for p99, 6,636 for
    p99.9.

    MLPerf Inference rules, early stopping with confidence 0.99 and tolerance 0: the fewest with which a latency that is
    exceeded by more than 1 - percentile of all would have been exceeded at most once with a chance of at most 1 %.

    Args:
        percentile: Above 0, below 100.

    Returns:
        The number of samples.

    Raises:
        ValueError: If the percentile is out of range.
    """
    if not 0 < percentile < 100:
        raise ValueError(f"a percentile lies above 0 and below 100, got {percentile}")
    below = percentile / 100
    count = 1
    while below**count + count * (1 - below) * below ** (count - 1) > 1 - _CONFIDENCE:
        count += 1
    return count


class Summary(BaseModel):
    """Latencies in milliseconds. A percentile is None where there are fewer samples than it needs; `needs` says how
    many, by the percentile's name."""

    model_config = ConfigDict(frozen=True, populate_by_name=True, allow_inf_nan=False)

    samples: int = Field(ge=1)
    minimum: float = Field(alias="min")
    maximum: float = Field(alias="max")
    mean: float
    median: float
    deviation: float = Field(alias="standard_deviation", ge=0)
    p90: float | None
    p95: float | None
    p99: float | None
    p99_9: float | None = Field(alias="p99.9")
    needs: dict[str, int] = {}

    def percentile(self, name: str) -> float | None:
        """A figure by its name.

        Args:
            name: `median`, `p90`, `p95`, `p99` or `p99.9`.

        Returns:
            Milliseconds; None where there are too few samples to claim it.

        Raises:
            AttributeError: If there is no figure of that name.
        """
        value: float | None = getattr(self, name.replace(".", "_"))
        return value


def summary(milliseconds: Sequence[float]) -> Summary | None:
    """Sum up latencies.

    Args:
        milliseconds: One for each frame.

    Returns:
        The figures; None if there are no latencies.
    """
    if not milliseconds:
        return None
    values = np.asarray(milliseconds, np.float64)
    claimed: dict[str, float | None] = {}
    needs: dict[str, int] = {}
    for percentile in PERCENTILES:
        name, least = f"p{percentile:g}", least_samples(percentile)
        claimed[name] = _round(float(np.percentile(values, percentile))) if len(values) >= least else None
        if len(values) < least:
            needs[name] = least
    return Summary(
        samples=len(values),
        minimum=_round(float(values.min())),
        maximum=_round(float(values.max())),
        mean=_round(float(values.mean())),
        median=_round(float(np.median(values))),
        deviation=_round(float(values.std())),
        p90=claimed["p90"],
        p95=claimed["p95"],
        p99=claimed["p99"],
        p99_9=claimed["p99.9"],
        needs=needs,
    )


def _round(milliseconds: float) -> float:
    return round(milliseconds, 4)  # a tenth of a microsecond: no clock here is finer
