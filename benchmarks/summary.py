"""Results as they are kept in git: summaries with n, interval, machine and commit, one row a line.

A command writes all it measured to a file of the user's choice. `python benchmarks/summary.py RAW.json
benchmarks/results/NAME.json` makes the summary of it and keeps the raw rows beside it, as NAME.raw.json,
which git ignores.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
from pathlib import Path
from typing import Any

__all__ = ["LINES", "compact", "condense", "write_summary"]

#: All of benchmarks/results together may have so many lines; a test holds it.
LINES = 3000
_WIDEST = 600  # so that a row stands in a line
_DIGITS = 4
_SAMPLES = 24  # a longer list of numbers, other than a figure's, is raw


_STAGES = "stages_ms"  # of a benchmark: stage -> samples


def condense(content: Any) -> Any:
    """What is worth keeping: raw rows (one an image) counted, samples left out, numbers of four digits."""
    if isinstance(content, dict) and {"bundle", "normal", "about", "worst"} <= set(content):
        content = _evaluation(content)
    if isinstance(content, dict) and "judged" in content and "rate_a_track" in content:
        content = {**content, "judged": {name: _tracks(part) for name, part in content["judged"].items()}}
    if isinstance(content, dict):
        kept = {key: condense(value) for key, value in content.items() if not _raw(key, value)}
        if "curve" in kept and "by_class" in kept:  # certificates over tau: the curve says more
            del kept["by_class"]
        if "key" in kept:  # a row of a paper's table: what is missing is None to its reader
            kept = {key: value for key, value in kept.items() if value is not None}
        for rows in content.values():
            if _of_images(rows):
                kept.setdefault("images", len(rows))
                for count, field in (("successes", "success"), ("certified_images", "certified")):
                    if field in rows[0]:
                        kept.setdefault(count, sum(bool(row[field]) for row in rows))
        return kept
    if isinstance(content, list):
        return [condense(value) for value in content]
    if isinstance(content, float) and math.isfinite(content) and content:
        return float(f"{content:.{_DIGITS}g}")
    return content


def _evaluation(content: dict[str, Any]) -> dict[str, Any]:
    """Of `firewall lab evaluate --json`: per attack what is withheld and what each detector alone is worth."""
    detectors = content["about"]["detectors"]
    attacks = {}
    for attack, entry in content["bundle"].items():
        row = {"n": entry["n"], "withheld": [entry["withheld"], *entry["ci95"]]}
        if "fused" in content:
            fused = content["fused"][attack]
            row["auroc"] = [fused["auroc"], *fused["ci95"]["auroc"]]
            row["tpr_at_1fpr"] = [fused["tpr_at_1fpr"], *fused["ci95"]["tpr_at_1fpr"]]
        row["auroc_alone"] = {name: content[name][attack]["auroc"] for name in detectors}
        attacks[attack] = row
    about = {key: value for key, value in content["about"].items() if key != "calibration_normals"}
    return {
        "attacks": attacks,
        "benign": content["normal"],
        "worst": content["worst"],
        "shift": {
            kind: value if kind in ("limit", "seed") else _shift(value)
            for kind, value in content.get("shift", {}).items()
        },
        "about": about,
    }


def _shift(value: dict[str, Any]) -> dict[str, Any]:
    """Rates with their intervals: [rate, low, high]."""
    if "ci95" in value:
        intervals = value["ci95"]
        return {
            key: [part, *intervals[key]] if key in intervals else part for key, part in value.items() if key != "ci95"
        }
    return {key: _shift(part) for key, part in value.items()}


def _tracks(part: dict[str, Any]) -> dict[str, Any]:
    """All attacks together, ten frames."""
    attacked = {
        length: {
            rule: {"all": found["all"]} for rule, found in rules.items() if isinstance(found, dict) and "all" in found
        }
        for length, rules in part["attacked"].items()
        if length == "10 frames"
    }
    return {**part, "attacked": attacked}


def _raw(key: str, value: Any) -> bool:
    if _of_images(value) or (key == _STAGES and isinstance(value, dict)):
        return True
    numbers = isinstance(value, list) and all(isinstance(one, int | float) for one in value)
    return numbers and len(value) > _SAMPLES and ("_ms" in key or "samples" in key)


def _of_images(value: Any) -> bool:
    """One row an image."""
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict) and "index" in value[0]


def compact(value: Any, indent: int = 0) -> str:
    """JSON in few lines: what fits into one stands in one, and short rows of a list share lines."""
    line = json.dumps(value, ensure_ascii=False)
    if len(line) <= _WIDEST or not isinstance(value, dict | list):
        return line
    pad, end = " " * (indent + 1), "\n" + " " * indent
    if isinstance(value, dict):
        parts = [f"{json.dumps(key, ensure_ascii=False)}: {compact(part, indent + 1)}" for key, part in value.items()]
    else:
        parts = [compact(part, indent + 1) for part in value]
    lines = [""]
    for part in parts:
        if lines[-1] and "\n" not in lines[-1] + part and len(lines[-1]) + len(part) <= _WIDEST:
            lines[-1] += f", {part}"
        else:
            lines.append(part)
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    return f"{opening}\n" + ",\n".join(pad + line for line in lines[1:]) + end + closing


def write_summary(raw: Path, out: Path) -> None:
    """Write the summary of `raw` to `out`, and keep `raw` beside it."""
    content = json.loads(raw.read_text(encoding="utf-8"))
    beside = out.with_suffix(".raw.json")
    if raw.resolve() != beside.resolve():
        beside.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(raw, beside)
    partial = out.with_suffix(".partial")
    partial.write_text(compact(condense(content)) + "\n", encoding="utf-8")
    partial.replace(out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("raw", type=Path, help="what a command wrote with --json")
    parser.add_argument("out", type=Path, help="the summary, benchmarks/results/NAME.json")
    arguments = parser.parse_args()
    write_summary(arguments.raw, arguments.out)
