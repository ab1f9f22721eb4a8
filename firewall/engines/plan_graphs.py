"""The runs of a TensorRT plan as CUDA graphs: recorded, proved, and replayed.

A plan is queued kernel by kernel, which costs the processor some microseconds each; a CUDA graph is queued in one call.
What NVIDIA says of the two (TensorRT's developer guide, "CUDA Graphs") shapes this file. TensorRT wants one plain run
after a change of shape, before it is recorded. A graph holds the addresses and the shape it was recorded with, and a
replay is undefined once the execution context that it came from has been changed. So each graph keeps the context it
was recorded in, and whatever else is run gets another one.

A replay that reads, or answers, what was there before would release one image's label for another. So a graph is used
only after it has answered two different inputs as plain runs did, each with the answer wiped before. Never run on a
GPU.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from firewall.engines.device_memory import DeviceMemory
from firewall.errors import EngineError

__all__ = ["MOST_GRAPHS", "PlanGraphs", "Run"]

_log = logging.getLogger(__name__)

Floats = npt.NDArray[np.float32]
Shape = tuple[int, ...]

#: Graphs of one plan, unless it says another number: a guard asks a network for few sizes of batch.
MOST_GRAPHS = 8
#: Runs that are remembered as seen once.
_MOST_SEEN = 256
#: How far a replay may lie from a plain run, as a share of the largest number. The kernels are the same.
_APART = 1e-3


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a plan, float32 both ways.

    Attributes:
        read: Shape of the input.
        given: Shape of the output.
        source: Where the input lies in device memory. What is allocated there is freed only with all of the memory, so
            an address never comes to mean something else.
        answer: Where the output is to lie there.
    """

    read: Shape
    given: Shape
    source: int
    answer: int


class Queues(Protocol):
    """A loaded plan; see LoadedPlan for what each does and raises."""

    def context(self) -> Any:
        """A new execution context."""

    def bind(self, context: Any, run: Run) -> None:
        """Set shape and addresses."""

    def enqueue(self, context: Any, run: Run) -> None:
        """Queue what was bound."""


class PlanGraphs:
    """Queues the runs of one plan, those that come again as CUDA graphs. Use it from one thread at a time.

    Args:
        memory: The GPU, and the stream that everything is queued on.
        plan: What queues a run.
        what: The plan's name, for messages.
        most: Graphs, at most; 0: none. Runs beyond are queued plainly.

    Attributes:
        refused: Why no more is recorded; empty while nothing failed. It is logged once.

    Raises:
        EngineError: If there is no memory for a first context.
    """

    def __init__(self, memory: DeviceMemory, plan: Queues, what: str, *, most: int = MOST_GRAPHS) -> None:
        self._memory, self._plan, self._what, self._most = memory, plan, what, most
        self._context: Any = plan.context()
        self._graphs: dict[Run, tuple[int, Any]] = {}  # the graph, and the context that no other run may change
        self._seen: set[Run] = set()
        self._plain: set[Run] = set()  # those that nothing could be proved of
        self.refused = ""

    def __len__(self) -> int:
        """How many runs are recorded."""
        return len(self._graphs)

    def execute(self, run: Run) -> None:
        """Queue a run on the stream. A run's second time may wait for the stream, to record and to prove it.

        Args:
            run: Shapes and addresses.

        Raises:
            EngineError: If TensorRT or CUDA refuses.
        """
        recorded = self._graphs.get(run)
        if recorded is not None:
            self._memory.replay(recorded[0])
            return
        context = self._free_context()
        self._plan.bind(context, run)
        self._plan.enqueue(context, run)
        if run not in self._seen:
            if len(self._seen) < _MOST_SEEN:
                self._seen.add(run)
        elif not self.refused and len(self._graphs) < self._most and run not in self._plain:
            self._record(context, run)

    def close(self) -> None:
        """Free graphs and contexts; nothing can be run after."""
        if self._graphs:
            self._memory.wait()
        while self._graphs:
            self._memory.forget(self._graphs.popitem()[1][0])
        self._context = None

    def _free_context(self) -> Any:
        """A context that no graph was recorded in."""
        if self._context is None:
            try:
                self._context = self._plan.context()
            except EngineError as error:
                # One graph less, and its context is free again.
                _, (graph, context) = self._graphs.popitem()
                self._memory.wait()
                self._memory.forget(graph)
                self._refuse(str(error))
                self._context = context
        return self._context

    def _record(self, context: Any, run: Run) -> None:
        """Record what `context` was asked last, and keep the graph if it is proved. The answer to what lies at the
        run's source is written again, by whichever of the two is used."""
        memory = self._memory
        present = np.empty(run.read, np.float32)
        memory.to_host(present, run.source)
        memory.wait()
        probe = np.random.default_rng(0).random(run.read, np.float32)

        def plainly() -> None:
            self._plan.enqueue(context, run)

        plain = [self._answer(run, values, plainly) for values in (probe, present)]
        if not np.isfinite(plain).all() or _apart(*plain) <= 4:
            self._plain.add(run)  # nothing would show whether a replay reads what lies there now
            return
        try:
            graph = memory.record(plainly)
        except EngineError as error:
            self._refuse(str(error))
            self._answer(run, present, plainly)
            return
        replayed = [self._answer(run, values, lambda: memory.replay(graph)) for values in (probe, present)]
        if all(_apart(again, before) <= 1 for again, before in zip(replayed, plain, strict=True)):
            self._graphs[run] = (graph, context)
            self._context = None
            return
        memory.forget(graph)
        self._refuse("a replay gives another answer than the run that was recorded")
        self._answer(run, present, plainly)

    def _answer(self, run: Run, values: Floats, queue: Any) -> Floats:
        """What comes out for values that are written to the run's source; the answer is wiped before."""
        memory, answer = self._memory, np.full(run.given, np.nan, np.float32)
        memory.to_device(run.source, values)
        memory.to_device(run.answer, answer)
        memory.wait()
        queue()
        memory.to_host(answer, run.answer)
        memory.wait()
        return answer

    def _refuse(self, reason: str) -> None:
        self.refused = reason
        _log.warning("%s is queued kernel by kernel, not as a CUDA graph: %s", self._what, reason)


def _apart(one: Floats, other: Floats) -> float:
    """How far two answers lie apart, in units of what may be; infinite where a number is none."""
    if not (np.isfinite(one).all() and np.isfinite(other).all()):
        return float("inf")
    return float(np.abs(one - other).max(initial=0.0)) / (_APART * max(1.0, float(np.abs(one).max(initial=0.0))))
