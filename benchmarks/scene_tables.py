"""The tables of whole frames: docs/scenes.md, and docs/sources.md for damaged videos."""

from __future__ import annotations

from benchmarks import cells

__all__ = ["cameras", "damaged_video", "damaged_video_codecs", "non_signs", "scenes", "scenes_size", "within"]


def scenes() -> str:
    """Whole road scenes: what is found and released, attacked or not, and over time."""
    found = cells.read("default/scenes.json")
    made, video, attacked = found["made_sequences"], found["video"], found["attacked"]
    attack = cells.called(f"{attacked['attack']}@{attacked['compress']}")
    rows = [
        [
            f"signs found, {'all sizes' if size == 'all' else size.replace('px', ' px') + ' and more'}",
            cells.rate(rate, n=True),
        ]
        for size, rate in found["found"].items()
    ]
    names = {"released_right": "right label", "released_wrong": "wrong label"}
    rows += [[f"signs released with the {word}", cells.rate(found[name], n=True)] for name, word in names.items()]
    rows += [
        ["signs of 24 px and more released with the right label", cells.rate(found["released_right_24px"], n=True)],
        ["signs found and withheld", cells.rate(found["withheld"], n=True)],
        ["**frames with a label released on no sign**", f"**{cells.rate(found['phantom_frames'], n=True)}**"],
        [
            "frames with a label released on a region that fits no sign",
            cells.rate(found["frames_with_an_unfitting_release"]),
        ],
        ["regions a frame; on nothing", f"{found['regions_a_frame']:.2f}; {found['regions_on_nothing_a_frame']:.2f}"],
        [
            "regions on nothing that are withheld: with the reason *not a sign*",
            f"{found['on_nothing_because'].get('not a sign', 0)} of {sum(found['on_nothing_because'].values())}",
        ],
        [
            f"**a wrong label released on an attacked sign** ({attack})",
            f"**{cells.rate(attacked['wrong_release'], n=True)}**",
        ],
        ["made sequences, tracks on: signs released right", cells.rate(made["released_right"], n=True)],
        ["made sequences: signs released wrong", cells.rate(made["released_wrong"], n=True)],
        ["made sequences: labels released on no sign, a sequence", cells.count(made["phantoms_a_sequence"])],
        [
            f"highway video of {video['seconds']:.0f} s, tracks on: labels released; an hour",
            f"{video['released_labels']}; {cells.count(video['released_labels_an_hour'], n=False)}",
        ],
    ]
    return cells.table(["GTSDB, every fifth frame", "measured (95 % interval)"], rows)


def scenes_size() -> str:
    """Signs of road scenes by their size."""
    rows = [
        [
            size.replace("px", " px"),
            str(entry["signs"]),
            *(cells.rate(entry[name]) for name in ("found", "released_right", "released_wrong", "withheld")),
        ]
        for size, entry in cells.read("default/scenes.json")["by_size"].items()
    ]
    return cells.table(["shorter side", "signs", "found", "released right", "released wrong", "withheld"], rows)


def within() -> str:
    """What a part of the frames gains and costs, the part that loses most first."""
    rows = []
    for part in reversed(cells.read("default/within.json")["parts"]):
        chosen, judged = part.get("chosen_by"), part.get("judged")
        less = part["frame_ms_less"]
        gain = f"{less['mean']:.1f} ({less['ci95'][0]:.1f} - {less['ci95'][1]:.1f})" if chosen else ""
        rows.append(
            [
                f"`{part['within']}`" if chosen else "whole frames",
                f"{chosen['whole_within']} of {chosen['signs']}" if chosen else "",
                cells.percent(judged["share_of_a_frame"]) if judged else "100 %",
                cells.rate(part["found"]),
                cells.rate(part["released_right"]),
                str(part["right_no_longer"]),
                cells.rate(part["released_wrong"]),
                cells.rate(part["phantom_frames"]),
                f"{part['regions_on_nothing_a_frame']:.2f}",
                f"{part['regions_ms']['mean']:.1f}",
                f"{part['frame_ms']['mean']:.1f} / {part['frame_ms']['p99']:.0f}",
                gain,
            ]
        )
    head = [
        "`--within`",
        "signs of the choosing frames that lie in it whole",
        "of a frame",
        "signs found",
        "signs released right",
        "no longer released right",
        "signs released wrong",
        "frames with a label on no sign",
        "regions on nothing a frame",
        "finder, ms",
        "frame, ms, mean / p99",
        "less, ms",
    ]
    return cells.table(head, rows)


def non_signs() -> str:
    """What is released of pictures that show no sign, the worst kind first."""
    kinds = cells.read("default/non_signs.json")["kinds"].items()
    rows = [
        [kind, str(entry["released"]["n"]), f"**{cells.rate(entry['released'])}**", cells.rate(entry["not_a_sign"])]
        for kind, entry in sorted(kinds, key=lambda item: -item[1]["released"]["rate"])
    ]
    return cells.table(["no sign", "n", "a label released", "withheld as *not a sign*"], rows)


def damaged_video() -> str:
    """What comes out of damaged videos, all codecs and containers together, and where whole frames were lost unseen."""
    result = cells.read("damaged_video.json")
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
    return cells.table(head, rows)


def cameras() -> str:
    """Several cameras in one process, and in as many."""
    rows = []
    for row in cells.read("cameras.json")["rows"]:
        several = f"{row['processes']} processes{', the same share of the machine' if row['even'] else ''}"
        cost = f"{row['processor_ms_a_frame']:.0f} ms"
        rows.append(
            [
                str(row["cameras"]),
                "one process" if row["processes"] == 1 else several,
                f"{row['verdicts_a_second']:.1f}",
                f"{100 * row['late']:.0f} %",
                f"{row['age_ms']['p50']:.0f} / {row['age_ms']['p99']:.0f} ms",
                f"{100 * row['dropped']:.0f} %",
                cost,
                f"{row['memory_mb']:.0f} MB",
                f"{row['load']:.0f}",
            ]
        )
    head = [
        "cameras",
        "guarded by",
        "verdicts a second",
        "of them late",
        "age p50 / p99",
        "frames dropped",
        "processor time a frame",
    ]
    return cells.table([*head, "memory", "load"], rows)


def damaged_video_codecs() -> str:
    """For each codec, container and damage: labels released on wrong frames, wrong frames, frames handed out."""
    result = cells.read("damaged_video.json")
    columns = result["columns"].split()
    damages: list[str] = []
    found: dict[str, dict[str, str]] = {}
    for row in result["rows"]:
        values = dict(zip(columns, row.split(), strict=True))
        if values["damage"] not in damages:
            damages.append(values["damage"])
        cell = f"{values['released']} / {values['wrong']} / {values['whole']}"
        bold = f"**{cell}**" if values["wrong"] != "0" else cell
        found.setdefault(f"{values['codec']}, {values['container']}", {})[values["damage"]] = bold
    rows = [[name, *(cells_of.get(damage, "") for damage in damages)] for name, cells_of in found.items()]
    return cells.table(["codec, container", *damages], rows)
