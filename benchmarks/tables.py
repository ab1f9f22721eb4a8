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
#: What may stand behind an @ in an attack's name, and beginnings of its first part; others stand as they are.
_PARTS = {"input": "at the network's size", "known": "known to the attacker", "eot": "expecting any channel"}
_AIMED = {"aimed": "all frames to one class"}
_BASES = {
    "linf-": "L-infinity ",
    "low-frequency-": "low frequencies, ",
    "blurred-": "blurred change, ",
    "smooth-": "smooth, ",
}
_CHANNELS = {"jpeg-": "JPEG ", "h264-": "H.264, crf ", "resize": "resized", "blur": "blur", "noise": "noise"}
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
    attacks = _read("version2/evaluation.json")["shift"]["attacks"]
    return sorted(attacks.items(), key=lambda item: (-item[1]["jpeg-95"]["wrong_released"][0], item[0]))


def _called(attack: str) -> str:
    """An attack's name in words: linf-8@input@jpeg-90 is L-infinity 8/255, at the network's size, then JPEG 90."""
    base, *parts = attack.split("@")
    words = [_NAMES.get(base, base.replace("-", " "))]
    for start, word in _BASES.items():
        if base.startswith(start):
            words = [f"{word}{base.removeprefix(start)}/255"]
    for part in "@".join(parts).replace("+", "@").split("@") if parts else ():
        known = next(
            (word + part.removeprefix(start) for start, word in _CHANNELS.items() if part.startswith(start)), ""
        )
        words.append((_PARTS | _AIMED).get(part) or f"then {known or part}")
    return ", ".join(words)


def _rate(entry: dict[str, Any], *, n: bool = False) -> str:
    """A rate as `firewall lab evaluate attacks` writes it."""
    return _share([entry["rate"], *entry["ci95"]], entry["n"] if n else None)


def released() -> str:
    """Wrong-release rate of each attack on crops, the worst first."""
    rows = [
        [
            _called(name),
            ", ".join(entry["families"]),
            str(entry["n"]),
            f"**{_rate(entry['wrong_release'])}**",
            _rate(entry["wrong_release_at"]["1"]),
            _rate(entry["wrong_release_at"]["5"]),
            _percent(entry["attack_success"]["rate"]),
        ]
        for name, entry in _read("default/attacks.json")["attacks"].items()
    ]
    head = ["attack", "family", "n", "wrong-release rate", "at 1 % benign withheld", "at 5 %", "bare classifier fooled"]
    return _table(head, rows)


def released_families() -> str:
    """Mean and worst of each family of attacks, the worst first."""
    found = _read("default/attacks.json")["families"]
    rows = [
        [
            family,
            str(entry["attacks"]),
            _percent(entry["mean"]),
            f"**{_percent(entry['worst_rate'])}**",
            _called(entry["worst"]),
        ]
        for family, entry in sorted(found.items(), key=lambda item: -item[1]["worst_rate"])
    ]
    return _table(["family", "attacks", "mean wrong-release rate", "worst", "attack"], rows)


def benign_changes() -> str:
    """Benign crops withheld: as they are, by size, and under each change, the worst change first."""
    benign = _read("default/attacks.json")["benign"]
    clean = benign["none"]
    rows = [_benign("as they are", clean)]
    rows += [[f"{side} pixels", str(rate["n"]), _rate(rate), "", ""] for side, rate in clean["by_side"].items()]
    others = [item for item in benign.items() if item[0] != "none"]
    rows += [_benign(name, entry) for name, entry in sorted(others, key=lambda item: -item[1]["withheld"]["rate"])]
    return _table(["benign crops", "n", "withheld", "at 1 % withheld", "right among the released"], rows)


def _benign(name: str, entry: dict[str, Any]) -> list[str]:
    right = f"{100 * entry['right_of_released']['rate']:.2f} %" if "right_of_released" in entry else "-"
    return [name, str(entry["n"]), _rate(entry["withheld"]), _rate(entry["withheld_at"]["1"]), right]


def wrong_release_jpeg() -> str:
    """Wrong-release rate of each attack of the database, as pixels and after JPEG at three qualities."""
    rows = [
        [_NAMES[name], str(found["none"]["n"]), *(_share(found[shift]["wrong_released"]) for shift in _SHIFTS)]
        for name, found in _jpeg_rows()
    ]
    return _table(["wrong-release rate", "n", *_SHIFTS.values()], rows)


def attacks() -> str:
    """What is withheld of each attack at the bundle's own threshold, the worst first."""
    found = sorted(_read("version2/evaluation.json")["attacks"].items(), key=lambda item: item[1]["withheld"][0])
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
        _read("version2/evaluation_all_attacks.json")["attacks"].items(), key=lambda item: item[1]["withheld"][0]
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
    result = _read("version2/evaluation.json")
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
        for row in sorted(_read("version2/leave_one_out.json")["rows"], key=lambda row: row["withheld"])
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


def attacked_tracks() -> str:
    """Tracks of ten frames, each attack on real and on made ones, the worst first; then benign ones."""
    result, rows = _read("default/attacked_tracks.json"), []
    for entry in result["attacks"]:
        any_frame, last = (_rate(entry[f"wrong_at_{when}_frame"]) for when in ("any", "last"))
        alone, fooled = _rate(entry["each_frame_alone"]["wrong_at_any_frame"]), entry["classifier_fooled"]
        row = [entry["source"], _called(entry["attack"]), str(entry["n"]), f"**{any_frame}**", last, alone]
        rows.append([*row, _percent(fooled["share_of_frames"])])
    for source, entry in result["benign"].items():
        right = f"the right label by the end: {_rate(entry['right_by_the_end'])}"
        rows.append([source, "none", str(entry["n"]), _rate(entry["wrong_at_any_frame"]), right, "", ""])
    head = ["tracks", "attack", "n", "wrong label at any frame", "at the last", "any frame, each alone"]
    return _table([*head, "frames that fool the classifier"], rows)


