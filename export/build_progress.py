"""A builder's phases as progress bars, and Ctrl-C as a wish to end the build."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

__all__ = ["BuildProgress", "interruptible"]

Answer = TypeVar("Answer")


class BuildProgress:
    """Bars of the phases that are under way, innermost last. monitor: to hand to TensorRT's builder configuration.

    TensorRT calls it from its own threads. After `cancel`, the build ends at its next step.
    """

    def __init__(self, library: Any, console: Console) -> None:
        self.cancelled = threading.Event()
        self._bars = Progress(
            TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), console=console, transient=True
        )
        bars, cancelled = self._bars, self.cancelled
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


def interruptible(work: Callable[[], Answer], cancel: Callable[[], object]) -> Answer:
    """What `work` gives, computed in a thread of its own, so that Ctrl-C is heard while it is in C++.

    Ctrl-C calls `cancel`, and is raised when the work has ended. What the work raises is raised here.
    """
    answers: list[Answer] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            answers.append(work())
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run, name="tensorrt-build")
    thread.start()
    interrupted = False
    while thread.is_alive():
        interrupted |= _interrupted(thread, cancel)
    if interrupted:
        raise KeyboardInterrupt
    if failures:
        raise failures[0]
    return answers[0]


def _interrupted(thread: threading.Thread, cancel: Callable[[], object]) -> bool:
    try:
        thread.join(0.2)
    except KeyboardInterrupt:
        cancel()
        return True
    return False
