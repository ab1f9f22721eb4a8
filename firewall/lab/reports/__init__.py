"""Pages for people: what was measured, on what, and what it looks like."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from contextlib import suppress

__all__: list[str] = []


def _folder_of_matplotlib() -> None:
    """Its list of fonts goes into a folder that this process removes at its end, not into the user's home. Whoever
    names a folder of their own (MPLCONFIGDIR) keeps it."""
    if os.environ.get("MPLCONFIGDIR"):
        return
    with suppress(OSError):  # no folder for temporary files: matplotlib says so itself
        folder = tempfile.mkdtemp(prefix="firewall-matplotlib-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        os.environ["MPLCONFIGDIR"] = folder


_folder_of_matplotlib()  # here, since all that imports matplotlib is in this package
