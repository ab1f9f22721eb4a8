"""Who does the jobs: processes of this machine (joblib), or a Ray cluster. The result doesn't depend on it."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, TypeVar

from firewall.errors import MissingExtraError

__all__ = ["Backend", "in_any_order"]

Backend = Literal["local", "ray"]
Task = TypeVar("Task")
Answer = TypeVar("Answer")


def in_any_order(
    work: Callable[[Task], Answer], tasks: Sequence[Task], *, backend: Backend = "local", workers: int = 0
) -> Iterator[Answer]:
    """`work` of each task, in the order in which they are done.

    workers: processes at a time; 0 = one for each core (of the cluster). Abandon the iterator and what has not begun is
    not done. Raises MissingExtraError if Ray is asked for and not there.
    """
    if backend == "ray":
        yield from _on_ray(work, tasks, workers)
    elif workers == 1 or len(tasks) == 1:
        yield from map(work, tasks)  # in this process: what goes wrong can be looked at with a debugger
    else:
        from joblib import Parallel, delayed

        run = Parallel(n_jobs=workers or -1, return_as="generator_unordered", batch_size=1, pre_dispatch="n_jobs")
        yield from run(delayed(work)(task) for task in tasks)


def _on_ray(work: Callable[[Task], Answer], tasks: Sequence[Task], workers: int) -> Iterator[Answer]:
    try:
        import ray
    except ImportError as error:
        raise MissingExtraError(
            "--backend ray needs Ray: pip install 'perception-firewall[cluster]', on every machine of the cluster"
        ) from error
    ours = not ray.is_initialized()
    if ours:
        # RAY_ADDRESS names a cluster; without it a small one is started here. Ray's own accounting stays off.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        cluster = bool(os.environ.get("RAY_ADDRESS"))
        size: dict[str, Any] = {} if cluster or not workers else {"num_cpus": workers}
        ray.init(log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False, **size)

    def task(argument: Task) -> Answer:  # Ray takes functions alone, `work` may be any callable
        return work(argument)

    remote = ray.remote(num_cpus=1, max_retries=3)(task)  # a worker that is killed is replaced, and its job done again
    limit = workers or len(tasks)  # Ray runs as many at a time as the cluster has cores
    waiting = list(reversed(tasks))
    running: list[Any] = []
    try:
        while waiting or running:
            while waiting and len(running) < limit:
                running.append(remote.remote(waiting.pop()))
            done, running = ray.wait(running, num_returns=1)
            yield ray.get(done[0])
    finally:
        for reference in running:
            ray.cancel(reference, force=True)
        if ours:
            ray.shutdown()
