"""Labels in the forms in which users have them: the same names in the same order, or a line that says what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from firewall.errors import UsageError
from firewall.lab.models.label_file import read_labels

NAMES = ("stop", "speed limit 30", "Überholverbot")
LINES = "\n".join(NAMES)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("labels.txt", LINES.encode()),
        ("labels.txt", (LINES + "\n").encode()),
        ("labels.txt", (LINES + "\n\n \n").encode()),
        ("labels.txt", ("\ufeff" + LINES).encode()),
        ("labels.txt", (LINES + "\n").encode("utf-16")),
        ("labels.txt", (LINES + "\n").replace("\n", "\r\n").encode()),
        ("labels.txt", ("\ufeff" + LINES + "\n\n").replace("\n", "\r\n").encode()),
        ("labels.txt", LINES.replace("\n", "\r").encode()),
        ("labels.txt", b"  stop \nspeed limit 30\t\n\xc3\x9cberholverbot\n"),
        ("labels.txt", "".join(f"{at}: {label}\n" for at, label in enumerate(NAMES)).encode()),
        ("labels.txt", "".join(f"{at} {label}\n" for at, label in enumerate(NAMES)).encode()),
        ("labels.txt", "".join(f"{at},{label}\n" for at, label in enumerate(NAMES)).encode()),
        ("labels.txt", "".join(f"{at}\t{label}\n" for at, label in enumerate(NAMES)).encode()),
        ("labels.txt", "".join(f"{at + 1}. {label}\n" for at, label in enumerate(NAMES)).replace(".", ":").encode()),
        ("labels.txt", "".join(f"{at}: {NAMES[at]}\n" for at in (2, 0, 1)).encode()),
        ("labels.txt", json.dumps(NAMES).encode()),
        ("labels.json", json.dumps(NAMES).encode()),
        ("labels.json", ("\ufeff" + json.dumps(dict(enumerate(NAMES)))).encode()),
        ("labels.json", json.dumps({str(at): NAMES[at] for at in (1, 2, 0)}).encode()),
        ("class_indices.json", json.dumps({NAMES[at]: at for at in (2, 1, 0)}).encode()),
        (
            "imagenet_class_index.json",
            json.dumps({str(at): [f"n{at}", name] for at, name in enumerate(NAMES)}).encode(),
        ),
        ("config.json", json.dumps({"id2label": dict(enumerate(NAMES))}).encode()),
        ("labels.json", json.dumps([{"id": at, "name": name} for at, name in enumerate(NAMES)]).encode()),
        ("data.yaml", f"nc: 3\nnames: {json.dumps(NAMES)}\n".encode()),
        ("data.yaml", "names:\n  0: stop\n  1: speed limit 30\n  2: Überholverbot\n".encode()),
        ("names.txt", str(dict(enumerate(NAMES))).encode()),
        ("signnames.csv", "ClassId,SignName\n0,stop\n2,Überholverbot\n1,speed limit 30\n".encode()),
        ("signnames.csv", "\ufeffid,name\r\n0,stop\r\n1,speed limit 30\r\n2,Überholverbot\r\n".encode()),
    ],
)
def test_forms_of_labels(tmp_path: Path, name: str, content: bytes) -> None:
    """Byte-order marks, line ends, empty last lines, numbers, JSON, YAML, Python, CSV."""
    (tmp_path / name).write_bytes(content)
    assert read_labels(tmp_path / name) == NAMES


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"20 km/h\n30 km/h\n50 km/h\n", ("20 km/h", "30 km/h", "50 km/h")),
        (b"n01440764 tench, Tinca tinca\nn01443537 goldfish\n", ("n01440764 tench, Tinca tinca", "n01443537 goldfish")),
        (b"0\n1\n2\n", ("0", "1", "2")),
    ],
)
def test_names_that_look_numbered_stay(tmp_path: Path, content: bytes, expected: tuple[str, ...]) -> None:
    """Numbers that aren't those of all classes belong to the names."""
    (tmp_path / "labels.txt").write_bytes(content)
    assert read_labels(tmp_path / "labels.txt") == expected


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("labels.txt", b"", "holds no labels"),
        ("labels.txt", b"\xef\xbb\xbf\r\n\r\n", "holds no labels"),
        ("labels.txt", b"stop\n\nyield\n", "line 2 .* is empty"),
        ("labels.txt", b"stop\n\xe4\n", "not UTF-8"),
        ("labels.txt", b"0: stop\n2: yield\n3: go\n", "1 is missing"),
        ("labels.txt", b"0: stop\n1: yield\n1: go\n", "1 stands there twice"),
        ("labels.json", b"[1, null]", "must be a name"),
        ("labels.json", b"[", "no readable JSON"),
        ("labels.json", b"3", "a list of names"),
        ("labels.json", b'{"0": "a", "2": "b"}', "1 is missing"),
        ("labels.json", b"[]", "a list of names"),
        ("signs.csv", b"a,b\nc,d\n", "a column of names"),
    ],
)
def test_labels_that_are_unclear(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    """Refused in one line that names the file: a list that is shifted by one would name every sign wrongly."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=words) as refusal:
        read_labels(tmp_path / name)
    assert name in str(refusal.value) and "\n" not in str(refusal.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """A folder, and none."""
    for path, words in ((tmp_path, "directory"), (tmp_path / "none.txt", "No such file")):
        with pytest.raises(UsageError, match=words):
            read_labels(path)
