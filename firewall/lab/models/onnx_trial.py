"""Whether an ONNX graph runs on images, alone and together, and what it gives."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx

from firewall.engines.sessions import open_session
from firewall.errors import DataError, EngineError
from firewall.host.causes import told

__all__ = ["prepared", "samples", "trial"]

#: How far a logit may move, as a share of the largest, when an image comes with others. Fused sums stay far below it.
_TOGETHER = 0.05
_BATCH = "export it with a free batch size (dynamic_axes of torch.onnx.export, dynamic=True of Ultralytics)"


def samples(channels: int, height: int, width: int) -> npt.NDArray[np.float32]:
    """Two images of noise and two smooth ones, always the same.

    Args:
        channels: Of the images.
        height: In pixels.
        width: In pixels.

    Returns:
        Float32 (4, channels, height, width) in 0..1.
    """
    generator = np.random.default_rng(0)
    noise = generator.random((2, channels, height, width), np.float32)
    coarse = generator.random((2, channels, 4, 4), np.float32)
    rows, columns = (np.arange(side) * 4 // side for side in (height, width))
    return np.concatenate([noise, coarse[:, :, rows][:, :, :, columns]])


def prepared(images: npt.NDArray[np.float32], mean: Sequence[float], std: Sequence[float]) -> npt.NDArray[np.float32]:
    """(values - mean) / std for each channel.

    Args:
        images: Float32 (N, channels, H, W).
        mean: A number for each channel.
        std: A number for each channel.

    Returns:
        Float32 of the same shape.
    """
    means, stds = (np.array(values, np.float32)[:, None, None] for values in (mean, std))
    result: npt.NDArray[np.float32] = (images - means) / stds
    return result


def trial(name: str, model: onnx.ModelProto, images: npt.NDArray[np.float32]) -> dict[str, npt.NDArray[np.generic]]:
    """What each tensor output gives for several images together, checked to be what it gives for each alone.

    Args:
        name: Names the file in errors.
        model: The graph.
        images: Float32 (N, C, H, W).

    Returns:
        Values by the outputs' names.

    Raises:
        DataError: The graph can't be loaded or run, or gives other values for single images; with cause and advice.
    """
    names = [entry.name for entry in model.graph.output if entry.type.WhichOneof("value") == "tensor_type"]
    try:
        session = open_session(model.SerializeToString(), name, threads=1)
    except EngineError as error:
        raise DataError(str(error).replace(" on device 'cpu'", "")) from error
    entry = model.graph.input[0].name
    shape = "x".join(map(str, images.shape[2:]))
    if not names:
        return {}
    try:
        single = [session.run(names, {entry: image[None]}) for image in images]
    except Exception as error:  # ONNX Runtime raises many types of its own
        raise _refused(
            f"{name} doesn't run on an image of {shape} pixels", error, "is that the size that it was made for?"
        ) from error
    try:
        together = session.run(names, {entry: images})
    except Exception as error:
        raise _refused(f"{name} runs on one image, but not on {len(images)} at a time", error, _BATCH) from error
    for place, output in enumerate(names):
        one_by_one = [answers[place] for answers in single]
        whole = together[place]
        if whole.ndim == 0 or whole.shape[0] != len(images) or any(len(each) != 1 for each in one_by_one if each.ndim):
            if len(names) > 1:
                continue  # of an output that may not be the one
            raise DataError(
                f"{name} gives {output} {whole.shape} for {len(images)} images; one row of values for each is needed: "
                f"{_BATCH}"
            )
        if whole.dtype.kind != "f":
            continue
        with np.errstate(invalid="ignore"):  # what isn't a number is told of elsewhere
            apart = np.abs(np.concatenate(one_by_one).astype(np.float64) - whole)
        if apart.size and np.isfinite(apart).all() and apart.max() > _TOGETHER * max(1e-3, float(np.abs(whole).max())):
            raise DataError(
                f"{name} gives other values for an image that comes with others, or again ({apart.max():.3g} apart); "
                f"export it in evaluation mode (model.eval()), and {_BATCH.removeprefix('export it ')}"
            )
    return dict(zip(names, together, strict=True))


def _refused(what: str, error: Exception, advice: str) -> DataError:
    return DataError(f"{what}: {told(error)}; {advice}")
