"""Detectors judged on attacks that they were not trained on, as their training measured it: a table for the page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from firewall.errors import DataError
from firewall.lab.evaluation.assessment import few

__all__ = ["read_leave_one_out"]

_NEEDED = ("n", "auroc")


def read_leave_one_out(path: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """detector -> attack that was left out -> at least n and auroc, and what else `firewall lab evaluate --json` has of
    an attack; perhaps the `family` that was left out with it. Attacks with few images are marked as there. Raises
    DataError for a file that holds anything else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} can't be read ({error}); --leave-one-out takes a JSON file") from error
    fits = isinstance(content, dict) and all(
        isinstance(attacks, dict)
        and all(
            isinstance(entry, dict) and all(isinstance(entry.get(key), int | float) for key in _NEEDED)
            for entry in attacks.values()
        )
        for attacks in content.values()
    )
    if not fits:
        raise DataError(
            f"{path} is not of the form detector -> attack -> {{n, auroc, ...}}; write it as 'firewall lab evaluate "
            "--json' writes its detectors"
        )
    return {
        name: {attack: {**entry, **few(int(entry["n"]))} for attack, entry in attacks.items()}
        for name, attacks in content.items()
    }
