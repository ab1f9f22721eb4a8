"""What evidence over time is worth: wrong labels that are released, frame by frame and with tracks, at equal costs.

Each frame of a track was attacked by itself, as by an attacker who follows the sign. Only frames on which the attack
succeeds are shown, which is the harder case: after a failed attack the label is right, so that labels change. A change
that stays in the world, such as a sticker, is not measured here; the evidence of its frames is more alike.

These rules are compared. `frame`: each frame by itself, with the bundle's own limit. `frame, stricter`: the same with
the limit at which as many benign calibration tracks have a frame withheld as with tracks. `tracks`: frame and evidence
together. `tracks, labels unseen`: without the evidence of changing labels, as if the attacker reached the same class in
each frame. `tracks, 3 frames`: a label is also withheld until three consecutive frames have shown it. That always
withholds the first two frames of a benign track, and the shares of benign tracks count them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from firewall.decision.tracks import TracksSpec, running_sums
from firewall.errors import DataError
from firewall.lab.calibration.tracks import Sighting, calibrate_tracks
from firewall.lab.measurement.intervals import Rate, rate_interval, rate_of

__all__ = ["LENGTHS", "Rule", "either", "judge_tracks", "rules"]

#: Attacked tracks are judged at these numbers of frames seen.
LENGTHS = (3, 5, 10)
#: A track is caught if at most so many of its frames are released with the wrong label.
ALLOWED = (0, 1, 2)
_MEASURES = ("withheld_at_last", *(f"at_most_{allowed}_wrong" for allowed in ALLOWED))

Mask = npt.NDArray[np.bool_]
#: Which frames of a track are withheld.
Rule = Callable[[Sighting], Mask]


def rules(spec: TracksSpec, calibration: Sequence[Sighting], confirm: int = 3) -> dict[str, Rule]:
    """The rules that are compared, by name; see the module.

    Args:
        spec: Of the bundle.
        calibration: Benign tracks that the limits are set on.
        confirm: Of the last rule: consecutive frames that have to show a label before it is released.
    """
    blind = calibrate_tracks(calibration, spec.false_alarm_rate, flip=0.0)

    def frame(track: Sighting) -> Mask:
        return ~track.released

    def over_time(track: Sighting) -> Mask:
        sums, same = running_sums(spec, track.suspicion, track.label, track.released)
        return np.asarray(~track.released | ~(sums <= spec.limit) | (same < spec.confirm), bool)

    def without_labels(track: Sighting) -> Mask:
        return np.asarray(
            ~track.released | ~(running_sums(blind, track.suspicion, track.label)[0] <= blind.limit), bool
        )

    def confirmed(track: Sighting) -> Mask:
        same = running_sums(spec, track.suspicion, track.label, track.released)[1]
        return np.asarray(over_time(track) | (same < confirm), bool)

    highest = np.sort([np.where(track.released, track.suspicion, np.inf).max() for track in calibration])
    alarms = sum(bool(over_time(track).any()) for track in calibration)
    strict = float(highest[max(0, len(highest) - alarms - 1)])

    def stricter(track: Sighting) -> Mask:
        return np.asarray(~track.released | ~(track.suspicion <= strict), bool)

    return {
        "frame": frame,
        "frame, stricter": stricter,
        "tracks": over_time,
        "tracks, labels unseen": without_labels,
        f"tracks, {confirm} frames": confirmed,
    }


def either(groups: Collection[int], inside: Mapping[str, Rule], outside: Mapping[str, Rule]) -> dict[str, Rule]:
    """Rules that judge some tracks by one set of rules, and all others by another.

    Args:
        groups: Numbers of the tracks that `inside` judges.
        inside: Rules by name.
        outside: Rules of the same names, for all other tracks.
    """

    def joined(one: Rule, other: Rule) -> Rule:
        return lambda track: one(track) if track.group in groups else other(track)

    return {name: joined(rule, outside[name]) for name, rule in inside.items()}


def judge_tracks(
    chosen: Mapping[str, Rule], normal: Sequence[Sighting], attacked: Mapping[str, Sequence[Sighting]]
) -> dict[str, Any]:
    """What each rule does to benign tracks and to those of each attack.

    Args:
        chosen: Rules by name.
        normal: Benign tracks.
        attacked: Attack -> tracks of attacked frames.

    Returns:
        Ready for JSON.

    Raises:
        DataError: There are no benign or no attacked tracks.
    """
    if not normal or not any(attacked.values()):
        raise DataError("benign tracks and attacked tracks are needed to judge; these tracks have none")
    return {
        "normal": {name: _normal(rule, normal) for name, rule in chosen.items()},
        "attacked": {
            f"{length} frames": _of_length(chosen, attacked, length)
            for length in LENGTHS
            if any(len(track) >= length for tracks in attacked.values() for track in tracks)
        },
    }


def _normal(rule: Rule, tracks: Sequence[Sighting]) -> dict[str, Any]:
    masks = [rule(track) for track in tracks]
    frames, groups = np.concatenate(masks), np.concatenate([[track.group] * len(track) for track in tracks])
    return {
        "tracks": len(tracks),
        "frames": len(frames),
        "a_frame": _clustered(frames, groups),
        "a_track": _share([bool(mask.any()) for mask in masks]),
        "last_frame": _share([bool(mask[-1]) for mask in masks]),
        "half_of_a_track": _share([2 * int(mask.sum()) > len(mask) for mask in masks]),
        "label_changes": _share([len(set(track.label.tolist())) > 1 for track in tracks]),
    }


def _of_length(
    chosen: Mapping[str, Rule], attacked: Mapping[str, Sequence[Sighting]], length: int
) -> dict[str, dict[str, Any]]:
    long = {
        attack: [track.first(length) for track in tracks if len(track) >= length] for attack, tracks in attacked.items()
    }
    long = {attack: tracks for attack, tracks in long.items() if tracks}
    found: dict[str, dict[str, Any]] = {}
    for name, rule in chosen.items():
        by_attack = {attack: _attacked(rule, tracks) for attack, tracks in long.items()}
        found[name] = {
            "all": _attacked(rule, [track for tracks in long.values() for track in tracks]),
            "worst": {measure: _worst(by_attack, measure) for measure in _MEASURES},
            "attacks": {
                attack: {"tracks": entry["tracks"], **{measure: entry[measure]["value"] for measure in _MEASURES}}
                for attack, entry in by_attack.items()
            },
        }
    return found


def _worst(by_attack: Mapping[str, Mapping[str, Any]], measure: str) -> dict[str, Any]:
    worst = min(by_attack, key=lambda attack: by_attack[attack][measure]["value"])
    return {"attack": worst, **by_attack[worst][measure]}


def _attacked(rule: Rule, tracks: Sequence[Sighting]) -> dict[str, Any]:
    masks = [rule(track) for track in tracks]
    wrong = [int((~mask & track.hostile).sum()) for mask, track in zip(masks, tracks, strict=True)]
    groups = np.array([track.group for track in tracks])
    summary = {f"at_most_{allowed}_wrong": _clustered(np.array(wrong) <= allowed, groups) for allowed in ALLOWED}
    summary["withheld_at_last"] = _clustered(np.array([mask[-1] for mask in masks]), groups)
    summary["withheld_ever"] = _clustered(np.array([mask.any() for mask in masks]), groups)
    return {"tracks": len(tracks), "frames_withheld": float(np.concatenate(masks).mean()), **summary}


def _share(hits: Sequence[bool]) -> dict[str, Any]:
    return _rounded(Rate(sum(hits), len(hits), *rate_interval(sum(hits), len(hits))))


def _clustered(hits: Mask, groups: npt.NDArray[np.int64]) -> dict[str, Any]:
    """A share whose interval counts a track once; if every track has one image it is that of Clopper and Pearson."""
    return _rounded(rate_of(hits, groups))


def _rounded(rate: Rate) -> dict[str, Any]:
    return {"value": round(rate.value, 4), "low": round(rate.low, 4), "high": round(rate.high, 4), "n": rate.total}
