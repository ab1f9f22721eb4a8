"""The tables of README and docs, made from benchmarks/results: `python benchmarks/tables.py [--check]`.

A table stands between `<!-- table: NAME -->` and `<!-- /table -->`. With --check nothing is written, and the exit
code is 1 if a file's table is not what the results give.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

__all__ = ["TABLES", "filled", "main"]

ROOT = Path(__file__).resolve().parents[1]
_RESULTS = ROOT / "benchmarks" / "results"
_PLACE = re.compile(r"<!-- table: (?P<name>[a-z-]+) -->\n.*?<!-- /table -->", re.DOTALL)

_NAMES = {
    "fgsm": "FGSM, eps .03",
    "pgd-0.01": "PGD, eps .01",
    "pgd": "PGD, eps .03",
    "pgd-0.06": "PGD, eps .06",
    "pgd-high-confidence": "PGD, high confidence",
    "deepfool": "DeepFool",
    "newtonfool": "NewtonFool",
    "gradient": "gradient step",
    "bim": "BIM, least radius",
    "l2-bim": "BIM in L2, least radius",
    "pgd-targeted": "PGD, targeted, least radius",
}
_SHIFTS = {"none": "as it is", "jpeg-95": "JPEG 95", "jpeg-85": "JPEG 85", "jpeg-70": "JPEG 70"}


def _read(name: str) -> Any:
    return json.loads((_RESULTS / name).read_text(encoding="utf-8"))


def _share(rate: Sequence[float], n: int | None = None) -> str:
    value, low, high = (100 * one for one in rate)
    return f"{value:.1f} % ({low:.0f} - {high:.0f}{f'; n = {n}' if n else ''})"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _jpeg_rows() -> list[tuple[str, dict[str, Any]]]:
    """Attacks by what is released wrongly after JPEG 95, the worst first."""
    attacks = _read("default/evaluation.json")["shift"]["attacks"]
    return sorted(attacks.items(), key=lambda item: (-item[1]["jpeg-95"]["wrong_released"][0], item[0]))


def wrong_release() -> str:
    """Wrong-release rate of each attack, as pixels and after JPEG 95."""
    rows = [
        [
            _NAMES[name],
            f"**{_share(found['jpeg-95']['wrong_released'])}**",
            _share(found["none"]["wrong_released"]),
            str(found["none"]["n"]),
        ]
        for name, found in _jpeg_rows()
    ]
    return _table(["attack", "wrong-release rate after JPEG 95", "without compression", "n"], rows)


def wrong_release_jpeg() -> str:
    """The same at three qualities."""
    rows = [
        [_NAMES[name], str(found["none"]["n"]), *(_share(found[shift]["wrong_released"]) for shift in _SHIFTS)]
        for name, found in _jpeg_rows()
    ]
    return _table(["wrong-release rate", "n", *_SHIFTS.values()], rows)


def attacks() -> str:
    """What is withheld of each attack at the bundle's own threshold, the worst first."""
    found = sorted(_read("default/evaluation.json")["attacks"].items(), key=lambda item: item[1]["withheld"][0])
    rows = [
        [
            _NAMES[name],
            str(entry["n"]),
            _share(entry["withheld"]),
            f"{entry['auroc'][0]:.4f}",
            _share(entry["tpr_at_1fpr"]),
        ]
        for name, entry in found
    ]
    return _table(["attack", "n", "withheld", "AUROC", "true-positive rate at 1 % false positives"], rows)


def all_attacks() -> str:
    """Every attack of the lab; those of which all is withheld share a row."""
    found = sorted(
        _read("default/evaluation_all_attacks.json")["attacks"].items(), key=lambda item: item[1]["withheld"][0]
    )
    rows = [
        [_NAMES.get(name, name), str(entry["n"]), _share(entry["withheld"])]
        for name, entry in found
        if entry["withheld"][0] < 1
    ]
    whole = [entry["n"] for _, entry in found if entry["withheld"][0] == 1]
    rows.append([f"the other {len(whole)}", f"{min(whole)} - {max(whole)} each", "100 %"])
    return _table(["attack", "n", "withheld"], rows)


def benign_shift() -> str:
    """Benign images withheld, as they are and under shift."""
    result = _read("default/evaluation.json")
    benign = result["benign"]
    rows = [["none", _share([benign["false_positive_rate"], *benign["ci95"]]), str(benign["n"]), "100 %"]]
    for name, entry in result["shift"]["normal"].items():
        if name != "none":
            rows.append(
                [
                    name.replace("jpeg-", "JPEG "),
                    _share(entry["withheld"]),
                    str(entry["n"]),
                    _percent(entry["accuracy"][0]),
                ]
            )
    return _table(["shift", "benign images withheld", "n", "classifier still right"], rows)


def _complement(rate: Sequence[float]) -> list[float]:
    """Of [rate, low, high]: what is not withheld is released, and every attacked image here is named wrong."""
    value, low, high = rate
    return [1 - value, 1 - high, 1 - low]


