"""The setting `cores`, of all cameras and of one: the same in a file, in the environment and on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from firewall.config import load_settings
from firewall.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "cores"),
    [
        ("2-3,5", "2-3,5"),
        ("2", "2"),
        ("[2, 3, 5]", "2,3,5"),
        ('" 5,2-3 "', "5,2-3"),
        ("off", None),
        ("none", None),
        ("", None),
        ("~", None),
    ],
)
def test_a_list_of_cores(text: str, cores: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As written; a list is one too, off and nothing are none. Whether the machine has them is asked later."""
    file = tmp_path / "firewall.yaml"
    file.write_text(f"cores: {text}\n")
    assert load_settings(file).cores == cores
    if text and text[0] not in '["~':
        monkeypatch.setenv("FIREWALL_CORES", text)
        assert load_settings().cores == cores
        monkeypatch.delenv("FIREWALL_CORES")
        assert load_settings(cores=text).cores == cores


def test_nothing_is_named_by_default_and_the_command_line_wins(tmp_path: Path) -> None:
    """As for every setting."""
    assert load_settings().cores is None
    file = tmp_path / "firewall.yaml"
    file.write_text("cores: 0\n")
    assert load_settings(file, cores="1").cores == "1"
    assert load_settings(file, cores=None).cores == "0"


def test_a_camera_may_have_its_own(tmp_path: Path) -> None:
    """Of its capture process; else none, and not those of all."""
    file = tmp_path / "firewall.yaml"
    cameras = "- {name: a, source: demo, cores: 1-2}\n- {name: b, source: demo}\n- {name: c, source: demo, cores: off}"
    file.write_text(f"cores: 3\ncameras:\n{cameras}\n")
    assert [camera.cores for camera in load_settings(file).guarded] == ["1-2", None, None]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("''", "no core is named"),
        ("[]", "no core is named"),
        ("two", "numbers and ranges"),
        ("[0, x]", "numbers and ranges"),
        ("-1", "numbers and ranges"),
        ("3-1", "no range"),
        ("1,1", "core 1 is named twice"),
        ("{a: 1}", "string"),
    ],
)
def test_what_is_no_list_is_one_line(text: str, why: str, tmp_path: Path) -> None:
    """It names the setting and the file."""
    file = tmp_path / "firewall.yaml"
    file.write_text(f"cores: {text}\n")
    with pytest.raises(ConfigError, match=rf"setting 'cores' in .*firewall\.yaml.*: .*{why}") as caught:
        load_settings(file)
    assert "\n" not in str(caught.value)
    file.write_text(f"cameras:\n- name: a\n  source: demo\n  cores: {text}\n")
    with pytest.raises(ConfigError, match=rf"setting 'cameras\.0\.cores' in .*firewall\.yaml.*: .*{why}"):
        load_settings(file)
