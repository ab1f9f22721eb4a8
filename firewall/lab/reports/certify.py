"""The page of all certificates: what was proved, what attacks achieved, and what is not promised."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from firewall.bundle import Bundle
from firewall.bundle.certificate import certificate
from firewall.errors import BundleError, DataError, FirewallError
from firewall.lab.certification.harmless import Harmless, largest_harmless
from firewall.lab.measurement import metrics
from firewall.lab.reports import certify_figures as figures
from firewall.lab.reports import certify_norms
from firewall.lab.reports.certify_digits import digits
from firewall.lab.reports.certify_promises import promises
from firewall.lab.reports.pictures import data_uri, pixels_uri

__all__ = ["NOT_PROMISED", "THESIS", "collect", "write"]

#: Figure 6 of the thesis (Nguyen C. 2018): successful attacks on 1000 MNIST test images, L_flow <= 7.0, read from its
#: text: "around 380" and "about 70".
THESIS = {"plain": (380, 1000), "certified": (70, 1000)}

NOT_PROMISED = (
    (
        "Spatial certificates hold for the network's input and for flows that are 0 outside the image, within the "
        "stated budget and shift: not for a transformation of a larger image that is resized afterwards, and not "
        "for rotations or scalings that need a larger budget."
    ),
    (
        "Patch certificates hold for one square, parallel to the image's axes, in the pixels of the network's "
        "input: not for longer and thinner stickers of the same area, not for two stickers, not for dirt, light "
        "or rain all over, and not for a sticker that makes the finder look elsewhere."
    ),
    (
        "A released label that is not called certified has no proof at all: no mask objected to it, and one was "
        "unsure. A certified one is what a classifier surely names with a mask over the sticker; that may be wrong."
    ),
    (
        "Smoothing certifies the smoothed classifier, with a small chance of error for each image, against small "
        "changes of the network's input; the edge does not run it."
    ),
    (
        "Bounds on the firewall as a whole are statistics of attacks that were tried, not proofs about attacks: "
        "an attacker who knows the firewall is not covered."
    ),
    (
        "Floating point: bounds are computed in float64 with a margin for rounding; the deployed network computes "
        "in float32."
    ),
    "Nothing here says that a label is right: a certificate says that it can't be changed.",
)


def collect(folder: Path, bundle: Bundle | None = None) -> dict[str, Any]:
    """Read the results in a folder, by kind: fig6, curve, spatial, flow, patch, smoothing, firewall and so on.

    Args:
        folder: With JSON files of `firewall lab certify` and `firewall lab attack spatial`.
        bundle: Its certificate is shown; None for none.

    Raises:
        DataError: The folder is missing or holds no certificate, or a file can't be read.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not there; write results of 'firewall lab certify ... --json' into it")
    kinds = ("curve", "attacks", "spatial", "flow", "patch", "dial", "sticker_attacks", "smoothing", "linf")
    found: dict[str, Any] = {kind: [] for kind in kinds}
    found |= {"counted": [], "soundness": [], "examples": [str(path) for path in sorted(folder.glob("*examples*.npz"))]}
    found["firewall"] = None if bundle is None else _of_bundle(bundle)
    asked = None if bundle is None else bundle.manifest.masked_classifier or bundle.manifest.classifier
    found["under_masks"] = None if bundle is None or asked is None else bundle.manifest.files[asked.file].sha256
    for path in sorted(folder.glob("*.json")):
        summary = path.with_name(path.name.replace(".raw.json", ".json"))
        if summary != path and summary.is_file():
            continue  # its raw rows
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(f"{path} is not readable JSON ({error}); write it again or remove it") from error
        try:
            _sort(found, path, content)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise DataError(
                f"{path} is not as 'firewall lab certify' writes it ({type(error).__name__}: {error}); write it again"
            ) from error
    if not any(value for key, value in found.items() if key != "firewall") and found["firewall"] is None:
        raise DataError(f"{folder} holds no certificates; write results of 'firewall lab certify ... --json' into it")
    found["flow"].sort(key=lambda entry: (str(entry["about"]["network"]), float(entry["about"]["budget"])))
    found["curve"].sort(key=lambda row: (str(row["network"]), float(row["shift"]), float(row["budget"])))
    found["fig6"] = _fig6(found["attacks"], found["counted"])
    found["promises"] = promises(found)
    found["not_promised"] = list(NOT_PROMISED)
    return found


def _of_bundle(bundle: Bundle) -> dict[str, Any] | None:
    try:
        spec = certificate(bundle)
    except BundleError as error:
        return {"invalid": str(error)}
    return None if spec is None else spec.model_dump(mode="json")


def _sort(found: dict[str, Any], path: Path, content: Any) -> None:
    """Put a file's content where it belongs; what is no certificate is left out."""
    if certify_norms.sort(found, path, content):
        return
    rows = content.get("rows") if isinstance(content, dict) else content
    if isinstance(content, dict) and isinstance(content.get("sticker_attacks"), list):
        found["sticker_attacks"] += [{**each, "file": path.name} for each in content["sticker_attacks"]]
        return
    if isinstance(content, dict) and {"judges", "evaluations"} <= content.keys():
        found["firewall"] = found["firewall"] or content
    if not isinstance(rows, list) or not rows or not isinstance(rows[0], dict):
        _sort_summary(found, path, content)
        return
    first = rows[0]
    if {"network", "budget", "clean", "certified", "attacked", "n"} <= first.keys():
        found["curve"] += [{"shift": 0.0, "attack": "", **row} for row in rows]
    elif {"network", "budget", "attack", "successes", "n"} <= first.keys():
        found["counted"] += rows
    elif {"network", "budget", "tries", "beaten"} <= first.keys():
        found["soundness"] += [{"shift": 0.0, "noise": 0.0, **row} for row in rows]
    elif "success" in first:
        shared = {"network": str(content["network"]), "rows": rows, "file": str(path)}
        found["attacks"].append({**content, **shared})
    elif "unanimous" in first:
        _sort_patch(found, {**_without_rows(content), "file": path.name})
    elif "radius" in first:
        found["smoothing"].append({**_without_rows(content), "images": len(rows), "file": path.name})
    elif "lower_bound" in first and "about" in content:
        found["flow"].append({**_without_rows(content), "images": len(rows), "file": path.name})
    elif "lower_bound" in first:
        hits = sum(bool(row["certified"]) for row in rows)
        interval = list(metrics.rate_interval(hits, len(rows)))
        found["spatial"].append({**_without_rows(content), "certified": hits, "ci95": interval, "file": path.name})


