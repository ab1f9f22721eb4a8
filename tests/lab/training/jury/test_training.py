"""Training a juror for traffic signs: resumable, the same for the same seed, on the device that was asked for."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from firewall.errors import DataError, UsageError
from firewall.frame import Pixels
from firewall.lab.models.juror import KINDS, Juror
from firewall.lab.training.classifiers.variety import Variety
from firewall.lab.training.jury.sign_juror import sign_variety, train_sign_juror
from firewall.lab.training.jury.training import JurorSettings, load_juror, predict, train_juror
from firewall.lab.training.loop import CHECKPOINT, checked_device
from firewall.transforms import resize


def signs() -> tuple[list[Pixels], list[int]]:
    """Three classes of one colour each."""
    generator = np.random.default_rng(0)
    labels = [number % 3 for number in range(24)]
    colours = np.array([(200, 40, 40), (40, 200, 40), (40, 40, 200)])
    noise = generator.normal(0, 20, (24, 30, 26, 3))
    images = [colours[label] + part for label, part in zip(labels, noise, strict=True)]
    return [np.clip(image, 0, 255).astype(np.uint8) for image in images], labels


class StoppedError(Exception):
    """In the place of a kill."""


def run(out: Path, device: str = "cpu", **changes: object) -> Juror:
    """Two epochs on a few images."""
    images, labels = signs()
    settings = JurorSettings(kind="coarse", outputs=4, epochs=2, batch=8, **changes)  # type: ignore[arg-type]
    given = {"variety": Variety(), "held": (images[:4], labels[:4]), "threads": 1, "workers": 0, "device": device}
    return train_juror(images, labels, [], out, settings, **given)  # type: ignore[arg-type]


def stopped(out: Path, monkeypatch: pytest.MonkeyPatch) -> Juror:
    """A run that ends as soon as its first checkpoint is written; the network of that."""
    from firewall.lab.training import loop

    save = loop._save

    def once(*arguments: object) -> None:
        save(*arguments)  # type: ignore[arg-type]
        raise StoppedError

    with monkeypatch.context() as patch:
        patch.setattr(loop, "_save", once)
        with pytest.raises(StoppedError):
            run(out)
    return load_juror(out / CHECKPOINT)[0]


def same(one: torch.nn.Module, two: torch.nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))


def test_a_stopped_run_goes_on_to_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped after the first of two epochs and started again: every weight is that of a run never stopped, and of
    what its checkpoint holds; another seed gives others; a finished run is not trained further."""
    whole = run(tmp_path / "whole")
    half = stopped(tmp_path / "cut", monkeypatch)
    assert load_juror(tmp_path / "cut" / CHECKPOINT)[2] == 1 and not same(half, whole)
    assert same(run(tmp_path / "cut"), whole)
    assert same(run(tmp_path / "cut"), whole)
    loaded, settings, epochs = load_juror(tmp_path / "whole" / CHECKPOINT)
    assert same(loaded, whole) and epochs == 2 and settings.outputs == 4
    assert not same(run(tmp_path / "seed", seed=1), whole)
    assert not whole.training and len((tmp_path / "whole" / "log.jsonl").read_text().splitlines()) == 2


def test_a_checkpoint_of_other_settings_or_half_of_one_is_refused(tmp_path: Path) -> None:
    """A run that nobody could repeat; a file that is no checkpoint, or one of something else."""
    run(tmp_path)
    with pytest.raises(DataError, match="other settings"):
        run(tmp_path, weather=0.5)
    content = (tmp_path / CHECKPOINT).read_bytes()
    (tmp_path / "half.pt").write_bytes(content[: len(content) // 2])
    torch.save({"settings": {"epochs": 1}}, tmp_path / "other.pt")
    for name, words in (("half.pt", "readable checkpoint"), ("other.pt", "no checkpoint of"), ("none.pt", "none.pt")):
        with pytest.raises(DataError, match=words):
            load_juror(tmp_path / name)


def test_logits_are_those_of_the_edges_resize() -> None:
    """`predict` of crops of any size, in batches: the network's logits of what the edge would show it."""
    images, network = signs()[0], Juror(KINDS["coarse"], 4).eval()
    found = predict(network, images, 32, batch=7)
    stack = np.stack([resize(image, 32, 32) for image in images]).transpose(0, 3, 1, 2)
    with torch.no_grad():
        expected = network(torch.from_numpy(np.ascontiguousarray(stack)).float() / 255)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_wrong_use_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    """A label that is the reject class, too few images, an unknown kind, an unknown obstruction, a GPU that isn't."""
    images, labels = signs()
    given = {"variety": Variety(), "held": (images, labels), "threads": 1, "workers": 0}
    for settings, some, words in (
        (JurorSettings(outputs=3, batch=8), images, "labels from 0 to 2 don't fit"),
        (JurorSettings(outputs=4, batch=128), images, "too few to train on"),
        (JurorSettings(outputs=4, kind="blurry"), images, "unknown kind"),
    ):
        with pytest.raises((DataError, UsageError), match=words):
            train_juror(some, labels, [], tmp_path / "no", settings, **given)  # type: ignore[arg-type]
    assert not list(tmp_path.glob("no/*.pt"))
    with pytest.raises(UsageError, match="'mud'; known: shadow"):
        sign_variety(JurorSettings(without=("mud",)))
    with pytest.raises(UsageError, match="no obstruction is left"):
        sign_variety(JurorSettings(without=Variety().kinds))
    assert sign_variety(JurorSettings(without=("dirt",))).kinds == tuple(k for k in Variety().kinds if k != "dirt")


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "cuda:", "cpu:1", "", "mps"])
def test_a_device_has_one_of_three_names(name: str) -> None:
    """And a GPU that torch doesn't find is said to be missing, before data is read."""
    if name != "cuda:":
        with pytest.raises(UsageError, match="must be cpu, cuda or cuda:N"):
            checked_device(name)
    assert checked_device("cpu") == torch.device("cpu")
    with pytest.raises(UsageError, match=r"--device cuda:99: torch finds \d+ GPUs"):
        checked_device("cuda:99")


@pytest.mark.timeout(900)
def test_a_juror_of_signs_becomes_a_folder(small_gtsrb: Path, tmp_path: Path) -> None:
    """A miniature GTSRB: the ONNX file that the card describes, with 43 names and "not a sign", accuracy on tracks that
    were kept out; a GPU that isn't there is refused before the data is read."""
    settings = JurorSettings(kind="coarse", epochs=1, batch=64)
    card = train_sign_juror(small_gtsrb, tmp_path / "run", [], settings, threads=1, workers=0)
    assert card == json.loads((tmp_path / "run" / "card.json").read_text())
    assert card["juror"] == {"kind": "coarse", "file": "juror.onnx", "width": 32, "height": 32}
    assert card["accuracy"]["test"]["images"] == 86
    there = {path.name for path in (tmp_path / "run").iterdir()}
    assert there == {"card.json", "juror.onnx", "checkpoint.pt", "log.jsonl"}
    with pytest.raises(UsageError, match="cuda:99"):
        train_sign_juror(tmp_path / "no data", tmp_path / "b", [], settings, threads=1, workers=0, device="cuda:99")