def decision_only() -> str:
    """What an attacker gets who sees only what is released, by the number of queries, the worst first."""
    points, rows = (10, 30, 100, 300, 1000), []
    for one in _read("default/decision_only.json")["attacks"]:
        curve = {point["queries"]: _rate(point) for point in one["curve"]}
        rows.append([one["subspace"], one["bound"], str(one["curve"][0]["n"]), *(curve.get(at, "") for at in points)])
    return _table(["attack", "bound", "n", *(f"{point:,} queries" for point in points)], rows)


def left_out_families() -> str:
    """Families that are in nothing that the jury was made with, beside a jury made in the same way with all."""
    result, rows = _read("left_out_families.json"), []
    for family, entry in sorted(result["families"].items(), key=lambda item: -item[1]["worst"]["rate"]):
        worst, benign = entry["worst"], _rate(result["benign_withheld"][family])
        row = [family, str(entry["attacks"]), _percent(entry["mean"]), f"**{_rate(worst, n=True)}**"]
        rows.append([*row, _called(worst["attack"]), _percent(entry["with_all"]), benign])
    rows.append(
        ["all", str(len(result["rows"])), *(_percent(result["mean"]), "", "", _percent(result["with_all"]), "")]
    )
    head = ["family left out", "attacks", "mean", "worst", "attack", "mean with nothing left out", "benign withheld"]
    return _table(head, rows)


def own_jury() -> str:
    """A jury for somebody's own classifier: wrong-release rate of each attack before and after."""
    rows, (before, after) = [], ("confidence", "confidence and jury")
    for name, entry in _read("own_jury.json").items():
        share = min(entry["benign withheld"][after], key=float)
        held = " / ".join(_percent(entry["benign withheld"][one][share]["rate"]) for one in (before, after))
        for attack, found in entry["attacks"].items():
            fooled, released = found["classifier fooled"], found["wrong release"]
            row = [name, _called(attack), str(fooled["n"]), _percent(fooled["rate"]), _rate(released[before][share])]
            rows.append([*row, f"**{_rate(released[after][share])}**", f"{held} ({100 * float(share):g} % asked for)"])
    head = ["classifier", "attack", "n", "fooled", "released wrongly, confidence alone", "with the jury"]
    return _table([*head, "benign withheld, before / after"], rows)


def _later(file: str, make: Callable[[], str]) -> Callable[[], str]:
    return make if (_RESULTS / file).is_file() else lambda: _table(["measured"], [["not yet"]])


#: Families of attacks that change pixels a little, everywhere.
_PIXELS = {"pixels", "channel", "subspace", "own-size"}


def readme() -> str:
    """The worst first."""
    crops, adaptive = _read("default/attacks.json"), _read("default/adaptive.json")
    cost = _read("default/cost.json")
    worst, benign = crops["worst"], crops["benign"]
    changes = [name for name in benign if name != "none"]
    small = {
        name: entry["wrong_release"]
        for name, entry in crops["attacks"].items()
        if _PIXELS.issuperset(entry["families"])
    }
    weakest = max(small, key=lambda name: small[name]["rate"])
    default = next(one for one in _read("classifiers.json")["classifiers"] if one["classifier"] == "default")["test"][0]
    milliseconds = f"{cost['firewall_ms']['mean']:.1f} / {cost['firewall_ms']['p99']:.1f} ms"
    withheld = _rate(benign["none"]["withheld"], n=True)
    stormy = max(changes, key=lambda name: benign[name]["withheld"]["rate"])
    rows = [
        [
            f"**wrong-release rate, attacker who knows the whole firewall**, {row['bound']}",
            f"**{_rate(row['wrong_release'], n=True)}**",
        ]
        for row in sorted(adaptive["rows"], key=lambda row: -row["wrong_release"]["rate"])
    ]
    rows += [
        [
            f"the same: knows the classifier, worst of {len(crops['attacks'])} attacks ({_called(worst['attack'])})",
            f"**{_rate(worst['wrong_release'], n=True)}**",
        ],
        [
            f"worst of the {len(small)} that change pixels a little, also by camera ({_called(weakest)})",
            _rate(small[weakest], n=True),
        ],
        ["benign signs withheld; worst change", f"{withheld}; {stormy}: {_rate(benign[stormy]['withheld'], n=True)}"],
        ["classifier, top-1", _share([default["accuracy"], *default["interval"]], default["images"])],
        [
            "verdict on a normal sign, mean / p99; a loop of Pillow copies and single classifications",
            f"{milliseconds}; {cost['ratio_of_means']:.0f} times as long",
        ],
    ]
    return _table(
        ["default bundle, images that nothing was fitted to (signs of GTSDB; GTSRB test)", "measured (95 % interval)"],
        rows,
    )


#: Name in the text -> the table.
TABLES: dict[str, Callable[[], str]] = {
    "readme": readme,
    "released": released,
    "released-families": released_families,
    "benign-changes": benign_changes,
    "wrong-release-jpeg": wrong_release_jpeg,
    "attacks": attacks,
    "all-attacks": all_attacks,
    "benign-shift": benign_shift,
    "left-out": left_out,
    "classifiers": classifiers,
    "damaged-video": damaged_video,
    # Measures that take long: their tables are made once their results are here.
    "attacked-tracks": _later("default/attacked_tracks.json", attacked_tracks),
    "decision-only": _later("default/decision_only.json", decision_only),
    "left-out-families": _later("left_out_families.json", left_out_families),
    "own-jury": _later("own_jury.json", own_jury),
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
