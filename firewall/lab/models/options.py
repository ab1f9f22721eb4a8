"""How pixels become the input of a user's network, as the command line, a file beside it, or its name says."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from firewall.errors import UsageError
from firewall.lab.models.label_file import labels_of_value, read_labels

__all__ = ["PREPARATIONS", "Channels", "Options", "Preparation"]

Channels = Literal["rgb", "bgr"]


class Preparation(NamedTuple):
    """A usual preparation: (value * range - mean) / std for values in 0..1, numbers for red, green and blue."""

    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    range: float = 1.0
    channels: Channels = "rgb"


#: By the names of --preparation. caffe: of Caffe's networks and Keras' VGG and ResNet, levels less ImageNet's means.
PREPARATIONS: dict[str, Preparation] = {
    "0..1": Preparation(),
    "0..255": Preparation(range=255.0),
    "-1..1": Preparation((0.5,), (0.5,)),
    "imagenet": Preparation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "cifar10": Preparation((0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)),
    "caffe": Preparation((123.68, 116.779, 103.939), range=255.0, channels="bgr"),
}
_KNOWN = ("mean", "std", "range", "preparation", "channels", "size", "labels", "offset", "output")


@dataclass(frozen=True)
class Options:
    """How pixels become a network's input: (value * range - mean) / std for values in 0..1.

    Args:
        mean: One number, or one for each channel in the order in which the network takes them.
        std: As mean, above 0.
        range: Factor of the values, above 0.
        size: (height, width) in pixels, needed only where the file leaves it open.
        labels: The classes' names; None: those in the file, else numbers.
        offset: The network's class of the data set's class 0; None: 1 for 1001 classes, else 0.
        grey: The file takes three channels but its images are grey.
        channels: The order in which the network takes its channels.
        output: Of several outputs, the one that holds the classes.
        preparation: The name that range, mean and std come from, or "".
        source: Where the labels come from.
    """

    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    range: float = 1.0
    size: tuple[int, int] | None = None
    labels: tuple[str, ...] | None = None
    offset: int | None = None
    grey: bool = False
    channels: Channels = "rgb"
    output: str | None = None
    preparation: str = ""
    source: str = "the options"

    def updated(self, values: Mapping[str, Any], where: str, base: Path) -> Options:
        """These options with further values.

        Args:
            values: From a sidecar file or from behind a question mark.
            where: Names them in errors.
            base: Folder that a path of labels starts from.

        Returns:
            New options.

        Raises:
            UsageError: A value is unknown or out of range.
        """
        unknown = sorted(set(values) - set(_KNOWN))
        if unknown:
            raise UsageError(f"{where}: unknown option {unknown[0]!r}; known: {', '.join(_KNOWN)}")
        given = {key: _value(key, value, base, where) for key, value in values.items()}
        named = given.get("preparation", "" if given.keys() & {"mean", "std", "range"} else self.preparation)
        if named and given.keys() & {"mean", "std", "range"}:
            raise UsageError(f"{where}: preparation {named} says range, mean and std; leave those out, or it")
        if named:
            given = {
                **_of_preparation(named, given.get("channels", None if "preparation" in given else self.channels)),
                **given,
            }
        if "labels" in given:
            given["source"] = str(values["labels"]) if isinstance(values["labels"], (str, Path)) else where
        options = replace(self, **{**given, "preparation": named})
        options._check(where)
        return options

    def rgb(self, values: tuple[float, ...]) -> tuple[float, ...]:
        """Numbers for the network's channels, reordered to red, green and blue."""
        return values[::-1] if self.channels == "bgr" else values

    def _check(self, where: str) -> None:
        numbers = (*self.mean, *self.std, self.range)
        if not all(math.isfinite(number) for number in numbers):
            raise UsageError(f"{where}: range, mean and std must be finite numbers, got {', '.join(map(str, numbers))}")
        if self.range <= 0 or min(self.std) <= 0 or (self.size is not None and min(self.size) < 1):
            raise UsageError(f"{where}: range, std and size must be larger than 0")
        largest = max(abs(number) for number in self.mean)
        if self.range == 1 and largest > 2:
            raise UsageError(
                f"{where}: a mean of {largest:g} is in units of 0..255, but pixels are 0..1 here; give range 255 too "
                "(mean and std are then in levels)"
            )


def _of_preparation(name: str, channels: Channels | None) -> dict[str, Any]:
    kind = PREPARATIONS[name]
    order = channels or kind.channels
    turn = slice(None, None, -1 if order == "bgr" else 1)
    return {"mean": kind.mean[turn], "std": kind.std[turn], "range": kind.range, "channels": order}


def _value(key: str, value: Any, base: Path, where: str) -> Any:
    if key == "labels":
        return labels_of_value(value, where) if isinstance(value, (list, dict)) else read_labels(base / str(value))
    if key == "output":
        return str(value)
    if key in ("preparation", "channels"):
        allowed = tuple(PREPARATIONS) if key == "preparation" else get_args(Channels)
        if str(value).lower() not in allowed:
            raise UsageError(f"{where}: {key} must be one of {', '.join(allowed)}, got {value!r}")
        return str(value).lower()
    try:
        if key in ("mean", "std"):
            return tuple(float(part) for part in _parts(value, ","))
        if key == "size":
            sides = [int(part) for part in _parts(value, "x")]
            if len(sides) > 2:
                raise ValueError("more than two sides")
            return sides[0], sides[-1]
        return int(value) if key == "offset" else float(value)
    except (ValueError, TypeError, IndexError) as error:
        form = {"mean": "numbers with commas", "std": "numbers with commas", "size": "HxW, such as 224x224"}
        raise UsageError(f"{where}: {key} must be {form.get(key, 'a number')}, got {value!r}") from error


def _parts(value: Any, mark: str) -> Sequence[Any]:
    if isinstance(value, str):
        return value.split(mark)
    return value if isinstance(value, list) else [value]
