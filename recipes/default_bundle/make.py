"""Make the default bundle from the data: set up a work folder and let DVC run the graph of stages in it.

    make bundle DATA=DIR OUTLIERS=PATH SCENES=PACK [WORK=runs/default_bundle]      the same as
    python recipes/default_bundle/make.py --data DIR --outliers PATH --scenes PACK [--work DIR] [--params FILE]
        [STAGE ...]

It can be stopped at any time (Ctrl-C, kill) and goes on where it was; what is unchanged is not made again. With names
of stages, only those and what they need. --plan says what has changed. --install puts a finished bundle in the place of
the shipped one, which nothing else does. See docs/rebuild.md.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import shutil
import sys
from pathlib import Path
from typing import NoReturn

import yaml

from firewall.bundle import DEFAULT, MANIFEST, load_bundle
from firewall.errors import BundleError, DataError, FirewallError, MissingExtraError, UsageError

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parents[1]
BUNDLE = "bundle"  # the folder that the last stage writes
#: Nothing is sent, looked up or kept outside the work folder.
CONFIG = "[core]\n    no_scm = true\n    analytics = false\n    check_update = false\n    autostage = false\n"
#: As resume.CACHES.
IGNORED = "databases/*/measured\n.lock\n"


def main() -> None:
    """Read the command line and do it; a mistake is one line and exit code 2 or 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with GTSRB: the official layout or gtsrb_*.npz packs")
    parser.add_argument("--outliers", type=Path, help="folder or pack of images without traffic signs")
    parser.add_argument("--scenes", type=Path, help="pack of GTSDB: road scenes with the signs' boxes")
    parser.add_argument("--work", type=Path, default=CHECKOUT / "runs" / "default_bundle", help="[%(default)s]")
    parser.add_argument("--params", type=Path, default=HERE / "full.yaml", help="parameters [%(default)s]")
    parser.add_argument("--plan", action="store_true", help="say which stages would be made, and make none")
    parser.add_argument("--install", action="store_true", help="put the finished bundle in place of the shipped one")
    parser.add_argument("stages", nargs="*", metavar="STAGE", help="only these and what they need [all]")
    arguments = parser.parse_args()
    try:
        if arguments.install:
            install(arguments.work, DEFAULT)
            return
        lock = alone(arguments.work)
        set_up(arguments.work, arguments.data, arguments.outliers, arguments.scenes, arguments.params)
        reproduce(arguments.work, arguments.stages, lock, plan=arguments.plan)
    except FirewallError as error:
        sys.stderr.write(f"make.py: error: {error}\n")
        sys.exit(error.exit_code)


