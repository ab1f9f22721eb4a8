"""The page of all certificates: what was proved, what attacks achieved, and what is not promised."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure
from scipy.ndimage import map_coordinates

from firewall.bundle import Bundle
from firewall.bundle.certificate import certificate
from firewall.errors import BundleError, DataError, FirewallError
from firewall.lab.datasets import open_dataset
from firewall.lab.measurement import metrics
from firewall.lab.reports import certify_norms
from firewall.lab.reports.pictures import data_uri

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
        "or rain all over."
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

_PICTURES = 6
_COLOURS = {"plain": "#c2410c", "certified": "#1d4ed8"}
Floats = npt.NDArray[np.float64]


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
    found: dict[str, Any] = {"curve": [], "attacks": [], "spatial": [], "flow": [], "patch": [], "smoothing": []}
    found |= {
        "linf": [],
        "counted": [],
        "soundness": [],
        "examples": [str(path) for path in sorted(folder.glob("*examples*.npz"))],
    }
    found["firewall"] = None if bundle is None else _of_bundle(bundle)
    for path in sorted(folder.glob("*.json")):
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
    found["curve"].sort(key=lambda row: (str(row["network"]), float(row["shift"]), float(row["budget"])))
    found["fig6"] = _fig6(found["attacks"], found["counted"])
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
        found["patch"].append({**_without_rows(content), "file": path.name})
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
        found["patch"].append(named)
    elif "sigma" in about:
        found["smoothing"].append(named)
    elif "budget" in about:
        found["flow"].append(named)


def _without_rows(content: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in content.items() if key != "rows"}


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


def write(found: dict[str, Any], out: Path, json_file: Path | None = None, data: Path | None = None) -> None:
    """Write the page.

    Args:
        found: Of `collect`.
        out: The HTML file.
        json_file: Where its numbers go; None: nowhere.
        data: Folder of the data sets, for pictures of attacked digits; without it only flow fields are shown.

    Raises:
        FirewallError: A file can't be written.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    folder = resources.files("firewall.lab.reports")
    page = environment.from_string(folder.joinpath("certify.html.j2").read_text(encoding="utf-8")).render(
        style=folder.joinpath("style.css").read_text(encoding="utf-8"),
        found=found,
        bars=data_uri(_bars(found["fig6"])),
        curves=data_uri(_curves(found["curve"])) if found["curve"] else None,
        stickers=data_uri(_stickers(widest)) if (widest := _widest(found["patch"])) else None,
        widest=widest,
        norms=Markup(certify_norms.html(found["linf"])),  # noqa: S704 -- escaped there
        radii=data_uri(_radii(found["smoothing"])) if found["smoothing"] else None,
        digits=data_uri(digits) if (digits := _digits(found, data)) is not None else None,
    )
    numbers = {**found, "attacks": [_without_rows(attack) for attack in found["attacks"]]}
    for path, text in ((out, page), (json_file, json.dumps(numbers, indent=1) + "\n")):
        if path is None:
            continue
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise FirewallError(f"can't write {path}: {error.strerror}") from error


def _bars(bars: list[dict[str, Any]]) -> Figure:
    figure = Figure(figsize=(8, 0.6 + 0.45 * len(bars)), layout="constrained")
    axes = figure.subplots()
    for place, bar in enumerate(bars):
        value = bar["hits"] / bar["total"]
        colour = "#9ca3af" if bar["whose"] == "thesis" else _COLOURS.get(bar["network"], _COLOURS["certified"])
        axes.barh(place, value, color=colour)
        axes.plot(bar["ci95"], [place, place], color="black", linewidth=1)
    names = [f"{bar['whose']}: {bar['network']} ({bar['attack']}, n = {bar['total']})" for bar in bars]
    axes.set_yticks(range(len(bars)), names)
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xlabel("share of images that the attack succeeds on")
    return figure


def _curves(rows: list[dict[str, Any]]) -> Figure:
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    names, shifts = sorted({str(row["network"]) for row in rows}), sorted({float(row["shift"]) for row in rows})
    others = itertools.cycle(("#15803d", "#7c3aed", "#0e7490"))
    colours = {name: _COLOURS.get(name) or next(others) for name in names}
    for network, (marker, shift) in itertools.product(names, zip(itertools.cycle("os^D"), shifts, strict=False)):
        own = [row for row in rows if row["network"] == network and row["shift"] == shift]
        own.sort(key=lambda row: float(row["budget"]))
        name = network if shift == 0 else f"{network}, shift <= {shift:g}"
        for key, style, what in (("certified", "-", "proved"), ("attacked", "--", "under attack")):
            known = [(float(row["budget"]), float(row[key])) for row in own if row[key] is not None]
            if known:
                look: dict[str, Any] = {"linestyle": style, "marker": marker, "color": colours[network]}
                axes.plot(*zip(*known, strict=True), **look, label=f"{name}: {what}")
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("budget: largest L_flow (equation 6)")
    axes.set_ylabel("accuracy")
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
    return figure


