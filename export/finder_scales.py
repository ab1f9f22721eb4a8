"""What a sign finder needs to be turned into int8: frames as it reads them, and which nodes lose too much."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx

from firewall.bundle import FinderSpec
from firewall.errors import DataError
from firewall.export.images import spread
from firewall.export.precision import LEAST_IMAGES
from firewall.frame import Pixels
from firewall.regions.sign_finder import SignFinder

__all__ = ["delicate", "read_frames"]

#: Frames that say how large activations get in int8; each takes 13 MB.
_SCALES_FROM = 48


def delicate(content: bytes) -> tuple[str, ...]:
    """Convolutions that lose most by 8 bits and cost little: the first two, which see the frame itself, and the last,
    whose output holds scores and distances in one.

    Args:
        content: The ONNX file of a sign finder.

    Returns:
        Names of nodes; none for a network of few.
    """
    names = [node.name for node in onnx.load_model_from_string(content).graph.node if node.op_type == "Conv"]
    return (*names[:2], names[-1]) if len(names) > 8 else ()


def read_frames(
    frames: Sequence[Pixels], spec: FinderSpec, content: bytes, what: str, *, option: str = "--scenes"
) -> npt.NDArray[np.float32]:
    """What the network reads for frames, all filled up to the largest of them.

    Args:
        frames: (H, W, 3) uint8 RGB, 32 at least; of more than 48, so many are taken, evenly spread.
        spec: How the network is read.
        content: Its ONNX file.
        what: Its name, for messages.
        option: What names frames on the command line, for the message.

    Returns:
        float32 (N, 3, H, W).

    Raises:
        DataError: There are too few frames.
    """
    if len(frames) < LEAST_IMAGES:
        raise DataError(
            f"int8 needs at least {LEAST_IMAGES} road frames to set its scales on, got {len(frames)}; name more with "
            f"{option}"
        )
    finder = SignFinder(spec, content, what, threads=1)
    read = [finder.read(frames[place])[0] for place in spread(range(len(frames)), _SCALES_FROM)]
    height, width = (max(values.shape[side] for values in read) for side in (1, 2))
    filled = np.zeros((len(read), 3, height, width), np.float32)
    for target, values in zip(filled, read, strict=True):
        target[:, : values.shape[1], : values.shape[2]] = values
    return filled
