"""Settings files as people write them, and the environment beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from firewall.config import load_settings
from firewall.errors import ConfigError

LONG = "source: 0\nhttp: off\n"


def told(settings: Any, keys: str) -> Any:
    """The value at a.b.c."""
    for key in keys.split("."):
        settings = getattr(settings, key)
    return settings


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        *((f"http: {word}", "http", "off") for word in ("off", "Off", "OFF", "false", "no", "'off'", "!!bool off")),
        *((f"output: {word}", "output", ("off",)) for word in ("off", "false", '"off"', "no", "none")),
        ("http: on", "http", "127.0.0.1:8080"),
        ("output: true", "output", ("-",)),
        ("output: '-'", "output", ("-",)),
        ("output: jsonl:/var/log/verdicts.jsonl", "output", ("jsonl:/var/log/verdicts.jsonl",)),
        ("source: 0", "source", "0"),
        ("source: '0'", "source", "0"),
        ("source: !!int 0", "source", "0"),
        ("source: 010", "source", "010"),
        ("source: 1_000", "source", "1_000"),
        ("source: 2026-01-02", "source", "2026-01-02"),
        ("source: 1.50", "source", "1.50"),
        ("source: 10:30", "source", "10:30"),
        ("source: off", "source", "off"),
        ("source: rtsp://u:p#w@h/x", "source", "rtsp://u:p#w@h/x"),
        ("bundle: 1", "bundle", "1"),
        ("bundle: 2026.1", "bundle", "2026.1"),
        ("regions: whole", "regions", "whole"),
        ("regions: 1,2,3,4", "regions", "1,2,3,4"),
        ("regions: [1, 2, 3, 4]", "regions", "1,2,3,4"),
        ("http_names: firewall", "http_names", ("firewall",)),
        ("http_names: [firewall, '*.lan', 7]", "http_names", ("firewall", "*.lan", "7")),
        ("http_names: a, b", "http_names", ("a", "b")),
        *((f"http_names: {word}", "http_names", ()) for word in ("off", "no", "none", "null", "[]")),
        *((f"region_detector: {word}", "region_detector", None) for word in ("off", "no", "none", "~")),
        ("region_detector: finder.onnx", "region_detector.file", Path("finder.onnx")),
        *((f"capture: {{frozen_after: {word}}}", "capture.frozen_after", 0.0) for word in ("off", "no", "0")),
        ("capture: {stale_rows: off}", "capture.stale_rows", 0.0),
        ("capture: {good_frames: off}", "capture.good_frames", 0),
        ("capture: {camera_faults: off}", "capture.camera_faults", False),
        ("HTTP: off", "http", "off"),
        ("trust: null", "trust", None),
        ("trust: ~", "trust", None),
        ("trust:", "trust", None),
        ("trust: keys.pem", "trust", Path("keys.pem")),
        ("allow_unsigned: off", "allow_unsigned", False),
        ("allow_unsigned: yes", "allow_unsigned", True),
        ("operator: on", "operator", True),
        ("operator: 'no'", "operator", False),
        ('deadline_ms: "33"', "deadline_ms", 33.0),
        ("deadline_ms: 33", "deadline_ms", 33.0),
        ("deadline_ms: 1e2", "deadline_ms", 100.0),
        ("max_frames: null", "max_frames", None),
        ("threads: 08", "threads", 8),
        ("patches: 0.02", "patches.area", 0.02),
        ("patches: {area: 0.02, masks: 4}", "patches.masks", 4),
        ("patches: off", "patches", None),
        ("capture:", "capture.open_timeout", 5.0),
        ("capture:\n  # open_timeout: 3\n", "capture.open_timeout", 5.0),
        ("capture: {open_timeout: '7'}", "capture.open_timeout", 7.0),
        ("capture: &one\n  open_timeout: 7\n", "capture.open_timeout", 7.0),
        ("capture:\n  <<: {open_timeout: 3, read_timeout: 4}\n  read_timeout: 1", "capture.read_timeout", 1.0),
        ("---\nsource: 3\n", "source", "3"),
        ("# nothing\n", "source", "demo"),
        ("---\n", "source", "demo"),
        (LONG.replace("\n", "\r\n"), "http", "off"),
        ("\ufeff" + LONG, "source", "0"),
        ("\ufeff" + LONG.replace("\n", "\r\n"), "source", "0"),
    ],
)
def test_a_value_means_what_was_written(tmp_path: Path, text: str, key: str, value: object) -> None:
    """YAML's truth values, numbers, dates and base-60 numbers are the text that the user sees; nothing is no value."""
    file = tmp_path / "firewall.yaml"
    file.write_bytes(text.encode())
    assert told(load_settings(file), key) == value


