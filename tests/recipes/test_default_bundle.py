"""The recipe of the default bundle: the whole graph on tiny data, what is made again and what isn't, its record."""

from __future__ import annotations

import functools
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from firewall import Firewall
from firewall.bundle import load_bundle
from firewall.errors import BundleError
from recipes.default_bundle import make, resume
from tests.recipes import warm

RECIPE = Path(make.__file__).parent
GRAPH: dict[str, Any] = yaml.safe_load((RECIPE / "dvc.yaml").read_text())["stages"]
FULL: dict[str, Any] = yaml.safe_load((RECIPE / "full.yaml").read_text())
TINY: dict[str, Any] = yaml.safe_load((RECIPE / "tiny.yaml").read_text())


def _picture(label: int, light: float, generator: np.random.Generator) -> Image.Image:
    """A class is a colour and the place of a square in it: learnt in seconds."""
    colour = np.random.default_rng(label).integers(0, 256, 3)
    pixels = np.empty((26, 24, 3))
    pixels[:] = colour * light
    row, column = divmod(label, 7)
    pixels[3 * row : 3 * row + 6, 3 * column : 3 * column + 6] = 255 - colour
    return Image.fromarray(np.clip(pixels + generator.normal(0, 6, pixels.shape), 0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`gtsrb`: 43 classes in the official layout, 3 tracks of 2 frames and 4 test images each; `outliers`: noise;
    `scenes.npz`: 10 scenes with two signs each."""
    root = tmp_path_factory.mktemp("data")
    generator = np.random.default_rng(0)
    head = "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId"
    for label in range(43):
        folder = root / "gtsrb" / "Final_Training" / "Images" / f"{label:05d}"
        folder.mkdir(parents=True)
        rows = [head]
        for track in range(3):
            light = generator.uniform(0.7, 1.1)
            for frame in range(2):
                name = f"{track:05d}_{frame:05d}.ppm"
                _picture(label, light, generator).save(folder / name)
                rows.append(f"{name};24;26;2;2;20;22;{label}")
        (folder / f"GT-{label:05d}.csv").write_text("\n".join(rows) + "\n")
    folder = root / "gtsrb" / "Final_Test" / "Images"
    folder.mkdir(parents=True)
    rows = [head]
    for number in range(172):
        _picture(number % 43, generator.uniform(0.7, 1.1), generator).save(folder / f"{number:05d}.ppm")
        rows.append(f"{number:05d}.ppm;24;26;2;2;20;22;{number % 43}")
    (root / "gtsrb" / "GT-final_test.csv").write_text("\n".join(rows) + "\n")
    (root / "outliers").mkdir()
    for number in range(12):
        noise = generator.integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(noise).save(root / "outliers" / f"{number}.png")
    _scenes(root / "scenes.npz", generator)
    return root


def _scenes(path: Path, generator: np.random.Generator) -> None:
    """A pack like GTSDB's: the frames' numbers, and for each the signs as [class, left, top, right, bottom]."""
    files, boxes = [], []
    for number in range(10):
        frame = Image.fromarray(generator.integers(90, 130, (120, 160, 3), dtype=np.uint8))
        signs = []
        for place, label in enumerate((2 * number, 2 * number + 1)):
            left = 20 + 70 * place
            frame.paste(_picture(label, 1.0, generator).resize((40, 40)), (left, 40))
            signs.append([label, left + 5, 45, left + 35, 75])
        content = io.BytesIO()
        frame.save(content, "PNG")
        files.append(content.getvalue())
        boxes.append(json.dumps(signs))
    np.savez(
        path,
        blob=np.frombuffer(b"".join(files), np.uint8),
        off=np.cumsum([0, *map(len, files)]).astype(np.int64),
        frame=np.arange(10),
        boxes=np.array(boxes),
    )


def _command(data: Path, work: Path, params: Path, *further: str, python: str = sys.executable) -> list[str]:
    given = ["--data", str(data / "gtsrb"), "--outliers", str(data / "outliers")]
    given += ["--scenes", str(data / "scenes.npz"), "--work", str(work)]
    return [python, make.__file__, *given, "--params", str(params), *further]


def _make(data: Path, work: Path, params: Path, *further: str, python: str = sys.executable) -> str:
    """What a run says, both streams; it has to end well. No network proxy, home or git is needed: none is given.
    python: of an environment with the commands that it runs."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(work.parent), "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}
    done = subprocess.run(
        _command(data, work, params, *further, python=python),
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=3000,
        env=environment,
    )
    assert done.returncode == 0, done.stdout[-6000:]
    return done.stdout


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of an environment like this one, in which `firewall` starts without importing torch each time."""
    with warm.environment(tmp_path_factory.mktemp("warm")) as path:
        yield path


def _ran(output: str) -> list[str]:
    return re.findall(r"^Running stage '([^']+)'", output, re.MULTILINE)


def _kill_in(stage: str, sign: str, data: Path, work: Path, params: Path) -> None:
    """Start the recipe, and kill DVC without warning as soon as a stage's output has `sign` in it."""
    run = subprocess.Popen(
        _command(data, work, params), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        limit = time.monotonic() + 900
        while not list(work.glob(sign)):
            assert run.poll() is None, f"the recipe ended before it was in the stage {stage}"
            assert time.monotonic() < limit, f"the stage {stage} never came to {sign}"
            time.sleep(0.02)
        os.kill(run.pid, signal.SIGKILL)
    finally:
        run.kill()
        run.wait(60)
    while _at_work(work):  # they go with it, and soon
        assert time.monotonic() < limit, "a stage went on after its recipe was killed"
        time.sleep(0.05)


def _at_work(work: Path) -> list[str]:
    """Processes, zombies aside, whose working directory is the recipe's."""
    return [process.name for process in Path("/proc").glob("[0-9]*") if _is_at_work(process, work)]


def _is_at_work(process: Path, work: Path) -> bool:
    try:
        state = (process / "stat").read_text().rpartition(") ")[2][0]
        return state != "Z" and (process / "cwd").readlink() == work.resolve()
    except OSError:
        return False  # gone, or somebody else's


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_whole_graph_on_tiny_data(data: Path, python: str, tmp_path: Path) -> None:
    """From the data to a bundle that loads and screens: killed on the way it goes on, run again it makes nothing, and a
    changed parameter makes again what depends on it and nothing else; the manifest names every stage. The run that is
    killed is of real processes; those after it share one import of torch, see warm.py."""
    work, params = tmp_path / "work", tmp_path / "params.yaml"
    shutil.copyfile(RECIPE / "tiny.yaml", params)
    made = functools.partial(_make, work=work, params=params, python=python)

    _kill_in("classifier-first", "classifier-first/log.jsonl", data, work, params)
    before = (work / "classifier-first" / "log.jsonl").read_text().splitlines()
    assert 1 <= len(before) < TINY["classifier_first"]["epochs"]
    output = made(data)
    assert sorted(_ran(output)) == sorted(GRAPH)
    # It went on: the epochs of before stand in front of those that were left, and none was had twice.
    log = (work / "classifier-first" / "log.jsonl").read_text().splitlines()
    assert log[: len(before)] == before
    assert [json.loads(line)["epoch"] for line in log] == list(range(1, TINY["classifier_first"]["epochs"] + 1))

    bundle = load_bundle(work / "bundle")
    record = bundle.manifest.provenance
    assert record is not None
    assert set(record.stages) == set(GRAPH) - {"bundle"}
    lock = yaml.safe_load((work / "dvc.lock").read_text())["stages"]
    for name, stage in record.stages.items():
        assert stage.command.startswith(("firewall lab ", "python $CHECKOUT/benchmarks/")), name
        assert stage.parameters == {group: TINY[group] for group in GRAPH[name].get("params", ())}, name
        for side, key in ((stage.inputs, "deps"), (stage.outputs, "outs")):
            assert {file.path: file.hash for file in side} == {f["path"]: f"md5:{f['md5']}" for f in lock[name][key]}
    assert str(data) not in (work / "bundle" / "manifest.json").read_text()
    assert {"certificate.json", "conditional.json", "drift.json", "finder.onnx", "masked.onnx", "tracks.json"} <= set(
        bundle.files
    )
    jurors = ["juror-robust", "juror-edges", "juror-masked"]
    judges = ["contrast", "confidence", "stability", *jurors, "not-a-sign", "obstructed"]
    assert [spec.name for spec in bundle.manifest.detectors] == judges
    assert bundle.manifest.fusion is None
    assert bundle.manifest.correction is not None
    attacks = json.loads((work / "results" / "attacks.json").read_text())["attacks"]
    assert set(attacks) == set(TINY["released"]["attacks"].split(","))
    verdict = Firewall.load(work / "bundle", threads=1).screen(np.asarray(_picture(3, 1.0, np.random.default_rng(5))))
    assert verdict.reason
    shown = subprocess.run(
        [sys.executable, "-m", "firewall", "bundle", "show", str(work / "bundle")],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "300"},
    ).stdout
    assert all(re.search(rf"^ *{name} ", shown, re.MULTILINE) for name in record.stages)

    manifest = (work / "bundle" / "manifest.json").read_bytes()
    # The same data at other times and in another place is the same data.
    moved = tmp_path / "moved"
    shutil.copytree(data, moved, copy_function=shutil.copyfile)
    assert _ran(made(moved)) == []
    assert (work / "bundle" / "manifest.json").read_bytes() == manifest

    changed = yaml.safe_load(params.read_text())
    changed["report"]["shift"] += 1
    # Written in another order, which is no change.
    params.write_text(yaml.safe_dump({group: changed[group] for group in reversed(changed)}, sort_keys=False))
    assert _ran(made(data)) == ["report", "bundle"]
    again = load_bundle(work / "bundle").manifest.provenance
    assert again is not None
    assert again.stages["report"].parameters == {"report": changed["report"]}
    # Nothing but what belongs to the work folder, and no copies of what was made.
    assert {path.name for path in tmp_path.iterdir()} == {"work", "params.yaml", "moved"}
    assert not (work / ".dvc" / "cache").exists()

    installed = tmp_path / "shipped"
    shutil.copytree(load_bundle("default").path, installed)
    make.install(work, installed)
    assert load_bundle(installed).sha256 == load_bundle(work / "bundle").sha256
    assert {path.name for path in installed.iterdir()} == {"manifest.json", *load_bundle(installed).files}


@pytest.mark.parametrize("params", [FULL, TINY])
def test_every_stage_says_what_it_reads_and_writes(params: dict[str, Any]) -> None:
    """Each path in a stage's command is among its inputs or outputs and the other way round, each group of parameters
    is used where it is named, and a stage's outputs have one maker."""
    made = [next(iter(out)) for stage in GRAPH.values() for out in stage["outs"]]
    assert len(made) == len(set(made))
    known = {*made, "inputs/gtsrb", "inputs/gtsdb", "inputs/outliers", "graph.yaml", "params.yaml"}
    for name, stage in GRAPH.items():
        words = stage["cmd"].replace("${outliers}", "inputs/outliers").split()
        reads = {str(path) for path in resume.values(words)}
        writes = {str(path) for path in resume.values(words, resume.OUTPUTS)}
        assert writes == {next(iter(out)) for out in stage["outs"]}, name
        assert all(next(iter(out.values())) == {"cache": False, "persist": True} for out in stage["outs"]), name
        deps = {dep.replace("${outliers}", "inputs/outliers") for dep in stage["deps"]}
        assert deps <= known, name
        named = {path for path in known if any(read == path or read.startswith(f"{path}/") for read in reads)}
        whole = {
            dep for dep in deps if name == "bundle" or dep.startswith("results/")
        }  # read as a folder, or waited for
        assert named - {"results"} == deps - (whole - named), name
        groups = stage.get("params", [])
        assert re.findall(r"\$\{(\w+)\}", stage["cmd"].replace("${outliers}", "")) == groups, name
        assert set(groups) <= set(params), name
    assert {group for stage in GRAPH.values() for group in stage.get("params", [])} == set(params)


def test_the_full_recipe_parses_and_its_plan_names_all_stages(data: Path, tmp_path: Path) -> None:
    """Of a new work folder everything is to be made; DVC reads the full graph, and nothing is run."""
    output = _make(data, tmp_path / "work", RECIPE / "full.yaml", "--plan")
    assert set(re.findall(r"^([a-z-]+):$", output, re.MULTILINE)) == set(GRAPH)
    assert not (tmp_path / "work" / "classifier-first").exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "name the data"),
        (["--data", "absent", "--outliers", ".", "--scenes", "."], "DATA=absent is no folder"),
        (["--data", ".", "--outliers", "absent", "--scenes", "."], "OUTLIERS=absent is neither"),
        (["--data", ".", "--outliers", "."], "SCENES=PACK"),
        (["--data", ".", "--outliers", ".", "--scenes", "."], "SCENES=. is no .npz pack"),
        (["--data", ".", "--outliers", ".", "--scenes", "PACK", "--params", "absent"], "absent can't be read"),
        (["--install"], "there is no finished bundle"),
    ],
)
def test_a_mistake_is_one_line(arguments: list[str], told: str, tmp_path: Path) -> None:
    """Data that isn't named or isn't there, parameters that aren't, a bundle that isn't made: said before any work."""
    pack = tmp_path / "scenes.npz"
    pack.touch()
    given = [str(pack) if argument == "PACK" else argument for argument in arguments]
    command = [sys.executable, make.__file__, "--work", str(tmp_path / "work"), *given]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode in (1, 2)
    assert told in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_only_the_sets_own_files_are_inputs(data: Path, tmp_path: Path) -> None:
    """Of packs GTSRB's alone, so that another data set beside them changes nothing; half of the packs beside the
    official layout is the whole folder. Set up again, the links are of the new folder."""
    packs = tmp_path / "packs"
    packs.mkdir()
    for name in ("gtsrb_train_a.npz", "mnist.npz"):
        (packs / name).touch()
    work, pictures, scenes = tmp_path / "work", data / "outliers", data / "scenes.npz"
    make.set_up(work, packs, pictures, scenes, RECIPE / "full.yaml")
    assert (work / "inputs" / "gtsrb").resolve() == packs
    (packs / "gtsrb_test32.npz").touch()
    make.set_up(work, packs, packs / "mnist.npz", packs / "mnist.npz", RECIPE / "full.yaml")
    linked = {path.name for path in (work / "inputs" / "gtsrb").iterdir()}
    assert linked == {"gtsrb_train_a.npz", "gtsrb_test32.npz"}
    assert yaml.safe_load((work / "params.yaml").read_text())["outliers"] == "inputs/outliers.npz"
    assert not (work / "inputs" / "outliers").exists()
    assert (work / "inputs" / "gtsdb" / "gtsdb_train.npz").resolve() == packs / "mnist.npz"
    make.set_up(work, data / "gtsrb", pictures, scenes, RECIPE / "full.yaml")
    assert (work / "inputs" / "gtsrb").resolve() == data / "gtsrb"
    assert {path.name for path in packs.iterdir()} == {"gtsrb_train_a.npz", "gtsrb_test32.npz", "mnist.npz"}


