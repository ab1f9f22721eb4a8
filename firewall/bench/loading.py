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
    """Load a bundle on a device.

    Args:
        bundle: `default`, or a bundle's folder.
        trust: File of public keys; None: as it is configured.
        allow_unsigned: Whether an unsigned bundle may be used; None: as it is configured.
        device: "cpu", "cuda" or "tensorrt".
        threads: Threads on the processor; 0 = one for each core.
        exhaustive: Ask every detector, even if the verdict is settled.

    Returns:
        The firewall.

    Raises:
        UsageError: If there is no such device.
        EngineError: If the device can't be used here.
        BundleError: If the bundle may not be used.
    """
    check_device(device)
    loaded = load_bundle(
        bundle, trust=Trust.configured(None if trust is None else Path(trust), allow_unsigned, remember=False)
    )
    engine = open_engine(loaded, device=device, threads=threads)
    return Firewall(loaded, engine, exhaustive=exhaustive, threads=threads)
