"""Plans are found by their key and used only if every byte is what was written."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from firewall.bundle.onnx_bytes import Precision
from firewall.engines.plan_cache import FrameSizes, PlanCache, PlanKey, Profile, Target, plan_folder, precision_named
from firewall.errors import EngineError, UsageError

CONTENT = bytes(range(256)) * 8


def key(precision: Precision = "fp16", most: int = 8, **changes: str) -> PlanKey:
    fields = {"onnx": "ab" * 32, "output": "logits", "tensorrt": "10.3.0", "gpu": "Orin", "compute_capability": "8.7"}
    return PlanKey(**{**fields, **changes}, precision=precision, profile=Profile(best=4, most=most))


@pytest.fixture
def cache(tmp_path: Path) -> PlanCache:
    return PlanCache(tmp_path / "plans")


def store(cache: PlanCache, named: PlanKey) -> Path:
    return cache.store(named, CONTENT, network="cd" * 32, layers={"float16": 3}, made={"seconds": 1.5})


def test_what_is_stored_is_found(cache: PlanCache) -> None:
    """Content, layers and notes come back; nobody else may read the files; nothing else is left in the folder."""
    path = store(cache, key())
    plan = cache.load(key())
    assert (plan.content, plan.layers, plan.network, plan.made) == (
        CONTENT,
        {"float16": 3},
        "cd" * 32,
        {"seconds": 1.5},
    )
    assert path.stat().st_mode & 0o777 == 0o600 and cache.folder.stat().st_mode & 0o777 == 0o700
    assert {file.suffix for file in cache.folder.iterdir()} == {".plan", ".json"}


@pytest.mark.parametrize(
    "other",
    [
        key("int8"),
        key(most=9),
        key(onnx="ac" * 32),
        key(output="other"),
        key(tensorrt="10.3.1"),
        key(gpu="Thor"),
        key(compute_capability="11.0"),
    ],
)
def test_each_part_of_the_key_counts(cache: PlanCache, other: PlanKey) -> None:
    """A plan for another value of any part is another plan: not found, and not passed off as this one by its name."""
    path = store(cache, key())
    assert other.name != key().name
    with pytest.raises(EngineError, match="can't read"):
        cache.load(other)
    path.rename(path.with_name(f"{other.name}.plan"))
    path.with_suffix(".json").rename(path.with_name(f"{other.name}.json"))
    with pytest.raises(EngineError, match="for another key"):
        cache.load(other)
    assert cache.entries() == []


def test_plans_of_before_there_were_frames_are_still_found(cache: PlanCache) -> None:
    """A classifier's key and note are what they were in the first version that kept plans."""
    path = store(cache, key())
    assert path.stem == "abababababab-fp16-e98385c87ffe4109"
    note = path.with_suffix(".json")
    values = json.loads(note.read_text())
    del values["key"]["frame"]
    note.write_text(json.dumps(values))
    assert cache.load(key()).key == key()


def test_sizes_of_frames_are_part_of_the_key(cache: PlanCache) -> None:
    """Other frames, another plan; of several the one for the largest; sizes that fall are refused."""
    sizes = [FrameSizes(least=(32, 32), best=(64, 64), most=(most, 64)) for most in (64, 128, 96)]
    keys = [key().model_copy(update={"frame": size}) for size in sizes]
    assert len({each.name for each in [key(), *keys]}) == 4
    for each in keys:
        store(cache, each)
    assert cache.find(keys[0].target).key == keys[1]
    assert keys[1].shapes((-1, 3, -1, -1)) == [(1, 3, 32, 32), (4, 3, 64, 64), (8, 3, 128, 64)]
    assert key().shapes((-1, 3, 48, 40)) == [(1, 3, 48, 40), (4, 3, 48, 40), (8, 3, 48, 40)]
    with pytest.raises(ValueError, match="must not fall"):
        FrameSizes(least=(32, 32), best=(64, 16), most=(64, 64))


def test_a_changed_byte_is_found_out(cache: PlanCache) -> None:
    """Any byte, a byte more, a byte less; a note that is damaged, of another format, or gone."""
    path = store(cache, key())
    note = path.with_suffix(".json")
    for place in (0, 1000, len(CONTENT) - 1):
        path.write_bytes(CONTENT[:place] + bytes([CONTENT[place] ^ 4]) + CONTENT[place + 1 :])
        with pytest.raises(EngineError, match=r"is not the file that was built .* 'firewall export tensorrt'"):
            cache.load(key())
    for content in (CONTENT[:-1], CONTENT + b"\0"):
        path.write_bytes(content)
        with pytest.raises(EngineError, match="is not the file that was built"):
            cache.load(key())
    path.write_bytes(CONTENT)
    good = note.read_text()
    for text in (good[:-20], good.replace('"format": 1', '"format": 2'), good.replace('"layers"', '"layer"')):
        note.write_text(text)
        with pytest.raises(EngineError, match="no note of a TensorRT plan"):
            cache.load(key())
    note.unlink()
    with pytest.raises(EngineError, match="can't read"):
        cache.load(key())


