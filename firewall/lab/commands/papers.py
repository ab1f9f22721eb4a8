"""`firewall lab paper ...` and `firewall lab report papers`: both run the experiments of benchmarks/papers.

The papers' own experiments are no part of an installed firewall.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import typer

import firewall
from firewall.errors import UsageError

__all__ = ["PASSED_ON", "paper", "paper_pages"]

PASSED_ON: dict[str, Any] = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def paper(context: typer.Context) -> None:
    """Repeat the papers' own experiments: runs `python -m benchmarks.papers` of a checkout."""
    _run(context.args)


def paper_pages(context: typer.Context) -> None:
    """Write a page for each paper, its numbers beside ours: runs `python -m benchmarks.papers pages` of a checkout."""
    _run(["pages", *context.args])


def _run(arguments: list[str]) -> None:
    checkout = Path(firewall.__file__).resolve().parents[1]
    if not (checkout / "benchmarks" / "papers" / "__main__.py").is_file():
        raise UsageError(
            "the papers' experiments are not part of an installed firewall; run 'python -m benchmarks.papers' in a "
            "checkout of the project"
        )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(checkout), os.environ.get("PYTHONPATH", "")])}
    finished = subprocess.run([sys.executable, "-m", "benchmarks.papers", *arguments], env=environment, check=False)
    raise typer.Exit(finished.returncode)
