"""Who does the jobs: processes of this machine (joblib), or a Ray cluster. The result does not depend on it."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from firewall.errors import MissingExtraError

__all__ = ["Backend", "in_any_order"]

Backend = Literal["local", "ray"]
Task = TypeVar("Task")
Answer = TypeVar("Answer")


def in_any_order(
    work: Callable[[Task], Answer], tasks: Sequence[Task], *, backend: Backend = "local", workers: int = 0
) -> Iterator[Answer]:
    """Do all tasks, in the order in which they finish.

    Args:
        work: What is done with each task; any process must be able to import it.
        tasks: What is to be done.
        backend: `local` for processes of this machine, `ray` for a cluster.
        workers: Processes at a time; 0: one for each core (of the cluster).

    Yields:
        What `work` returns. Tasks that have not begun when the iterator is abandoned are not done.

    Raises:
        MissingExtraError: Ray is asked for and not installed.
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
    here = not os.environ.get("RAY_ADDRESS")  # names a cluster; without it a small one is started here
    if here:
        _keep_to_itself()
    try:
        import ray
    except ImportError as error:
        raise MissingExtraError(
            "--backend ray needs Ray: pip install 'perception-firewall[cluster]', on every machine of the cluster"
        ) from error
    with contextlib.ExitStack() as stack:
        home = None  # of those who do the jobs, where it is not what they are started with
        if not ray.is_initialized():
            home = os.environ.get("HOME") if here else None
            options = _small_cluster(workers, stack) if here else {}
            stack.callback(ray.shutdown)
            with _home(options.get("_temp_dir")):
                ray.init(log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False, **options)
        yield from _jobs(ray, work, tasks, workers, home)


def _keep_to_itself() -> None:
    """Ray reads these as it is imported: no accounting; and this machine's address is the loopback's, so that it looks
    for no way to an address outside, and nobody outside finds it."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"


def _small_cluster(workers: int, stack: contextlib.ExitStack) -> dict[str, Any]:
    """The options of `ray.init`. Its files lie in a folder of their own that `stack` removes."""
    # Ray's sockets lie 63 characters deeper, and a socket's path may have 107.
    parent = tempfile.gettempdir()
    folder = tempfile.mkdtemp(prefix="ray-", dir=parent if len(parent) < 30 else "/tmp")  # noqa: S108 - a folder of our own
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    return {"_temp_dir": folder, "num_cpus": workers or None}


@contextlib.contextmanager
def _home(folder: str | None) -> Iterator[None]:
    """Ray's processes start with `folder` as their home: its token stays there, not in the user's; and since a file
    there says which cloud this is (none), Ray doesn't ask the addresses at which clouds answer, as it does even without
    accounting. None: changes nothing. Each job gets the user's own back."""
    if folder is None:
        yield
        return
    (Path(folder) / "ray_bootstrap_config.yaml").write_text("{}\n", encoding="utf-8")
    before = os.environ.get("HOME")
    os.environ["HOME"] = folder
    try:
        yield
    finally:
        if before is None:
            del os.environ["HOME"]
        else:
            os.environ["HOME"] = before


def _jobs(
    ray: Any, work: Callable[[Task], Answer], tasks: Sequence[Task], workers: int, home: str | None
) -> Iterator[Answer]:
    def task(argument: Task) -> Answer:  # Ray takes functions alone, `work` may be any callable
        if home is not None:
            os.environ["HOME"] = home
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
