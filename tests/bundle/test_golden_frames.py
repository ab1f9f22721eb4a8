"""Golden frames in a manifest: hashed as every file is, checked at the door, unknown to bundles that have none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from firewall.bundle import DEFAULT, MANIFEST, GoldenFrame, load_bundle, write_bundle
from firewall.bundle.trust import Trust
from firewall.errors import BundleError
from firewall.verdict import Reason
from tests.fused_bundle import fused_bundle

FRAME = {"file": "golden-00.png", "released": [14]}


def written(folder: Path, frames: Any, content: bytes | None = b"picture") -> Path:
    """The fused bundle with golden frames."""
    plain = load_bundle(fused_bundle(), trust=Trust())
    fields = {name: getattr(plain.manifest, name) for name in type(plain.manifest).model_fields if name != "files"}
    files = plain.files if content is None else {**plain.files, "golden-00.png": content}
    write_bundle(folder, files, **{**fields, "golden": frames})
    return folder


def test_a_bundle_tells_its_golden_frames(tmp_path: Path) -> None:
    """As they were written; a picture that was changed is refused as any other file."""
    folder = written(tmp_path / "b", [FRAME | {"withheld": ["suspicious"]}])
    told = load_bundle(folder, trust=Trust()).manifest.golden
    assert told == (GoldenFrame(file="golden-00.png", released=(14,), withheld=(Reason.SUSPICIOUS,)),)
    assert told[0].regions == "whole"
    (folder / "golden-00.png").write_bytes(b"pictur!")
    with pytest.raises(BundleError, match=r"golden-00.png is not the file that its bundle was made with"):
        load_bundle(folder, trust=Trust())


def test_older_versions_read_a_bundle_without_them(tmp_path: Path) -> None:
    """A bundle without golden frames has no such key, so that versions that don't know it read the bundle too; and
    bundles that older versions wrote are read."""
    folder = written(tmp_path / "b", None, content=None)
    assert "golden" not in json.loads((folder / MANIFEST).read_text())
    assert load_bundle(folder, trust=Trust()).manifest.golden is None
    assert "golden" not in json.loads((fused_bundle() / MANIFEST).read_text())
    assert load_bundle(DEFAULT).manifest.classifier.labels


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        ([], "at least 1 item"),
        ([FRAME] * 33, "at most 32 items"),
        ([{"file": "golden-00.png"}], "golden frame golden-00.png has no verdict; name the classes or reasons"),
        ([FRAME | {"released": [43]}], "golden frame golden-00.png expects class 43, which there is not"),
        ([FRAME | {"released": [-1]}], "expects class -1, which there is not"),
        ([FRAME | {"withheld": ["bad mood"]}], "Input should be 'benign', 'suspicious'"),
        ([FRAME | {"regions": "signs"}], "golden frame golden-00.png needs a finder, and the bundle has none"),
        ([FRAME | {"regions": "all"}], "Input should be 'whole' or 'signs'"),
        ([FRAME | {"file": "../golden.png"}], "must lie in the bundle's own folder"),
        ([FRAME | {"file": "other.png"}], r"uses 'other.png' but doesn't list it"),
    ],
)
def test_what_fits_no_bundle_is_one_line(tmp_path: Path, frames: Any, words: str) -> None:
    """It names the value and what is allowed."""
    with pytest.raises(BundleError, match=words):
        written(tmp_path / "b", frames)
