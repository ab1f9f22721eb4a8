"""Where frames come from: `parse` a text, open a `Capture`, read frames. `read_image` reads one picture by itself,
`read_input` also from standard input."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from firewall.sources.capture import Capture, End, Failure, Idle, longest_silence
from firewall.sources.uri import SourceSpec, parse, without_credentials

if TYPE_CHECKING:
    from firewall.sources.image import read_image, read_input

__all__ = [
    "Capture",
    "End",
    "Failure",
    "Idle",
    "SourceSpec",
    "longest_silence",
    "parse",
    "read_image",
    "read_input",
    "without_credentials",
]


def __getattr__(name: str) -> Any:
    # Imported on first use: the process of a camera needs no Pillow.
    if name not in ("read_image", "read_input"):
        raise AttributeError(f"module 'firewall.sources' has no attribute {name!r}")
    from firewall.sources import image

    return getattr(image, name)
