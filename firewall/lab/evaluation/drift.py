"""The drift monitor's reference, from normal tracks, and how many signs it needs to notice a shift."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from firewall.decision.drift import SUSPICION, Drift, DriftSpec, channel_spec
from firewall.errors import DataError
from firewall.lab.measurement import metrics
from firewall.lab.measurement.screened import Screened

__all__ = ["drift_spec", "one_a_track", "streams"]


def one_a_track(groups: Sequence[int] | npt.NDArray[np.int64], seed: int = 0) -> npt.NDArray[np.int64]:
    """The place of one frame of each group, drawn by chance; (groups,) in the order of their numbers."""
    random = np.random.default_rng(seed)
    places = np.asarray(groups)
    return np.array([random.choice(np.flatnonzero(places == group)) for group in np.unique(places)], np.int64)


def drift_spec(
    reference: Screened, classes: int, *, run_length: float = 10_000.0, labels: bool = True, seed: int = 0
) -> DriftSpec:
    """What normal traffic looks like. reference: one frame a track (see `one_a_track`), not chosen by what was said of
    it. classes: of the classifier. labels: watch them too. Raises DataError for fewer than ten tracks."""
    if len(reference) < 10:
        raise DataError(
            f"the monitor's reference needs at least 10 tracks of normal images, got {len(reference)}: fewer "
            "can't tell drift from chance; name a --database with more tracks that no detector was fitted to"
        )
    # The scores too: a shift may move one of them long before it moves the suspicion, which looks at what is far out.
    watched = {SUSPICION: reference.suspicion, **reference.scores}
    channels = [channel_spec(name, values.tolist(), seed=seed) for name, values in watched.items()]
    counts = np.bincount(reference.label[reference.label >= 0], minlength=classes)
    return DriftSpec(
        channels=tuple(channels),
        labels=tuple(int(count) for count in counts) if labels else (),
        run_length=run_length,
        tracks=len(reference),
    )


def streams(
    spec: DriftSpec,
    usual: Screened,
    changed: Mapping[str, Screened],
    *,
    before: int,
    repeats: int = 20,
    seed: int = 0,
) -> dict[str, Any]:
    """Run the monitor on images in `repeats` random orders, without a shift and with one; ready for JSON.

    usual: one image a track. changed: the same images under each shift, in the same order. before: images that a
    stream with a shift begins with unchanged; all the others follow shifted. delay: shifted images until it spoke.
    """
    if not 0 < before < len(usual):
        raise DataError(
            f"--before {before} needs more than {before} images in the stream, one a track, got {len(usual)}: some "
            f"have to come after the shift; ask for --before {len(usual) // 2}, or name a --stream with more tracks"
            if len(usual) > 1
            else f"a stream needs at least 2 tracks, got {len(usual)}; name a --stream with more"
        )
    random = np.random.default_rng(seed)
    orders = [random.permutation(len(usual)) for _ in range(repeats)]
    result: dict[str, Any] = {"images": len(usual), "before": before, "repeats": repeats, "shifts": {}}
    spoken = [_spoke(spec, usual, usual, order, len(usual), number) for number, order in enumerate(orders)]
    alarms = [at for at, _ in spoken if at is not None]
    low, high = metrics.rate_interval(len(alarms), repeats)
    result["none"] = {
        "spoke": len(alarms) / repeats,
        "ci95": [low, high],
        "at": sorted(alarms),
        "properties": sorted({name for at, name in spoken if at is not None}),
        "released": float(usual.released.mean()),
    }
    for shift, images in changed.items():
        spoken = [_spoke(spec, usual, images, order, before, number) for number, order in enumerate(orders)]
        delays = sorted(at - before for at, _ in spoken if at is not None and at > before)
        names = [name for at, name in spoken if at is not None and at > before]
        result["shifts"][shift] = {
            "found": len(delays) / repeats,
            "spoke_before": sum(at is not None and at <= before for at, _ in spoken) / repeats,
            # Where it did not speak the stream was too short: these count as longer than any.
            "median_delay": delays[(repeats - 1) // 2] if len(delays) > (repeats - 1) // 2 else None,
            "longest_delay": delays[-1] if len(delays) == repeats else None,
            "delays": delays,
            "properties": {name: names.count(name) for name in sorted(set(names))},
            "released": float(images.released.mean()),
            "same_label": float((images.label == usual.label).mean()),
        }
    return result


def _spoke(
    spec: DriftSpec, usual: Screened, changed: Screened, order: npt.NDArray[np.int64], before: int, seed: int
) -> tuple[int | None, str]:
    """The number of the image at which the monitor spoke, from 1, and of what."""
    monitor = Drift(spec, seed=seed)
    for number, place in enumerate(order.tolist(), 1):
        images = usual if number <= before else changed
        values = {channel.name: _value(images, channel.name, place) for channel in spec.channels}
        state = monitor.add_values(values, int(images.label[place]))
        if state.spoken:
            return state.since, state.property
    return None, ""


def _value(images: Screened, name: str, place: int) -> float | None:
    if name == SUSPICION:
        return float(images.suspicion[place])
    value = float(images.scores[name][place])
    return None if np.isnan(value) else value
