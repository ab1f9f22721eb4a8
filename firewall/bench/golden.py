"""The golden frames of a bundle, judged on a device: `python -m firewall.bench.golden --bundle B --device D`."""

from __future__ import annotations

import argparse
import json
import sys

from firewall.errors import FirewallError

__all__ = ["judge"]


def judge(bundle: str, device: str) -> dict[str, object]:
    """Judge every golden frame of a bundle as a running guard does.

    Args:
        bundle: `default`, or a bundle's folder.
        device: One of firewall.engines.DEVICES.

    Returns:
        `frames`: how many there are; `different`: what is wrong, a line for each; `networks`: file -> what runs it.

    Raises:
        FirewallError: If the bundle can't be used, or not on this device.
    """
    from firewall.engines import what_runs
    from firewall.regions import build
    from firewall.screening import Firewall
    from firewall.service.golden import judged

    guard = Firewall.load(bundle, device=device)
    listed = guard.bundle.manifest.golden or ()
    found = what_runs(guard.bundle, guard.engine, guard.under_masks, guard.networks)
    finder = None
    if any(frame.regions == "signs" for frame in listed):
        finder = build("signs", device=device, bundle=guard.bundle)
        found |= finder.networks
    wrong = [judged(guard, finder, frame, guard.bundle.files[frame.file]) for frame in listed]
    return {"frames": len(listed), "different": [line for line in wrong if line], "networks": found}


def main() -> int:
    """The command; exit code 1 if a frame is judged otherwise than it should be, or not at all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", default="default")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    try:
        told = judge(arguments.bundle, arguments.device)
    except FirewallError as error:
        sys.stderr.write(f"firewall: error: {error}\n")
        return error.exit_code
    sys.stdout.write(json.dumps(told) + "\n")
    return 1 if told["different"] else 0


if __name__ == "__main__":
    sys.exit(main())
