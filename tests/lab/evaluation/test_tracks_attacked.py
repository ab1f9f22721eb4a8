"""Tracks attacked frame by frame, and judged by the firewall and its track policy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from firewall.decision.over_time import served
from firewall.demo.scene import Encounter, render
from firewall.errors import DataError, UsageError
from firewall.frame import Pixels
from firewall.lab.datasets.dataset import Dataset
from firewall.lab.datasets.gtsdb import load_scenes
from firewall.lab.datasets.gtsrb import CLASS_NAMES
from firewall.lab.evaluation.crops.track_attacks import attacked_tracks, check_tracks
from firewall.lab.evaluation.crops.track_images import FrameTracks, made_tracks, real_tracks
from firewall.lab.evaluation.crops.track_measuring import TrackSettings, followed, measure_tracks
from firewall.lab.evaluation.crops.verdicts import Row
from firewall.lab.models import Protected, open_classifier
from firewall.transforms import resize
from firewall.verdict import Reason
from tests.lab.in_process import lab

LENGTH = 4


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three drawn road scenes in GTSDB's layout, a sign in each; and one whose sign is too small."""
    root = tmp_path_factory.mktemp("gtsdb")
    lines = []
    for number, label in enumerate((1, 2, 4)):
        pixels, (x, y, width, height) = render(Encounter(label, seed=7000 + number, side="right", steps=10), 7)
        Image.fromarray(pixels).save(root / f"{number:05d}.ppm")
        lines.append(f"{number:05d}.ppm;{x};{y};{x + width - 1};{y + height - 1};{label}")
    Image.fromarray(np.full((200, 200, 3), 90, np.uint8)).save(root / "00009.ppm")
    (root / "gt.txt").write_text("\n".join([*lines, "00009.ppm;50;50;60;60;3"]) + "\n")
    return root


@pytest.fixture(scope="module")
def classifier() -> Protected:
    return open_classifier("default")


@pytest.fixture(scope="module")
def tracks(scenes: Path) -> FrameTracks:
    return made_tracks(load_scenes(scenes), 5, seed=0, length=LENGTH)


def test_made_tracks_come_nearer(tracks: FrameTracks, scenes: Path) -> None:
    """Each of the three large signs gives a track of one label whose frames grow to the sign's own size; frames differ,
    and are the same for the same seed."""
    assert len(tracks) == 3 and sorted(tracks.scenes.tolist()) == [0, 1, 2] and len(tracks.crops) == 3 * LENGTH
    for number in range(3):
        crops = tracks.take([number]).crops
        sides = [min(image.shape[:2]) for image in crops.images]
        assert sides == sorted(sides) and sides[0] <= 0.6 * sides[-1] and sides[0] >= 16
        assert len(set(crops.labels.tolist())) == 1 and len(set(crops.groups.tolist())) == 1
    again = made_tracks(load_scenes(scenes), 5, seed=0, length=LENGTH)
    assert all(np.array_equal(*pair) for pair in zip(tracks.crops.images, again.crops.images, strict=True))
    other = made_tracks(load_scenes(scenes), 5, seed=1, length=LENGTH)
    assert any(one.shape != two.shape for one, two in zip(tracks.crops.images, other.crops.images, strict=True))
    assert len(made_tracks(load_scenes(scenes), 1, seed=0, length=LENGTH)) == 1


def test_real_tracks_are_the_last_frames_at_their_own_size() -> None:
    """In the order of their names, whatever pack they lie in; short tracks and those of one size are left out."""
    rows = [(7, number, 20 + number) for number in (2, 0, 1, 4, 3)]
    rows += [(8, number, 30) for number in range(5)] + [(9, number, 20 + number) for number in range(3)]
    data = Dataset(
        name="gtsrb",
        images=[np.full((side, side, 3), number, np.uint8) for _, number, side in rows],
        labels=np.array([group for group, _, _ in rows]),
        groups=np.array([group for group, _, _ in rows]),
        sources=[f"pack{place % 2}/{group:05d}_{number:05d}" for place, (group, number, _) in enumerate(rows)],
        class_names=CLASS_NAMES,
        licence="",
        citation="",
    )
    found = real_tracks(data, offset=1, length=LENGTH)
    assert found.scenes.tolist() == [7] and found.crops.labels.tolist() == [8] * LENGTH
    assert [int(image[0, 0, 0]) for image in found.crops.images] == [1, 2, 3, 4]
    with pytest.raises(DataError, match="gtsrb has no track of 9 frames"):
        real_tracks(data, length=9)


