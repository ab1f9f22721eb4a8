"""Read the verdict lines of `firewall serve` from a pipe, and act only on what is released and still fresh.

firewall serve --camera 0 | python examples/read_verdicts.py 200

A label older than so many milliseconds (on this machine, since its frame was captured) is left out, and so is one of a
frame that comes again or after a newer one. Without a number age doesn't count, as for lines that were kept in a file.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter


def main() -> None:
    """Print released labels as they come, and at the end why the rest was not used, and how many frames are missing."""
    oldest_ms = float(sys.argv[1]) if len(sys.argv) > 1 else float("inf")
    reasons: Counter[str] = Counter()
    newest: dict[str, tuple[int, int]] = {}  # camera -> capture time and number of its newest frame
    missing = 0
    for line in sys.stdin:
        verdict = json.loads(line)
        frame = verdict["monotonic_ns"], verdict["sequence"]
        before = newest.get(verdict["camera"], frame)
        newest[verdict["camera"]] = max(before, frame)
        missing += max(0, frame[1] - before[1] - 1)
        age_ms = (time.monotonic_ns() - verdict["monotonic_ns"]) / 1e6
        if frame < before:
            reasons["older than the frame before it"] += 1
        elif verdict["decision"] == "release" and age_ms > oldest_ms:
            reasons["released, but too old by now"] += 1
        elif verdict["decision"] == "release":
            x, y, width, height = verdict["region"]
            print(f"{verdict['source']} {verdict['sequence']}: {verdict['label_name']} at {x},{y} {width}x{height}")
        else:
            reasons[verdict["reason"].partition(":")[0]] += 1
    for reason, count in reasons.most_common():
        print(f"withheld {count} times: {reason}")
    print(f"{missing} frames are missing")


if __name__ == "__main__":
    main()
