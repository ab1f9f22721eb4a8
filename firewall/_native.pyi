"""The native runtime (runtime/python/module.cpp). Imported by firewall.native alone."""

def simd_level() -> str:
    """Vector instructions that this machine offers: 'avx512', 'avx2', 'sse2', 'neon' or 'scalar'."""

def version() -> str:
    """Version of the runtime, 'major.minor.patch'."""