def _widest(results: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The result of the most images, of those that count by class; of several the one of the largest sticker."""

    def size(result: dict[str, Any]) -> tuple[int, float]:
        return int(result["summary"]["certified"]["total"]), float(result["about"]["area"])

    return max((result for result in results if result["summary"].get("by_class")), key=size, default=None)


def _stickers(result: dict[str, Any]) -> Figure:
    classes = result["summary"]["by_class"]
    figure = Figure(figsize=(8, 0.8 + 0.2 * len(classes)), layout="constrained")
    axes = figure.subplots()
    for key, colour, name in (
        ("one_round_right", "#93c5fd", "one round releases"),
        ("certified", "#1d4ed8", "certified"),
    ):
        axes.barh(range(len(classes)), [one[key] / one["images"] for one in classes.values()], color=colour, label=name)
    axes.set_yticks(range(len(classes)), [f"{name} ({one['images']})" for name, one in classes.items()], fontsize=7)
    axes.set_ylim(len(classes) - 0.4, -0.6)
    axes.set_xlim(0, 1)
    axes.set_xlabel("share of the images")
    axes.legend(fontsize=8, loc="lower left")
    return figure


def _radii(results: list[dict[str, Any]]) -> Figure:
    figure = Figure(figsize=(7, 3.5), layout="constrained")
    axes = figure.subplots()
    for result in results:
        curve = result["summary"]["curve"]
        values = [[point[key] for point in curve] for key in ("radius", "certified_accuracy")]
        axes.step(values[0], values[1], where="post", label=f"sigma {result['about']['sigma']:g}")
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("l2 radius, values in 0..1")
    axes.set_ylabel("certified accuracy")
    axes.legend()
    axes.grid(alpha=0.3)
    return figure


@dataclass(frozen=True, eq=False)
class _Example:
    """A digit, the flow that fools the network, and what becomes of the digit; both images (H, W) in 0..1 or None."""

    image: Floats | None
    flow: Floats
    attacked: Floats | None
    label: int
    target: int
    variation: float


def _digits(found: dict[str, Any], data: Path | None) -> Figure | None:
    """Digits, flows and attacked digits; None if there are no flows."""
    shown = [*_kept(found["examples"]), *_flows(found["attacks"], data)][:_PICTURES]
    if not shown:
        return None
    figure = Figure(figsize=(1.6 * len(shown), 5), layout="constrained")
    for column, example in enumerate(shown):
        for line, image in enumerate((example.image, None, example.attacked)):
            axes = figure.add_subplot(3, len(shown), line * len(shown) + column + 1)
            axes.set_axis_off()
            axes.set_aspect("equal")
            flow = example.flow
            if line == 1:
                down, right = np.mgrid[: flow.shape[1] : 2, : flow.shape[2] : 2]
                axes.quiver(right, down, flow[0, ::2, ::2], flow[1, ::2, ::2], angles="xy", scale_units="xy", scale=0.5)
                axes.set_xlim(-1, flow.shape[2])
                axes.set_ylim(flow.shape[1], -1)
                axes.set_title(f"L_flow {example.variation:.1f}", fontsize=8)
            elif image is not None:
                axes.imshow(image, cmap="gray", vmin=0, vmax=1)
                axes.set_title(f"{example.label}" if line == 0 else f"taken for {example.target}", fontsize=8)
    return figure


def _kept(paths: list[str]) -> Iterator[_Example]:
    """Examples that a benchmark kept with their pixels; half of the pictures from each of two files."""
    for name in paths:
        try:
            with Path(name).open("rb") as file, np.load(file, allow_pickle=False) as saved:
                parts = [saved[key] for key in ("image", "flow", "attacked", "label", "target", "total_variation")]
        except (OSError, ValueError, KeyError, BadZipFile) as error:
            raise DataError(f"{name} holds no attacked digits ({error}); write it again or remove it") from error
        for image, flow, attacked, label, target, variation in list(zip(*parts, strict=True))[: _PICTURES // 2]:
            yield _Example(
                np.asarray(image / 255.0),
                flow.astype(np.float64),
                np.asarray(attacked / 255.0),
                int(label),
                int(target),
                float(variation),
            )


def _flows(attacks: list[dict[str, Any]], data: Path | None) -> Iterator[_Example]:
    """Rows with a flow that lies where its attack's file, or this folder, says."""
    images: Sequence[npt.NDArray[np.uint8]] | None = None
    for attack in attacks:
        for row in attack["rows"]:
            name = row.get("flow_file")
            if not row["success"] or not name:
                continue
            places = (Path(name), Path(attack["file"]).with_suffix(".flows") / Path(name).name)
            path = next((place for place in places if place.is_file()), None)
            if path is None:
                continue
            with path.open("rb") as file, np.load(file, allow_pickle=False) as saved:
                flow = np.asarray(saved["flow"], np.float64)
                noise = np.asarray(saved["noise"], np.float64) if "noise" in saved else 0.0
            if flow.ndim != 3 or flow.shape[0] != 2:
                continue
            images = images or _mnist(data)
            image = None if images is None else images[int(row["index"])][..., 0].astype(np.float64) / 255
            attacked = None if image is None else _moved(image, flow) + noise
            yield _Example(image, flow, attacked, int(row["label"]), int(row["target"]), float(row["total_variation"]))


def _mnist(data: Path | None) -> Sequence[npt.NDArray[np.uint8]] | None:
    """The test images, None where there are none: the page does without."""
    try:
        return open_dataset("mnist", data, part="test").images
    except FirewallError:
        return None


def _moved(image: Floats, flow: Floats) -> Floats:
    """The image whose pixels take what lies (right, down) away from them, an even shift included; the edge goes on
    outside."""
    down, right = np.mgrid[: image.shape[0], : image.shape[1]]
    places = [down + flow[1], right + flow[0]]
    return np.asarray(map_coordinates(image, places, order=1, mode="nearest"))
