"""The numbers of H.264 frames. Each frame that others are decoded from counts one further: a gap is one that was lost.

FFmpeg sees some of the gaps only: it takes a frame that nothing depends on for one that counts.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

__all__ = ["FrameNumbers"]

_SLICE, _IDR_SLICE, _PARAMETERS = 1, 5, 7
_HIGH_PROFILES = frozenset({44, 83, 86, 100, 110, 118, 122, 128, 134, 135, 138, 139, 244})
_HEADER = 64  # bytes that hold all we look at in a slice


class _Bits:
    """Reads a NAL unit bit by bit. Raises ValueError at its end."""

    def __init__(self, unit: bytes) -> None:
        data = unit[1:].replace(b"\0\0\3", b"\0\0")
        self._bits = f"{int.from_bytes(data, 'big'):0{8 * len(data)}b}" if data else ""
        self._at = 0

    def number(self, bits: int) -> int:
        """An unsigned number of so many bits."""
        self._at += bits
        return int(self._bits[self._at - bits : self._at], 2) if bits else 0

    def golomb(self) -> int:
        """An unsigned Exp-Golomb number."""
        zeros = self._bits.index("1", self._at) - self._at
        self._at += zeros
        return self.number(zeros + 1) - 1

    def signed(self) -> int:
        """A signed one."""
        code = self.golomb()
        return (code + 1) // 2 if code % 2 else -(code // 2)


class FrameNumbers:
    """Follows the numbers of one stream."""

    def __init__(self) -> None:
        # For each set of parameters: bits of a frame's number, and of the plane's before it. None: may have gaps.
        self._sets: dict[int, tuple[int, int] | None] = {}
        self._newest: int | None = None  # of the frames that others are decoded from

    def gap(self, units: Iterable[bytes]) -> bool:
        """Whether frames were lost before this one.

        Args:
            units: The NAL units of a packet, without start codes.
        """
        lost = False
        for unit in units:
            kind = unit[0] & 31 if unit else 0
            with suppress(ValueError):  # too short: the decoder will say so
                if kind == _PARAMETERS:
                    self._parameters(_Bits(unit))
                elif kind in (_SLICE, _IDR_SLICE):
                    lost |= self._slice(_Bits(unit[:_HEADER]), kind == _IDR_SLICE, unit[0] & 0x60 != 0)
        return lost

    def _slice(self, bits: _Bits, first_of_all: bool, counts: bool) -> bool:
        bits.golomb(), bits.golomb(), bits.golomb()  # first macroblock, kind of slice, picture parameters
        if len(set(self._sets.values())) != 1:
            return False  # several sets: which one holds stands in the picture's parameters
        known = next(iter(self._sets.values()))
        if known is None:
            return False
        bits.number(known[1])
        number = bits.number(known[0])
        before, self._newest = self._newest, number if counts else self._newest
        if first_of_all or before is None:
            return False
        if number in (before, (before + 1) % (1 << known[0])):
            return False
        self._newest = number if counts else (number - 1) % (1 << known[0])
        return True

    def _parameters(self, bits: _Bits) -> None:
        profile = bits.number(8)
        bits.number(16)
        identifier, plane = bits.golomb(), 0
        if profile in _HIGH_PROFILES:
            chroma = bits.golomb()
            if chroma == 3:
                plane = 2 * bits.number(1)
            bits.golomb(), bits.golomb(), bits.number(1)  # depths, bypass
            if bits.number(1):
                for matrix in range(12 if chroma == 3 else 8):
                    if bits.number(1):
                        _pass_scaling(bits, 16 if matrix < 6 else 64)
        length = bits.golomb() + 4
        order = bits.golomb()
        if order == 0:
            bits.golomb()
        elif order == 1:
            bits.number(1), bits.signed(), bits.signed()
            for _ in range(bits.golomb()):
                bits.signed()
        bits.golomb()  # reference frames
        self._sets[identifier] = None if bits.number(1) else (length, plane)


def _pass_scaling(bits: _Bits, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + bits.signed()) % 256
        last = following or last
