"""H.264 as a channel: a real encoder and decoder, and about the same in torch for the gradient."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from types import ModuleType

import numpy as np
from torch import Tensor

from firewall.errors import MissingExtraError, UsageError
from firewall.lab.attacks.channels.channel import Pixels
from firewall.lab.attacks.channels.jpeg import smooth_jpeg

__all__ = ["H264"]

_BLOCK = 16  # a macroblock: where the crop lies on that grid is drawn
_FRAMES = 3  # of the same picture; the last one is looked at, as in a video that has been running


@dataclass(frozen=True)
class H264:
    """A frame of an H.264 video: encoded by x264 with 4:2:0 subsampling, decoded by FFmpeg.

    The crop is put into a larger frame at a random place, so that macroblocks cut it as in a scene; around it the
    pixels of its edges are repeated. The same frame is encoded three times, as an I frame and two P frames, and the
    third is the result.

    Args:
        crf: The constant rate factor, 0..51; 23 is x264's own.

    Raises:
        UsageError: It is out of range, or no whole number.
    """

    crf: int = 23

    def __post_init__(self) -> None:
        if isinstance(self.crf, bool) or not isinstance(self.crf, int) or not 0 <= self.crf <= 51:
            raise UsageError(f"channel h264: crf {self.crf}; it must be a whole number in 0..51, as in h264-23")

    def through(self, pixels: Pixels, generator: np.random.Generator) -> Pixels:
        """See Channel."""
        av = _codecs()
        height, width = pixels.shape[:2]
        top, left = (int(_BLOCK + generator.integers(_BLOCK)) for _ in range(2))
        # At least a macroblock on each side, and whole ones in all, which is even too.
        down, right = (_BLOCK + -(before + side) % _BLOCK for before, side in ((top, height), (left, width)))
        scene = np.pad(pixels, ((top, down), (left, right), (0, 0)), mode="edge")
        encoder = av.CodecContext.create("libx264", "w")
        encoder.width, encoder.height, encoder.pix_fmt = scene.shape[1], scene.shape[0], "yuv420p"
        encoder.time_base, encoder.thread_count = Fraction(1, 25), 1
        encoder.options = {"crf": str(self.crf), "preset": "medium", "bf": "0", "threads": "1"}
        decoder = av.CodecContext.create("h264", "r")
        decoder.thread_count = 1
        shown = []
        # One thread: with several, the same picture now and then becomes other bytes on a busy machine.
        frame = av.VideoFrame.from_ndarray(scene, format="rgb24").reformat(format="yuv420p", threads=1)
        for time in range(_FRAMES):
            frame.pts = time
            for packet in encoder.encode(frame):
                shown += decoder.decode(packet)
        for packet in encoder.encode(None):
            shown += decoder.decode(packet)
        shown += decoder.decode(None)
        seen = shown[-1].reformat(format="rgb24", threads=1).to_ndarray()
        return np.ascontiguousarray(seen[top : top + height, left : left + width])

    def smooth(self, images: Tensor) -> Tensor:
        """See Channel: a JPEG of high quality stands in. Its block grid isn't the video's: a stronger one misleads."""
        return smooth_jpeg(images, round(100 - 0.65 * self.crf))

    def check(self) -> None:
        """See Channel."""
        _codecs()


def _codecs() -> ModuleType:
    try:
        import av
    except ImportError as error:
        raise MissingExtraError(
            f"the channel h264 needs the package av, which can't be imported ({error}); install it: pip install av"
        ) from None
    missing = [name for name, kind in (("libx264", "w"), ("h264", "r")) if not _there(av, name, kind)]
    if missing:
        raise MissingExtraError(
            f"the channel h264 needs the codec {' and '.join(missing)}, which this build of the package av lacks; "
            "install av from its wheels: pip install --only-binary av av"
        )
    return av


def _there(av: ModuleType, name: str, kind: str) -> bool:
    try:
        av.Codec(name, kind)
    except ValueError:
        return False
    return True