def test_a_file_of_utf16_is_read(tmp_path: Path) -> None:
    """As an editor of Windows writes it."""
    file = tmp_path / "firewall.yaml"
    file.write_bytes(LONG.encode("utf-16"))
    assert load_settings(file).http == "off"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("source: 1\nsource: 2", "'source' stands there twice"),
        ("capture: {open_timeout: 1, open_timeout: 2}", "'open_timeout' stands there twice"),
        ("http: off\nHTTP: 8080", "'HTTP' stands there twice at line 2"),
        ("Source:", "'source'.*has no value"),
        ("capture: {open-timeout: 3}", "'capture.open-timeout'.*known settings: open_timeout"),
        ("patches: {size: 3}", "'patches.size'.*known settings: area"),
        ("region_detector: {path: x}", "'region_detector.path'.*known settings: file"),
        ("capture:\n\topen_timeout: 3", "indent with spaces"),
        ("http: [::1]:8080", "must stand in quotes"),
        ("http_names: *.lan", "must stand in quotes"),
        ("output: -", "must stand in quotes"),
        ("http:", "'http'.*has no value"),
        ("output: null", "'output'.*has no value"),
        ("device: ~", "'device'.*has no value"),
        ("source: {a: 1}", "'source'.*valid string"),
        ("capture: off", "'capture'.*group"),
        ("threads: yes", "'threads'.*integer, got 'yes'|'threads'.*'yes'"),
        ("threads: 2.5", "'threads'.*'2.5'"),
        ("threads: 0x10", "'threads'.*'0x10'"),
        ("deadline_ms: off", "'deadline_ms'.*'off'"),
        ("deadline_ms: inf", "'deadline_ms'.*finite"),
        ("deadline_ms: nan", "'deadline_ms'"),
        ("operator: perhaps", "'operator'.*'perhaps'"),
        ("patches: 2%", "'patches.area'.*'2%'"),
        ("1: 2", "unknown setting '1'"),
        ("on: x", "unknown setting 'on'"),
        ("a: &a [*a]", "unknown setting 'a'"),
        ("? [a]\n: b", "unhashable"),
        ("---\nsource: 1\n---\nsource: 2", "single document"),
        ("source: !!python/object/apply:os.system ['true']", "constructor"),
        ("[" * 5000, "nested too deeply"),
        ("source: \udce9", "can't read settings"),
        ("just words", "key: value"),
    ],
)
def test_what_can_not_be_meant_is_refused_in_one_line(tmp_path: Path, text: str, words: str) -> None:
    """The message names the key or the place, and stays on a line."""
    file = tmp_path / "firewall.yaml"
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ConfigError, match=words) as caught:
        load_settings(file)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


@pytest.mark.parametrize(
    ("name", "text", "key", "value"),
    [
        ("HTTP", "off", "http", "off"),
        ("HTTP", "False", "http", "off"),
        ("HTTP", "", "http", "127.0.0.1:9090"),
        ("OUTPUT", "off", "output", ("off",)),
        ("SOURCE", "0", "source", "0"),
        ("OPERATOR", "off", "operator", False),
        ("MAX_FRAMES", "", "max_frames", None),
        ("HTTP_NAMES", "firewall,guard.lan", "http_names", ("firewall", "guard.lan")),
        ("HTTP_NAMES", '["firewall"]', "http_names", ("firewall",)),
        ("PATCHES", "0.02", "patches.area", 0.02),
        ("PATCHES", '{"area": 0.02}', "patches.area", 0.02),
        ("PATCHES__AREA", "0.02", "patches.area", 0.02),
        ("CAPTURE", '{"open_timeout": 4}', "capture.open_timeout", 4.0),
        ("CAPTURE__OPEN_TIMEOUT", "4", "capture.open_timeout", 4.0),
        ("REGION_DETECTOR__THRESHOLD", "0.7", "region_detector.threshold", 0.7),
        ("REGION_DETECTOR", "other.onnx", "region_detector.file", Path("other.onnx")),
        ("REGION_DETECTOR", "off", "region_detector", None),
        ("HTTP_NAMES", "off", "http_names", ()),
    ],
)
def test_the_environment_says_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str, key: str, value: object
) -> None:
    """Empty is not set; part of a group may stand in the file and part in the environment."""
    file = tmp_path / "firewall.yaml"
    file.write_text("http: 127.0.0.1:9090\nregion_detector: {file: finder.onnx}\n")
    monkeypatch.setenv(f"FIREWALL_{name}", text)
    assert told(load_settings(file), key) == value


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *(("THREADS", "many"), ("CAPTURE", "off"), ("CAPTURE", "{"), ("CAPTURE__OPEN_TIMEOUT", "x"), ("TRUST", "")),
        *(("CAPTURE__SURPRISE", "1"), ("DEADLINE_MS", "inf"), ("REGION_DETECTOR", "{"), ("PATCHES", "{")),
    ],
)
def test_an_environment_that_does_not_fit_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str
) -> None:
    """One line that says it was the environment and which variable, even where there is a file; never a traceback."""
    file = tmp_path / "firewall.yaml"
    file.write_text("source: demo\n")
    monkeypatch.setenv(f"FIREWALL_{name}", text)
    with pytest.raises(ConfigError) as caught:
        load_settings(file)
    message = str(caught.value)
    assert "\n" not in message and str(file) not in message
    assert f"FIREWALL_{name.partition('__')[0]}" in message


def test_what_the_command_line_says_wrong_is_not_blamed_on_the_file(tmp_path: Path) -> None:
    """The file is named only for what it says."""
    file = tmp_path / "firewall.yaml"
    file.write_text("threads: 3\n")
    with pytest.raises(ConfigError) as caught:
        load_settings(file, threads=-1)
    assert str(file) not in str(caught.value)


def test_a_file_that_can_not_be_read(tmp_path: Path) -> None:
    """Not there, a folder, a picture: the reason once, and what to name."""
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0")
    for name, words in (
        ("none", "No such file or directory; name"),
        (".", "Is a directory; name"),
        ("a.png", "at pos"),
    ):
        with pytest.raises(ConfigError, match=words) as caught:
            load_settings(tmp_path / name)
        assert "Errno" not in str(caught.value) and "byte string" not in str(caught.value)
