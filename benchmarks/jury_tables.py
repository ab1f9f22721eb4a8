"""Tables of measures that take long: attacked tracks, who sees only what is released, families left out, own jury."""

from __future__ import annotations

from benchmarks import cells

__all__ = ["attacked_tracks", "decision_only", "left_out_families", "own_jury"]


def attacked_tracks() -> str:
    """Tracks of ten frames, each attack on real and on made ones, the worst first; then benign ones."""
    result, rows = cells.read("default/attacked_tracks.json"), []
    for entry in result["attacks"]:
        any_frame, last = (cells.rate(entry[f"wrong_at_{when}_frame"]) for when in ("any", "last"))
        alone, fooled = cells.rate(entry["each_frame_alone"]["wrong_at_any_frame"]), entry["classifier_fooled"]
        row = [entry["source"], cells.called(entry["attack"]), str(entry["n"]), f"**{any_frame}**", last, alone]
        rows.append([*row, cells.percent(fooled["share_of_frames"])])
    for source, entry in result["benign"].items():
        right = f"the right label by the end: {cells.rate(entry['right_by_the_end'])}"
        rows.append([source, "none", str(entry["n"]), cells.rate(entry["wrong_at_any_frame"]), right, "", ""])
    head = ["tracks", "attack", "n", "wrong label at any frame", "at the last", "any frame, each alone"]
    return cells.table([*head, "frames that fool the classifier"], rows)


def decision_only() -> str:
    """What an attacker gets who sees only what is released, by the number of queries, the worst first."""
    points, rows = (10, 30, 100, 300, 1000), []
    for one in cells.read("default/decision_only.json")["attacks"]:
        curve = {point["queries"]: cells.rate(point) for point in one["curve"]}
        rows.append([one["subspace"], one["bound"], str(one["curve"][0]["n"]), *(curve.get(at, "") for at in points)])
    return cells.table(["attack", "bound", "n", *(f"{point:,} queries" for point in points)], rows)


def left_out_families() -> str:
    """Families that are in nothing that the jury was made with, beside a jury made in the same way with all."""
    result, rows = cells.read("left_out_families.json"), []
    for family, entry in sorted(result["families"].items(), key=lambda item: -item[1]["worst"]["rate"]):
        worst, benign = entry["worst"], cells.rate(result["benign_withheld"][family])
        row = [family, str(entry["attacks"]), cells.percent(entry["mean"]), f"**{cells.rate(worst, n=True)}**"]
        rows.append([*row, cells.called(worst["attack"]), cells.percent(entry["with_all"]), benign])
    rows.append(
        [
            "all",
            str(len(result["rows"])),
            *(cells.percent(result["mean"]), "", "", cells.percent(result["with_all"]), ""),
        ]
    )
    head = ["family left out", "attacks", "mean", "worst", "attack", "mean with nothing left out", "benign withheld"]
    return cells.table(head, rows)


def own_jury() -> str:
    """A jury for somebody's own classifier: wrong-release rate of each attack before and after."""
    rows, (before, after) = [], ("confidence", "confidence and jury")
    for name, entry in cells.read("own_jury.json").items():
        share = min(entry["benign withheld"][after], key=float)
        held = " / ".join(cells.percent(entry["benign withheld"][one][share]["rate"]) for one in (before, after))
        for attack, found in entry["attacks"].items():
            fooled, released = found["classifier fooled"], found["wrong release"]
            row = [
                name,
                cells.called(attack),
                str(fooled["n"]),
                cells.percent(fooled["rate"]),
                cells.rate(released[before][share]),
            ]
            rows.append(
                [*row, f"**{cells.rate(released[after][share])}**", f"{held} ({100 * float(share):g} % asked for)"]
            )
    head = ["classifier", "attack", "n", "fooled", "released wrongly, confidence alone", "with the jury"]
    return cells.table([*head, "benign withheld, before / after"], rows)
