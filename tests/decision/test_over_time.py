"""The files of a bundle that say how evidence adds up over time and what usual traffic looks like."""

from __future__ import annotations

from pathlib import Path

import pytest

from firewall.bundle import Bundle, write_bundle
from firewall.decision.drift import DriftSpec
from firewall.decision.over_time import DRIFT_FILE, TRACKS_FILE, over_time
from firewall.decision.tracks import TracksSpec
from firewall.errors import BundleError
from firewall.screening import Firewall

TRACKS = TracksSpec(typical=-1.0, cap=3.0, limit=1.0, false_alarm_rate=0.05, tracks=57)
DRIFT = DriftSpec(channels=(), labels=(3, 4), tracks=7)


def with_files(guard: Firewall, path: Path, extra: dict[str, bytes]) -> Bundle:
    """The guard's bundle with these files in the place of its own."""
    fields = {name: getattr(guard.bundle.manifest, name) for name in type(guard.bundle.manifest).model_fields}
    own = {name: content for name, content in guard.bundle.files.items() if name not in (TRACKS_FILE, DRIFT_FILE)}
    return write_bundle(path, own | extra, **{name: value for name, value in fields.items() if name != "files"})


def test_a_bundle_says_how_it_judges_over_time(guard: Firewall, tmp_path: Path) -> None:
    """Each of the two files is read from the hashed bytes, and is None where the bundle has none."""
    files = {TRACKS_FILE: TRACKS.model_dump_json().encode(), DRIFT_FILE: DRIFT.model_dump_json().encode()}
    assert over_time(with_files(guard, tmp_path / "none", {})) == (None, None)
    assert over_time(with_files(guard, tmp_path / "both", files)) == (TRACKS, DRIFT)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        (TRACKS_FILE, b'{"typical": 1}', r"tracks.json of bundle .* is not valid: typical.*'firewall lab tracks'"),
        (DRIFT_FILE, b'{"tracks": 0}', r"drift.json of bundle .* is not valid: .*'firewall lab drift'"),
    ],
)
def test_a_damaged_part_is_refused(guard: Firewall, tmp_path: Path, file: str, content: bytes, message: str) -> None:
    """In one line that names the file, what is wrong with it, and the command that makes it."""
    with pytest.raises(BundleError, match=message):
        over_time(with_files(guard, tmp_path / "broken", {file: content}))
