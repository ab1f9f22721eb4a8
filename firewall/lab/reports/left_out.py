"""Detectors evaluated on attacks that they were not trained on: the JSON of `firewall lab leave-one-out`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from firewall.errors import DataError
from firewall.lab.evaluation.bundle_on_database import few

__all__ = ["read_left_out"]

_NEEDED = ("n", "auroc")


def read_left_out(path: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """Read what was measured when the detectors were trained.

    Args:
        path: The JSON file.

    Returns:
        Detector -> attack that was left out -> at least n and auroc, and what else `firewall lab evaluate --json` says
        of an attack; perhaps the `family` that was left out with it. Attacks with few images are marked.

    Raises:
        DataError: The file can't be read, or holds something else.
    """
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
