"""A builder's phases as progress bars, and Ctrl-C as a wish to end the build."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

__all__ = ["BuildProgress", "interruptible"]

Answer = TypeVar("Answer")

_GRACE = 0.5  # seconds


class BuildProgress:
    """Bars of the phases that are under way, innermost last. monitor: to hand to TensorRT's builder configuration.

    TensorRT calls it from its own threads. Once `cancelled` is set, the build ends at its next step.
    """

    def __init__(self, library: Any, console: Console, cancelled: threading.Event) -> None:
        self._bars = Progress(
            TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), console=console, transient=True
        )
        bars = self._bars
        tasks: dict[str, TaskID] = {}

        class Monitor(library.IProgressMonitor):  # type: ignore[misc]  # its base is known only now
            # Nothing may be raised in here: it would have to pass through C++.
            def __init__(self) -> None:
                library.IProgressMonitor.__init__(self)  # required by pybind11

            def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
                tasks[phase_name] = bars.add_task(phase_name[:60], total=max(num_steps, 1))

            def step_complete(self, phase_name: str, step: int) -> bool:
                if phase_name in tasks:
                    bars.update(tasks[phase_name], completed=step + 1)
                return not cancelled.is_set()

            def phase_finish(self, phase_name: str) -> None:
                task = tasks.pop(phase_name, None)
                if task is not None:
                    bars.remove_task(task)

        self.monitor = Monitor()

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """Draw the bars while the block runs."""
        with self._bars:
            yield


def interruptible(work: Callable[[threading.Event], Answer]) -> Answer:
    """What `work` gives, computed in a thread of its own, so that Ctrl-C is heard while it is in C++.

    It is never raised inside the work: there it could land in one of TensorRT's calls back, which swallows it. Instead
    the event that the work is given is set, and KeyboardInterrupt is raised when the work has ended. What the work
    raises is raised here.
    """
    cancelled = threading.Event()
    answers: list[Answer] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            answers.append(work(cancelled))
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run, name="tensorrt-build")
    thread.start()
    while thread.is_alive():
        _wait(thread, cancelled)
    if cancelled.is_set():
        # TensorRT's own threads speak to its logger for a moment longer, and abort a process that is ending meanwhile.
        answers.clear()
        failures.clear()
        time.sleep(_GRACE)
        raise KeyboardInterrupt
    if failures:
        raise failures.pop()
    return answers[0]


def _wait(thread: threading.Thread, cancelled: threading.Event) -> None:
    try:
        thread.join(0.2)
    except KeyboardInterrupt:
        cancelled.set()
