"""The user's own folders, where there are any: a container may run as a number that no user has, without HOME."""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from typing import Literal

__all__ = ["place_of", "user_folder"]

Variable = Literal["XDG_STATE_HOME", "XDG_CACHE_HOME"]

_UNDER_HOME: dict[Variable, str] = {"XDG_STATE_HOME": ".local/state", "XDG_CACHE_HOME": ".cache"}


def user_folder(variable: Variable) -> Path | None:
    """The user's folder for state or for caches. Nothing is made.

    As the XDG rules say, a path that isn't absolute counts as not set; so does such a HOME.

    Args:
        variable: The variable that names it.

    Returns:
        What the variable names, or its default in the user's home; None if there is no home either.
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


def place_of(own: str, variable: Variable, name: str) -> Path | None:
    """Where something of ours is kept. Nothing is made.

    Args:
        own: Our environment variable that names the place; unset or empty: it doesn't.
        variable: Of the user's folder that it lies in otherwise.
        name: Its name in `perception-firewall` there.

    Returns:
        The file or folder; None if `own` names none and the user has no such folder.
    """
    named = os.environ.get(own)
    if named:
        return Path(named)
    folder = user_folder(variable)
    return None if folder is None else folder / "perception-firewall" / name
