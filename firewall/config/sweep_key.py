"""The secret of a device that its keyed sweeps are drawn by: where it comes from, and what is refused as one."""

from __future__ import annotations

from firewall.config.secret import named_secret, read_secret
from firewall.errors import UsageError

__all__ = ["LEAST_BYTES", "check_sweep_key", "read_sweep_key"]

#: Bytes of the shortest key.
LEAST_BYTES = 16
#: And of the longest.
_MOST_BYTES = 4096
#: Random bytes, or random hexadecimal digits, have at least so many different ones among them.
_LEAST_DIFFERENT = 6
_MAKE = "make one with: (umask 077; head -c 32 /dev/urandom > FILE)"


def check_sweep_key(key: bytes, where: str = "the sweep key") -> bytes:
    """Check a key. No message ever holds a byte of it.

    Args:
        key: The secret.
        where: What it is called.

    Returns:
        The same bytes.

    Raises:
        UsageError: If it is too short, too long, or no secret because it repeats a few bytes.
    """
    if not isinstance(key, bytes | bytearray):
        raise UsageError(f"{where} must be bytes, got {type(key).__name__}; {_MAKE}")
    if not LEAST_BYTES <= len(key) <= _MOST_BYTES:
        fault = "too short" if len(key) < LEAST_BYTES else "too long"
        raise UsageError(
            f"{where} is {fault}: {len(key)} bytes; {LEAST_BYTES} to {_MOST_BYTES} random bytes are needed: {_MAKE}"
        )
    if len(set(key)) < _LEAST_DIFFERENT:
        raise UsageError(f"{where} holds {len(set(key))} different bytes only, so it can be guessed; {_MAKE}")
    return bytes(key)


def read_sweep_key(where: str) -> bytes:
    """The key that a setting names.

    Args:
        where: A file, or `env:NAME` for an environment variable. A line end after the key doesn't count.

    Returns:
        The key.

    Raises:
        UsageError: If there is none, others may read or replace it, or it is no key (`check_sweep_key`).
    """
    content = read_secret(where, option="--sweep-key", holds="key", make=_MAKE, most=_MOST_BYTES + 3)
    return check_sweep_key(content.removesuffix(b"\n").removesuffix(b"\r"), f"the sweep key in {named_secret(where)}")
