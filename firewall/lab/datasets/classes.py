"""Which of a classifier's classes each folder of images is, and what to say when it doesn't look right."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from firewall.errors import DataError
from firewall.lab.datasets.dataset import Dataset

__all__ = ["annotated_classes", "doubt", "folder_classes", "matched", "named_as_labels"]

#: 14, 00014, class 14, c14, 14_stop, 014.stop
_NUMBERED = re.compile(r"(?:class|cls|label|category|c)?[ _-]*([0-9]{1,9})(?:[ ._-]+\D.*)?", re.IGNORECASE)
#: Below this share of right labels the classes are doubted.
_DOUBTFUL = 0.5
_MANY = 6

Integers = npt.NDArray[np.int64]


def matched(data: Dataset, labels: Sequence[str]) -> Dataset:
    """A data set of folders with the classifier's classes; other data sets have their own order and stay as they are.

    Args:
        data: The data set.
        labels: The classifier's, from the data set's class 0 on.

    Raises:
        DataError: See `folder_classes`.
    """
    if data.name != "folder":
        return data
    classes, how = folder_classes(data.class_names, labels)
    if how == "order":
        return data
    notes = f"{data.notes}; classes by the {how} of the folders"
    return replace(data, labels=np.array(classes, np.int64)[data.labels], class_names=tuple(labels), notes=notes)


def doubt(data: Dataset, labels: Sequence[str], where: Integers, said: Integers) -> str:
    """What to tell the user if the classifier is right on less than half of some images.

    Args:
        data: Of `matched`.
        labels: The classifier's, from the data set's class 0 on.
        where: Places of the images in `data`, int64 (N,).
        said: The classes that the classifier gives them, counted as `labels` are, int64 (N,).

    Returns:
        One line; empty if it is right on half of them or more.
    """
    if len(where) == 0:
        return ""
    right = float((data.labels[where] == said).mean())
    if right >= _DOUBTFUL:
        return ""
    told = f"the classifier is right on {right:.1%} of {len(where)} images of {data.name}"
    if data.name != "folder":
        return f"{told}: was it made for these classes, and are its pixels prepared as it wants them?"
    names = [data.sources[place].split("/")[0] for place in where.tolist()]
    fits = {how: _share(order, names, said) for how, order in _orders(sorted(set(data_folders(data)))).items()}
    best = max(fits, key=fits.__getitem__)
    if fits[best] > max(_DOUBTFUL, right + 0.1):
        return (
            f"{told}: are the folders in the classifier's order? {best} it is right on {fits[best]:.1%}; give the "
            "classifier its labels, the folders' names in its order, a line each (net.onnx?labels=FILE), or name the "
            "folders by its labels"
        )
    called = {name: Counter(said[[other == name for other in names]].tolist()).most_common(1)[0] for name in set(names)}
    share = sum(count for _, count in called.values()) / len(names)
    if share > max(_DOUBTFUL, right + 0.1) and len({label for label, _ in called.values()}) > len(called) / 2:
        shown = sorted(called)[:3]
        calls = ", ".join(f"{name!r} {_label(labels, called[name][0])!r}" for name in shown)
        return (
            f"{told}: are the folders in the classifier's order? It calls {share:.1%} alike within their folder, but "
            f"by another name ({calls}); name the folders by its labels"
        )
    return f"{told}: are the folders in the classifier's order, and its pixels prepared as it wants them?"


def data_folders(data: Dataset) -> list[str]:
    """The names of the folders of a data set of that kind."""
    return list(dict.fromkeys(source.split("/")[0] for source in data.sources))


def named_as_labels(names: Sequence[str], labels: Sequence[str]) -> list[str]:
    """Those of the folders' names that are labels, whatever their case and punctuation."""
    known = set(map(_plain, labels))
    return [name for name in names if _plain(name) in known]


