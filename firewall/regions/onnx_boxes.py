"""Regions from a detector of the user's, an ONNX file as it was exported."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from firewall.config import RegionDetectorSettings
from firewall.errors import EngineError, UsageError
from firewall.frame import Pixels, Region, check_form
from firewall.regions.box_form import BoxForm
from firewall.regions.boxes import SMALLEST_SIDE, Floats, as_regions, within_frame
from firewall.regions.graph import Array, Graph
from firewall.regions.layouts import Candidates, Plan, read
from firewall.regions.letterbox import GREY, Placement
from firewall.regions.network_input import NetworkInput
from firewall.regions.oddities import Oddities
from firewall.regions.recognition import recognise
from firewall.regions.suppression import suppress

__all__ = ["OnnxBoxes"]


def _to_stderr(line: str) -> None:
    shown = "".join(part if part.isprintable() else "?" for part in " ".join(line.split()))
    sys.stderr.write(f"firewall: {shown}\n")
    sys.stderr.flush()


class OnnxBoxes:
    """Boxes of a detector: fit the frame to its input, run, read its layout, threshold, suppress, scale back.

    The layout is recognised when it is opened, from the file and its answer to a grey picture; how it writes boxes from
    the first boxes (firewall.regions.box_form).
    """

    #: A part of a frame is fitted to the network's input as a frame is, so that it may begin and end anywhere.
    multiple = 1

    def __init__(
        self,
        settings: RegionDetectorSettings,
        limit: int = 8,
        *,
        device: str = "cpu",
        threads: int = 0,
        tell: Callable[[str], None] = _to_stderr,
    ) -> None:
        """Open the detector and recognise its outputs.

        Args:
            settings: What the user said about the detector.
            limit: The most regions for a frame.
            device: What it runs on, see firewall.engines, unless the settings name a device.
            threads: Threads on the processor; 0 = one for each core.
            tell: Takes lines for the operator, each once.

        Raises:
            EngineError: If the file can't be used, or no layout fits its outputs.
            UsageError: If the settings contradict the file.
        """
        self.limit = limit
        self._settings = settings
        self._graph = Graph(settings.file, device=settings.device or device, threads=threads)
        self.networks: Mapping[str, str] = {settings.file.name: self._graph.provider}
        self._input = NetworkInput(self._graph, settings)
        self._odd = Oddities(self._graph.what, tell)
        grey = np.full((self._input.height, self._input.width, 3), GREY, np.uint8)
        answers = self._all(self._input.feeds(grey, letterbox=True)[0])
        self._plan = self._recognised(answers)
        self._allowed = self._classes()
        self._form = BoxForm(coordinates=self._fixed("coordinates"), written=self._fixed("format"))
        found = self._read([answers[name] for name in self._plan.outputs])
        self._odd.check_scores(found)
        self._odd.check_boxes(found.where(found.scores >= settings.threshold))
        self._about()

    def find(self, pixels: Pixels) -> list[Region]:
        """Regions inside the frame, highest score first.

        Args:
            pixels: (H, W, 3) uint8.

        Raises:
            ImageError: If the pixels are anything else.
            EngineError: If the network fails, or what it gives can't be boxes: the frame is then withheld, and the
                operator gets one line about it.
        """
        height, width = check_form(pixels).shape[:2]
        return self.find_in(pixels, (0, 0, width, height))

    def find_in(self, pixels: Pixels, part: Region) -> list[Region]:
        """As `find`, of a part of the frame: see firewall.regions.within."""
        frame_height, frame_width = check_form(pixels).shape[:2]
        left, top, width, height = part
        pixels = pixels[top : top + height, left : left + width]
        feeds, placement = self._input.feeds(pixels, letterbox=self._letterbox)
        found = self._read(self._answers(feeds))
        self._odd.check_scores(found)
        above = found.where(found.scores >= self._settings.threshold)
        self._odd.check_boxes(above)
        self._odd.heard(found.scores, len(above), lambda: self._hint(pixels))
        if not len(above):
            return []
        corners = self._corners(above, placement)
        usable = self._odd.usable(corners, height, width, self._read_as)
        # Far outside is as good as just outside, and areas stay numbers.
        far = np.array([width, height] * 2, np.float64)
        corners, scores = np.clip(corners[usable], -far, 2 * far), above.scores[usable]
        kept = suppress(corners, scores, self._settings.overlap, len(scores))
        boxes, _ = within_frame(corners[kept], part, frame_width, frame_height)
        regions = as_regions(boxes, frame_width, frame_height)
        if kept and not regions:
            self._odd.once("specks", f"all boxes of a frame are smaller than {SMALLEST_SIDE} pixels and left out")
        if len(regions) > self.limit:
            self._odd.once("limit", f"{len(regions)} boxes in a frame; the best {self.limit} are looked at")
        return regions[: self.limit]

    def _corners(self, above: Candidates, placement: Placement) -> Floats:
        before = self._form.settled
        try:
            corners = self._form.corners(above.boxes, self._input.height, self._input.width)
        except EngineError as error:
            raise self._odd.refuse("form", str(error)) from error
        if self._form.settled != before:
            self._odd.once(f"form {self._form.settled}", f"boxes are read as {self._read_as}")
        return placement.to_frame(corners)

    @property
    def _read_as(self) -> str:
        written, coordinates = self._form.settled
        unit = "0..1" if coordinates == "unit" else "pixels"
        return f"{_FORMS.get(written, written)} in {unit}, layout {self._plan.layout.name}"

    @property
    def _letterbox(self) -> bool:
        if self._settings.letterbox is not None:
            return self._settings.letterbox
        fixed = self._plan.layout.letterbox
        return self._input.free if fixed is None else fixed

    def _fixed(self, key: str) -> str | None:
        """What the settings or the layout say of the boxes, None for what their values have to tell."""
        chosen: str = getattr(self._settings, key)
        if chosen != "auto":
            return chosen
        return self._plan.layout.format if key == "format" else None

    def _all(self, feeds: dict[str, Array]) -> dict[str, Array]:
        names = [tensor.name for tensor in self._graph.outputs]
        return dict(zip(names, self._graph.run(names, feeds), strict=True))

    def _answers(self, feeds: dict[str, Array]) -> list[Array]:
        """What the network says, as `_plan.outputs`; all of it while values have still to tell the layout."""
        try:
            if self._plan.sure:
                return self._graph.run(self._plan.outputs, feeds)
            answers = self._all(feeds)
            self._plan = self._recognised(answers)
            return [answers[name] for name in self._plan.outputs]
        except EngineError as error:
            raise self._odd.failed("answers", error) from error

    def _recognised(self, answers: dict[str, Array]) -> Plan:
        return recognise(self._graph, answers, self._settings, self._input.height, self._input.width)

    def _read(self, answers: list[Array]) -> Candidates:
        try:
            return read(self._plan, answers, self._allowed)
        except EngineError as error:
            raise self._odd.refuse("shape", str(error)) from error

    def _classes(self) -> frozenset[int] | None:
        """Numbers of the classes that count. Raises UsageError for a name or number that the network doesn't have."""
        if self._settings.classes is None:
            return None
        names = self._graph.names
        numbers = {name.strip().lower(): number for number, name in names.items()}
        allowed = set()
        for wanted in self._settings.classes:
            number = wanted if isinstance(wanted, int) else numbers.get(wanted.strip().lower())
            most = self._plan.classes
            if number is None or number < 0 or (most and number >= most):
                known = ", ".join(f"{n} {name}" for n, name in list(names.items())[:20]) or (
                    f"0 to {most - 1}" if most else "numbers only, the file names none"
                )
                more = f" and {len(names) - 20} more" if len(names) > 20 else ""
                raise UsageError(
                    f"region_detector.classes: {self._graph.what} has no class {wanted!r}; it has {known}{more}"
                )
            allowed.add(number)
        return frozenset(allowed)

    def _about(self) -> None:
        names = self._graph.names
        if self._settings.classes is None and len(names) > 1:
            shown = ", ".join(list(names.values())[:5])
            self._odd.once(
                "classes",
                f"boxes of all {len(names)} classes are looked at ({shown}, ...); region_detector.classes "
                "names those that are signs",
            )
        if self._input.batch > 1:
            self._odd.once("batch", f"a batch of {self._input.batch} is run for every frame; export it for one picture")

    def _hint(self, pixels: Pixels) -> str:
        """What might be wrong where nothing is found: another preparation that finds something in this frame, or all
        that is set."""
        chosen, letterbox = self._settings, self._letterbox
        full = 255.0 if chosen.range in (None, 1.0) else 1.0
        others: list[dict[str, Any]] = [
            {"range": full},
            {"channels": "bgr" if chosen.channels == "rgb" else "rgb"},
            {"letterbox": not letterbox},
        ]
        for other in others:
            try:
                given = NetworkInput(self._graph, chosen.model_copy(update=other))
                feeds, _ = given.feeds(pixels, letterbox=other.get("letterbox", letterbox))
                scores = read(self._plan, self._graph.run(self._plan.outputs, feeds), self._allowed).scores
            except EngineError:
                continue
            if len(scores) and chosen.threshold <= scores.max() <= 1.001:
                ((key, value),) = other.items()
                shown = f"{value:g}" if isinstance(value, float) else str(value).lower()
                return f"With region_detector.{key}: {shown} this frame would give a score of {scores.max():.3g}"
        classes = "all" if chosen.classes is None else ", ".join(str(name) for name in chosen.classes[:10])
        return (
            f"It is read with layout {self._plan.layout.name}, threshold {chosen.threshold:g}, classes {classes}, "
            f"range {'of its type' if chosen.range is None else f'{chosen.range:g}'}, channels {chosen.channels}, "
            f"letterbox {str(letterbox).lower()}: is that what the network was trained with?"
        )


_FORMS = {
    "corners": "corners x0 y0 x1 y1",
    "corners-yx": "corners y0 x0 y1 x1",
    "centre": "centre and size",
    "top-left": "left, top and size",
}
