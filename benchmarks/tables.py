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

if __package__:
    from benchmarks import jury_tables
else:  # run as a program
    import jury_tables

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


def scenes() -> str:
    """Whole road scenes: what is found and released, attacked or not, and over time."""
    found = _read("default/scenes.json")
    made, video, attacked = found["made_sequences"], found["video"], found["attacked"]
    attack = _called(f"{attacked['attack']}@{attacked['compress']}")
    rows = [
        [
            f"signs found, {'all sizes' if size == 'all' else size.replace('px', ' px') + ' and more'}",
            _rate(rate, n=True),
        ]
        for size, rate in found["found"].items()
    ]
    names = {"released_right": "right label", "released_wrong": "wrong label"}
    rows += [[f"signs released with the {word}", _rate(found[name], n=True)] for name, word in names.items()]
    rows += [
        ["signs of 24 px and more released with the right label", _rate(found["released_right_24px"], n=True)],
        ["signs found and withheld", _rate(found["withheld"], n=True)],
        ["**frames with a label released on no sign**", f"**{_rate(found['phantom_frames'], n=True)}**"],
        [
            "frames with a label released on a region that fits no sign",
            _rate(found["frames_with_an_unfitting_release"]),
        ],
        ["regions a frame; on nothing", f"{found['regions_a_frame']:.2f}; {found['regions_on_nothing_a_frame']:.2f}"],
        [
            "regions on nothing that are withheld: with the reason *not a sign*",
            f"{found['on_nothing_because'].get('not a sign', 0)} of {sum(found['on_nothing_because'].values())}",
        ],
        [
            f"**a wrong label released on an attacked sign** ({attack})",
            f"**{_rate(attacked['wrong_release'], n=True)}**",
        ],
        ["made sequences, tracks on: signs released right", _rate(made["released_right"], n=True)],
        ["made sequences: signs released wrong", _rate(made["released_wrong"], n=True)],
        ["made sequences: labels released on no sign, a sequence", _count(made["phantoms_a_sequence"])],
        [
            f"highway video of {video['seconds']:.0f} s, tracks on: labels released; an hour",
            f"{video['released_labels']}; {_count(video['released_labels_an_hour'], n=False)}",
        ],
    ]
    return _table(["GTSDB, every fifth frame", "measured (95 % interval)"], rows)


def scenes_size() -> str:
    """Signs of road scenes by their size."""
    rows = [
        [
            size.replace("px", " px"),
            str(entry["signs"]),
            *(_rate(entry[name]) for name in ("found", "released_right", "released_wrong", "withheld")),
        ]
        for size, entry in _read("default/scenes.json")["by_size"].items()
    ]
    return _table(["shorter side", "signs", "found", "released right", "released wrong", "withheld"], rows)


def non_signs() -> str:
    """What is released of pictures that show no sign, the worst kind first."""
    kinds = _read("default/non_signs.json")["kinds"].items()
    rows = [
        [kind, str(entry["released"]["n"]), f"**{_rate(entry['released'])}**", _rate(entry["not_a_sign"])]
        for kind, entry in sorted(kinds, key=lambda item: -item[1]["released"]["rate"])
    ]
    return _table(["no sign", "n", "a label released", "withheld as *not a sign*"], rows)


def _count(entry: dict[str, Any], *, n: bool = True) -> str:
    """A count for each unit."""
    low, high = entry["ci95"]
    many = f"; n = {entry['n']}" if n else ""
    rate, low, high = (f"{value:.0f}" if value >= 100 else f"{value:.2g}" for value in (entry["rate"], low, high))
    return f"{rate} ({low} - {high}{many})"


class _Cells:
    read, rate, called = staticmethod(_read), staticmethod(_rate), staticmethod(_called)
    percent, table = staticmethod(_percent), staticmethod(_table)


def _later(file: str, make: Callable[[jury_tables.Cells], str]) -> Callable[[], str]:
    return (lambda: make(_Cells())) if (_RESULTS / file).is_file() else lambda: _table(["measured"], [["not yet"]])


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
    worst_first = sorted(adaptive["rows"], key=lambda row: -row["wrong_release"]["rate"])
    first, *others = (_rate(row["wrong_release"], n=True) for row in worst_first)
    bounds = "; ".join(row["bound"] for row in worst_first).replace("; L-infinity", ";")
    blind = max(_read("default/decision_only.json")["attacks"], key=lambda attack: attack["curve"][-1]["rate"])
    rows = [
        [
            (
                f"**wrong-release rate, attacker who sees only what is released**, {blind['queries']:,} queries "
                f"({blind['subspace'].replace('-', ' ')})"
            ),
            f"**{_rate(blind['curve'][-1], n=True)}**",
        ],
        [f"the same: knows the whole firewall, {bounds}", "; ".join([f"**{first}**", *others])],
        [
            (
                f"the same: knows the classifier, worst of {len(crops['attacks'])} attacks "
                f"({_called(worst['attack'])}); of {len(small)} small changes of pixels ({_called(weakest)})"
            ),
            f"**{_rate(worst['wrong_release'], n=True)}**; {_rate(small[weakest], n=True)}",
        ],
        ["benign signs withheld; worst change", f"{withheld}; {stormy}: {_rate(benign[stormy]['withheld'], n=True)}"],
        ["classifier, top-1", _share([default["accuracy"], *default["interval"]], default["images"])],
        [
            "verdict on a normal sign, mean / p99; a loop of Pillow copies",
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
    "scenes": scenes,
    "scenes-size": scenes_size,
    "non-signs": non_signs,
    # Measures that take long: their tables are made once their results are here.
    "attacked-tracks": _later("default/attacked_tracks.json", jury_tables.attacked_tracks),
    "decision-only": _later("default/decision_only.json", jury_tables.decision_only),
    "left-out-families": _later("left_out_families.json", jury_tables.left_out_families),
    "own-jury": _later("own_jury.json", jury_tables.own_jury),
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
