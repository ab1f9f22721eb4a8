"""Calibration reads images as the edge does: the same bytes reach the network, the same files are refused."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from firewall import Firewall, cli
from firewall.engines import OnnxRuntimeEngine
from firewall.errors import DataError, ImageError
from firewall.export.images import read_images
from firewall.frame import Pixels
from firewall.lab.calibration.bundling import calibrate_folder
from firewall.lab.calibration.settings import BenignSource, CalibrationSettings
from firewall.lab.datasets.packs import load_images
from firewall.lab.datasets.reading import at_size, repeated
from firewall.sources import read_image
from firewall.sources.image import ImageReader

Save = Callable[[Image.Image, Path], object]


def picture(seed: int = 0, width: int = 130, height: int = 90) -> Image.Image:
    small = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (9, 13, 3), np.uint8))
    return small.resize((width, height), Image.Resampling.BICUBIC)


def turned(orientation: int) -> Save:
    def save(image: Image.Image, path: Path) -> None:
        exif = Image.Exif()
        exif[0x112] = orientation
        image.save(path, exif=exif)

    return save


def saved(mode: str = "RGB", **options: Any) -> Save:
    return lambda image, path: image.convert(mode).save(path, **options)


def cut(image: Image.Image, path: Path) -> None:
    image.save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def torn_exif(image: Image.Image, path: Path) -> None:
    turned(6)(image, path)
    content = path.read_bytes()
    place = content.index(b"Exif\0\0") + 6
    path.write_bytes(content[:place] + b"\xff" * 8 + content[place + 8 :])


def animated(image: Image.Image, path: Path) -> None:
    image.save(path, save_all=True, append_images=[picture(9)])


def transparent(image: Image.Image, path: Path) -> None:
    image.quantize(16).save(path, transparency=3)


READ: dict[str, tuple[str, Save]] = {
    **{f"EXIF {way}": (f"exif{way}.jpg", turned(way)) for way in range(1, 9)},
    "capitals": ("capitals.JPEG", turned(6)),
    "progressive": ("progressive.jpg", saved(progressive=True)),
    "grey JPEG": ("grey.jpg", saved("L")),
    "MPO": ("mpo.jpg", lambda image, path: image.save(path, format="MPO", save_all=True, append_images=[picture(8)])),
    "WebP": ("a.webp", saved(lossless=True)),
    "TIFF": ("a.tiff", saved(compression="tiff_deflate")),
    "GIF": ("a.gif", saved("P")),
    "BMP": ("a.bmp", saved()),
    "PPM": ("a.ppm", saved()),
    "PGM": ("a.pgm", saved("L")),
    "PBM": ("a.pbm", saved("1")),
    "1 bit": ("bit.png", saved("1")),
    "palette": ("palette.png", saved("P")),
}
REFUSED: dict[str, tuple[str, Save, str]] = {
    "16 bits": ("deep.png", lambda _, path: Image.fromarray(np.zeros((9, 9), np.uint16)).save(path), "8 bits"),
    "CMYK": ("print.jpg", saved("CMYK"), "CMYK"),
    "RGBA": ("alpha.png", saved("RGBA"), "transparent"),
    "palette with alpha": ("palette.png", transparent, "transparent"),
    "animation": ("moving.gif", animated, "animated"),
    "cut off": ("half.jpg", cut, "truncated or damaged"),
    "empty": ("empty.png", lambda _, path: path.write_bytes(b""), "0 bytes"),
    "20000x20000": ("huge.png", lambda _, path: Image.new("1", (20_000, 20_000)).save(path), "larger than 8192"),
}


def asked(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What the classifier is given first of each batch, from now on."""
    seen: list[bytes] = []
    classify = OnnxRuntimeEngine.classify

    def recorded(self: OnnxRuntimeEngine, images: Pixels) -> Any:
        if len(images):  # an empty batch only asks how many classes there are
            seen.append(images[0].tobytes())
        return classify(self, images)

    monkeypatch.setattr(OnnxRuntimeEngine, "classify", recorded)
    return seen


