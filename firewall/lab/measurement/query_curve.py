"""How attacks that see only what is released get on: the share that has succeeded after so many queries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from firewall.errors import DataError
from firewall.lab.attacks.decision_only import QUERIES, Outcome
from firewall.lab.measurement.intervals import rate_interval

__all__ = ["query_curve"]

#: Where a curve is read off.
_POINTS = (1, 2, 5, 10, 20, 30, 50, 100, 200, 300, 500, 1000)


def query_curve(outcomes: Sequence[Outcome], queries: int = QUERIES) -> list[dict[str, Any]]:
    """The share of attacks that had succeeded after so many queries.

    Args:
        outcomes: One for each image; an attack that gave up earlier counts as one that would not have succeeded.
        queries: The limit that all of them had.

    Returns:
        For some numbers up to the limit `{"queries", "rate", "n", "ci95": [low, high]}`, ready for JSON; the rate never
        falls. The interval is that of independent images.

    Raises:
        DataError: There is no outcome, or one took more queries than the limit.
    """
    longest = max((outcome.queries for outcome in outcomes), default=0)
    if not outcomes or queries < max(1, longest):
        raise DataError(
            f"{len(outcomes)} outcomes of up to {longest} queries and a limit of {queries}; a query curve needs one "
            "outcome or more, and the limit that all of them had"
        )
    rows = []
    for point in sorted({*(point for point in _POINTS if point < queries), queries}):
        hits = sum(outcome.released is not None and outcome.queries <= point for outcome in outcomes)
        interval = list(rate_interval(hits, len(outcomes)))
        rows.append({"queries": point, "rate": hits / len(outcomes), "n": len(outcomes), "ci95": interval})
    return rows