def folder_classes(names: Sequence[str], labels: Sequence[str]) -> tuple[list[int], str]:
    """The class of each folder.

    A folder is the class of its name. If the names are no labels, it is the class of its number (from 0 on, or from 1
    on if all are there). If there are no such numbers but as many folders as classes, it is the class of its place, 2
    before 10.

    Args:
        names: The folders' names.
        labels: The classifier's, from class 0 on.

    Returns:
        The classes, and what gave them: "names", "numbers", "numbers, from 1 on," or "order".

    Raises:
        DataError: None of these gives each folder a class of its own.
    """
    known: dict[str, list[int]] = {}
    for place, label in enumerate(labels):
        known.setdefault(_plain(label), []).append(place)
    unknown = [name for name in names if _plain(name) not in known]
    numbers = _numbers(names)
    if not unknown:
        found = [known[_plain(name)] for name in names]
        counts = Counter(place for places in found for place in places)
        twice = [name for name, places in zip(names, found, strict=True) if len(places) > 1 or counts[places[0]] > 1]
        if twice:
            shown = " and ".join(map(repr, twice[:2]))
            raise DataError(f"the names of the classifier's labels don't tell what the folder {shown} is; rename it")
        return [places[0] for places in found], "names"
    if numbers is not None:
        if max(numbers) < len(labels):
            return numbers, "numbers"
        if min(numbers) > 0 and max(numbers) == len(labels) == len(names):
            return [number - 1 for number in numbers], "numbers, from 1 on,"
    if len(names) == len(labels) and (numbers is not None or len(unknown) == len(names)):
        return list(range(len(names))), "order"
    shown = ", ".join(repr(name) for name in unknown[:_MANY]) + (" ..." if len(unknown) > _MANY else "")
    raise DataError(
        f"the folders {shown} are none of the classifier's {len(labels)} classes ({_some(labels)}); name each folder "
        "by its label, or by its number, from 0 on"
    )


def annotated_classes(names: Mapping[int, str], labels: Sequence[str]) -> tuple[dict[int, int | None], str]:
    """Which of a classifier's labels each class of an annotated data set is.

    A class is the label of its name, whatever its case and punctuation; one whose name is no label is another sign.
    Only where no name is a label, numbers count: if each name is a number (14, class 14, 14_stop) that the labels have,
    that; else, if there are as many classes as labels and they are numbered from 0 on, the classes' own.

    Args:
        names: Number -> name.
        labels: The classifier's, from class 0 on.

    Returns:
        Number -> the label's number, or None for another sign; and what gave them: "names" or "numbers".
    """
    plain = [_plain(label) for label in labels]
    known = {name: place for place, name in enumerate(plain) if plain.count(name) == 1}
    named = {number: known.get(_plain(name)) for number, name in names.items()}
    if any(label is not None for label in named.values()):
        return named, "names"
    numbers = _numbers(list(names.values()))
    if numbers and max(numbers) < len(labels):
        return dict(zip(names, numbers, strict=True)), "numbers"
    if sorted(names) == list(range(len(labels))):
        return {number: number for number in names}, "numbers"
    return named, "names"


def _numbers(names: Sequence[str]) -> list[int] | None:
    """The numbers in the names, if each has one and no two the same."""
    found = [_NUMBERED.fullmatch(name) for name in names]
    numbers = [int(match[1]) for match in found if match is not None]
    return numbers if len(numbers) == len(set(numbers)) == len(names) else None


def _plain(name: str) -> str:
    """For comparison: without case, and without which signs part the words."""
    words = re.sub(r"[\W_]+", " ", name).strip().casefold()
    return re.sub(r"\b0+(?=[0-9])", "", words)


def _orders(names: Sequence[str]) -> Mapping[str, Mapping[str, int]]:
    """Other classes of the folders, by how a message names them; of equally good ones the first is told."""
    orders: dict[str, Mapping[str, int]] = {}
    numbers = _numbers(names)
    if numbers is not None:
        ranked = [name for _, name in sorted(zip(numbers, names, strict=True))]
        orders["With their numbers counted from 0"] = dict(zip(names, numbers, strict=True))
        orders["With their numbers counted from 1"] = {name: n - 1 for n, name in zip(numbers, names, strict=True)}
        orders["With them sorted by number, without gaps,"] = {name: place for place, name in enumerate(ranked)}
    as_text = f"With them sorted as text ({', '.join(sorted(names)[:3])}, ...), as Keras and torchvision do,"
    return orders | {as_text: {name: place for place, name in enumerate(sorted(names))}}


def _share(order: Mapping[str, int], names: Sequence[str], said: Integers) -> float:
    return float((np.array([order[name] for name in names], np.int64) == said).mean())


def _label(labels: Sequence[str], label: int) -> str:
    return labels[label] if 0 <= label < len(labels) else str(label)


def _some(labels: Sequence[str]) -> str:
    return ", ".join(labels[:3]) + (", ..." if len(labels) > 3 else "")
