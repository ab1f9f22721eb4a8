"""What does a guard release that asks for proofs, and what does a proof cost: `--values` on clean test signs.

    python -m benchmarks.values_guard --bundle DIR --data DIR --json FILE [--limit 500]

DIR is a bundle of `firewall lab add-values`. GTSRB test images (draw 0, which choose nothing) are judged by the guard
as it is, and with --values at each eps. A proof is asked only of what would be released, so what is released with
proofs is part of what is released without: that is checked. Time is of the processor, one thread, of one proof.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import machine
from firewall.bundle import load_bundle
from firewall.bundle.trust import Trust
from firewall.bundle.values import eps_of, values_of
from firewall.decision.values import Values
from firewall.engines import open_engine
from firewall.errors import FirewallError
from firewall.lab.certification.classifier import classified, open_subject
from firewall.lab.commands.output import write_json
from firewall.lab.measurement import metrics
from firewall.screening import Firewall


def share(hits: int, of: int) -> dict[str, Any]:
    """With the 95 % interval for independent images."""
    return {"value": hits / of, "ci95": list(metrics.rate_interval(hits, of))}


def measured(verdicts: list[int | None], labels: list[int]) -> dict[str, Any]:
    """Released, and released with a wrong label, of all images."""
    wrong = sum(found is not None and found != label for found, label in zip(verdicts, labels, strict=True))
    released = sum(found is not None for found in verdicts)
    return {"released": share(released, len(labels)), "released_wrong": share(wrong, len(labels))}


def timed(values: Values) -> list[float]:
    """Milliseconds of processor time of each proof from now on."""
    times: list[float] = []
    hold = values.hold

    def taken(evidence: Any) -> bool:
        started = time.process_time()
        found = hold(evidence)
        times.append((time.process_time() - started) * 1e3)
        return found

    values.hold = taken  # type: ignore[method-assign]
    return times


def main() -> None:
    """Judge, count, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=500)
    parser.add_argument("--eps", action="append", default=None, help="may be repeated; 1/255 and 2/255")
    arguments = parser.parse_args()
    bundle = load_bundle(arguments.bundle, trust=Trust())
    about, images = classified(
        open_subject("default"), "gtsrb", "test", arguments.limit, 0, arguments.data, own_pixels=True
    )
    signs = [(pixels, label) for _, pixels, label in images]
    labels = [label for _, label in signs]

    def judged(guard: Firewall) -> list[int | None]:
        return [guard.screen(pixels).label for pixels, _ in signs]

    engine = open_engine(bundle, threads=1)
    plain = judged(Firewall(bundle, engine, threads=1))
    rows: list[dict[str, Any]] = [{"eps": None, **measured(plain, labels)}]
    for text in arguments.eps or ("1/255", "2/255"):
        guard = Firewall(bundle, engine, values=eps_of(text), threads=1)
        times = [] if guard.values is None else timed(guard.values)
        found = judged(guard)
        if any(one is not None and one != other for one, other in zip(found, plain, strict=True)):
            raise FirewallError(f"--values {text} released what the guard without it does not")
        cost = {"median": float(np.median(times)), "p99": float(np.percentile(times, 99)), "proofs": len(times)}
        rows.append({"eps": text, **measured(found, labels), "processor_ms": cost})
    spec = values_of(bundle)
    told = {**about, "network_sha256": "" if spec is None else spec.network, "bundle": bundle.manifest.name}
    write_json({"about": {**told, "machine": machine()}, "guards": rows}, arguments.json)


if __name__ == "__main__":
    main()