def test_what_others_may_write_is_not_used(cache: PlanCache, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder, plan or note that is writable for others, a link, a pipe, or somebody else's: code from elsewhere."""
    path = store(cache, key())
    for file in (cache.folder, path, path.with_suffix(".json")):
        mode = file.stat().st_mode
        file.chmod(mode | 0o020)
        with pytest.raises(EngineError, match="can be written by others"):
            cache.load(key())
        file.chmod(mode)
    cache.load(key())
    real = path.with_name("real")
    path.rename(real)
    path.symlink_to(real)
    with pytest.raises(EngineError, match="can't read"):
        cache.load(key())
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(EngineError, match="no plain file"):
        cache.load(key())
    path.unlink()
    real.rename(path)
    owner = path.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    if owner != 0:
        with pytest.raises(EngineError, match=f"belongs to user {owner}"):
            cache.load(key())
    else:
        assert cache.load(key()).content == CONTENT  # root's may be used by all


def test_the_one_plan_of_a_network_and_device(cache: PlanCache) -> None:
    """Two precisions: one must be named. Two batches: the larger. None, or for another device: how to build it."""
    asked = {"onnx": "ab" * 32, "output": "logits", "tensorrt": "10.3.0", "gpu": "Orin", "compute_capability": "8.7"}
    with pytest.raises(EngineError, match=r"no TensorRT plans in .*'firewall export tensorrt'"):
        cache.find(Target(**asked))
    for stored in (key(most=8), key(most=16), key("int8"), key("int8", gpu="Thor")):
        store(cache, stored)
    assert cache.find(Target(**asked), precision="fp16").key == key(most=16)
    assert cache.find(Target(**asked), precision="int8").key == key("int8")
    with pytest.raises(EngineError, match=r"precision fp16, int8 .* name one"):
        cache.find(Target(**asked))
    assert cache.find(Target(**{**asked, "gpu": "Thor"})).key == key("int8", gpu="Thor")
    with pytest.raises(EngineError, match=r"no fp32 TensorRT plan .* on Orin \(compute capability 8.7\)"):
        cache.find(Target(**asked), precision="fp32")
    with pytest.raises(EngineError, match=r"TensorRT 11.4"):
        cache.find(Target(**{**asked, "tensorrt": "11.4"}))


def test_where_plans_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FIREWALL_PLANS, else the user's cache. What can't be a folder is told."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("FIREWALL_PLANS", raising=False)
    assert plan_folder() == tmp_path / "perception-firewall" / "plans" == PlanCache().folder
    monkeypatch.setenv("FIREWALL_PLANS", str(tmp_path / "mine"))
    assert plan_folder() == tmp_path / "mine"
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(EngineError, match="name another folder with --out"):
        store(PlanCache(file), key())
    with pytest.raises(EngineError, match="is no folder"):
        PlanCache(file).load(key())
    with pytest.raises(EngineError, match="name another folder with --out"):
        store(PlanCache(file / "below"), key())


def test_the_environment_may_name_the_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of three, or nothing; anything else is told."""
    for value, named in (("", None), ("int8", "int8")):
        monkeypatch.setenv("FIREWALL_PRECISION", value)
        assert precision_named() == named
    monkeypatch.setenv("FIREWALL_PRECISION", "half")
    with pytest.raises(UsageError, match="one of fp32, fp16, int8, got 'half'"):
        precision_named()


def test_timings_are_kept_by_version_and_gpu(cache: PlanCache) -> None:
    """Another version or GPU has its own; without a folder there are none, and a file that others may write is none."""
    assert cache.timing("10.3.0", "Orin") == b""
    cache.prepare()
    cache.store_timing("10.3.0", "Orin", b"timed")
    assert cache.timing("10.3.0", "Orin") == b"timed"
    assert cache.timing("10.3.0", "Thor") == cache.timing("11.4", "Orin") == b""
    (file,) = cache.folder.iterdir()
    file.chmod(0o666)
    assert cache.timing("10.3.0", "Orin") == b""
