"""What is in a bundle, for people and for programs: `firewall bundle show`."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from firewall.bundle import Bundle, Seen
from firewall.bundle.certificate import certificate
from firewall.bundle.conditional import conditional_spec
from firewall.bundle.sticker_description import described, render_stickers
from firewall.errors import BundleError

__all__ = ["describe", "render", "render_conditional"]


def describe(bundle: Bundle) -> dict[str, Any]:
    """The card of a verified bundle, ready for JSON: shares are 0..1, sizes are bytes."""
    manifest = bundle.manifest
    spec, calibration = manifest.classifier, manifest.calibration
    return {
        "name": manifest.name,
        "version": manifest.version,
        "created": manifest.created,
        "sha256": bundle.sha256,
        "classifier": {
            "file": spec.file,
            "sha256": manifest.files[spec.file].sha256,
            "input": spec.input.model_dump(mode="json"),
            "classes": len(spec.labels),
            "labels": list(spec.labels),
        },
        "masked_classifier": manifest.masked_classifier and manifest.masked_classifier.file,
        "finder": manifest.finder and manifest.finder.model_dump(mode="json"),
        "detectors": [
            {
                "name": detector.name,
                "threshold": detector.threshold,
                "file": detector.parameters.get("file"),
                "fitted": _seen(detector.fitted),
            }
            for detector in manifest.detectors
        ],
        "fusion": None
        if manifest.fusion is None
        else {
            "threshold": manifest.fusion.threshold,
            "cap": manifest.fusion.cap,
            "power": manifest.fusion.power,
            "terms": [term.model_dump(mode="json") for term in manifest.fusion.terms],
            "fitted": _seen(manifest.fusion.fitted),
        },
        "conditional": _conditional(bundle),
        "correction": manifest.correction is not None,
        "calibration": {
            "data": calibration.data,
            "images": calibration.images,
            "tracks": calibration.tracks,
            "false_positive_rate": calibration.false_positive_rate,
            "rates": calibration.rates,
            "attacks": calibration.attacks,
            "notes": calibration.notes,
            "seen": _seen(calibration.seen),
        },
        "numerics": None
        if manifest.numerics is None
        else {**manifest.numerics.model_dump(mode="json"), "says": manifest.numerics.line()},
        "certificate": _certificate(bundle),
        "stickers": described(bundle),
        "files": {name: file.model_dump(mode="json") for name, file in manifest.files.items()},
        "versions": manifest.versions,
        "citations": list(manifest.citations),
        "provenance": manifest.provenance and manifest.provenance.model_dump(mode="json"),
    }


def render(card: dict[str, Any], console: Console) -> None:
    """Print what `describe` gave, with `signature` added, as tables."""
    facts = Table(box=None, show_header=False)
    facts.add_row("bundle", _plain(f"{card['name']}, version {card['version']}"))
    classifier, calibration = card["classifier"], card["calibration"]
    size = classifier["input"]
    rows = {
        "created": card["created"],
        "manifest": f"SHA-256 {card['sha256'][:16]}...",
        "signature": card["signature"]["says"],
        "classifier": f"{classifier['file']}: {size['width']}x{size['height']} pixels, {classifier['classes']} classes",
        "under masks": card["masked_classifier"] and f"{card['masked_classifier']}, asked where --patches is given",
        "signs found by": card["finder"]
        and f"{card['finder']['file']}, scores from {card['finder']['threshold']:.3g} on, --regions signs",
        "preparation": f"(value / 255 - {_numbers(size['mean'])}) / {_numbers(size['std'])}",
        "calibrated on": f"{calibration['data']}: {calibration['images']} images"
        + (f" of {calibration['tracks']} groups" if calibration["tracks"] else ""),
        "asked for": f"at most {calibration['false_positive_rate']:.3%} of such images withheld",
        **{name: f"{share:.3%}" for name, share in calibration["rates"].items()},
        "margin": card["numerics"] and f"in the thresholds, for other arithmetic: {card['numerics']['says']}",
        "notes": calibration["notes"],
        "correction": "of withheld labels, for the operator" if card["correction"] else "",
    }
    for name, value in rows.items():
        if value:
            facts.add_row(_plain(name), _plain(value))
    console.print(facts)
    fusion = card["fusion"]
    fused = () if fusion is None else ("centre", "unit", "weight", "releases below")
    detectors = Table("detector", "threshold", *fused, "fitted to", box=None)
    terms = {} if fusion is None else {term["detector"]: term for term in fusion["terms"]}
    for detector in card["detectors"]:
        term = terms.get(detector["name"], {})
        numbers = [_number(term.get(key)) for key in ("centre", "unit", "weight", "release_below") if term]
        threshold = "in the fusion" if fusion is not None else _number(detector["threshold"])
        detectors.add_row(_plain(detector["name"]), threshold, *numbers, _plain(_fitted(detector["fitted"])))
    console.print(detectors)
    if fusion is not None:
        console.print(
            f"fusion: sum of weight * clip((score - centre) / unit, 0, {fusion['cap']:g}) ** {fusion['power']:g}, "
            f"withheld above {fusion['threshold']:.6g}; fitted to: {_fitted(fusion['fitted'])}",
            highlight=False,
            markup=False,
        )
        for term in fusion["terms"]:
            if term["withhold_above"] is not None:
                console.print(_plain(f"{term['detector']} above {term['withhold_above']:.6g} withholds by itself"))
    if card["conditional"] is not None:
        render_conditional(card["conditional"], console)
    if card["certificate"] is not None:
        _render_certificate(card["certificate"], console)
    if card["stickers"] is not None:
        render_stickers(card["stickers"], console)
    files = Table("file", "bytes", "SHA-256", box=None)
    for name, file in card["files"].items():
        files.add_row(_plain(name), str(file["bytes"]), f"{file['sha256'][:16]}...")
    console.print(files)
    if card["provenance"] is not None:
        _render_provenance(card["provenance"], console)


def _conditional(bundle: Bundle) -> dict[str, Any] | None:
    """The limits by size, ready for JSON; ones that are not of this bundle are named as such."""
    try:
        spec = conditional_spec(bundle)
    except BundleError as error:
        return {"invalid": str(error)}
    if spec is None:
        return None
    return {**spec.model_dump(mode="json", exclude={"fitted"}), "fitted": [_seen(seen) for seen in spec.fitted]}


def render_conditional(spec: dict[str, Any], console: Console) -> None:
    """Print the limits by size that `describe` gave, as tables."""
    if "invalid" in spec:
        console.print(_plain(f"limits by size: {spec['invalid']}"))
        return
    console.print(
        f"limits by size, set for {spec['rate']:.3%} withheld; they are the rule, and nothing is released before all "
        "detectors were asked:",
        highlight=False,
    )
    clean = {entry["group"]: entry for entry in spec["coverage"] if entry["part"] == "clean"}
    names = (Column(_plain(name)) for name in spec["detectors"])
    table = Table("shorter side", "threshold", *names, "withheld", "of tracks", box=None)
    starts = [1, *spec["edges"]]
    for number, (start, group) in enumerate(zip(starts, spec["groups"], strict=True)):
        sides = f"{start}-{starts[number + 1] - 1}" if number + 1 < len(starts) else f"{start} and more"
        found = clean.get(number)
        seen = [f"{found['withheld']:.2%}", str(found["tracks"])] if found else ["unknown", ""]
        limits = (_number(limit["limit"]) for limit in group["limits"])
        table.add_row(f"{sides} pixels", _number(group["threshold"]), *limits, *seen)
    console.print(table)
    for entry in spec["coverage"]:
        if entry["group"] is None:
            console.print(
                _plain(
                    f"withheld, {entry['part']}: {entry['withheld']:.2%} ({entry['low']:.2%} to {entry['high']:.2%}), "
                    f"{entry['tracks']} tracks of {entry['images']} images"
                    f"{'' if entry['fitted'] else '; took no part in the limits'}"
                )
            )


def _render_provenance(record: dict[str, Any], console: Console) -> None:
    stages = Table("stage", "read", "wrote", box=None)
    for name, stage in record["stages"].items():
        stages.add_row(_plain(name), *(_plain(_hashes(stage[side])) for side in ("inputs", "outputs")))
    console.print(_plain(f"made by a recipe of {len(record['stages'])} stages ({record['tool']}); commands: --json"))
    console.print(stages)


def _hashes(files: list[dict[str, Any]]) -> str:
    return ", ".join(f"{file['path']} {file['hash'][:12]}" for file in files)


def _certificate(bundle: Bundle) -> dict[str, Any] | None:
    """What is promised, ready for JSON; one that is not of this bundle is named as such, so that all else is shown."""
    try:
        spec = certificate(bundle)
    except BundleError as error:
        return {"invalid": str(error)}
    return None if spec is None else spec.model_dump(mode="json")


def _render_certificate(spec: dict[str, Any], console: Console) -> None:
    if "invalid" in spec:
        console.print(_plain(f"certificate: {spec['invalid']}"))
        return
    conformal, confidence = spec["conformal"], spec["confidence"]
    promise = (
        f"certificate: thresholds promise at most {conformal['rate']:.3%} false alarms on new {conformal['unit']} that "
        f"are exchangeable with the {conformal['count']} they were set on ({conformal['needed']} are needed: "
        f"{'enough' if conformal['holds'] else 'NOT ENOUGH, no promise'})"
    )
    if conformal["conditional"] is not None:
        promise += f"; of this very calibration, at {confidence:.0%}: below {conformal['conditional']:.2%}"
    if conformal["contradicted"]:
        promise += "; an evaluation CONTRADICTS it: those images are not like the calibration's"
    console.print(_plain(promise))
    for found in spec["evaluations"]:
        console.print(
            _plain(
                f"judged on {found['dataset']}, part {found['part']}, {found['split']} ({found['file']}); bounds at "
                f"{confidence:.0%}, each; jointly: all {spec['bounds']} at once"
            )
        )
        table = Table("rate", "seen", "groups", "bound", "jointly", "groups with any", "bound", box=None)
        rows = {"false alarms": found["false_alarms"]}
        rows |= {f"missed: {name} (family)": rate for name, rate in found["families"].items()}
        rows |= {f"missed: {name}": rate for name, rate in found["misses"].items()}
        for name, rate in rows.items():
            table.add_row(_plain(name), f"{rate['hits']} of {rate['images']}", *_bounds(rate))
        console.print(table)
        for note in found["notes"]:
            console.print(_plain(f"note: {note}"))
    console.print("A bound is of one frame drawn from each group; frames of a group are no independent draws.")
    console.print("Not covered:")
    for line in spec["not_covered"]:
        console.print(_plain(f"- {line}"))


def _bounds(rate: dict[str, Any]) -> list[str]:
    if rate["groups"] is None:
        return ["unknown", f"none ({rate['upper_if_independent']:.2%} if images were independent)", "", "", ""]
    return [
        str(rate["groups"]),
        f"{rate['drawn_hits']} drawn: {rate['upper']:.2%}",
        f"{rate['upper_jointly']:.2%}",
        str(rate["group_hits"]),
        f"{rate['group_upper']:.2%}",
    ]


def _seen(seen: Seen | None) -> dict[str, Any] | None:
    """Which images, without the numbers of the groups: there can be thousands."""
    if seen is None:
        return None
    return {
        "dataset": seen.dataset,
        "part": seen.part,
        "splits": list(seen.splits),
        "groups": len(seen.groups.split()),
        "database": seen.database or None,
    }


def _fitted(seen: dict[str, Any] | None) -> str:
    if seen is None:
        return "nothing, or not recorded"
    splits = f", {' and '.join(seen['splits'])}" if seen["splits"] else ""
    return f"{seen['groups']} groups of {seen['dataset']}/{seen['part']}{splits}"


def _plain(text: str) -> Text:
    """A bundle's words as they are: no markup, and nothing that steers the terminal."""
    return Text("".join(character if character.isprintable() else "?" for character in text))


def _numbers(values: list[float]) -> str:
    return f"{values[0]:g}" if len(set(values)) == 1 else f"({', '.join(f'{value:g}' for value in values)})"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