def attack(name: str, classifier: Protected, tracks: FrameTracks, folder: Path, draws: int = 8) -> FrameTracks:
    return attacked_tracks(name, classifier, tracks, folder, 0, draws)


def test_what_stays_on_the_sign_stays_at_its_place(classifier: Protected, tracks: FrameTracks, tmp_path: Path) -> None:
    """Frames of one track are changed at the same place in shares of their sides; more draws never fool the classifier
    in fewer frames; what was made is not made again."""
    some = tracks.take([0])
    made = attack("triangle", classifier, some, tmp_path)
    masks = []
    for before, after in zip(some.crops.images, made.crops.images, strict=True):
        assert before.shape == after.shape
        darker = (after.astype(int) - before).min(axis=2) < -8
        masks.append(resize(np.repeat(darker[..., None], 3, axis=2).astype(np.uint8) * 255, 24, 24)[..., 0] > 127)
    for mask in masks[1:]:
        assert (mask & masks[-1]).sum() > 0.6 * (mask | masks[-1]).sum() > 0
    named = [fooled(classifier, attack("triangle", classifier, some, tmp_path, draws)) for draws in (1, 8, 30)]
    assert named == sorted(named)
    files = {file: file.stat().st_mtime_ns for file in tmp_path.glob("*.npz")}
    attack("triangle", classifier, some, tmp_path)
    assert {file: file.stat().st_mtime_ns for file in tmp_path.glob("*.npz")} == files and len(files) == 3


def fooled(classifier: Protected, tracks: FrameTracks) -> int:
    """The most frames of a track that are named with one wrong class."""
    found = named(classifier, tracks.crops.images)
    wrong = found[found != tracks.crops.labels]
    return int(np.bincount(wrong).max()) if len(wrong) else 0


def named(classifier: Protected, images: list[Pixels]) -> np.ndarray:
    return classifier.logits(np.stack([classifier.prepare(image) for image in images])).argmax(axis=1)


def test_aimed_frames_agree_more(classifier: Protected, tracks: FrameTracks, tmp_path: Path) -> None:
    """Aimed at the class that most frames get by the same attack without an aim, no fewer get one, within its bound;
    the frames that are aimed from are the stored ones of that attack."""
    some = tracks.take([0])
    plain = attack("linf-16", classifier, some, tmp_path / "linf-16")
    (stored,) = (tmp_path / "linf-16").iterdir()
    when = stored.stat().st_mtime_ns
    made = attack("linf-16@aimed", classifier, some, tmp_path / "linf-16@aimed")
    assert fooled(classifier, made) >= fooled(classifier, plain) > 0
    changes = zip(made.crops.images, some.crops.images, strict=True)
    assert max(int(np.abs(one.astype(int) - two).max()) for one, two in changes) == 16
    assert [(file, file.stat().st_mtime_ns) for file in (tmp_path / "linf-16").iterdir()] == [(stored, when)]


def rows_of(*frames: int | None, truth: int = 3) -> list[Row]:
    """What the firewall says of frames by themselves: a released label, or None where it withholds."""
    common: dict[str, Any] = {"source": "", "group": 0, "label": truth, "sha256": "", "suspicion": -1.0, "scores": {}}
    return [
        Row(
            index=number,
            side=30 + number,
            named=9 if label is None else label,
            released=label is not None,
            released_label=label,
            reason=str(Reason.SUSPICIOUS if label is None else Reason.BENIGN),
            **common,
        )
        for number, label in enumerate(frames)
    ]