def _percent(value: float) -> str:
    return f"{100 * value:.3g} %"


def left_out() -> str:
    """Families that no part of a bundle has met."""
    rows = [
        [
            row["family"],
            _NAMES.get(row["attack"], row["attack"]),
            str(row["n"]),
            _share([row["withheld"], *row["ci95"]]),
        ]
        for row in sorted(_read("default/leave_one_out.json")["rows"], key=lambda row: row["withheld"])
    ]
    return _table(["family left out", "attack", "n", "withheld"], rows)


def classifiers() -> str:
    """Top-1 accuracy on images that a classifier was not trained on."""
    rows = [
        [entry["classifier"], test["data"], _share([test["accuracy"], *test["interval"]], test["images"])]
        for entry in _read("classifiers.json")["classifiers"]
        for test in entry["test"]
    ]
    return _table(["classifier", "data", "right"], rows)


def damaged_video() -> str:
    """What comes out of damaged videos, all codecs and containers together, and where whole frames were lost unseen."""
    result = _read("damaged_video.json")
    columns = result["columns"].split()
    found: dict[str, dict[str, int]] = {}
    for row in result["rows"]:
        values = dict(zip(columns, row.split(), strict=True))
        total = found.setdefault(values["damage"], {})
        for column in columns[3:]:
            total[column] = total.get(column, 0) + int(values[column])
    rows = [
        [damage, *(str(total[column]) for column in ("frames", "whole", "errors", "wrong", "visible", "released"))]
        for damage, total in found.items()
    ]
    head = ["damage", "frames", "handed out whole", "errors", "wrong", "visibly wrong", "labels on wrong frames"]
    return _table(head, rows)


def readme() -> str:
    """Six rows, the worst first."""
    result, cost = _read("default/evaluation.json"), _read("default/cost.json")
    name, worst = _jpeg_rows()[0]
    left = _read("default/leave_one_out.json")
    weakest = min(result["attacks"].values(), key=lambda entry: entry["withheld"][0])
    benign, shift = result["benign"], result["shift"]["normal"]
    stormy = max(shift, key=lambda one: shift[one]["withheld"][0])
    default = next(one for one in _read("classifiers.json")["classifiers"] if one["classifier"] == "default")["test"][0]
    whole = _share([benign["false_positive_rate"], *benign["ci95"]], benign["n"])
    milliseconds = f"{cost['firewall_ms']['mean']:.1f} / {cost['firewall_ms']['p99']:.1f} ms"
    rows = [
        [
            f"**wrong-release rate, worst attack after a camera's JPEG 95** ({_NAMES[name]})",
            f"**{_share(worst['jpeg-95']['wrong_released'], worst['jpeg-95']['n'])}**",
        ],
        [
            "wrong-release rate, worst of the eleven attacks without compression",
            _share(_complement(weakest["withheld"]), weakest["n"]),
        ],
        [
            f"the same for an attack whose family was left out of everything, worst ({left['worst']['family']})",
            _share(_complement([left["worst"]["withheld"], *left["worst"]["ci95"]]), left["worst"]["n"]),
        ],
        [
            f"benign images withheld, 1 % asked for; worst shift ({stormy})",
            whole + "; " + _share(shift[stormy]["withheld"], shift[stormy]["n"]),
        ],
        ["classifier, top-1", _share([default["accuracy"], *default["interval"]], default["images"])],
        [
            "verdict on a normal sign, mean / p99; a loop of Pillow copies and single classifications",
            f"{milliseconds}; {cost['ratio_of_means']:.0f} times as long",
        ],
    ]
    return _table(["default bundle, GTSRB test images that nothing was fitted to", "measured (95 % interval)"], rows)


#: Name in the text -> the table.
TABLES: dict[str, Callable[[], str]] = {
    "readme": readme,
    "wrong-release": wrong_release,
    "wrong-release-jpeg": wrong_release_jpeg,
    "attacks": attacks,
    "all-attacks": all_attacks,
    "benign-shift": benign_shift,
    "left-out": left_out,
    "classifiers": classifiers,
    "damaged-video": damaged_video,
}


def filled(text: str) -> str:
    """`text` with every table made from the results. Raises KeyError for a table that isn't one of TABLES."""
    return _PLACE.sub(
        lambda place: f"<!-- table: {place['name']} -->\n\n{TABLES[place['name']]()}\n\n<!-- /table -->", text
    )


def main() -> int:
    """Write the tables, or say where they differ; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if a table differs")
    check = parser.parse_args().check
    stale = []
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        text = path.read_text(encoding="utf-8")
        if (new := filled(text)) != text:
            stale.append(path.relative_to(ROOT))
            if not check:
                path.write_text(new, encoding="utf-8")
    for name in stale if check else ():
        sys.stderr.write(f"{name}: a table differs from benchmarks/results; run python benchmarks/tables.py\n")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
