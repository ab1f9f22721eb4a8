"""Channels by name.

name            what it does                                              parameter
jpeg-Q          stored once as JPEG, 4:2:0                                quality 1..100
h264-CRF        three frames of a video by x264; the last is seen         constant rate factor 0..51
resize          through half the resolution and back                      resize-P: percent of the sides, 5..400
blur            out of focus by a Gaussian of 1 pixel                     blur-S: standard deviation in pixels
noise           of a sensor, 6 grey levels                                noise-D: standard deviation in grey levels
contrast        all values nearer to the image's mean, to 15 percent       contrast-P: percent that is left, 1..100
A+B             first A, then B, as in blur+jpeg-75
"""

from __future__ import annotations

import re
from collections.abc import Callable
from types import MappingProxyType

from firewall.errors import UsageError
from firewall.lab.attacks.channels.channel import Chain, Channel
from firewall.lab.attacks.channels.h264 import H264
from firewall.lab.attacks.channels.jpeg import Jpeg
from firewall.lab.attacks.channels.optics import Blur, Contrast, Noise, Resolution

__all__ = ["CHANNELS", "parse_channel"]

#: Likely channels of a camera: reports show them, and an attacker takes the expectation over them.
CHANNELS = ("jpeg-90", "jpeg-75", "jpeg-50", "h264-23", "resize", "blur", "noise")

#: Kind -> how it is made of a whole number, or of any; and whether it has a parameter of its own.
_WHOLE: MappingProxyType[str, Callable[[int], Channel]] = MappingProxyType({"jpeg": Jpeg, "h264": H264})
_REAL: MappingProxyType[str, type[Resolution | Blur | Noise | Contrast]] = MappingProxyType(
    {"resize": Resolution, "blur": Blur, "noise": Noise, "contrast": Contrast}
)
_NAME = re.compile(r"(?P<kind>[a-z0-9]+)(?:-(?P<number>[0-9]{1,4}(?:\.[0-9]{1,4})?))?", re.ASCII)


def parse_channel(name: str) -> Channel:
    """The channel of that name, ready to be used.

    Args:
        name: As in the table above, several with `+` or `@` between them.

    Returns:
        The channel.

    Raises:
        UsageError: There is none, or its parameter is out of range.
        MissingExtraError: Its codec is not installed.
    """
    parts = tuple(_parse(part, name) for part in re.split("[+@]", name))
    channel: Channel = parts[0] if len(parts) == 1 else Chain(parts)
    channel.check()
    return channel


def _parse(part: str, name: str) -> Channel:
    match = _NAME.fullmatch(part)
    kind, number = (match["kind"], match["number"]) if match else ("", None)
    if kind in _WHOLE and number is not None and number.isdecimal():
        return _WHOLE[kind](int(number))
    if kind in _REAL:
        return _REAL[kind]() if number is None else _REAL[kind](float(number))
    where = f" in {name!r}" if part != name else ""
    raise UsageError(
        f"no channel is named {part!r}{where}; there are jpeg-QUALITY, h264-CRF, resize, blur, noise and contrast, and "
        "chains, such as jpeg-90, h264-23, resize-50, blur-1, noise-6, contrast-15 and blur+jpeg-75"
    )
