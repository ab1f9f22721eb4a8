"""Several cameras in settings: a list in the file or the environment, `--source` again and again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from firewall.config import cameras_named, load_settings
from firewall.errors import ConfigError, UsageError
from firewall.service.guarded import Guarded

TWO = """\
cameras:
- name: front
  source: 0
  regions: [1, 2, 30, 40]
- name: rear
  source: rtsp://user:secret@camera/
  deadline_ms: 50
regions: whole
deadline_ms: 20
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A settings file of two cameras."""
    (tmp_path / "cameras.yaml").write_text(TWO)
    return tmp_path / "cameras.yaml"


def told(**given: Any) -> list[tuple[str, str, str | None, float | None]]:
    return [(each.name, each.source, each.regions, each.deadline_ms) for each in load_settings(**given).guarded]


def test_each_camera_has_what_is_set_for_it_or_for_all(file: Path) -> None:
    """Name and source are its own; regions and deadline are those of all unless it has its own."""
    assert told(file=file) == [
        ("front", "0", "1,2,30,40", 20.0),
        ("rear", "rtsp://user:secret@camera/", "whole", 50.0),
    ]


def test_one_camera_is_what_it_was() -> None:
    """Nothing set: the demo, called camera; a source and a name."""
    assert told() == [("camera", "demo", "signs", None)]
    assert told(source="1", camera_name="front", deadline_ms=40) == [("front", "1", "signs", 40.0)]


def test_who_names_a_source_names_all_that_are_guarded(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line over the environment over the file, for one camera and for several."""
    assert [each[:2] for each in told(file=file, source="demo")] == [("camera", "demo")]
    several = cameras_named(["a.mp4", "b.mp4"], [])
    assert [each[:2] for each in told(file=file, **several)] == [("camera1", "a.mp4"), ("camera2", "b.mp4")]
    monkeypatch.setenv("FIREWALL_CAMERAS", '[{"name": "left", "source": 2}, {"name": "right", "source": 3}]')
    assert [each[:2] for each in told(file=file)] == [("left", "2"), ("right", "3")]
    assert [each[:2] for each in told(source="demo", camera_name="only")] == [("only", "demo")]
    monkeypatch.delenv("FIREWALL_CAMERAS")
    monkeypatch.setenv("FIREWALL_SOURCE", "demo")
    assert [each[:2] for each in told(file=file)] == [("camera", "demo")]
    file.write_text("source: 0\ncamera_name: front\n")
    assert [each[:2] for each in told(file=file, **several)] == [("camera1", "a.mp4"), ("camera2", "b.mp4")]


def test_names_of_the_command_line() -> None:
    """One for each source, in their order, or none."""
    assert cameras_named([], []) == {"source": None, "camera_name": None}
    assert cameras_named(["0"], ["front"]) == {"source": "0", "camera_name": "front"}
    named = cameras_named(["0", "1"], ["front", "rear"])["cameras"]
    assert [each["name"] for each in named] == ["front", "rear"]
    for sources, names in ((["0", "1"], ["front"]), ([], ["front", "rear"]), (["0"], ["front", "rear"])):
        with pytest.raises(UsageError, match="give one for each, in their order, or none"):
            cameras_named(sources, names)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("cameras: []", "give 1 to 64 cameras, or leave it out and name one with 'source'"),
        ("cameras:\n", "'cameras' .* has no value; give one, or leave the line out for the one that 'source' names"),
        ("cameras: {front: 0}", "'cameras' .* it is a list of cameras, each with a name and a source"),
        ("cameras: front", "'cameras' .* it is a list of cameras"),
        ("cameras: [0, 1]", r"'cameras\.0' .* group of 'key: value' lines"),
        ("cameras: [{name: a, source: 0}, {name: a, source: 1}]", "two cameras have the name 'a'; give each one of"),
        ("cameras: [{name: a, sorce: 0}]", r"unknown setting 'cameras\.0\.sorce' .*known settings: name, source, reg"),
        ("cameras: [{name: a, source: 0, capture: {}}]", r"unknown setting 'cameras\.0\.capture'"),
        ("cameras: [{source: 'rtsp://u:secret@h/'}]", r"'cameras\.0\.name' .* field required$"),
        ("cameras: [{name: a, source: ['rtsp://u:secret@h/']}]", r"'cameras\.0\.source' .* valid string$"),
        ("cameras: [{name: a b, source: 0}]", r"'cameras\.0\.name' .* got 'a b'"),
        ("cameras: [{name: a, source: 0, deadline_ms: 0}]", r"'cameras\.0\.deadline_ms' .* greater than 0"),
        ("cameras: [{name: a, source: 0, deadline_ms: .nan}]", r"'cameras\.0\.deadline_ms'"),
        ("cameras: [{name: a, source: 0}]\nsource: 0", "'source' and 'cameras' are both set in .*leave 'source' out"),
        ("cameras: [{name: a, source: 0}]\ncamera_name: b", "'camera_name' and 'cameras' are both set"),
        (f"cameras: {[{'name': f'c{n}', 'source': 'demo'} for n in range(65)]}", "give 1 to 64 cameras"),
    ],
)
def test_what_does_not_fit_is_one_line(tmp_path: Path, text: str, words: str) -> None:
    """It names the key and what is allowed, and never shows a source, which may hold a password."""
    (tmp_path / "s.yaml").write_text(text)
    with pytest.raises(ConfigError, match=words) as caught:
        load_settings(tmp_path / "s.yaml")
    assert "\n" not in str(caught.value) and "secret" not in str(caught.value)


def test_a_fault_in_the_environment_names_the_variable(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable, and not a part of it that nobody can set; a name for one camera beside several is refused, too."""
    monkeypatch.setenv("FIREWALL_CAMERAS", '[{"name": "a", "source": 0}, {"name": "b"}]')
    with pytest.raises(ConfigError, match=r"'cameras\.1\.source' in the environment \(FIREWALL_CAMERAS\)"):
        load_settings()
    monkeypatch.setenv("FIREWALL_CAMERAS", "front")
    with pytest.raises(ConfigError, match="cameras"):
        load_settings()
    monkeypatch.delenv("FIREWALL_CAMERAS")
    monkeypatch.setenv("FIREWALL_CAMERA_NAME", "front")
    with pytest.raises(ConfigError, match="'camera_name' and 'cameras' are both set"):
        load_settings(file)


@pytest.mark.parametrize(
    ("source", "given", "expected"),
    [
        ("test://pattern", {}, 33.0),
        ("rtsp://camera/", {}, 33.0),
        ("demo", {}, None),
        ("test://pattern", {"deadline_ms": 50}, 50.0),
        ("demo", {"deadline_ms": 50}, 50.0),
    ],
)
def test_a_live_camera_has_a_deadline_unless_one_is_set(
    source: str, given: dict[str, float], expected: float | None
) -> None:
    """One frame at 30 Hz; a recording waits, and has one only if it is set."""
    (camera,) = Guarded.of(load_settings(source=source, **given))
    assert camera.deadline_ms == expected
