"""Cores by their numbers: lists as Linux writes them, and what this machine and its kernel say of them."""

from __future__ import annotations

import os
import platform
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from firewall.errors import UsageError
from firewall.host.sensors import text

__all__ = ["allowed", "capacities", "checked", "core_list", "isolated", "listed"]

_ROOT = Path("/")
_FOLDER = "sys/devices/system/cpu"
#: Linux is built for 8,192 cores at most.
_MOST = 8192
_PART = re.compile(r"(\d{1,4})(?:-(\d{1,4})(?::(\d{1,4})/(\d{1,4}))?)?", re.ASCII)


def core_list(written: str) -> tuple[int, ...]:
    """Read a list of cores as Linux has it in `isolcpus=`, cpusets and /sys: numbers and ranges.

    Args:
        written: Such as "2-3,5". "0-7:1/4" is the first one of each four, so 0 and 4.

    Returns:
        The cores in the order in which they are written.

    Raises:
        ValueError: If it is none, is empty, or names a core twice.
    """
    if not written.strip():
        raise ValueError("no core is named; name some, such as 2-3,5, or leave it out")
    found: list[int] = []
    for part in written.split(","):
        match = _PART.fullmatch(part.strip())
        if match is None:
            raise ValueError("cores are numbers and ranges such as 2-3,5")
        first, last, used, group = (None if each is None else int(each) for each in match.groups())
        first = first or 0
        last = first if last is None else last
        if last < first or last >= _MOST:
            raise ValueError(
                f"{part.strip()} is no range of cores; the smaller number comes first, {_MOST - 1} at most"
            )
        if used is not None and group is not None:
            if not 0 < used <= group:
                raise ValueError(f"{part.strip()} takes none or too many of a group; 0-7:1/4 is one of each four")
            found += [core for core in range(first, last + 1) if (core - first) % group < used]
        else:
            found += range(first, last + 1)
    twice = sorted(core for core, count in Counter(found).items() if count > 1)
    if twice:
        raise ValueError(f"core {twice[0]} is named twice; name each once")
    return tuple(found)


def listed(cores: Iterable[int]) -> str:
    """Cores as Linux lists them, in rising order: "0-1,5"; empty for none."""
    parts: list[list[int]] = []
    for core in sorted(cores):
        if parts and core == parts[-1][-1] + 1:
            parts[-1] = [parts[-1][0], core]
        else:
            parts.append([core])
    return ",".join("-".join(map(str, part)) for part in parts)


def allowed() -> frozenset[int]:
    """Cores that the calling thread may run on: what taskset, CPUAffinity= and the cgroup's cpuset have left."""
    return frozenset(os.sched_getaffinity(0))


def isolated(root: Path = _ROOT) -> frozenset[int]:
    """Cores that the kernel puts nothing on by itself (isolcpus=); none where it doesn't say.

    Args:
        root: Folder with /sys, for tests.
    """
    return _said("isolated", root)


def capacities(root: Path = _ROOT) -> dict[int, int]:
    """Core -> how much it can do, 1024 the strongest, where big and little ones differ; empty where all are alike or
    the kernel doesn't say.

    Args:
        root: Folder with /sys, for tests.
    """
    found = {}
    for file in (root / _FOLDER).glob("cpu[0-9]*/cpu_capacity"):
        said = (text(file) or "").strip()
        if said.isdecimal():
            found[int(file.parent.name[3:])] = int(said)
    return dict(sorted(found.items())) if len({*found.values()}) > 1 else {}


def checked(written: str, what: str = "--cores", root: Path = _ROOT) -> tuple[int, ...]:
    """Read a list of cores, each of which this process may run on.

    Args:
        written: As of `core_list`.
        what: Who names them, for messages.
        root: Folder with /sys, for tests.

    Returns:
        The cores in the order in which they are written.

    Raises:
        UsageError: If it is no list, or names a core that isn't there, is switched off or may not be used; or if this
            isn't Linux.
    """
    named = f"{what} {written!r}"
    if not hasattr(os, "sched_setaffinity"):
        raise UsageError(
            f"{named}: threads are kept on cores on Linux alone, this is {platform.system()}; leave it out"
        )
    try:
        cores = core_list(written)
    except ValueError as error:
        raise UsageError(f"{named}: {error}") from error
    present = _said("present", root) or frozenset(range(os.cpu_count() or 1))
    online = _said("online", root) or present
    may = allowed()
    for core in cores:
        if core not in present:
            raise UsageError(f"{named}: there is no core {core}; this machine has {listed(present)}")
        if core not in online:
            raise UsageError(
                f"{named}: core {core} is switched off, on are {listed(online)} (on a Jetson the power mode decides: "
                "nvpmodel -q); name others"
            )
        # Nothing is put on an isolated core unless someone asks for it, so that it isn't among those of a process.
        if core not in may and not (core in isolated(root) and _taken(core)):
            raise UsageError(
                f"{named}: this process may not run on core {core}, but on {listed(may)} (so say taskset, CPUAffinity= "
                "of its unit, or the cpuset of its cgroup or container); name others, or let it have that one"
            )
    return cores


def _said(name: str, root: Path) -> frozenset[int]:
    """A list of the kernel's; empty if there is none."""
    try:
        return frozenset(core_list(text(root / _FOLDER / name) or ""))
    except ValueError:
        return frozenset()


def _taken(core: int) -> bool:
    """Whether the kernel lets this thread run on a core."""
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {core})
        return os.sched_getaffinity(0) == {core}
    except OSError:
        return False
    finally:
        os.sched_setaffinity(0, before)
