"""As many frames as can be done: with the firewall and without it, normal and adversarial pictures, all in turns."""

from __future__ import annotations

import statistics
from collections.abc import Callable

import numpy as np

from firewall.bench.fields import Summary, summary
from firewall.bench.inputs import Inputs
from firewall.bench.report import FullRate, GuardedSeries, Series
from firewall.bench.resampling import interval
from firewall.bench.subjects import STAGES, Guarded, Tally, Unguarded

__all__ = ["FullRateRun"]


class FullRateRun:
    """What has been measured so far can be asked for at any time, also after an interruption."""

    def __init__(self, guarded: dict[str, Guarded], unguarded: Unguarded, inputs: Inputs) -> None:
        """Make ready to run.

        Args:
            guarded: Kind of pictures -> the firewall; each counts what it decides.
            unguarded: The classifier alone.
            inputs: The pictures.
        """
        self._guarded, self._unguarded, self._inputs = guarded, unguarded, inputs
        self._tallies = {kind: (Tally(), Tally()) for kind in inputs.kinds}

    def warm_up(self, rounds: int, step: Callable[[], None]) -> None:
        """Do the same work without counting it.

        Args:
            rounds: Pictures of each kind, with and without the firewall.
            step: Called after each round.

        Raises:
            EngineError: If a picture can't be judged.
        """
        for number in range(rounds):
            for kind, pictures in self._inputs.kinds.items():
                self._guarded[kind].run(pictures[number % len(pictures)])
                self._unguarded.run(pictures[number % len(pictures)])
            step()
        for guarded in self._guarded.values():
            guarded.forget()

    def run(self, rounds: int, step: Callable[[], None]) -> None:
        """Measure. A round is one picture of each kind, with and without the firewall.

        Which of the two comes first changes from round to round, so that neither always finds the picture in the
        processor's cache.

        Args:
            rounds: How many.
            step: Called after each round.

        Raises:
            EngineError: If a picture can't be judged.
        """
        for number in range(rounds):
            for kind, pictures in self._inputs.kinds.items():
                picture = pictures[number % len(pictures)]
                if number % 2:
                    without = self._unguarded.run(picture)
                    guarded = self._guarded[kind].run(picture)
                else:
                    guarded = self._guarded[kind].run(picture)
                    without = self._unguarded.run(picture)
                # Both or none: the pairs stay pairs if it is interrupted.
                self._tallies[kind][0].add(*guarded)
                self._tallies[kind][1].add(*without)
            step()

    def result(self) -> dict[str, FullRate]:
        """Kind -> figures; kinds of which nothing was measured are not there."""
        found = {}
        for kind, (guarded, without) in self._tallies.items():
            count = min(len(guarded.total), len(without.total))
            if not count:
                continue
            decided = self._guarded[kind]
            differences = [
                with_it - without_it
                for with_it, without_it in zip(guarded.total[:count], without.total[:count], strict=True)
            ]
            low, high = interval(np.asarray(differences), 50)
            found[kind] = FullRate(
                pictures=len(self._inputs.kinds[kind]),
                guarded=GuardedSeries(
                    **dict(_series(guarded, count)),
                    decisions=dict(decided.decisions.most_common()),
                    verdicts=decided.verdicts / decided.frames,
                    classified=decided.classified / decided.frames,
                ),
                unguarded=_series(without, count),
                added=_certain(differences),
                added_median=(round(low, 4), round(high, 4)),
            )
        return found


def _series(tally: Tally, count: int) -> Series:
    total = tally.total[:count]
    stages = {stage: tally.stages[stage][:count] for stage in STAGES if stage in tally.stages}
    stages |= {stage: values[:count] for stage, values in tally.stages.items() if stage not in stages}
    return Series(
        latency=_certain(total),
        throughput=1e3 / statistics.fmean(total),
        stages={stage: _certain(values) for stage, values in stages.items()},
        shares={stage: sum(values) / sum(total) for stage, values in stages.items()},
        samples_ms=[round(value, 3) for value in total],
        stages_ms={stage: [round(value, 3) for value in values] for stage, values in stages.items()},
    )


def _certain(values: list[float]) -> Summary:
    found = summary(values)
    if found is None:
        raise ValueError("there is no summary of no samples")
    return found
