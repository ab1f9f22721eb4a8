"""`firewall lab report default`: one page that a sceptical reviewer reads before trusting a bundle.

The bundle is evaluated on the given databases. What takes longer (attacks left out of training, tracks, cost) is read
from the files that other commands wrote. The page says what is missing.
"""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from firewall.bundle import Bundle, Manifest, Seen
from firewall.bundle.certificate import judges
from firewall.errors import DataError
from firewall.lab.database.shards import write_file
from firewall.lab.evaluation.bundle_on_database import Evaluation
from firewall.lab.measurement.bundle_verdicts import SUSPICION
from firewall.lab.measurement.metrics import FEW
from firewall.lab.reports.evaluation import histogram, ranked, roc
from firewall.lab.reports.pictures import data_uri

__all__ = ["FILES", "read_results", "write"]

#: What the page takes from the folder of results, by its name there: file, and the command that writes it.
FILES = {
    "fusion": ("fusion.json", "firewall lab fuse --json"),
    "leave_one_out": ("leave_one_out.json", "firewall lab unseen --json"),
    "tracks": ("tracks.json", "firewall lab tracks --json"),
    "cost": ("cost.json", "benchmarks/verdict.py --json"),
}

#: An attack of which less is withheld is named among what the bundle can't do.
_WEAK = 0.9

_RULES = {"frame": "each frame alone", "tracks": "frames of a track together", "tracks, 3 frames": "and 3 equal labels"}


def read_results(folder: Path) -> dict[str, Any]:
    """The files of FILES that are in `folder`. Raises DataError for one that is no JSON."""
    found: dict[str, Any] = {}
    for name, (file, _) in FILES.items():
        path = folder / file
        try:
            found[name] = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            found[name] = None
        except (OSError, ValueError) as error:
            raise DataError(f"{path} is not a result that this command can show ({error}); write it again") from error
    return found


def write(bundle: Bundle, seen: Evaluation, unseen: Evaluation | None, results: dict[str, Any], out: Path) -> None:
    """Write the page.

    Args:
        bundle: The bundle.
        seen: Its evaluation on images that nothing was trained or calibrated on.
        unseen: Its evaluation on a database of more kinds of attacks; None if there is none.
        results: Of `read_results`. Those of another bundle are left out, and the page says so.
        out: The HTML file.
    """
    notes = list(seen.summary["about"]["notes"])
    for name in ("tracks", "cost", "leave_one_out"):
        made_with = _bundle_of(results[name])
        same = made_with in (None, bundle.sha256) or results[name].get("judges") == judges(bundle.manifest)
        if made_with is not None and not same:
            notes.append(f"{FILES[name][0]} was measured with another bundle ({made_with[:12]}) and is not shown.")
            results = {**results, name: None}
    parts = [_part(seen)] + ([] if unseen is None else [_part(unseen)])
    fusion = results["fusion"]
    met = set() if fusion is None else set(fusion["fitted"]["attacks"])
    weak = {
        attack: entry
        for part in reversed(parts)
        for attack, entry in part["ranked"]
        if entry["withheld"] < _WEAK and entry["n"] >= FEW
    }
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    folder = resources.files("firewall.lab.reports")
    page = environment.from_string(folder.joinpath("default.html.j2").read_text(encoding="utf-8")).render(
        style=folder.joinpath("style.css").read_text(encoding="utf-8"),
        manifest=bundle.manifest,
        rows=_detectors(bundle.manifest),
        seen=parts[0],
        unseen=parts[1] if len(parts) > 1 else None,
        met=met,
        weak=sorted(weak.items(), key=lambda item: item[1]["withheld"]),
        fusion=fusion,
        leave_one_out=results["leave_one_out"],
        tracks=_tracks(results["tracks"]),
        cost=results["cost"],
        notes=notes,
    )
    write_file(out, page.encode())


def _part(assessment: Evaluation) -> dict[str, Any]:
    """What the page shows of one database."""
    summary = assessment.summary
    about = summary["about"]
    database = about["database"]
    names = [name for name in assessment.scores if name != SUSPICION]
    pictured = SUSPICION if SUSPICION in assessment.scores else names[0]
    scores = assessment.scores[pictured]
    return {
        "summary": summary,
        "detectors": names,
        "fused": summary.get(SUSPICION),
        "ranked": ranked(summary["bundle"]),
        "pictures": {pictured: {"roc": data_uri(roc(scores)), "histogram": data_uri(histogram(scores))}},
        "data": (
            f"{database['dataset']}, part {database['part']}, splits {about['split'].replace(',', ', ')}: "
            f"{summary['normal']['n']} benign images that the classifier gets right, and of each attack those that "
            "fool it after rounding and storing. Benign and attacked images have the same file history."
        ),
    }


def _detectors(manifest: Manifest) -> list[dict[str, Any]]:
    specs = {spec.name: spec for spec in manifest.detectors}
    terms = {} if manifest.fusion is None else {term.detector: term for term in manifest.fusion.terms}
    rows = []
    for name in terms or specs:
        parameters, fitted = specs[name].parameters, specs[name].fitted
        copies = len(parameters.get("operations") or parameters.get("qualities") or ())
        row: dict[str, Any] = {"name": name, "copies": copies, "fitted": _fitted_to(fitted)}
        if name in terms:
            row |= {"weight": terms[name].weight, "release_below": terms[name].release_below}
        rows.append(row)
    return rows


def _fitted_to(fitted: Seen | None) -> str:
    if fitted is None:
        return "benign images of the calibration, or nothing"
    return f"{len(fitted.groups.split())} groups of {fitted.dataset}, part {fitted.part}"


def _tracks(result: dict[str, Any] | None) -> list[dict[str, str]]:
    if result is None:
        return []
    rows = []
    for where, judged in result["judged"].items():
        for rule, told in _RULES.items():
            attacked, normal = judged["attacked"].get("10 frames", {}).get(rule), judged["normal"].get(rule)
            if attacked is not None and normal is not None:
                every = attacked["all"]
                cells = {
                    "last": every["withheld_at_last"],
                    "none": every["at_most_0_wrong"],
                    "normal": normal["a_track"],
                }
                rows.append({"where": where, "rule": told, **{key: _share(cell) for key, cell in cells.items()}})
    return rows


def _share(cell: dict[str, Any]) -> str:
    value, low, high = (100 * cell[key] for key in ("value", "low", "high"))
    return f"{value:.1f} % ({low:.1f} - {high:.1f}; {cell['n']})"


def _bundle_of(result: dict[str, Any] | None) -> str | None:
    if result is None:
        return None
    known = result.get("bundle_sha256") or (result.get("bundle") or {})
    return known if isinstance(known, str) else known.get("sha256")
