"""What is in a bundle, for people and for programs: `firewall bundle show`."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from firewall.bundle import Bundle, Seen

__all__ = ["describe", "render"]


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
        "files": {name: file.model_dump(mode="json") for name, file in manifest.files.items()},
        "versions": manifest.versions,
        "citations": list(manifest.citations),
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
        "preparation": f"(value / 255 - {_numbers(size['mean'])}) / {_numbers(size['std'])}",
        "calibrated on": f"{calibration['data']}: {calibration['images']} images"
        + (f" of {calibration['tracks']} groups" if calibration["tracks"] else ""),
        "asked for": f"at most {calibration['false_positive_rate']:.3%} of such images withheld",
        **{name: f"{share:.3%}" for name, share in calibration["rates"].items()},
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
    files = Table("file", "bytes", "SHA-256", box=None)
    for name, file in card["files"].items():
        files.add_row(_plain(name), str(file["bytes"]), f"{file['sha256'][:16]}...")
    console.print(files)


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
