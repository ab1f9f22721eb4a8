from __future__ import annotations

from pathlib import Path

import pytest

from firewall.config import load_settings
from firewall.errors import ConfigError


def test_command_line_beats_environment_beats_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order of precedence, with one setting given by each."""
    file = tmp_path / "firewall.yaml"
    file.write_text("source: from-file\nregions: whole\nthreads: 3\ncapture:\n  open_timeout: 7\n  read_timeout: 1\n")
    monkeypatch.setenv("FIREWALL_REGIONS", "signs")
    monkeypatch.setenv("FIREWALL_SOURCE", "from-environment")
    monkeypatch.setenv("FIREWALL_CAPTURE__READ_TIMEOUT", "4")

    settings = load_settings(file, source="from-command-line", regions=None)

    assert settings.source == "from-command-line"
    assert settings.regions == "signs"
    assert settings.threads == 3
    assert (settings.capture.open_timeout, settings.capture.read_timeout) == (7, 4)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sorce: 0", "unknown setting 'sorce'"),
        ("capture:\n  timeout: 1", "capture.timeout"),
        ("threads: many", "threads"),
        ("threads: -1", "threads"),
        ("deadline_ms: 0", "deadline_ms"),
        ("- a list", "key: value"),
        ("a: [", "can't read settings"),
        ("\x00", "can't read settings"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_in_one_line(tmp_path: Path, text: str, words: str) -> None:
    """Unknown keys, wrong types, values out of range, broken YAML: the message names it and stays on a line."""
    file = tmp_path / "firewall.yaml"
    file.write_text(text)

    with pytest.raises(ConfigError, match=words) as caught:
        load_settings(file)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    """A settings file that was named has to be there."""
    with pytest.raises(ConfigError, match=r"nowhere\.yaml"):
        load_settings(tmp_path / "nowhere.yaml")


def test_an_empty_file_means_the_defaults(tmp_path: Path) -> None:
    """Nothing set is nothing changed."""
    file = tmp_path / "firewall.yaml"
    file.write_text("")

    assert load_settings(file) == load_settings()
