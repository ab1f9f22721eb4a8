"""What an attacker gets who sees only what is released: wrong-release rate by the number of queries, and a picture.

    python benchmarks/decision_curve.py RESULT... --json FILE --svg FILE

RESULT: JSON of `firewall lab attack adaptive --method decision`, one for each family of attacks. Each image counts,
whether it was ever released wrongly or not; an attack that ended earlier counts as one that would not have succeeded.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from firewall.errors import DataError, FirewallError
from firewall.lab.attacks.decision_only import Outcome
from firewall.lab.commands.output import write_json
from firewall.lab.measurement.query_curve import query_curve

__all__ = ["POINTS", "main", "picture", "summary"]

#: Marks of the picture's axis.
POINTS = (10, 30, 100, 300, 1000)
#: Of the picture, in pixels: its size, the plot's left, top, width and height.
_SIZE, _PLOT = (520, 260), (52, 16, 330, 200)
#: Curves begin at so many queries; the colours are those that nearly everybody can distinguish (Okabe and Ito).
_LEAST = 10
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


def summary(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What is kept of several attacks, the worst first.

    Args:
        results: As the command writes them.

    Raises:
        DataError: A result is of another attack, has no rows, or the results are of several bundles.
    """
    found = []
    for result in results:
        if result.get("method") != "decision" or not result.get("rows"):
            raise DataError("a result is not of 'firewall lab attack adaptive --method decision', or has no rows")
        search, ball = result["search"], result["ball"]
        entry = {
            "subspace": search["subspace"],
            "bound": _bound(search["subspace"], ball),
            "queries": search["queries"],
            "curve": query_curve([_outcome(row) for row in result["rows"]], search["queries"]),
        }
        nearest = sorted(row["nearest"] for row in result["rows"] if row.get("nearest") is not None)
        if nearest:
            entry["nearest_median"] = nearest[len(nearest) // 2]
        found.append(entry)
    bundles = {(result["bundle"], result["bundle_sha256"]) for result in results}
    if len(bundles) != 1:
        raise DataError(f"the results are of {len(bundles)} bundles; name those of one")
    ((name, sha256),) = bundles
    found.sort(key=lambda entry: -entry["curve"][-1]["rate"])
    about = {key: results[0][key] for key in ("dataset", "min_side", "seed")}
    return {"bundle": name, "bundle_sha256": sha256, **about, "attacks": found}


def picture(attacks: Sequence[dict[str, Any]]) -> str:
    """The curves as SVG: queries on a logarithmic axis, with their 95 % intervals as bands.

    Args:
        attacks: Of `summary`; none: the picture says that nothing has been measured.
    """
    width, height = _SIZE
    left, top, wide, high = _PLOT
    most = max((point["queries"] for entry in attacks for point in entry["curve"]), default=max(POINTS))
    largest = max((point["ci95"][1] for entry in attacks for point in entry["curve"]), default=1.0)
    top_rate = next(level for level in (0.1, 0.2, 0.5, 1.0) if level >= min(largest, 1.0))

    def at(queries: float, rate: float) -> str:
        share = math.log(max(queries, _LEAST) / _LEAST) / max(math.log(most / _LEAST), 1e-9)
        return f"{left + wide * share:.1f},{top + high * (1 - rate / top_rate):.1f}"

    head = f'xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    parts = [
        f'<svg {head} font-family="sans-serif" font-size="12" fill="#1a1a1a">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    for number in range(5):
        rate = top_rate * number / 4
        y = top + high * (1 - number / 4)
        parts.append(f'<path d="M{left},{y:.1f} h{wide}" stroke="#d0d0d0" fill="none"/>')
        parts.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{100 * rate:.3g} %</text>')
    for point in POINTS:
        if point <= most:
            x = at(point, 0).split(",")[0]
            parts.append(f'<text x="{x}" y="{top + high + 16}" text-anchor="middle">{point}</text>')
    parts.append(f'<text x="{left + wide / 2:.0f}" y="{top + high + 34}" text-anchor="middle">queries</text>')
    if not attacks:
        parts.append(f'<text x="{left + wide + 12}" y="{top + 12}">not measured yet</text>')
    for number, entry in enumerate(attacks):
        colour, curve = _COLOURS[number % len(_COLOURS)], entry["curve"]
        curve = [point for point in curve if point["queries"] >= _LEAST] or curve
        line = " L".join(at(point["queries"], point["rate"]) for point in curve)
        ends = [*((point, 1) for point in curve), *((point, 0) for point in reversed(curve))]
        band = " L".join(at(point["queries"], point["ci95"][end]) for point, end in ends)
        y = top + 12 + 18 * number
        parts += [
            f'<path d="M{band} Z" fill="{colour}" fill-opacity="0.12"/>',
            f'<path d="M{line}" fill="none" stroke="{colour}" stroke-width="2"/>',
            f'<path d="M{left + wide + 12},{y - 4} h18" stroke="{colour}" stroke-width="2"/>',
            f'<text x="{left + wide + 36}" y="{y}">{entry["subspace"]}</text>',
        ]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _outcome(row: dict[str, Any]) -> Outcome:
    return Outcome(row["label"], row["queries"], row["released_label"] if row["wrong"] else None)


def _bound(subspace: str, ball: dict[str, Any]) -> str:
    if subspace not in ("pixels", "low-frequency", "boundary"):
        return "as drawn"
    eps = f"{255 * ball['eps']:g}/255" if ball["norm"] == "linf" else f"{ball['eps']:g}"
    return f"{'L-infinity' if ball['norm'] == 'linf' else 'L2'} {eps}"


def main() -> int:
    """Read, summarise, draw; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="+", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--svg", type=Path)
    given = parser.parse_args()
    try:
        try:
            results = [json.loads(path.read_text(encoding="utf-8")) for path in given.results]
        except (OSError, ValueError) as error:
            raise DataError(f"a result can't be read: {error}") from error
        found = summary(results)
        write_json(found, given.json)
        if given.svg is not None:
            given.svg.write_text(picture(found["attacks"]), encoding="utf-8")
    except FirewallError as error:
        sys.stderr.write(f"decision_curve: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
