"""The one place that loads the native runtime: runtime/ of the source tree, compiled by pip into `firewall._native`."""

from __future__ import annotations

from functools import cache
from types import ModuleType

from firewall import __version__
from firewall.errors import FirewallError

__all__ = ["load", "simd_level"]


@cache
def load() -> ModuleType:
    """The extension module.

    Raises FirewallError if it was not built, can't be loaded, or belongs to another version of the package.
    """
    try:
        from firewall import _native
    except ImportError as error:
        raise FirewallError(
            f"the native runtime can't be loaded ({' '.join(str(error).split())}); "
            "install the package with pip, which compiles it: pip install . (in a checkout: pip install -e .)"
        ) from error
    if _native.version() != __version__:
        raise FirewallError(
            f"the native runtime is of version {_native.version()}, the package of {__version__}; "
            "install the package again: pip install . (in a checkout: pip install -e .)"
        )
    return _native


def simd_level() -> str:
    """Vector instructions of this machine that the native runtime can use: avx512, avx2, sse2, neon or scalar.

    Raises FirewallError as `load` does.
    """
    return str(load().simd_level())