def _sort_summary(found: dict[str, Any], path: Path, content: Any) -> None:
    """A file whose rows, one an image, were left out of what is kept: benchmarks/results has such."""
    if not isinstance(content, dict) or "images" not in content:
        return
    about, named = content.get("about", {}), {**content, "file": path.name}
    if "successes" in content:
        found["attacks"].append({**content, "network": str(content["network"]), "rows": [], "file": str(path)})
    elif "area" in about:
        _sort_patch(found, named)
    elif "sigma" in about:
        found["smoothing"].append(named)
    elif "budget" in about:
        found["flow"].append(named)


def _sort_patch(found: dict[str, Any], result: dict[str, Any]) -> None:
    """Results with double masking, and those with a curve over tau; one may have both."""
    if "certified" in result["summary"]:
        found["patch"].append(result)
    if "curve" in result["summary"]:
        found["dial"].append(result)


def _without_rows(content: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in content.items() if key != "rows"}


def _flow_curve(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Points of convolutional networks over the budget, without noise, as of `figures.curves`."""
    return [
        {
            "network": entry["about"]["network"],
            "shift": 0.0,
            "budget": entry["about"]["budget"],
            "certified": entry["summary"]["certified_accuracy"],
            "attacked": entry["summary"].get("surviving_attack"),
        }
        for entry in entries
        if not entry["about"]["noise"]
    ]


def _fig6(attacks: list[dict[str, Any]], counted: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The thesis's bars, and ours by the same attack and by stronger ones. counted: successes of parts of a sample."""
    bars = [_bar("thesis", name, "stAdv, L_flow <= 7", *counts) for name, counts in THESIS.items()]
    parts: dict[tuple[str, str], list[int]] = {}
    for row in counted:
        total = parts.setdefault((str(row["network"]), f"{row['attack']}, L_flow <= {row['budget']:g}"), [0, 0])
        total[0], total[1] = total[0] + int(row["successes"]), total[1] + int(row["n"])
    bars += [_bar("ours", network, attack, *counts) for (network, attack), counts in parts.items()]
    for attack in attacks:
        threat = attack.get("threat", {})
        shift = f", shift <= {threat['shift']:g}" if threat.get("shift") else ""
        what = f"{attack.get('method', 'attack')}, L_flow <= {threat.get('budget', float('nan')):g}{shift}"
        hits = sum(bool(row["success"]) for row in attack["rows"]) or int(attack.get("successes", 0))
        bars.append(_bar("ours", attack["network"], what, hits, len(attack["rows"]) or int(attack["images"])))
    return bars


def _bar(whose: str, network: str, attack: str, hits: int, total: int) -> dict[str, Any]:
    low, high = metrics.rate_interval(hits, total)
    return {"whose": whose, "network": network, "attack": attack, "hits": hits, "total": total, "ci95": [low, high]}


def write(
    found: dict[str, Any],
    out: Path,
    json_file: Path | None = None,
    data: Path | None = None,
    *,
    bundle: str | None = None,
) -> None:
    """Write the page.

    Args:
        found: Of `collect`.
        out: The HTML file.
        json_file: Where its numbers go; None: nowhere.
        data: Folder of the data sets, for pictures of attacked digits; without it only flow fields are shown.
        bundle: `default` or the folder of a bundle, whose largest harmless stickers are shown; None: they are not.

    Raises:
        FirewallError: A file can't be written.
    """
    harmless: list[Harmless] = [] if bundle is None else largest_harmless(bundle, data)
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    folder = resources.files("firewall.lab.reports")
    page = environment.from_string(folder.joinpath("certify.html.j2").read_text(encoding="utf-8")).render(
        style=folder.joinpath("style.css").read_text(encoding="utf-8"),
        found=found,
        bars=data_uri(figures.bars(found["fig6"])),
        curves=data_uri(figures.curves(found["curve"])) if found["curve"] else None,
        flows=data_uri(figures.curves(points)) if len(points := _flow_curve(found["flow"])) > 1 else None,
        stickers=data_uri(figures.stickers(widest)) if (widest := figures.widest(found["patch"])) else None,
        widest=widest,
        norms=Markup(certify_norms.html(found["linf"])),  # noqa: S704 -- escaped there
        dials=data_uri(figures.dials(found["dial"])) if found["dial"] else None,
        harmless=[{**each.card(), "picture": pixels_uri(each.picture())} for each in harmless],
        radii=data_uri(figures.radii(found["smoothing"])) if found["smoothing"] else None,
        digits=data_uri(shown) if (shown := digits(found, data)) is not None else None,
    )
    numbers = {
        **found,
        "harmless": [each.card() for each in harmless],
        "attacks": [_without_rows(attack) for attack in found["attacks"]],
    }
    for path, text in ((out, page), (json_file, json.dumps(numbers, indent=1) + "\n")):
        if path is None:
            continue
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise FirewallError(f"can't write {path}: {error.strerror}") from error
