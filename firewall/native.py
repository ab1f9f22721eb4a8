"""The one place that loads the native runtime: runtime/ of the source tree, compiled by pip into `firewall._native`."""

from __future__ import annotations

from functools import cache
from types import ModuleType
from typing import NamedTuple

from firewall import __version__
from firewall.errors import FirewallError

__all__ = ["CudaSupport", "cuda", "load", "simd_level"]


class CudaSupport(NamedTuple):
    """What of CUDA is there: built into the runtime, usable now, and if not, why not and what to do."""

    built: bool
    usable: bool
    reason: str


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


def cuda() -> CudaSupport:
    """Whether the operations can run on an NVIDIA GPU here (firewall.transforms.cuda).

    Raises FirewallError as `load` does.
    """
    module = load()
    reason = str(module.cuda_reason())
    if not module.CUDA_BUILT:
        return CudaSupport(
            False,
            False,
            f"{reason}; where nvcc is installed, build it with CUDA: pip install . -C cmake.define.FIREWALL_CUDA=ON",
        )
    if reason:
        return CudaSupport(True, False, f"no GPU can be used ({reason}); nvidia-smi tells about driver and devices")
    return CudaSupport(True, True, "")
