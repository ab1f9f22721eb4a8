"""The key of a keyed sweep: where it may come from, and what is refused in one line that doesn't hold it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from firewall.config import load_settings, read_sweep_key
from firewall.config.sweep_key import check_sweep_key
from firewall.errors import UsageError

KEY = b"\x00\x01binary\xffkey-of-20-b"


def key_file(folder: Path, content: bytes = KEY, mode: int = 0o600) -> Path:
    path = folder / "sweep.key"
    path.write_bytes(content)
    path.chmod(mode)
    return path


def test_a_key_is_the_files_bytes(tmp_path: Path) -> None:
    """Any bytes; the line end that an editor adds doesn't count, also not one of Windows."""
    for end in (b"", b"\n", b"\r\n"):
        assert read_sweep_key(str(key_file(tmp_path, KEY + end))) == KEY


@pytest.mark.parametrize("mode", [0o400, 0o440, 0o600, 0o640])
def test_a_key_may_be_read_by_owner_and_group(tmp_path: Path, mode: int) -> None:
    """As services and containers get their secrets."""
    assert read_sweep_key(str(key_file(tmp_path, mode=mode))) == KEY


@pytest.mark.parametrize(("mode", "said"), [(0o644, "read"), (0o604, "read"), (0o620, "change"), (0o602, "change")])
def test_a_key_that_others_may_read_or_replace_is_refused(tmp_path: Path, mode: int, said: str) -> None:
    """With the command that mends it."""
    path = key_file(tmp_path, mode=mode)
    with pytest.raises(UsageError, match=f"others may {said} it, so it is no secret; chmod 600 {path}"):
        read_sweep_key(str(path))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_key_of_another_user_is_refused(tmp_path: Path) -> None:
    """Whoever owns it can read and replace it."""
    path = key_file(tmp_path)
    os.chown(path, 12345, -1)
    with pytest.raises(UsageError, match="belongs to user 12345"):
        read_sweep_key(str(path))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "too short: 0 bytes; 16 to 4096 random bytes"),
        (b"hunter2", "too short: 7 bytes"),
        (b"123456789012345\n", "too short: 15 bytes"),
        (b"\n" * 40, "1 different bytes only"),
        (bytes(32), "1 different bytes only"),
        (b"abc" * 20, "3 different bytes only"),
        (bytes(range(256)) * 17, "too long"),
    ],
)
def test_what_is_no_secret_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    """Short keys, empty files, and keys of a few repeated bytes; the message holds none of it."""
    with pytest.raises(UsageError, match=said) as error:
        read_sweep_key(str(key_file(tmp_path, content)))
    assert "hunter2" not in str(error.value) and "12345678" not in str(error.value)
    assert "\n" not in str(error.value)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    """Nothing there, a folder, a pipe that nobody writes to (it is not waited for), an endless device, a zero byte."""
    os.mkfifo(tmp_path / "pipe", 0o600)
    for path, said in (
        (tmp_path / "none", "can't read --sweep-key .*No such file"),
        (tmp_path, "is no plain file|Is a directory"),
        (tmp_path / "pipe", "is no plain file"),
        (Path("/dev/zero"), "is no plain file"),
        (Path("a\0b"), "can't read --sweep-key"),
        (Path(), "is no plain file|Is a directory"),
    ):
        with pytest.raises(UsageError, match=said):
            read_sweep_key(str(path))


def test_a_key_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that is named, not the key itself; missing, empty or short is refused."""
    monkeypatch.setenv("DEVICE_SECRET", "a secret of 20 bytes")
    assert read_sweep_key("env:DEVICE_SECRET") == b"a secret of 20 bytes"
    monkeypatch.setenv("DEVICE_SECRET", "sesame")
    with pytest.raises(UsageError, match="environment variable DEVICE_SECRET is too short: 6 bytes") as error:
        read_sweep_key("env:DEVICE_SECRET")
    assert "sesame" not in str(error.value)
    for name in ("env:NOT_THERE", "env:"):
        with pytest.raises(UsageError, match="there is no environment variable"):
            read_sweep_key(name)


def test_a_key_is_bytes() -> None:
    """Text would have to be encoded one way or another."""
    with pytest.raises(UsageError, match="must be bytes, got str"):
        check_sweep_key("x" * 32)  # type: ignore[arg-type]


def test_settings_name_the_key_and_never_hold_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path in the settings file or FIREWALL_SWEEP_KEY, read when the service starts."""
    file = tmp_path / "settings.yaml"
    file.write_text("sweep_key: env:DEVICE_SECRET\n")
    assert load_settings(file).sweep_key == "env:DEVICE_SECRET" and load_settings().sweep_key is None
    monkeypatch.setenv("FIREWALL_SWEEP_KEY", "/run/keys/sweep")
    assert load_settings(file).sweep_key == "/run/keys/sweep"


@pytest.mark.parametrize("command", [["screen", "x.png"], ["serve", "--source", "demo", "--http", "off"]])
def test_the_commands_refuse_a_short_key_before_they_start(tmp_path: Path, command: list[str]) -> None:
    """Exit code 2 and one line, without a byte of the key."""
    path = key_file(tmp_path, b"open-sesame")
    done = subprocess.run(
        [sys.executable, "-m", "firewall", *command, "--sweep-key", str(path)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("firewall: error: the sweep key in ") and "too short: 11 bytes" in done.stderr
    assert len(done.stderr.splitlines()) == 1 and "sesame" not in done.stderr
