"""Two ways of doing the same, timed in turns: what slows the machine for a while slows both."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

__all__ = ["Spent", "Work", "here", "in_turns", "middle", "ratio"]

#: Seconds of the clock, and of the processor in the process that did the work.
Spent = tuple[float, float]
#: Does item number i once.
Work = Callable[[int], Spent]

_RESAMPLES = 400
_LEAST = 6  # turns, whatever they take


def here(work: Callable[[int], object]) -> Work:
    """Time a function in this process, all its threads."""

    def timed(item: int) -> Spent:
        started, busy = time.perf_counter(), time.process_time()
        work(item)
        return time.perf_counter() - started, time.process_time() - busy

    return timed


def in_turns(
    works: Mapping[str, Work], items: int, rounds: int = 1, *, warm_up: int = 2, budget: float = math.inf
) -> dict[str, list[Spent]]:
    """Every work on every item, one after the other; each turn begins with another work.

    Args:
        works: Name -> work.
        items: Each does items 0 to items - 1, `rounds` times.
        rounds: 1 or more.
        warm_up: Items that are done before and not counted.
        budget: Seconds of processor time after which no more turns are begun, once there are a few.

    Returns:
        Name -> what each call took, in the same order for all.
    """
    names = list(works)
    for item in range(min(warm_up, items)):
        for name in names:
            works[name](item)
    taken: dict[str, list[Spent]] = {name: [] for name in names}
    for turn in range(rounds * items):
        if turn >= _LEAST and sum(busy for spent in taken.values() for _, busy in spent) > budget:
            break
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            taken[name].append(works[name](turn % items))
    return taken


def middle(spent: Sequence[Spent]) -> dict[str, float]:
    """Median milliseconds by the clock and by the processor."""
    clock, busy = (float(np.median(column)) * 1e3 for column in zip(*spent, strict=True))
    return {"ms": clock, "processor_ms": busy}


def ratio(theirs: Sequence[Spent], ours: Sequence[Spent], seed: int = 0) -> dict[str, Any]:
    """How many times as long theirs takes: the quotient of the medians of processor time, with its 95 % interval.

    Other programs make a long call's clock run longer than a short one's, since they interrupt it more often; the time
    of the processor leaves that out. The quotient by the clock stands beside it.

    Args:
        theirs: Of `in_turns`, as is `ours`: call i of both is of the same item and the same moment.
        ours: See `theirs`.
        seed: Of the pairs that are drawn for the interval.
    """
    pairs = np.array([theirs, ours]).transpose(1, 0, 2)  # (calls, theirs or ours, clock or processor)
    drawn = np.random.default_rng(seed).integers(0, len(pairs), (_RESAMPLES, len(pairs)))
    medians = np.median(pairs[drawn, :, 1], axis=1)
    low, high = np.quantile(medians[:, 0] / medians[:, 1], (0.025, 0.975))
    clock = [statistics.median(pairs[:, side, 0].tolist()) for side in (0, 1)]
    busy = [statistics.median(pairs[:, side, 1].tolist()) for side in (0, 1)]
    return {
        "ratio": busy[0] / busy[1],
        "ci95": [float(low), float(high)],
        "by_the_clock": clock[0] / clock[1],
        "n": len(pairs),
    }
