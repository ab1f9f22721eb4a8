"""Signs that are attacked inside their frames: the attack on the crop, pasted back, the frame compressed, and judged.

The attacker knows the classifier and the region that the finder gives for the unattacked frame, and changes no pixel
outside of it. What the finder makes of the attacked frame is up to the finder.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from firewall.errors import DataError, UsageError
from firewall.frame import Pixels, Region
from firewall.lab.attacks.channels import Channel, parse_channel
from firewall.lab.attacks.registry import named
from firewall.lab.datasets.scenes import RoadScenes, Sign
from firewall.lab.evaluation.crops.attacked import attacked, check
from firewall.lab.evaluation.crops.images import Crops
from firewall.lab.evaluation.crops.verdicts import digest
from firewall.lab.evaluation.scenes.figures import rate
from firewall.lab.evaluation.scenes.guard import Guard
from firewall.lab.evaluation.scenes.matching import TOUCHING, Outcome, judged_signs
from firewall.lab.evaluation.scenes.pictures import Shown, around
from firewall.lab.evaluation.scenes.rows import Looked, kept, looked_at
from firewall.lab.models import Protected

__all__ = ["Attacking", "attacked_scenes", "check_attack"]


@dataclass(frozen=True, slots=True)
class Attacking:
    """How signs are attacked.

    Attributes:
        attack: As `firewall.lab.attacks.by_name` takes it.
        compress: What the whole frame goes through afterwards, as `parse_channel` takes it; "none": nothing.
        signs: How many.
        seed: Which ones, and all random choices of the attack.
    """

    attack: str
    compress: str = "jpeg-90"
    signs: int = 40
    seed: int = 0

    @property
    def channel(self) -> Channel | None:
        """What the frame goes through."""
        return None if self.compress == "none" else parse_channel(self.compress)


@dataclass(frozen=True, slots=True)
class _Victim:
    frame: int
    sign: int
    region: Region


def check_attack(settings: Attacking, classifier: Protected) -> None:
    """Look at the names before anything is measured.

    Raises:
        UsageError: The attack or channel is unknown, gives a crop another size, or needs gradients that there aren't.
        MissingExtraError: The codec of the channel is not installed.
    """
    if named(settings.attack).at_input:
        raise UsageError(
            f"--attack {settings.attack}: @input changes the crop's size, so that it can't be pasted back; leave it out"
        )
    check((settings.attack,), classifier)
    parse_channel("jpeg-90" if settings.compress == "none" else settings.compress)


def attacked_scenes(
    guard: Guard,
    scenes: RoadScenes,
    clean: Sequence[Sequence[Looked]],
    classifier: Protected,
    settings: Attacking,
    work: Path,
    *,
    pictures: bool = False,
) -> tuple[dict[str, Any], list[Shown]]:
    """Attack signs, and say what is released on them.

    Args:
        guard: Judges.
        scenes: The frames.
        clean: The regions of each unattacked frame, with their verdicts.
        classifier: The bundle's, to be attacked.
        settings: How.
        work: Attacked crops and rows are kept here.
        pictures: Whether wrong releases are shown.

    Returns:
        The figures, ready for JSON, and the pictures.

    Raises:
        DataError: No sign is found and named right before it is attacked, or there is no room.
        EngineError: A network can't be run.
    """
    victims, crops = _victims(scenes, clean, settings)
    images = attacked(settings.attack, classifier, crops, work / "attacked", settings.seed).images
    channel = settings.channel

    def sent(place: int, crop: Pixels) -> tuple[Pixels, list[Looked]]:
        victim = victims[place]
        x, y, width, height = victim.region
        frame = scenes.frames[victim.frame].copy()
        frame[y : y + height, x : x + width] = crop
        if channel is not None:
            frame = channel.through(frame, np.random.default_rng([settings.seed, place]))
        return frame, looked_at(guard.look(frame)[0])

    def row(place: int) -> dict[str, Any]:
        found = {}
        for name, crop in (("before", crops.images[place]), ("after", images[place])):
            victim = victims[place]
            one = judged_signs(scenes.signs[victim.frame], sent(place, crop)[1]).signs[victim.sign]
            found[name] = {"found": one.found, "regions": [each.to_json() for each in one.regions]}
        return found

    keys = [
        hashlib.sha256(f"{scenes.digest(each.frame)} {digest(image)} {each} {settings.compress}".encode()).hexdigest()
        for each, image in zip(victims, images, strict=True)
    ]
    file = work / "scenes" / guard.key / f"attacked-{_plain(settings.attack)}-{_plain(settings.compress)}.jsonl"
    rows = kept(file, keys, row, f"{settings.attack}, {settings.compress}")
    signs = [scenes.signs[each.frame][each.sign] for each in victims]
    before, after = (
        [_outcome(sign, found[name]) for sign, found in zip(signs, rows, strict=True)] for name in ("before", "after")
    )
    groups = [each.frame for each in victims]
    shown = []
    for place, outcome in enumerate(after):
        if pictures and outcome.wrong:
            wrong = next(each for each in outcome.regions if each.released not in (None, outcome.sign.label))
            caption = f"{outcome.sign.name}, released as {guard.labels[wrong.released or 0]}"
            kind = f"released wrong under {settings.attack}, {settings.compress}"
            image = around(sent(place, images[place])[0], wrong.region)
            shown.append(Shown(kind, scenes.names[victims[place].frame], caption, image))
    fooled = [bool(one.regions) and one.regions[0].named != one.sign.label for one in after]
    return {
        "attack": settings.attack,
        "compress": settings.compress,
        "n": len(victims),
        "wrong_release": rate([one.wrong for one in after], groups),
        **_figures(after, groups),
        "classifier_fooled": rate(fooled, groups),
        "without_attack": {"released_wrong": rate([one.wrong for one in before], groups), **_figures(before, groups)},
        "what": f"signs that were found and named right before; any other label that goes out on a region that lies at "
        f"the sign (IoU of {TOUCHING:g} and more) counts; the attacker knows the classifier and where the finder looks",
    }, shown


def _outcome(sign: Sign, row: dict[str, Any]) -> Outcome:
    return Outcome(sign, row["found"], tuple(map(Looked.from_json, row["regions"])))


def _figures(outcomes: Sequence[Outcome], groups: Sequence[int]) -> dict[str, Any]:
    return {
        "released_right": rate([one.right for one in outcomes], groups),
        "withheld": rate([one.withheld for one in outcomes], groups),
        "missed": rate([one.missed for one in outcomes], groups),
    }


def _victims(scenes: RoadScenes, clean: Sequence[Sequence[Looked]], settings: Attacking) -> tuple[list[_Victim], Crops]:
    """Signs, at first one of each frame, that are found and named right; the crops that the firewall sees of them."""
    possible = []
    for number, (signs, looked) in enumerate(zip(scenes.signs, clean, strict=True)):
        for place, outcome in enumerate(judged_signs(signs, looked).signs):
            if outcome.found and outcome.sign.label is not None and outcome.regions[0].named == outcome.sign.label:
                possible.append(_Victim(number, place, outcome.regions[0].region))
    if not possible:
        raise DataError(
            "no sign of these frames is found and named right, so that none can be attacked; name other --scenes, or "
            "leave --attack out"
        )
    order = np.random.default_rng(settings.seed).permutation(len(possible)).tolist()
    met: dict[int, int] = {}
    turns = []
    for place in order:
        turns.append(met.setdefault(possible[place].frame, 0))
        met[possible[place].frame] += 1
    chosen = [possible[order[place]] for place in np.argsort(turns, kind="stable").tolist()][: settings.signs]
    images = []
    for each in chosen:
        x, y, width, height = each.region
        images.append(np.ascontiguousarray(scenes.frames[each.frame][y : y + height, x : x + width]))
    labels = np.array([scenes.signs[each.frame][each.sign].label for each in chosen], np.int64)
    sources = [f"{scenes.names[each.frame]}/{each.sign}" for each in chosen]
    return chosen, Crops(images, labels, np.array([each.frame for each in chosen], np.int64), sources)


def _plain(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-." else "_" for letter in name)
