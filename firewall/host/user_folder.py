"""The user's own folders, where there are any: a container may run as a number that no user has, without HOME."""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from typing import Literal

__all__ = ["user_folder"]

_UNDER_HOME = {"XDG_STATE_HOME": ".local/state", "XDG_CACHE_HOME": ".cache"}


def user_folder(variable: Literal["XDG_STATE_HOME", "XDG_CACHE_HOME"]) -> Path | None:
    """What the variable names, or its default in the user's home; None if there is no home either. Nothing is made.

    As the XDG rules say, a path that isn't absolute counts as not set; so does such a HOME.
    """
    named = os.environ.get(variable, "")
    if Path(named).is_absolute():
        return Path(named)
    home = os.environ.get("HOME", "")
    if not Path(home).is_absolute():
        try:
            home = pwd.getpwuid(os.getuid()).pw_dir
        except KeyError:
            return None
    return Path(home) / _UNDER_HOME[variable] if Path(home).is_absolute() else None
