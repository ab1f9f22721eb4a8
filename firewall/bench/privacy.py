"""What a report that is sent to others must not hold: names of people, machines and places."""

from __future__ import annotations

import getpass
import re
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from firewall.host.sensors import text

__all__ = ["LEFT_OUT", "without_names"]

LEFT_OUT = "(left out)"
#: A path of two parts or more; the last one stays, since it says which file.
_PATH = re.compile(r"(?<![\w/.:])~?(?:/[\w@%+=.,~-]+)+/([\w@%+=.,~-]+)")
_ADDRESS = re.compile(r"\b(?:\d{1,3}\.){3}\d{1,3}\b|\b(?:[0-9a-f]{2}:){5}[0-9a-f]{2}\b", re.IGNORECASE)
#: What boards are called before anybody gives them a name: it tells nothing, and stands in names of packages.
_COMMON = frozenset(
    {"nvidia", "jetson", "ubuntu", "tegra", "tegra-ubuntu", "localhost", "root", "user", "admin", "orin"}
)


def without_names(root: Path = Path("/")) -> Callable[[Any], Any]:
    """A function that takes names out of what becomes JSON: the machine's and the user's, serial numbers, addresses in
    a network, and the folders that files lie in. Numbers, keys and the rest stay.

    Args:
        root: Folder with /proc and /etc, for tests.
    """
    found = {socket.gethostname(), socket.gethostname().partition(".")[0], Path.home().name}
    with suppress(Exception):  # there may be no name for the user
        found.add(getpass.getuser())
    for file in ("proc/device-tree/serial-number", "sys/firmware/devicetree/base/serial-number", "etc/machine-id"):
        found.add((text(root / file) or "").strip("\0 \n"))
    words = sorted((word for word in found if len(word) > 2 and word.lower() not in _COMMON), key=len, reverse=True)
    names = re.compile("|".join(rf"(?<!\w){re.escape(word)}(?!\w)" for word in words)) if words else None

    def clean(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: clean(each) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [clean(each) for each in value]
        if not isinstance(value, str):
            return value
        shorter = _ADDRESS.sub(LEFT_OUT, _PATH.sub(r".../\1", value))
        return names.sub(LEFT_OUT, shorter) if names else shorter

    return clean
