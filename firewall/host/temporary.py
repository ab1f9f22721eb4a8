"""Folders that libraries fill for themselves: one of this process, not in the user's home or beside others' files."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from contextlib import suppress

__all__ = ["temporary_folder"]


def temporary_folder(variable: str) -> None:
    """Make an environment variable name a folder of this process and its children, removed at this process's end.

    If the variable is set already, nothing is done. Where no folder can be made nothing is set, and the library says so
    itself.

    Args:
        variable: Its name.
    """
    if os.environ.get(variable):
        return
    with suppress(OSError):
        os.environ[variable] = folder = tempfile.mkdtemp(prefix="firewall-lab-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
