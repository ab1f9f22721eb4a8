"""Read the verdict lines of `firewall serve` from a pipe, and act only on what is released.

firewall serve --camera 0 | python examples/read_verdicts.py
"""

from __future__ import annotations

import json
import sys
from collections import Counter


def main() -> None:
    """Print released labels as they come, and at the end why the rest was withheld."""
    reasons: Counter[str] = Counter()
    for line in sys.stdin:
        verdict = json.loads(line)
        if verdict["decision"] == "release":
            x, y, width, height = verdict["region"]
            print(f"{verdict['source']} {verdict['sequence']}: {verdict['label_name']} at {x},{y} {width}x{height}")
        else:
            reasons[verdict["reason"].partition(":")[0]] += 1
    for reason, count in reasons.most_common():
        print(f"withheld {count} times: {reason}")


if __name__ == "__main__":
    main()