def test_a_bundle_without_a_record_is_not_installed(tmp_path: Path) -> None:
    """What another command made in the place of the recipe's last stage stays out of the package."""
    shutil.copytree(load_bundle("default").path, tmp_path / "work" / "bundle")
    with pytest.raises(BundleError, match="no record of how it was made"):
        make.install(tmp_path / "work", tmp_path / "shipped")
    assert not (tmp_path / "shipped").exists()


class TestResume:
    """What a stage finds of its output when it is started: all of it after a kill, nothing after a change."""

    CODE = (
        "import pathlib, sys; out = pathlib.Path(sys.argv[sys.argv.index('--out') + 1]); out.mkdir(exist_ok=True); "
        "(out / 'n').open('a').write('x'); sys.exit(int(pathlib.Path('fails').exists()))"
    )

    def _run(self, folder: Path, *further: str) -> tuple[int, str]:
        command = [sys.executable, resume.__file__, sys.executable, "-c", self.CODE]
        command += ["--data", "data", "--out", "deep/out", *further]
        done = subprocess.run(command, check=False, cwd=folder, env={**os.environ, "DVC_STAGE": "s"})
        return done.returncode, (folder / "deep" / "out" / "n").read_text()

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        (tmp_path / "data" / "measured").mkdir(parents=True)
        (tmp_path / "data" / "a").write_text("a")
        (tmp_path / "fails").touch()
        return tmp_path

    def test_goes_on_with_the_same(self, folder: Path) -> None:
        """Failed or killed, and begun again as it was: the output is still there; a cache in an input is no change."""
        assert self._run(folder) == (1, "x")
        (folder / "data" / "measured" / "kept.npz").write_text("cache")
        os.utime(folder / "data" / "a", (0, 0))
        assert self._run(folder) == (1, "xx")

    @pytest.mark.parametrize("change", ["content", "name", "file", "option"])
    def test_begins_over_after_a_change(self, folder: Path, change: str) -> None:
        """Another content, name or number of an input's files, or another option: nothing of before is left."""
        assert self._run(folder) == (1, "x")
        if change == "content":
            (folder / "data" / "a").write_text("b")
        elif change == "name":
            (folder / "data" / "a").rename(folder / "data" / "b")
        elif change == "file":
            (folder / "data" / "b").touch()
        assert self._run(folder, *(["--seed", "1"] if change == "option" else [])) == (1, "x")

    def test_begins_over_after_a_success(self, folder: Path) -> None:
        """A stage that had ended well is run again because its output was changed or it is forced: from the start."""
        (folder / "fails").unlink()
        assert self._run(folder) == (0, "x")
        assert self._run(folder) == (0, "x")

    def test_one_at_a_time(self, folder: Path) -> None:
        """A second run of a stage that is at work is refused, and touches nothing."""
        import fcntl

        assert self._run(folder) == (1, "x")
        with (folder / ".stages" / "s.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            assert self._run(folder) == (1, "x")
        assert self._run(folder) == (1, "xx")
