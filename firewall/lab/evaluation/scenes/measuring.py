"""`firewall lab evaluate scenes`: from options to figures and pictures."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from firewall.bundle.certificate import judges
from firewall.errors import DataError, UsageError
from firewall.lab.database.building import alone
from firewall.lab.datasets.scenes import RoadScenes, open_scenes
from firewall.lab.evaluation.scenes.attacked import Attacking, attacked_scenes, check_attack
from firewall.lab.evaluation.scenes.figures import INTERVALS, FrameOutcome, figures
from firewall.lab.evaluation.scenes.guard import Guard, Looking, open_guard
from firewall.lab.evaluation.scenes.made_sequences import made_sequences
from firewall.lab.evaluation.scenes.matching import FOUND, TOUCHING, judged_signs
from firewall.lab.evaluation.scenes.parts import signs_within
from firewall.lab.evaluation.scenes.pictures import Shown, around
from firewall.lab.evaluation.scenes.rows import Looked, kept, looked_at
from firewall.lab.evaluation.scenes.video import judged_video
from firewall.lab.models import Protected, open_classifier

__all__ = ["Measured", "Settings", "measure"]


@dataclass(frozen=True, slots=True)
class Settings:
    """The options of `firewall lab evaluate scenes`.

    Attributes:
        looking: With what frames are looked at.
        scenes: As `open_scenes` takes them; None: only a video is judged.
        frames: As `RoadScenes.chosen` takes them.
        limit: The first so many of the frames.
        attack: How signs are attacked in them; None: not.
        made: Sequences that are made of the frames; 0: none.
        video: A video that nobody annotated; None: none.
        seed: Of all random choices.
    """

    looking: Looking = field(default_factory=Looking)
    scenes: Path | None = None
    frames: str = "1:0"
    limit: int | None = None
    attack: Attacking | None = None
    made: int = 0
    video: Path | None = None
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Measured:
    """The result.

    Attributes:
        summary: As `--json` writes it.
        shown: Pictures for the page.
    """

    summary: dict[str, Any]
    shown: list[Shown]


def measure(settings: Settings, work: Path | None, *, pictures: bool = False) -> Measured:
    """Measure a bundle and a finder on road scenes.

    Args:
        settings: What, and with what.
        work: Folder in which rows are kept, so that a stopped run goes on; None: nothing is kept.
        pictures: Whether pictures for the page are made.

    Returns:
        The figures and pictures.

    Raises:
        UsageError: Nothing is named to judge, or an option doesn't fit.
        DataError: Frames or annotations are missing or damaged, or there is no room.
        BundleError: The bundle is damaged.
        EngineError: A network can't be run.
    """
    if settings.scenes is None and settings.video is None:
        raise UsageError("name what is judged: annotated frames with --scenes, or a video with --video")
    if settings.scenes is None and (settings.attack is not None or settings.made):
        raise UsageError("--attack and --made-sequences need annotated frames; name them with --scenes")
    classifier = None
    if settings.attack is not None:
        classifier = open_classifier(settings.looking.bundle)
        check_attack(settings.attack, classifier)
    guard = open_guard(settings.looking)
    summary: dict[str, Any] = {}
    shown: list[Shown] = []
    with _folder(work) as place:
        if settings.scenes is not None:
            scenes = open_scenes(settings.scenes, guard.labels).chosen(settings.frames, settings.limit)
            scenes.check()
            summary, shown = _on_scenes(guard, scenes, settings, classifier, place, pictures)
        if settings.video is not None:
            summary["video"], released = judged_video(guard, settings.video)
            shown += released
    manifest = guard.firewall.bundle.manifest
    summary["about"] = {
        "bundle": manifest.name,
        "bundle_sha256": guard.firewall.bundle.sha256,
        "judges": judges(manifest),
        "regions": settings.looking.regions,
        **({} if settings.looking.within is None else {"within": str(settings.looking.within)}),
        "device": settings.looking.device,
        "threads": settings.looking.threads,
        "frames": settings.frames,
        "seed": settings.seed,
        "rule": f"a sign is found by a region with an IoU of at least {FOUND:g}, matched one to one; a label counts "
        f"for the sign that its region lies at (IoU of at least {TOUCHING:g}), at none it is a phantom; sizes are the "
        "shorter side; single frames, tracks off",
        "intervals": INTERVALS,
        **summary.pop("of_scenes", {}),
    }
    return Measured(summary, shown)


def _on_scenes(
    guard: Guard, scenes: RoadScenes, settings: Settings, classifier: Protected | None, work: Path, pictures: bool
) -> tuple[dict[str, Any], list[Shown]]:
    rows = _rows(guard, scenes, work / "scenes" / guard.key / f"frames-{_called(settings)}.jsonl")
    looked = [[Looked.from_json(each) for each in row["regions"]] for row in rows]
    outcomes = []
    for signs, some, row in zip(scenes.signs, looked, rows, strict=True):
        outcomes.append(FrameOutcome(judged_signs(signs, some), len(some), row["ms"]))
    summary = figures(outcomes, guard.labels)
    if settings.looking.within is not None:
        summary["within"] = signs_within(scenes, guard.finder)
    shown = _pictured(guard, scenes, outcomes) if pictures else []
    if settings.attack is not None and classifier is not None:
        summary["attacked"], more = attacked_scenes(
            guard, scenes, looked, classifier, settings.attack, work, pictures=pictures
        )
        shown += more
    if settings.made:
        summary["made_sequences"], more = made_sequences(
            guard, scenes, settings.made, settings.seed, work, pictures=pictures
        )
        shown += more
    notes = []
    if not any(sign.label is not None for signs in scenes.signs for sign in signs):
        notes.append("no annotated sign is of a class that the bundle has a label for: all are other signs")
    summary["of_scenes"] = {"layout": scenes.layout, "classes_by": scenes.classes, "notes": notes}
    return summary, shown


def _called(settings: Settings) -> str:
    """Other frames have another file, so that they don't overwrite each other's rows."""
    stem = "" if settings.scenes is None else settings.scenes.resolve().stem
    return "".join(letter if letter.isalnum() else "-" for letter in f"{stem} {settings.frames}")


def _rows(guard: Guard, scenes: RoadScenes, file: Path) -> list[dict[str, Any]]:
    """The regions and times of each frame."""
    warm: list[bool] = []

    def row(place: int) -> dict[str, Any]:
        pixels = scenes.frames[place]
        if not warm:  # the first frame pays for what is loaded then, and no other would
            guard.look(pixels)
            warm.append(True)
        verdicts, ms = guard.look(pixels)
        return {"frame": scenes.names[place], "regions": [each.to_json() for each in looked_at(verdicts)], "ms": ms}

    keys = [scenes.digest(place) for place in range(len(scenes))]
    return kept(file, keys, row, "frames")


def _pictured(guard: Guard, scenes: RoadScenes, outcomes: Sequence[FrameOutcome]) -> list[Shown]:
    """Every miss, wrong release and phantom, and every sign that was found and withheld."""
    shown = []
    for place, outcome in enumerate(outcomes):
        found: list[tuple[str, str, tuple[int, int, int, int]]] = [
            ("phantoms", f"released as {guard.labels[phantom.released or 0]}", phantom.region)
            for phantom in outcome.matched.phantoms
        ]
        for one in outcome.matched.signs:
            if one.wrong:
                wrong = next(each for each in one.regions if each.released not in (None, one.sign.label))
                kind = "released on another sign" if one.sign.label is None else "released wrong"
                caption = f"{one.sign.name}, released as {guard.labels[wrong.released or 0]}"
                found.append((kind, caption, wrong.region))
            elif one.sign.label is not None and one.missed:
                found.append(("missed", f"{one.sign.name}, {one.sign.side} px", one.sign.region))
            elif one.sign.label is not None and one.withheld:
                found.append(("withheld", f"{one.sign.name}, {one.regions[0].reason}", one.regions[0].region))
        if found:
            frame = scenes.frames[place]
            shown += [Shown(kind, scenes.names[place], text, around(frame, region)) for kind, text, region in found]
    return shown


@contextmanager
def _folder(work: Path | None) -> Iterator[Path]:
    with ExitStack() as stack:
        if work is None:
            yield Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="firewall-scenes-")))
            return
        try:
            work.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"can't make the folder {work}: {error.strerror}; name another --work") from error
        stack.enter_context(alone(work, "--work"))
        yield work
