"""The tables of attacks and benign changes on crops: docs/results.md, docs/threat_model.md."""

from __future__ import annotations

from typing import Any

from benchmarks import cells

__all__ = [
    "all_attacks",
    "attacks",
    "benign_changes",
    "benign_shift",
    "classifiers",
    "left_out",
    "released",
    "released_families",
    "wrong_release_jpeg",
]

_SHIFTS = {"none": "as it is", "jpeg-95": "JPEG 95", "jpeg-85": "JPEG 85", "jpeg-70": "JPEG 70"}


def released() -> str:
    """Wrong-release rate of each attack on crops, the worst first."""
    rows = [
        [
            cells.called(name),
            ", ".join(entry["families"]),
            str(entry["n"]),
            f"**{cells.rate(entry['wrong_release'])}**",
            cells.rate(entry["wrong_release_at"]["1"]),
            cells.rate(entry["wrong_release_at"]["5"]),
            cells.percent(entry["attack_success"]["rate"]),
        ]
        for name, entry in cells.read("default/attacks.json")["attacks"].items()
    ]
    head = ["attack", "family", "n", "wrong-release rate", "at 1 % benign withheld", "at 5 %", "bare classifier fooled"]
    return cells.table(head, rows)


def released_families() -> str:
    """Mean and worst of each family of attacks, the worst first."""
    found = cells.read("default/attacks.json")["families"]
    rows = [
        [
            family,
            str(entry["attacks"]),
            cells.percent(entry["mean"]),
            f"**{cells.percent(entry['worst_rate'])}**",
            cells.called(entry["worst"]),
        ]
        for family, entry in sorted(found.items(), key=lambda item: -item[1]["worst_rate"])
    ]
    return cells.table(["family", "attacks", "mean wrong-release rate", "worst", "attack"], rows)


def benign_changes() -> str:
    """Benign crops withheld: as they are, by size, and under each change, the worst change first."""
    benign = cells.read("default/attacks.json")["benign"]
    clean = benign["none"]
    rows = [_benign("as they are", clean)]
    rows += [[f"{side} pixels", str(rate["n"]), cells.rate(rate), "", ""] for side, rate in clean["by_side"].items()]
    others = [item for item in benign.items() if item[0] != "none"]
    rows += [_benign(name, entry) for name, entry in sorted(others, key=lambda item: -item[1]["withheld"]["rate"])]
    return cells.table(["benign crops", "n", "withheld", "at 1 % withheld", "right among the released"], rows)


def _benign(name: str, entry: dict[str, Any]) -> list[str]:
    right = f"{100 * entry['right_of_released']['rate']:.2f} %" if "right_of_released" in entry else "-"
    return [name, str(entry["n"]), cells.rate(entry["withheld"]), cells.rate(entry["withheld_at"]["1"]), right]


def attacks() -> str:
    """What is withheld of each attack at the bundle's own threshold, the worst first."""
    found = sorted(cells.read("version2/evaluation.json")["attacks"].items(), key=lambda item: item[1]["withheld"][0])
    rows = [
        [
            cells.NAMES[name],
            str(entry["n"]),
            cells.share(entry["withheld"]),
            f"{entry['auroc'][0]:.4f}",
            cells.share(entry["tpr_at_1fpr"]),
        ]
        for name, entry in found
    ]
    return cells.table(["attack", "n", "withheld", "AUROC", "true-positive rate at 1 % false positives"], rows)


def all_attacks() -> str:
    """Every attack of the lab; those of which all is withheld share a row."""
    found = sorted(
        cells.read("version2/evaluation_all_attacks.json")["attacks"].items(), key=lambda item: item[1]["withheld"][0]
    )
    rows = [
        [cells.NAMES.get(name, name), str(entry["n"]), cells.share(entry["withheld"])]
        for name, entry in found
        if entry["withheld"][0] < 1
    ]
    whole = [entry["n"] for _, entry in found if entry["withheld"][0] == 1]
    rows.append([f"the other {len(whole)}", f"{min(whole)} - {max(whole)} each", "100 %"])
    return cells.table(["attack", "n", "withheld"], rows)


def _jpeg_rows() -> list[tuple[str, dict[str, Any]]]:
    """Attacks by what is released wrongly after JPEG 95, the worst first."""
    attacks = cells.read("version2/evaluation.json")["shift"]["attacks"]
    return sorted(attacks.items(), key=lambda item: (-item[1]["jpeg-95"]["wrong_released"][0], item[0]))


def wrong_release_jpeg() -> str:
    """Wrong-release rate of each attack of the database, as pixels and after JPEG at three qualities."""
    rows = [
        [
            cells.NAMES[name],
            str(found["none"]["n"]),
            *(cells.share(found[shift]["wrong_released"]) for shift in _SHIFTS),
        ]
        for name, found in _jpeg_rows()
    ]
    return cells.table(["wrong-release rate", "n", *_SHIFTS.values()], rows)


def benign_shift() -> str:
    """Benign images withheld, as they are and under shift."""
    result = cells.read("version2/evaluation.json")
    benign = result["benign"]
    rows = [["none", cells.share([benign["false_positive_rate"], *benign["ci95"]]), str(benign["n"]), "100 %"]]
    for name, entry in result["shift"]["normal"].items():
        if name != "none":
            rows.append(
                [
                    name.replace("jpeg-", "JPEG "),
                    cells.share(entry["withheld"]),
                    str(entry["n"]),
                    cells.percent(entry["accuracy"][0]),
                ]
            )
    return cells.table(["shift", "benign images withheld", "n", "classifier still right"], rows)


def left_out() -> str:
    """Families that no part of a bundle has met."""
    rows = [
        [
            row["family"],
            cells.NAMES.get(row["attack"], row["attack"]),
            str(row["n"]),
            cells.share([row["withheld"], *row["ci95"]]),
        ]
        for row in sorted(cells.read("version2/leave_one_out.json")["rows"], key=lambda row: row["withheld"])
    ]
    return cells.table(["family left out", "attack", "n", "withheld"], rows)


def classifiers() -> str:
    """Top-1 accuracy on images that a classifier was not trained on."""
    rows = [
        [entry["classifier"], test["data"], cells.share([test["accuracy"], *test["interval"]], test["images"])]
        for entry in cells.read("classifiers.json")["classifiers"]
        for test in entry["test"]
    ]
    return cells.table(["classifier", "data", "right"], rows)