def test_the_network_gets_the_same_bytes_in_calibration_and_at_the_edge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of each kind of file that the edge reads, every orientation among them: what calibration classifies is, byte for
    byte, what the edge classifies."""
    folder = tmp_path / "benign"
    folder.mkdir()
    for number, (name, save) in enumerate(READ.values()):
        save(picture(number), folder / name)
    seen = asked(monkeypatch)
    calibrate_folder(
        Path("default"), tmp_path / "b", BenignSource(images=folder), CalibrationSettings(["confidence"], rate=0.2)
    )
    files = load_images(folder).files  # type: ignore[attr-defined]
    calibrated = set(seen)  # also what it tries itself out with, and images that are scored again
    guard, judged = Firewall.load(tmp_path / "b", threads=1), set()
    for file in files:
        del seen[:]
        guard.screen(next(ImageReader([str(file)]))[0])
        assert seen[0] in calibrated, file.name
        judged.add(seen[0])
    assert len(judged) == len(files) == len(READ)
    assert repeated(at_size(load_images(folder), 48, 48, progress=False)) == 0


@pytest.mark.parametrize(("name", "save", "words"), REFUSED.values(), ids=REFUSED)
def test_what_the_edge_refuses_is_refused_by_name(tmp_path: Path, name: str, save: Save, words: str) -> None:
    """Among good images: one line that names the file and says why, of calibration, export and edge alike."""
    picture().save(tmp_path / "good.png")
    save(picture(), tmp_path / name)
    with pytest.raises(ImageError, match=words):
        read_image(tmp_path / name)
    with pytest.raises(DataError, match=words) as caught:
        at_size(load_images(tmp_path), 8, 8, progress=False)
    told = str(caught.value)
    assert name in told and "\n" not in told and "mend or remove it" in told
    with pytest.raises(ImageError, match=words):
        list(read_images(tmp_path, 10))


def test_an_orientation_that_can_not_be_read_is_the_same_for_both(tmp_path: Path) -> None:
    """A JPEG whose EXIF is damaged: both read it alike or both refuse it."""
    torn_exif(picture(), tmp_path / "torn.jpg")
    try:
        edge = read_image(tmp_path / "torn.jpg")
    except ImageError:
        with pytest.raises(DataError):
            at_size(load_images(tmp_path), 130, 90, progress=False)
    else:
        size = edge.shape[1], edge.shape[0]
        assert (at_size(load_images(tmp_path), *size, progress=False)[0] == edge).all()


def test_all_bad_files_are_named_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever has three bad photographs among many learns of all three before anything is classified, and no bundle
    is written."""
    for number in range(12):
        picture(number).save(tmp_path / f"{number}.png")
    for number in (3, 7, 11):
        (tmp_path / f"{number}.png").write_bytes(b"nothing")
    command = ["lab", "calibrate", "--classifier", "default", "--images", str(tmp_path), "--detectors", "confidence"]
    command += ["--out", str(tmp_path / "b"), "--false-positive-rate", "0.2"]
    assert cli.run(cli.app, command, "firewall") == 1
    told = capsys.readouterr().err
    assert "3 of 12 images can't be read" in told and all(f"{n}.png" in told for n in (3, 7, 11))
    assert "Traceback" not in told and not (tmp_path / "b").exists()


def test_copies_and_other_kinds_of_pictures_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Ten images of which two show the same, and one HEIC file: the bundle is made, both are said."""
    folder = tmp_path / "benign"
    folder.mkdir()
    for number in range(9):
        picture(number).save(folder / f"{number}.png")
    picture(0).save(folder / "again.bmp")
    (folder / "phone.heic").write_bytes(b"x")
    command = ["lab", "calibrate", "--classifier", "default", "--images", str(folder), "--detectors", "confidence"]
    assert cli.run(cli.app, [*command, "--out", str(tmp_path / "b"), "--false-positive-rate", "0.2"], "firewall") == 0
    told = capsys.readouterr().err
    assert "1 of the 10 images" in told and "1 of .heic" in told


_MEASURE = """
import resource, sys
from pathlib import Path
from firewall.lab.datasets.packs import load_images
from firewall.lab.datasets.reading import at_size
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
images = at_size(load_images(Path(sys.argv[1])), 224, 224, progress=False)
print(len(images), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


_CALIBRATE = """
import resource, sys, tempfile
from pathlib import Path
from firewall.lab.calibration.bundling import calibrate_folder
from firewall.lab.calibration.settings import BenignSource, CalibrationSettings, NetworkSettings
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
source, settings = BenignSource(images=Path(sys.argv[1])), CalibrationSettings(detectors=["confidence"], rate=0.05)
with tempfile.TemporaryDirectory() as out:
    calibrate_folder(Path("default"), Path(out), source, settings, NetworkSettings(accept_preparation=True))
print(60, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.parametrize("code", [_MEASURE, _CALIBRATE], ids=["reading", "calibrating"])
def test_photographs_are_not_held_decoded(tmp_path: Path, code: str) -> None:
    """Sixty photographs of 3 megapixels would be 540 MB decoded; a process that reads or calibrates on them grows
    by less than half of that."""
    picture(width=2000, height=1500).save(tmp_path / "0.jpg", quality=80)
    for number in range(1, 60):
        (tmp_path / f"{number}.jpg").hardlink_to(tmp_path / "0.jpg")
    result = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], check=True, capture_output=True, text=True, timeout=300
    )
    count, grown = map(int, result.stdout.split())
    assert count == 60 and grown < 270
