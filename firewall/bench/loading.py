"""The firewall that is measured, loaded as `firewall serve` loads it."""

from __future__ import annotations

from pathlib import Path

from firewall.bundle import load_bundle
from firewall.bundle.trust import Trust
from firewall.engines import check_device, open_engine
from firewall.screening import Firewall

__all__ = ["load"]


def load(
    bundle: str, trust: str | None, allow_unsigned: bool | None, device: str, threads: int, *, exhaustive: bool = False
) -> Firewall:
    """A bundle on a device. trust: file of public keys. threads: of the processor, 0 = one for each core.

    Raises UsageError for an unknown device, EngineError for one that can't be used here, BundleError for a bundle that
    may not be used.
    """
    check_device(device)
    loaded = load_bundle(
        bundle, trust=Trust.configured(None if trust is None else Path(trust), allow_unsigned, remember=False)
    )
    engine = open_engine(loaded, device=device, threads=threads)
    return Firewall(loaded, engine, exhaustive=exhaustive, threads=threads)
