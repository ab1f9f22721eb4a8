"""How fast a database is made: this process alone, processes of this machine, and a Ray of its own, in one run.

    python benchmarks/database_backends.py --dataset gtsrb --attacks pgd --limit 128 --json result.json

The three databases have to be equal, image for image, before any time is printed. Starting workers is part of the time.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
from machine import machine

from firewall.lab.database import Database, Plan, build

SETUPS = {"one process": ("local", 1), "joblib": ("local", 2), "ray": ("ray", 2)}


def main() -> None:
    """Make the same database three times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="gtsrb")
    parser.add_argument("--classifier", default="default")
    parser.add_argument("--attacks", default="pgd")
    parser.add_argument("--limit", type=int, default=128)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    attacks = tuple(options.attacks.split(","))
    plan = Plan(options.dataset, options.classifier, attacks, options.limit, data=options.data)
    results: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, (backend, workers) in SETUPS.items():
            built = build(Path(folder) / name, plan, backend=backend, workers=workers)  # type: ignore[arg-type]
            if built.failures:
                raise SystemExit("\n".join(built.failures))
            images = options.limit * len(attacks)
            results[name] = {"workers": workers, "seconds": built.seconds, "images_per_second": images / built.seconds}
        first, *others = (Database(Path(folder) / name) for name in SETUPS)
        for other in others:
            for attack in attacks:
                if not np.array_equal(first.attacked(attack).images, other.attacked(attack).images):
                    raise SystemExit(f"{attack} differs between {first.folder.name} and {other.folder.name}")
    for name, row in results.items():
        row["ratio to one process"] = row["images_per_second"] / results["one process"]["images_per_second"]
        line = f"{name:12} {row['workers']} workers  {row['images_per_second']:7.2f} images/s"
        sys.stdout.write(f"{line}  {row['ratio to one process']:.2f}x\n")
    if options.json:
        what = f"{options.attacks} on {options.limit} images of {options.dataset}, classifier {options.classifier}"
        report = {"what": what, "machine": machine(), "results": results}
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
