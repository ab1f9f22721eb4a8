"""Tracks: evidence about one sign adds up over the frames in which it is seen.

An attack that passes the detectors in one frame of eight seldom passes them in ten frames in a row. So regions of
successive frames that are close to each other form a *track*, and the suspicion of its frames is added up:

    evidence of a frame = clip((suspicion - typical) / -typical, 0, cap), + flip where the label is another than before
    sum <- max(0, sum + evidence - allowance)

in units in which a typical benign frame has 0 and a frame at its threshold has 1 (the cumulative sum of Page,
Continuous inspection schemes, Biometrika 41, 1954; none of the four papers looks at more than one image). While the sum
lies above `limit`, the track's regions are withheld. The sum can't go below 0: frames that look benign earn no credit
for later. And tracks only withhold: a frame that is withheld by itself stays withheld, whatever came before it.

A label goes out only after several frames in a row agree on it (`confirm`). If the sign turns suspicious after that, or
another label takes its place, the next verdict says `revoked`: what was released before should not be used any longer.

`typical` and `limit` are set on benign tracks (firewall.lab.calibration.tracks): the rate asked for is the largest
share of new benign tracks that have any frame withheld for its sum. This is a rate per *track*, not per *frame*: frames
of one track are alike, so one frame in a hundred may be all the frames of one sign in a hundred.

The association is our own, greedy by the distance of boxes. The maintained tracking libraries (norfair, supervision)
need SciPy, which the edge doesn't have, or an older NumPy than it has. A region that is associated wrongly begins a new
track and is judged by its frame alone, as if there were no tracks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from pydantic import Field

from firewall.bundle.strict import Strict
from firewall.frame import Region
from firewall.verdict import Reason, Verdict

__all__ = ["Track", "Tracks", "TracksSpec", "associate", "evidence", "running_sums"]

#: The farthest that a region may lie from its track, in units of its size: 1 = one width or height, or twice the size.
NEAR = 1.0

# Reasons of regions that the firewall has looked at. For the others nobody knows whether there is a sign.
_JUDGED = frozenset(
    {
        Reason.BENIGN,
        Reason.SUSPICIOUS,
        Reason.NOT_A_SIGN,
        Reason.OBSTRUCTED,
        Reason.UNFIT,
        Reason.LOW_CONTRAST,
        Reason.CONTRADICTORY,
        Reason.UNCERTIFIED,
        Reason.UNCONFIRMED,
        Reason.REVOKED,
        Reason.LATE,
        Reason.ENGINE_ERROR,
        Reason.DETECTOR_ERROR,
        Reason.UNKNOWN,
    }
)
# Reasons that take a released label back: this frame speaks against the sign, and not only against the machine.
_SUSPECT = frozenset(
    {Reason.SUSPICIOUS, Reason.NOT_A_SIGN, Reason.OBSTRUCTED, Reason.LOW_CONTRAST, Reason.CONTRADICTORY}
)


class TracksSpec(Strict):
    """How evidence adds up, and how much of it withholds.

    Attributes:
        typical: Median suspicion of benign frames, below 0.
        cap: The most that one frame's suspicion counts.
        flip: What a change of the label counts.
        allowance: What is subtracted for each frame.
        limit: A sum above it withholds.
        confirm: A label is released only after this many frames of its track in a row agree on it, none of them
            withheld by itself; 1: at once.
        confirm_large: The same for large regions, if it is more than `confirm`.
        large: From this shorter side on, in pixels, a region is large.
        max_tracks: The most tracks that are kept at a time.
        max_age: Frames of the source after which a sign that isn't seen any more is forgotten.
        false_alarm_rate: The largest share of benign tracks that may be withheld, for which `limit` was set.
        tracks: Benign tracks that `limit` was set on.
    """

    typical: float = Field(lt=0)
    cap: float = Field(2.0, gt=0)
    flip: float = Field(1.0, ge=0)
    allowance: float = Field(0.25, ge=0)
    limit: float = Field(ge=0)
    confirm: int = Field(1, ge=1, le=30)
    confirm_large: int = Field(1, ge=1, le=30)
    large: int = Field(96, ge=1)
    max_tracks: int = Field(64, ge=1, le=1024)
    max_age: int = Field(15, ge=1, le=1000)
    false_alarm_rate: float = Field(gt=0, lt=1)
    tracks: int = Field(ge=1)

    def wanted(self, region: Region) -> int:
        """How many frames have to agree before the label of this region, as it is now, goes out."""
        return max(self.confirm, self.confirm_large) if min(region[2:]) >= self.large else self.confirm


@dataclass(slots=True)
class Track:
    """One sign, as far as boxes show.

    Attributes:
        number: Counts up.
        region: Where it was last seen, (x, y, width, height) in pixels.
        sequence: Number of the newest frame.
        frames: Frames that were judged so far.
        total: The sum of evidence.
        label: The newest label, None before the first.
        same: In how many frames in a row this label was seen, none of them withheld by itself.
        out: The label that was released and not taken back, and its name; None if there is none.
        sample: The verdict on one of its frames, each with the same probability.
    """

    number: int
    region: Region
    sequence: int
    frames: int = 0
    total: float = 0.0
    label: int | None = None
    same: int = 0
    out: tuple[int | None, str | None] | None = None
    sample: Verdict | None = None

    def add(
        self,
        spec: TracksSpec,
        suspicion: float | None,
        label: int | None,
        *,
        contradicted: bool = False,
        released: bool,
    ) -> None:
        """Add a frame.

        Args:
            spec: How evidence adds up.
            suspicion: The frame's suspicion; None or NaN counts as the most suspicious.
            label: The frame's label.
            contradicted: Whether another region at the same place has another label.
            released: Whether the frame by itself would be released.
        """
        flipped = contradicted or (self.frames > 0 and label != self.label)
        # Detectors may not have been asked about a contradiction; that isn't a failure.
        known = 0.0 if contradicted and suspicion is None else evidence(spec, suspicion)
        total = self.total + known + spec.flip * flipped - spec.allowance
        self.total = 0.0 if total < 0 else total  # not max(): that would make 0 of what is no number
        agrees = label is not None and label == self.label and not contradicted
        self.same = 0 if not released else self.same + 1 if agrees else 1
        self.label = label
        self.frames += 1


class Tracks:
    """The tracks of one source, in bounded memory. Use it from one thread, with the frames in order."""

    def __init__(self, spec: TracksSpec, *, seed: int = 0) -> None:
        """Begin without tracks.

        Args:
            spec: How evidence adds up.
            seed: Seed of the random choice of each track's sample.
        """
        self.spec = spec
        self.tracks: list[Track] = []
        self._ended: list[Track] = []
        self._begun = 0
        self._random = np.random.default_rng(seed)

    def judge(self, verdicts: Sequence[Verdict]) -> list[Verdict]:
        """Follow the regions of one frame, and withhold those whose tracks are too suspicious.

        Args:
            verdicts: The verdicts on one frame.

        Returns:
            The verdicts in the same order. What was withheld stays withheld, with its own reason; but if a label of the
            track has been released, the first frame that speaks against it says `revoked`, once.
            `scores["track"]` says how far the track's sum lies above its limit.
        """
        if not verdicts:
            return []
        sequence = verdicts[0].sequence
        self._forget(sequence)
        judged = [place for place, verdict in enumerate(verdicts) if verdict.reason in _JUDGED]
        found = associate([track.region for track in self.tracks], [verdicts[place].region for place in judged])
        matched = [None if match is None else self.tracks[match] for match in found]
        answers = list(verdicts)
        # Known tracks come first: none of them may be dropped for a new one before its frame has been counted.
        for place, old in sorted(zip(judged, matched, strict=True), key=lambda pair: pair[1] is None):
            verdict = verdicts[place]
            track = old or self._begin(verdict)
            track.region, track.sequence = verdict.region, sequence
            if verdict.reason is not Reason.LATE:  # that says something about the machine, not about the sign
                contradicted = verdict.reason is Reason.CONTRADICTORY
                track.add(
                    self.spec,
                    verdict.suspicion,
                    verdict.suspected_label,
                    contradicted=contradicted,
                    released=verdict.released,
                )
                if not contradicted and self._random.random() * track.frames < 1:
                    track.sample = verdict
            answers[place] = self._taken_back(track, self._decide(track, verdict))
        return answers

    def ended(self) -> list[Track]:
        """The tracks that have ended since the last call."""
        ended, self._ended = self._ended, []
        return ended

    def _decide(self, track: Track, verdict: Verdict) -> Verdict:
        scores = {**verdict.scores, "track": track.total - self.spec.limit}
        verdict = replace(verdict, scores=scores, track=track.number, frames_seen=track.frames)
        if not verdict.released:
            return verdict
        # Written so that a NaN withholds too.
        if not track.total <= self.spec.limit:
            return replace(
                verdict, released=False, label=None, label_name=None, reason=Reason.SUSPICIOUS, detail="over time"
            )
        if track.same < (wanted := self.spec.wanted(verdict.region)):
            detail = f"seen in {track.same} of {wanted} frames"
            return replace(
                verdict, released=False, label=None, label_name=None, reason=Reason.UNCONFIRMED, detail=detail
            )
        return verdict

    def _taken_back(self, track: Track, answer: Verdict) -> Verdict:
        """The answer; or, if it speaks against a label that is out, the one that takes it back."""
        if answer.released:
            track.out = (answer.label, answer.label_name)
        elif track.out is not None:
            label, name = track.out
            changed = answer.reason is Reason.UNCONFIRMED and answer.suspected_label != label
            if answer.reason in _SUSPECT or changed:
                track.out, track.same = None, track.same if changed else 0  # from here on as with a new sign
                why = "another label" if changed else str(answer.reason)
                return replace(answer, reason=Reason.REVOKED, detail=f"{label if name is None else name}: {why}")
        return answer

    def _begin(self, verdict: Verdict) -> Track:
        if len(self.tracks) >= self.spec.max_tracks:
            # A flood of regions may not wash a suspicious track away: the least suspicious goes, of these the oldest.
            self._end(min(self.tracks, key=lambda track: (track.total, track.sequence)))
        self._begun += 1
        track = Track(self._begun, verdict.region, verdict.sequence)
        self.tracks.append(track)
        return track

    def _forget(self, sequence: int) -> None:
        for track in list(self.tracks):
            # A sequence that went back is another run of the source.
            if not 0 <= sequence - track.sequence <= self.spec.max_age:
                self._end(track)

    def _end(self, track: Track) -> None:
        self.tracks.remove(track)
        # If nobody asks for them they must not pile up.
        self._ended = [*self._ended[-self.spec.max_tracks :], track]


def evidence(spec: TracksSpec, suspicion: float | None) -> float:
    """What one frame's suspicion counts.

    Args:
        spec: How evidence adds up.
        suspicion: The frame's suspicion; None or NaN counts as the most suspicious.

    Returns:
        clip((suspicion - typical) / -typical, 0, cap).
    """
    if suspicion is None or math.isnan(suspicion):
        return spec.cap
    return min(max((suspicion - spec.typical) / -spec.typical, 0.0), spec.cap)


def running_sums(
    spec: TracksSpec,
    suspicions: npt.NDArray[np.float64],
    labels: npt.NDArray[np.int64],
    released: npt.NDArray[np.bool_] | None = None,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """The sums of a whole track, for calibration.

    Args:
        spec: How evidence adds up; its limit is not used.
        suspicions: (N,), NaN where unknown.
        labels: (N,), the class in each frame.
        released: (N,), whether each frame by itself would be released; None: all of them.

    Returns:
        (N,) each: the sum after each frame, and in how many frames in a row its label was seen, none of them withheld.
    """
    track = Track(0, (0, 0, 1, 1), 0)
    sums, same = np.zeros(len(suspicions)), np.zeros(len(suspicions), np.int64)
    open_ = [True] * len(suspicions) if released is None else released.tolist()
    for index, (suspicion, label, shown) in enumerate(zip(suspicions.tolist(), labels.tolist(), open_, strict=True)):
        track.add(spec, suspicion, label, released=shown)
        sums[index], same[index] = track.total, track.same
    return sums, same


def associate(tracks: Sequence[Region], regions: Sequence[Region]) -> list[int | None]:
    """Match the regions of a frame to tracks, the nearest pair first.

    A region is near if it has moved by less than NEAR of its size; growth counts too. Unlike the overlap of boxes this
    still works when a small sign moves by most of its width.

    Args:
        tracks: Where each track was last seen, (x, y, width, height) in pixels.
        regions: The regions of the frame.

    Returns:
        For each region the index of its track, or None for a new one. No track is given twice.
    """
    found: list[int | None] = [None] * len(regions)
    if not tracks or not regions:
        return found
    old, new = np.array(tracks)[:, None], np.array(regions)[None]
    sizes = np.maximum((old[..., 2:] + new[..., 2:]) / 2, 1.0)
    moved = ((new[..., :2] + new[..., 2:] / 2) - (old[..., :2] + old[..., 2:] / 2)) / sizes
    grown = np.log2(np.maximum(new[..., 2:], 1.0) / np.maximum(old[..., 2:], 1.0)).mean(axis=2)
    distance = np.sqrt((moved**2).sum(axis=2) + grown**2)
    # Of pairs that are as near the first track goes first: sorted() keeps their order.
    for track, region in sorted(np.argwhere(distance < NEAR).tolist(), key=lambda pair: float(distance[tuple(pair)])):
        if found[region] is None and track not in found:
            found[region] = track
    return found
