"""Which commit the installed package was built from."""

from __future__ import annotations

import json
import re
from importlib import metadata

__all__ = ["built_from"]

_COMMIT = re.compile(r"[0-9a-f]{40,64}(-changed)?")


def built_from(name: str = "perception-firewall") -> str | None:
    """The commit that was written into the package when it was built; git is not asked.

    Args:
        name: Of the distribution.

    Returns:
        The commit in hexadecimal, with `-changed` behind it if files were not as that commit has them. None if nobody
        knows: it was built without git, as from a source distribution, or runs from a checkout, which may have gone on.
    """
    try:
        package = metadata.distribution(name)
        told = json.loads(package.read_text("direct_url.json") or "{}")
        if told.get("dir_info", {}).get("editable"):
            return None
        text = package.read_text("../firewall/commit.txt") or ""
    except (metadata.PackageNotFoundError, OSError, ValueError, AttributeError):
        return None
    commit = text.strip()
    return commit if _COMMIT.fullmatch(commit) else None
