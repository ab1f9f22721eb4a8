"""Where something of ours is kept: the variable that names it, else the user's folder, else nowhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from firewall.host.user_folder import place_of


def test_the_variable_comes_before_the_users_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A path in our variable counts as it is, relative too; an empty one counts as not set; nothing is made."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("FIREWALL_X", raising=False)
    there = tmp_path / "perception-firewall" / "x"
    assert place_of("FIREWALL_X", "XDG_CACHE_HOME", "x") == there
    monkeypatch.setenv("FIREWALL_X", "")
    assert place_of("FIREWALL_X", "XDG_CACHE_HOME", "x") == there
    monkeypatch.setenv("FIREWALL_X", "mine/x")
    assert place_of("FIREWALL_X", "XDG_CACHE_HOME", "x") == Path("mine/x")
    assert list(tmp_path.iterdir()) == []


def test_a_user_without_a_home_has_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """No home, no folder of the user's: only the variable names one then."""

    def nobody(number: int) -> None:
        raise KeyError(number)

    for name in ("HOME", "XDG_STATE_HOME", "FIREWALL_X"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", nobody)
    assert place_of("FIREWALL_X", "XDG_STATE_HOME", "x") is None
    monkeypatch.setenv("FIREWALL_X", "/mine")
    assert place_of("FIREWALL_X", "XDG_STATE_HOME", "x") == Path("/mine")
