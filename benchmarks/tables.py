"""The tables of README and docs, made from benchmarks/results: `python benchmarks/tables.py [--check]`.

A table stands between `<!-- table: NAME -->` and `<!-- /table -->`. With --check nothing is written, and the exit
code is 1 if a file's table is not what the results give.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable
from pathlib import Path

# A program finds only what lies beside it.
sys.path.append(str(Path(__file__).resolve().parents[1]))

from benchmarks import alternative_tables, attack_tables, cells, core_tables, jury_tables, scene_tables

__all__ = ["TABLES", "filled", "main"]

ROOT = Path(__file__).resolve().parents[1]
_PLACE = re.compile(r"<!-- table: (?P<name>[a-z-]+) -->\n.*?<!-- /table -->", re.DOTALL)

#: Families of attacks that change pixels a little, everywhere.
_PIXELS = {"pixels", "channel", "subspace", "own-size"}


def readme() -> str:
    """The worst first."""
    crops, adaptive = cells.read("default/attacks.json"), cells.read("default/adaptive.json")
    cost = cells.read("default/cost.json")
    worst, benign = crops["worst"], crops["benign"]
    changes = [name for name in benign if name != "none"]
    small = {
        name: entry["wrong_release"]
        for name, entry in crops["attacks"].items()
        if _PIXELS.issuperset(entry["families"])
    }
    weakest = max(small, key=lambda name: small[name]["rate"])
    classifiers = {one["classifier"]: one for one in cells.read("classifiers.json")["classifiers"]}
    default = classifiers["default"]["test"][0]
    milliseconds = f"{cost['firewall_ms']['mean']:.1f} / {cost['firewall_ms']['p99']:.1f} ms"
    withheld = cells.rate(benign["none"]["withheld"], n=True)
    stormy = max(changes, key=lambda name: benign[name]["withheld"]["rate"])
    worst_first = sorted(adaptive["rows"], key=lambda row: -row["wrong_release"]["rate"])
    first, *others = (cells.rate(row["wrong_release"], n=True) for row in worst_first)
    bounds = "; ".join(row["bound"] for row in worst_first).replace("; L-infinity", ";")
    blind = max(cells.read("default/decision_only.json")["attacks"], key=lambda attack: attack["curve"][-1]["rate"])
    rows = [
        [
            (
                f"**wrong-release rate, attacker who sees only what is released**, {blind['queries']:,} queries "
                f"({blind['subspace'].replace('-', ' ')})"
            ),
            f"**{cells.rate(blind['curve'][-1], n=True)}**",
        ],
        [f"the same: knows the whole firewall, {bounds}", "; ".join([f"**{first}**", *others])],
        [
            (
                f"the same: knows the classifier, worst of {len(crops['attacks'])} attacks "
                f"({cells.called(worst['attack'])}); of {len(small)} small changes of pixels ({cells.called(weakest)})"
            ),
            f"**{cells.rate(worst['wrong_release'], n=True)}**; {cells.rate(small[weakest], n=True)}",
        ],
        [
            "benign signs withheld; worst change",
            f"{withheld}; {stormy}: {cells.rate(benign[stormy]['withheld'], n=True)}",
        ],
        ["classifier, top-1", cells.share([default["accuracy"], *default["interval"]], default["images"])],
        [
            "verdict on a normal sign, mean / p99; a loop of Pillow copies",
            f"{milliseconds}; {cost['ratio_of_means']:.1f} times as long",
        ],
    ]
    return cells.table(
        ["default bundle, images that nothing was fitted to (signs of GTSDB; GTSRB test)", "measured (95 % interval)"],
        rows,
    )


def _later(file: str, make: Callable[[], str]) -> Callable[[], str]:
    return make if (cells.RESULTS / file).is_file() else lambda: cells.table(["measured"], [["not yet"]])


#: Name in the text -> the table.
TABLES: dict[str, Callable[[], str]] = {
    "readme": readme,
    "released": attack_tables.released,
    "released-families": attack_tables.released_families,
    "benign-changes": attack_tables.benign_changes,
    "wrong-release-jpeg": attack_tables.wrong_release_jpeg,
    "attacks": attack_tables.attacks,
    "all-attacks": attack_tables.all_attacks,
    "benign-shift": attack_tables.benign_shift,
    "left-out": attack_tables.left_out,
    "classifiers": attack_tables.classifiers,
    "damaged-video": scene_tables.damaged_video,
    "damaged-video-codecs": scene_tables.damaged_video_codecs,
    "scenes": scene_tables.scenes,
    "scenes-size": scene_tables.scenes_size,
    "non-signs": scene_tables.non_signs,
    "within": scene_tables.within,
    "cameras": scene_tables.cameras,
    "pinned": core_tables.pinned,
    # Measures that take long: their tables are made once their results are here.
    "attacked-tracks": _later("default/attacked_tracks.json", jury_tables.attacked_tracks),
    "decision-only": _later("default/decision_only.json", jury_tables.decision_only),
    "left-out-families": _later("left_out_families.json", jury_tables.left_out_families),
    "own-jury": _later("own_jury.json", jury_tables.own_jury),
    "alternatives": _later("alternatives.json", alternative_tables.alternatives),
    "alternatives-held": _later("alternatives.json", alternative_tables.alternatives_held),
    "alternatives-copies": _later("alternatives.json", alternative_tables.alternatives_copies),
    "alternatives-guard": _later("alternatives.json", alternative_tables.alternatives_guard),
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
