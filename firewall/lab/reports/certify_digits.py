"""Attacked digits on the page of all certificates: the digit, the flow field that fools the network, and the result."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from scipy.ndimage import map_coordinates

from firewall.errors import DataError, FirewallError
from firewall.lab.datasets import open_dataset

__all__ = ["digits"]

_PICTURES = 6
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class _Example:
    """A digit, the flow that fools the network, and what becomes of the digit; both images (H, W) in 0..1 or None."""

    image: Floats | None
    flow: Floats
    attacked: Floats | None
    label: int
    target: int
    variation: float


def digits(found: dict[str, Any], data: Path | None) -> Figure | None:
    """Digits, flows and attacked digits; None if there are no flows.

    Args:
        found: Of `collect`.
        data: Folder of the data sets; without it only flow fields are shown.
    """
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
