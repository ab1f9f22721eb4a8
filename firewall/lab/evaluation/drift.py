"""The drift monitor's reference, from benign tracks, and how many signs it needs to notice a shift."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from firewall.decision.drift import SUSPICION, Drift, DriftSpec, channel_spec
from firewall.errors import DataError
from firewall.lab.measurement.intervals import rate_interval
from firewall.lab.measurement.screened import Screened

__all__ = ["drift_spec", "one_a_track", "streams"]


def one_a_track(groups: Sequence[int] | npt.NDArray[np.int64], seed: int = 0) -> npt.NDArray[np.int64]:
    """Draw one frame of each track at random.

    Args:
        groups: The track of each frame, (N,).
        seed: Of the draw.

    Returns:
        The frames' places, int64 (tracks,), in the order of the tracks' numbers.
    """
    random = np.random.default_rng(seed)
    places = np.asarray(groups)
    return np.array([random.choice(np.flatnonzero(places == group)) for group in np.unique(places)], np.int64)


def drift_spec(
    reference: Screened, classes: int, *, run_length: float = 10_000.0, labels: bool = True, seed: int = 0
) -> DriftSpec:
    """What benign traffic looks like.

    Args:
        reference: Verdicts on one frame of each track, see `one_a_track`; not chosen by these verdicts.
        classes: Of the classifier.
        run_length: The probability of a false alarm by the N-th image is N / run_length.
        labels: Watch how often each label comes, too.
        seed: For ties between equal scores.

    Raises:
        DataError: There are fewer than ten tracks.
    """
    if len(reference) < 10:
        raise DataError(
            f"the monitor's reference needs at least 10 tracks of benign images, got {len(reference)}: fewer "
            "can't tell drift from chance; name a --database with more tracks that no detector was fitted to"
        )
    # The scores too: a shift may move one of them long before the suspicion, which only counts what is unusually high.
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
    """Run the monitor on images in random orders, without a shift and with one.

    Args:
        spec: The reference.
        usual: Verdicts on one image of each track.
        changed: Shift -> verdicts on the same images under that shift, in the same order.
        before: Images at the beginning of a stream, before the shift; all later ones are shifted.
        repeats: Orders.
        seed: Of the orders.

    Returns:
        Ready for JSON. A delay is the number of shifted images until the monitor gave notice.

    Raises:
        DataError: There are too few images.
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
    low, high = rate_interval(len(alarms), repeats)
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
            # Where it gave no notice the stream was too short: its delay counts as longer than any other.
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
    """The number, from 1, of the image at which the monitor gave notice, and what had changed."""
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