def set_up(work: Path, data: Path | None, outliers: Path | None, scenes: Path | None, params: Path) -> None:
    """Make the work folder, or bring it up to date: links to the data, the graph, its parameters, DVC's settings.

    Raises UsageError for data that isn't named, DataError for data that isn't there.
    """
    if data is None or outliers is None or scenes is None:
        raise UsageError(
            "name the data: make bundle DATA=DIR OUTLIERS=PATH SCENES=PACK (DIR: a folder with GTSRB; PATH: a folder "
            "or .npz pack of images without traffic signs; PACK: the .npz pack of GTSDB, with boxes)"
        )
    if not data.is_dir():
        raise DataError(f"DATA={data} is no folder; name the one that GTSRB lies in")
    if not (outliers.is_dir() or (outliers.is_file() and outliers.suffix == ".npz")):
        raise DataError(f"OUTLIERS={outliers} is neither a folder nor a .npz pack; name images without traffic signs")
    if not (scenes.is_file() and scenes.suffix == ".npz"):
        raise DataError(f"SCENES={scenes} is no .npz pack; name GTSDB's: frames with the boxes of their signs")
    try:
        chosen = yaml.safe_load(params.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise DataError(f"the parameters {params} can't be read ({error}); name another file with --params") from error
    if not isinstance(chosen, dict):
        raise DataError(f"the parameters {params} are no groups of options; see recipes/default_bundle/full.yaml")
    for folder in (work / ".dvc", work / "inputs"):
        folder.mkdir(parents=True, exist_ok=True)
    # Of packs GTSRB's alone: what else lies there is no input, and a change of it changes nothing.
    packs = sorted(data.glob("gtsrb_*.npz"))
    if not all(any(pack.name.startswith(f"gtsrb_{part}") for pack in packs) for part in ("train", "test")):
        packs = []  # the official layout, or half of it
    place = work / "inputs" / "gtsrb"
    if place.is_symlink():
        place.unlink()
    shutil.rmtree(place, ignore_errors=True)
    if packs:
        place.mkdir()
        for pack in packs:
            (place / pack.name).symlink_to(pack.resolve())
    else:
        place.symlink_to(data.resolve(), target_is_directory=True)
    # Under the name that the lab looks for; the jurors' trainings read it as a pack, whoever judges as a data set.
    (work / "inputs" / "gtsdb").mkdir(exist_ok=True)
    link = work / "inputs" / "gtsdb" / "gtsdb_train.npz"
    link.unlink(missing_ok=True)
    link.symlink_to(scenes.resolve())
    named = f"inputs/outliers{outliers.suffix if outliers.is_file() else ''}"
    for old in (work / "inputs").glob("outliers*"):
        old.unlink()
    (work / named).symlink_to(outliers.resolve(), target_is_directory=outliers.is_dir())
    # Sorted: the order of options in the file is nothing that a training has to be made again for.
    text = yaml.safe_dump({**chosen, "outliers": named}, sort_keys=True)
    for name, content in (("params.yaml", text), (".dvc/config", CONFIG), (".dvcignore", IGNORED)):
        (work / name).write_text(content, encoding="utf-8")
    for name, copy in (("dvc.yaml", "dvc.yaml"), ("dvc.yaml", "graph.yaml"), ("resume.py", "resume.py")):
        shutil.copyfile(HERE / name, work / copy)


def alone(work: Path) -> int:
    """Lock the work folder until this process, which becomes DVC, has ended; the lock's descriptor.

    Raises DataError if another run holds it, or the folder can't be made.
    """
    try:
        (work / ".dvc").mkdir(parents=True, exist_ok=True)
        lock = os.open(work / ".dvc" / "recipe.lock", os.O_WRONLY | os.O_CREAT, 0o644)
    except OSError as error:
        raise DataError(f"can't work in {work}: {error.strerror}; name another folder with WORK=...") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise DataError(
            f"another run is at work in {work}; wait for it, or name another folder with WORK=..."
        ) from error
    return lock


def reproduce(work: Path, stages: list[str], lock: int, *, plan: bool = False) -> NoReturn:
    """Become DVC in the work folder, so that who stops this process stops DVC."""
    beside = Path(sys.executable).parent
    if not (beside / "dvc").exists():
        raise MissingExtraError("the recipe needs DVC: pip install 'perception-firewall[lab,recipe]'")
    private = work.resolve() / ".dvc"
    environment = {
        **os.environ,
        "PATH": f"{beside}{os.pathsep}{os.environ.get('PATH', '')}",  # `python` and `firewall` of this environment
        "SHELL": "/bin/sh",
        "CHECKOUT": str(CHECKOUT),
        "DVC_NO_ANALYTICS": "1",
        "DVC_SITE_CACHE_DIR": str(private / "site"),
        "DVC_GLOBAL_CONFIG_DIR": str(private / "global"),
        "DVC_SYSTEM_CONFIG_DIR": str(private / "system"),
    }
    os.set_inheritable(lock, True)
    os.chdir(work)
    # `repro --dry` stops at the first input that isn't made yet.
    os.execve(beside / "dvc", ["dvc", "status" if plan else "repro", *stages], environment)  # noqa: S606


def install(work: Path, shipped: Path) -> None:
    """Put the bundle of a finished run in the place of `shipped`, checked on the way; the old one goes at the last."""
    if not (work / BUNDLE / MANIFEST).is_file():
        raise BundleError(
            f"there is no finished bundle in {work}; make it first with 'make bundle DATA=... OUTLIERS=... SCENES=...'"
        )
    new = load_bundle(work / BUNDLE)
    if new.manifest.provenance is None:
        raise BundleError(f"{work / BUNDLE} has no record of how it was made; let 'make bundle' finish")
    beside, old = shipped.with_name(f"{shipped.name}.new"), shipped.with_name(f"{shipped.name}.old")
    for left in (beside, old):
        shutil.rmtree(left, ignore_errors=True)
    beside.mkdir()
    for name in (MANIFEST, *new.manifest.files):
        shutil.copyfile(work / BUNDLE / name, beside / name)
    before = load_bundle(shipped) if (shipped / MANIFEST).is_file() else None
    load_bundle(beside)
    if before is not None:
        shipped.rename(old)
    beside.rename(shipped)
    shutil.rmtree(old, ignore_errors=True)
    was = "nothing" if before is None else f"version {before.manifest.version}, {before.sha256[:12]}"
    sys.stdout.write(f"{shipped}: version {new.manifest.version}, {new.sha256[:12]} (was: {was})\n")


if __name__ == "__main__":
    main()
