"""Bundles that were made without a family of attacks, each measured on that family.

    python benchmarks/left_out_families.py light=runs/no-light pose=runs/no-pose --work DIR --json OUT
        [--baseline runs/nothing] [--note TEXT] [--attacks NAMES] [--images gtsdb] [--limit 300] [--data DIR]

FAMILY=BUNDLE: nothing of the family may be in the bundle's augmentation, fit or choice; this program can't know that,
so say how it was made with --note (docs/families.md; benchmarks/left_out_bundles.py makes such bundles). --baseline: a
bundle made in the same way that has met all families; its rate stands beside each attack's. Families:
firewall.lab.evaluation.crops.families. Stopped, it goes on.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from firewall.errors import FirewallError, UsageError
from firewall.lab.commands.output import write_json
from firewall.lab.evaluation.crops.families import members
from firewall.lab.evaluation.crops.measuring import USUAL, Settings, measure

__all__ = ["left_out", "main"]


def left_out(
    bundles: dict[str, str], settings: Settings, work: Path, baseline: str | None = None, note: str = ""
) -> dict[str, Any]:
    """A row for each attack of each family, by the bundle that was made without it.

    Args:
        bundles: Family -> the bundle's folder.
        settings: Of these attacks each family's are taken.
        work: Attacked images and verdicts are kept here.
        baseline: A bundle that has met all families; None: none is measured beside.
        note: How the bundles were made, for the reader.

    Returns:
        Ready for JSON: "mean" and "worst" of all rows' wrong-release rates, "families" (the same for each), "rows", and
        benign images by family. With a baseline each has its figure as "with_all".

    Raises:
        FirewallError: See `measure` and `members`.
    """
    chosen = {family: members(family, settings.attacks) for family in bundles}
    everything = tuple(dict.fromkeys(name for names in chosen.values() for name in names))
    met = {} if baseline is None else _measured(baseline, settings, everything, work)
    rows: list[dict[str, Any]] = []
    benign, about = {}, {}
    for family, bundle in bundles.items():
        summary = _measured(bundle, settings, chosen[family], work)
        keys = ("n", "wrong_release", "wrong_release_at", "attack_success")
        for attack, entry in summary["attacks"].items():
            beside = {"with_all": met["attacks"][attack]["wrong_release"]} if met else {}
            rows.append({"family": family, "attack": attack, **{key: entry[key] for key in keys}, **beside})
        benign[family], about[family] = summary["benign"]["none"]["withheld"], summary["about"]
    rows.sort(key=lambda row: -row["wrong_release"]["rate"])
    if met:
        benign["with_all"], about["with_all"] = met["benign"]["none"]["withheld"], met["about"]
    return {
        "note": note,
        "mean": _mean(rows),
        "worst": {"family": rows[0]["family"], "attack": rows[0]["attack"], **rows[0]["wrong_release"]},
        **({"with_all": _mean(rows, "with_all")} if met else {}),
        "families": {
            family: {
                "attacks": len(own),
                "mean": _mean(own),
                "worst": {"attack": own[0]["attack"], **own[0]["wrong_release"]},
                **({"with_all": _mean(own, "with_all")} if met else {}),
            }
            for family in bundles
            for own in [[row for row in rows if row["family"] == family]]
        },
        "rows": rows,
        "benign_withheld": benign,
        "about": about,
    }


def _measured(bundle: str, settings: Settings, attacks: tuple[str, ...], work: Path) -> dict[str, Any]:
    own = Settings(**{**_fields(settings), "attacks": attacks, "changes": ()})
    return measure(bundle, own, work).summary


def _mean(rows: list[dict[str, Any]], key: str = "wrong_release") -> float:
    return float(sum(row[key]["rate"] for row in rows) / len(rows))


def _fields(settings: Settings) -> dict[str, Any]:
    return {name: getattr(settings, name) for name in Settings.__dataclass_fields__}


def main() -> int:
    """Measure and write; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", nargs="+", metavar="FAMILY=BUNDLE")
    parser.add_argument("--attacks", default=",".join(USUAL), help="names with commas; each family takes its own")
    parser.add_argument("--images", default="gtsdb")
    parser.add_argument("--limit", type=int, default=300)
    parser.add_argument("--benign", type=int, default=1000)
    parser.add_argument("--calibration", help="benign images for thresholds, such as gtsrb/kept-out")
    parser.add_argument("--baseline", metavar="BUNDLE")
    parser.add_argument("--note", default="", help="how the bundles were made; kept in the result")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    try:
        pairs = [text.partition("=") for text in given.bundles]
        wrong = [
            text for text, (family, _, bundle) in zip(given.bundles, pairs, strict=True) if not family or not bundle
        ]
        if wrong:
            raise UsageError(f"{wrong[0]!r} is not FAMILY=BUNDLE, such as light=runs/no-light")
        settings = Settings(
            attacks=tuple(name for name in given.attacks.split(",") if name),
            images=given.images,
            limit=given.limit,
            benign=given.benign,
            calibration=given.calibration,
            data=given.data,
        )
        bundles = {family: bundle for family, _, bundle in pairs}
        result = left_out(bundles, settings, given.work, given.baseline, given.note)
        write_json(result, given.json)
    except FirewallError as error:
        sys.stderr.write(f"left_out_families: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
