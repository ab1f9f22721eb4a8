"""The names of a classifier's classes, in the forms in which users have them.

A line a class; numbered lines ("0: stop", "0 stop"); JSON, YAML or Python's notation of a list, of number -> name, of
name -> number (Keras' class_indices) or of number -> [id, name] (Keras' imagenet_class_index); a data set's YAML of
Ultralytics (`names`); CSV with a column of numbers and one of names. A byte-order mark, CRLF and empty last lines mean
nothing. What is left unclear is refused: a shifted list would name every sign wrongly.
"""

from __future__ import annotations

import ast
import codecs
import contextlib
import csv
import io
import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from firewall.errors import UsageError

__all__ = ["labels_of_text", "labels_of_value", "read_labels", "repeated"]

_LARGEST = 16 << 20
_MARKED = re.compile(r"\s*(\d{1,6})\s*[:,;=\t)]\s*(\S.*)")
_SPACED = re.compile(r"\s*(\d{1,6})\s+(\S.*)")
_NUMBERS = ("classid", "class_id", "id", "index", "class", "label", "number")
_NAMES = ("signname", "sign_name", "name", "label_name", "class_name", "names", "text", "description", "label")


def read_labels(path: Path) -> tuple[str, ...]:
    """The labels in a file, in the order of the classes.

    Args:
        path: The file.

    Returns:
        A name for each class.

    Raises:
        UsageError: The file can't be read as labels.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
    except OSError as error:
        raise UsageError(
            f"the labels {path} can't be read ({error.strerror or error}); a line a class is needed"
        ) from error
    if len(content) > _LARGEST:
        raise UsageError(f"{path} is larger than {_LARGEST >> 20} MiB; a text file with a line a class is needed")
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = content.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"the labels {path} are not UTF-8 (byte {error.start}); save the file as UTF-8, a line a class is needed"
        ) from error
    return labels_of_text(text, str(path), path.suffix.lower())


def labels_of_text(text: str, where: str, suffix: str = "") -> tuple[str, ...]:
    """The labels in a text.

    Args:
        text: The file's content.
        where: Names it in errors.
        suffix: Of its file, such as ".csv".

    Returns:
        A name for each class.

    Raises:
        UsageError: The text can't be read as labels.
    """
    if suffix == ".csv":
        return _of_table(text, where)
    if suffix in (".json", ".yaml", ".yml") or text.lstrip()[:1] in ("[", "{"):
        return labels_of_value(_parsed(text, where), where)
    lines = [line.strip() for line in re.split(r"\r\n|\n|\r", text)]
    while lines and not lines[-1]:
        lines.pop()
    if not lines:
        raise UsageError(f"{where} holds no labels; a line a class is needed")
    if "" in lines:
        raise UsageError(
            f"line {lines.index('') + 1} of {where} is empty, and others follow; a line a class is needed, since an "
            "empty one would shift the names of all classes behind it"
        )
    for pattern, sure in ((_MARKED, True), (_SPACED, False)):
        matches = [pattern.fullmatch(line) for line in lines]
        if all(matches):
            pairs = [(int(match[1]), match[2].strip()) for match in matches if match]
            # "30 km/h" is a name; "0 stop" is numbered where the numbers are those of all classes.
            if sure or _complete([number for number, _ in pairs]):
                return _in_order(pairs, where)
    return tuple(lines)


def labels_of_value(value: Any, where: str) -> tuple[str, ...]:
    """The labels in what JSON or YAML holds: see the module.

    Args:
        value: A list or an object.
        where: Names it in errors.

    Returns:
        A name for each class.

    Raises:
        UsageError: It is anything else.
    """
    if isinstance(value, dict):
        inner = next((value[key] for key in ("names", "labels", "classes", "id2label") if key in value), None)
        if isinstance(inner, (list, dict)):
            return labels_of_value(inner, where)
        if value and all(_whole(key) for key in value):
            names = [part[-1] if isinstance(part, list) and part else part for part in value.values()]
            return _in_order(list(zip(map(int, value), map(_name, names, [where] * len(names)), strict=True)), where)
        if value and all(_whole(number) for number in value.values()):
            return _in_order([(int(number), str(name)) for name, number in value.items()], where)
    elif isinstance(value, list) and value:
        return tuple(_name(name, where) for name in value)
    raise UsageError(f"the labels in {where} must be a list of names, or an object of numbers and names")


def repeated(labels: Sequence[str]) -> str:
    """A label that several classes have.

    Args:
        labels: A name for each class.

    Returns:
        Which classes share which name, as a clause for a message; "" if every name is its own.
    """
    name, count = Counter(labels).most_common(1)[0] if labels else ("", 0)
    places = [str(place) for place, label in enumerate(labels) if label == name]
    return f"classes {', '.join(places[:-1])} and {places[-1]} are all named {name!r}" if count > 1 else ""


def _parsed(text: str, where: str) -> Any:
    text = text.removeprefix("\ufeff")
    for read in (json.loads, ast.literal_eval, yaml.safe_load):
        with contextlib.suppress(ValueError, SyntaxError, MemoryError, RecursionError, TypeError, yaml.YAMLError):
            return read(text)
    raise UsageError(f"the labels in {where} are no readable JSON or YAML; a line a class does as well")


def _of_table(text: str, where: str) -> tuple[str, ...]:
    try:
        rows = [[cell.strip() for cell in row] for row in csv.reader(io.StringIO(text)) if any(map(str.strip, row))]
    except csv.Error as error:
        raise UsageError(f"the labels {where} are no readable CSV ({error}); a line a class does as well") from error
    header = [cell.lower() for cell in rows[0]] if rows else []
    number = next((header.index(name) for name in _NUMBERS if name in header), None)
    name = next((header.index(name) for name in _NAMES if name in header and header.index(name) != number), None)
    if name is not None:
        rows = rows[1:]
    elif header and len(header) > 1 and header[0].isdecimal():
        number, name = 0, 1
    elif header and all(len(row) == 1 for row in rows):
        name = 0
    if name is None or not rows or any(len(row) <= max(name, number or 0) for row in rows):
        raise UsageError(f"{where} needs a column of names, such as 'name', and perhaps one of numbers, 'id'")
    if number is None:
        return tuple(_name(row[name], where) for row in rows)
    if not all(row[number].isdecimal() for row in rows):
        raise UsageError(f"the column {header[number]!r} of {where} must hold the numbers of the classes")
    return _in_order([(int(row[number]), row[name]) for row in rows], where)


def _complete(numbers: Sequence[int]) -> bool:
    return len(numbers) > 1 and sorted(numbers) in (list(range(len(numbers))), list(range(1, len(numbers) + 1)))


def _in_order(pairs: Sequence[tuple[int, str]], where: str) -> tuple[str, ...]:
    numbers = [number for number, _ in pairs]
    if not _complete(numbers):
        missing = sorted(set(range(len(numbers))) - set(numbers))
        twice = [number for number, count in Counter(numbers).items() if count > 1]
        found = f"{twice[0]} stands there twice" if twice else f"{missing[0]} is missing" if missing else "there is one"
        raise UsageError(
            f"the labels in {where} are numbered, but not 0 to {len(numbers) - 1}, each once: {found}; number all"
        )
    return tuple(_name(name, where) for _, name in sorted(pairs))


def _name(value: Any, where: str) -> str:
    if isinstance(value, dict) and isinstance(value.get("name"), str):
        value = value["name"]
    if isinstance(value, bool) or not isinstance(value, (str, int, float)) or not str(value).strip():
        raise UsageError(f"a label in {where} must be a name, got {value!r}")
    return str(value).strip()


def _whole(value: Any) -> bool:
    return not isinstance(value, bool) and (isinstance(value, int) or (isinstance(value, str) and value.isdecimal()))