def test_a_label_goes_out_as_the_policy_has_it() -> None:
    """With the counts that a stream is guarded with: a wrong label three times in a row goes out at the third, one that
    changes or is withheld in between never does; a large sign has to be seen five times."""
    spec = served(None)

    def out(*frames: int | None) -> list[int | None]:
        return [verdict.label for verdict in followed(spec, rows_of(*frames))]

    assert out(9, 9, 9, 9, None) == [None, None, 9, 9, None]
    assert out(9, 8, 9, 8, 9, 8) == [None] * 6
    assert out(9, 9, None, 9, 9, None) == [None] * 6
    assert out(3, 3, 3, 3) == [None, None, 3, 3]
    large = rows_of(*[9] * 6)
    for row in large:
        object.__setattr__(row, "side", 120)
    assert [verdict.label for verdict in followed(spec, large)] == [None] * 4 + [9, 9]


def test_the_command_goes_on_and_says_the_same(scenes: Path, tmp_path: Path) -> None:
    """The worst attack leads, each figure has its number and interval, benign tracks stand beside; verdicts that a kill
    cut off are made again, to the same figures; with one frame to agree each frame counts by itself."""
    command = ("evaluate", "tracks", "--sources", "made", "--limit", 2, "--frames", LENGTH, "--data", scenes)
    command = (*command, "--draws", 4, "--attacks", "pgd-0.06@aimed,two-bars", "--work", tmp_path / "work")
    done = lab(*command, "--json", tmp_path / "a.json")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "a.json").read_text())
    rates = [entry["wrong_at_any_frame"] for entry in found["attacks"]]
    assert {entry["attack"] for entry in found["attacks"]} == {"pgd-0.06@aimed", "two-bars"}
    assert [rate["rate"] for rate in rates] == sorted((rate["rate"] for rate in rates), reverse=True)
    for entry in found["attacks"]:
        every, last = entry["wrong_at_any_frame"], entry["wrong_at_last_frame"]
        assert every["n"] == entry["n"] == 2 and every["ci95"][0] <= every["rate"] <= every["ci95"][1]
        assert last["rate"] <= every["rate"] <= entry["each_frame_alone"]["wrong_at_any_frame"]["rate"]
    aimed = next(entry for entry in found["attacks"] if "aimed" in entry["attack"])
    assert aimed["classifier_fooled"]["share_of_frames"] > 0
    assert found["policy"]["confirm"] == 3 and found["policy"]["confirm_large"] == 5
    assert found["benign"]["made"]["n"] == 3 and found["benign"]["made"]["wrong_at_any_frame"]["rate"] == 0

    (file,) = (tmp_path / "work").glob("track-verdicts/*/made/0-two-bars.jsonl")
    file.write_bytes(file.read_bytes()[:-40])
    assert lab(*command, "--json", tmp_path / "b.json").returncode == 0
    assert (tmp_path / "b.json").read_text() == (tmp_path / "a.json").read_text()
    assert lab(*command, "--confirm", 1, "--json", tmp_path / "c.json").returncode == 0
    for entry in json.loads((tmp_path / "c.json").read_text())["attacks"]:
        alone = entry["each_frame_alone"]
        assert entry["wrong_at_any_frame"]["rate"] <= alone["wrong_at_any_frame"]["rate"]
        assert entry["classifier_fooled"]["any_frame"]["rate"] >= alone["wrong_at_any_frame"]["rate"]


def test_wrong_use(classifier: Protected, tmp_path: Path, scenes: Path) -> None:
    """Named before anything is made: an attack, a source, an attack named twice, scenes whose signs are too small."""
    for names in (("pgd-7@aimed",), ("shade",), ("shadow", "shadow"), ()):
        with pytest.raises(UsageError):
            check_tracks(names, classifier)
    with pytest.raises(UsageError, match="--sources takes real and made"):
        TrackSettings(sources=("drawn",))
    small = tmp_path / "small"
    small.mkdir()
    Image.fromarray(np.full((200, 200, 3), 90, np.uint8)).save(small / "00009.ppm")
    (small / "gt.txt").write_text("00009.ppm;50;50;60;60;3\n")
    with pytest.raises(DataError, match="no sign has 36 pixels"):
        measure_tracks("default", TrackSettings(sources=("made",), data=small), tmp_path / "work")
    assert not list(tmp_path.glob("work/attacked-tracks/*"))
