"""Regions from a detector of the user's, an ONNX file."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from firewall.causes import told
from firewall.config import RegionDetectorSettings
from firewall.errors import EngineError
from firewall.frame import Pixels, Region
from firewall.regions.boxes import Floats, as_regions, overlaps, strongest

__all__ = ["OnnxBoxes"]

#: Of two boxes that overlap more than this the one with the higher score is kept.
MOST_OVERLAP = 0.5
#: Boxes that are compared with each other; a detector that gives thousands is cut to its best.
MOST_COMPARED = 300


class OnnxBoxes:
    """Boxes of a detector on the CPU: resize the frame to its input, run, threshold, suppress, scale back.

    The file has one input, float32 (1, 3, H, W) with fixed H and W: RGB 0..1, the whole frame stretched to H x W. Its
    outputs are named in the settings: boxes (N, 4) or (1, N, 4) as x0, y0, x1, y1 in pixels of the input, scores (N,)
    or (1, N) from 0 to 1.
    """

    def __init__(self, settings: RegionDetectorSettings, limit: int = 8) -> None:
        """limit: the most regions for a frame. Raises EngineError for a file that is missing, not ONNX, or has other
        inputs or outputs; the network is run once to find out."""
        self.limit = limit
        self._settings = settings
        self._session = _load(settings.file)
        self._input, self._height, self._width = _input_of(self._session, settings.file)
        outputs = [entry.name for entry in self._session.get_outputs()]
        for key, name in (("boxes", settings.boxes), ("scores", settings.scores)):
            if name not in outputs:
                raise EngineError(
                    f"region detector {settings.file} has no output {name!r}; it has {', '.join(outputs)}: "
                    f"name one of them as region_detector.{key}"
                )
        self._run(np.zeros((self._height, self._width, 3), np.uint8))

    def find(self, pixels: Pixels) -> list[Region]:
        """Regions inside the frame, highest score first. pixels: (H, W, 3) uint8. Raises EngineError if the network
        fails or gives something else than boxes and scores."""
        height, width = pixels.shape[:2]
        corners, scores = self._run(pixels)
        boxes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
        boxes *= np.array([width / self._width, height / self._height] * 2)
        real = np.flatnonzero((scores >= self._settings.threshold) & (boxes[:, 2:] > 0).all(axis=1))
        best = real[np.argsort(-scores[real], kind="stable")][:MOST_COMPARED]
        boxes, scores = boxes[best], scores[best]
        kept = strongest(scores, overlaps(boxes, boxes), self._settings.threshold, MOST_OVERLAP, len(best))
        return as_regions(boxes[kept], width, height)[: self.limit]

    def _run(self, pixels: Pixels) -> tuple[Floats, Floats]:
        """Corners (N, 4) in pixels of the input, and scores (N,)."""
        size = (self._width, self._height)
        image = np.asarray(cv2.resize(np.ascontiguousarray(pixels), size, interpolation=cv2.INTER_LINEAR))
        batch = np.ascontiguousarray(image.transpose(2, 0, 1)[None], np.float32) / np.float32(255)
        names = [self._settings.boxes, self._settings.scores]
        try:
            corners, scores = self._session.run(names, {self._input: batch})
        except Exception as error:  # ONNX Runtime raises many types of its own
            raise EngineError(f"region detector {self._settings.file} failed: {told(error)}") from error
        return self._checked(corners, scores)

    def _checked(self, corners: npt.NDArray[np.generic], scores: npt.NDArray[np.generic]) -> tuple[Floats, Floats]:
        file, names = self._settings.file, f"{self._settings.boxes!r} and {self._settings.scores!r}"
        shapes = np.shape(corners), np.shape(scores)
        ranked = zip(shapes, (3, 2), strict=True)
        rows, row = (shape[1:] if len(shape) == rank and shape[0] == 1 else shape for shape, rank in ranked)
        if len(rows) != 2 or rows[1] != 4 or row != rows[:1]:
            raise EngineError(
                f"region detector {file}: outputs {names} have shapes {shapes[0]} and {shapes[1]}; "
                "needed are (N, 4) or (1, N, 4) and (N,) or (1, N)"
            )
        if corners.dtype.kind not in "fiu" or scores.dtype.kind != "f":
            raise EngineError(f"region detector {file}: outputs {names} must be numbers, scores floating point")
        boxes, beliefs = corners.reshape(rows).astype(np.float64), scores.reshape(row).astype(np.float64)
        if not (np.isfinite(boxes).all() and np.isfinite(beliefs).all()):
            raise EngineError(f"region detector {file}: outputs {names} hold values that are not finite")
        if beliefs.size and not (beliefs.min() >= -1e-3 and beliefs.max() <= 1.001):
            raise EngineError(
                f"region detector {file}: scores from {beliefs.min():.3g} to {beliefs.max():.3g}, allowed is 0 to 1; "
                "end the network with a sigmoid or softmax"
            )
        return boxes, beliefs


def _load(file: Path) -> ort.InferenceSession:
    if not file.is_file():
        raise EngineError(f"region detector {file} is not there; set region_detector.file to an ONNX file")
    options = ort.SessionOptions()
    # Spinning threads would take whole cores of a shared vehicle computer between two frames.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4  # its messages come as exceptions
    try:
        return ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime raises many types of its own
        raise EngineError(f"region detector {file} can't be loaded as ONNX: {told(error)}") from error


def _input_of(session: ort.InferenceSession, file: Path) -> tuple[str, int, int]:
    """Name, height and width of the one input."""
    entries = session.get_inputs()
    if len(entries) == 1 and entries[0].type == "tensor(float)" and len(entries[0].shape) == 4:
        batch, channels, height, width = entries[0].shape
        fixed = all(isinstance(side, int) and side > 0 for side in (height, width))
        if fixed and channels == 3 and (batch == 1 or not isinstance(batch, int)):
            return entries[0].name, height, width
    found = "; ".join(f"{entry.name} {entry.type} {entry.shape}" for entry in entries)
    raise EngineError(
        f"region detector {file} must have one float32 input (1, 3, H, W) with fixed H and W, it has "
        f"{found or 'none'}; export it with a fixed input size"
    )
