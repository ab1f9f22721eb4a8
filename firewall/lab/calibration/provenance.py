"""Put the record of how a bundle was made into its manifest: `firewall lab provenance`.

The record is DVC's: dvc.yaml is the graph (which stages there are, in which order), dvc.lock what each was last run
with. Nothing is taken from elsewhere, so that the manifest can't say more than the tool saw.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from firewall.bundle import Bundle
from firewall.bundle.provenance import Provenance, StageFile, StageRecord
from firewall.errors import BundleError, DataError, UsageError
from firewall.lab.calibration.bundling import rewritten

__all__ = ["read_record", "with_provenance"]

#: What stands before a stage's own command, see recipes/default_bundle/resume.py.
_BEFORE = "exec python resume.py "
_LARGEST = 4 << 20


def read_record(graph: Path, record: Path, last: str = "") -> Provenance:
    """The record of all stages of `graph`, a dvc.yaml, as `record`, its dvc.lock, has them, in the order of the graph.

    last: the stage that asks, which has no entry yet, or one of the run before: left out. Stages that the graph doesn't
    have any more are left out too. Raises DataError for files that are no such record, and for a stage without an
    entry: it has not been run.
    """
    stages, entries = _read(graph).get("stages"), _read(record).get("stages")
    if not isinstance(stages, dict) or not isinstance(entries, dict):
        raise DataError(f"{graph} and {record} are no graph of DVC and its record; run this as the recipe's last stage")
    names = [str(name) for name in stages if name != last]
    missing = [name for name in names if name not in entries]
    if missing:
        raise DataError(f"{record} has nothing of {', '.join(missing)}; run these stages first: 'make bundle' does")
    try:
        return Provenance(
            tool=f"dvc, lock file schema {_read(record).get('schema', '?')}",
            stages={name: _stage(entries[name]) for name in _ordered(names, entries)},
        )
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise DataError(f"{record} can't be taken into a manifest: {where}: {first['msg']}") from error
    except (AttributeError, KeyError, TypeError) as error:
        raise DataError(
            f"{record} is no record of DVC ({type(error).__name__}: {error}); remove it, and run again"
        ) from error


def with_provenance(bundle: Bundle, out: Path, provenance: Provenance, version: int | None = None) -> Bundle:
    """`bundle` written to `out` with the record of how it was made, and as `version` (None: its own).

    Raises UsageError for a version below the bundle's, BundleError if a file that the record names as a bundle's own
    can't be.
    """
    own = bundle.manifest.version
    if version is not None and version < own:
        raise UsageError(f"--version must be at least {own}, the bundle's own, got {version}")
    if not any(
        Path(file.path).name == bundle.path.name for stage in provenance.stages.values() for file in stage.outputs
    ):
        raise BundleError(f"no stage of the record wrote {bundle.path}; name the bundle that the recipe made")
    return rewritten(bundle, out, {}, provenance=provenance, version=own if version is None else version)


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
        if len(content) > _LARGEST:
            raise DataError(f"{path} is larger than {_LARGEST} bytes; that is no graph or record of DVC")
        values = yaml.safe_load(content)
    except (OSError, yaml.YAMLError, RecursionError) as error:
        raise DataError(
            f"{path} can't be read ({' '.join(str(error).split())}); name DVC's dvc.yaml and dvc.lock"
        ) from error
    return values if isinstance(values, dict) else {}


def _stage(entry: Mapping[str, Any]) -> StageRecord:
    groups = entry.get("params") or {}
    return StageRecord(
        command=" ".join(str(entry["cmd"]).split()).removeprefix(_BEFORE),
        parameters={name: value for group in groups.values() for name, value in group.items()},
        inputs=_files(entry.get("deps") or ()),
        outputs=_files(entry.get("outs") or ()),
    )


def _files(entries: Sequence[Mapping[str, Any]]) -> tuple[StageFile, ...]:
    return tuple(
        StageFile(path=entry["path"], hash=f"md5:{entry['md5']}", bytes=entry.get("size"), files=entry.get("nfiles"))
        for entry in entries
    )


def _ordered(names: Sequence[str], entries: Mapping[str, Any]) -> list[str]:
    """Each after those whose outputs it reads; otherwise in the order in which they stand in the graph."""
    made = {str(file["path"]): name for name in names for file in entries[name].get("outs") or ()}
    needs = {name: {made.get(str(file["path"]), name) for file in entries[name].get("deps") or ()} for name in names}
    ordered: list[str] = []
    while len(ordered) < len(names):
        free = [name for name in names if name not in ordered and needs[name] <= {*ordered, name}]
        if not free:
            raise DataError(f"the stages {', '.join(sorted(set(names) - set(ordered)))} need each other")
        ordered.append(free[0])
    return ordered
