"""Over time: evidence about one sign adds up over the frames in which it is seen.

What gets past the detectors in one frame of eight seldom gets past them in ten frames running. So regions of
successive frames that are close to each other form a *track*, and what is suspicious about its frames is added up:

    evidence of a frame = clip((suspicion - typical) / -typical, 0, cap), + flip where the label is another than before
    sum <- max(0, sum + evidence - allowance)

in units in which a usual normal frame has 0 and a frame at the limit has 1 (the cumulative sum of Page, Continuous
inspection schemes, Biometrika 41, 1954; nothing of the four papers looks at more than one image). While the sum lies
above `limit`, the track's regions are withheld. The sum can't go below 0: frames that look benign save nothing up for
later. And tracks only ever withhold: a frame that is withheld by itself stays so, whatever came before it.

`typical` and `limit` are set on normal tracks (firewall.lab.calibration.tracks), so that a further normal track has
any of its frames withheld for its sum with at most the rate asked for. That is a rate *a track*. A rate *a frame*
says something else: frames of one track are alike, so one frame in a hundred may be all the frames of one sign in a
hundred.

The association is our own, greedy by the distance of boxes. The tracking libraries that are alive (norfair,
supervision) need SciPy, which the edge doesn't have, or an older NumPy than it has. A region that is
associated wrongly begins a new track and is judged by its frame alone, as if there were no tracks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from firewall.frame import Region
from firewall.verdict import Reason, Verdict

__all__ = ["Track", "Tracks", "TracksSpec", "associate", "evidence", "running_sums"]

#: How far a region may lie from where the track was, in units of its size: 1 = one width or height, or twice the size.
NEAR = 1.0

# Regions that the firewall has looked at. Of the others nobody knows that there is anything.
_JUDGED = frozenset(
    {
        Reason.BENIGN,
        Reason.SUSPICIOUS,
        Reason.CONTRADICTORY,
        Reason.UNCERTIFIED,
        Reason.UNCONFIRMED,
        Reason.LATE,
        Reason.ENGINE_ERROR,
        Reason.DETECTOR_ERROR,
        Reason.UNKNOWN,
    }
)


class TracksSpec(BaseModel):
    """How evidence adds up, and where it is too much.

    typical: the median suspicion of normal frames. cap: the most that one frame's suspicion counts. flip: what a change
    of label counts. allowance: what is taken off for each frame. limit: of the sum. confirm: a label is not released
    before its track has shown it in so many frames running (1 = at once). max_tracks: tracks that are kept. max_age:
    frames of the source after which a sign that isn't seen is forgotten. false_alarm_rate, tracks: what the limit was
    set for, share of normal tracks, and on how many.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    typical: float = Field(lt=0)
    cap: float = Field(2.0, gt=0)
    flip: float = Field(1.0, ge=0)
    allowance: float = Field(0.25, ge=0)
    limit: float = Field(ge=0)
    confirm: int = Field(1, ge=1, le=30)
    max_tracks: int = Field(64, ge=1, le=1024)
    max_age: int = Field(15, ge=1, le=1000)
    false_alarm_rate: float = Field(gt=0, lt=1)
    tracks: int = Field(ge=1)


@dataclass(slots=True)
class Track:
    """One sign, as far as boxes tell. number: counts up. sequence: of the newest frame. frames: judged so far. total:
    the sum of evidence. label: the newest, None before the first. same: frames running that showed it. sample: the
    verdict on one of its frames, each being as likely."""

    number: int
    region: Region
    sequence: int
    frames: int = 0
    total: float = 0.0
    label: int | None = None
    same: int = 0
    sample: Verdict | None = None

    def add(self, spec: TracksSpec, suspicion: float | None, label: int | None, *, contradicted: bool = False) -> None:
        """Take a frame: None or NaN counts as the most suspicious there is."""
        flipped = contradicted or (self.frames > 0 and label != self.label)
        # Of what contradicts itself no detector may have been asked; that isn't a failure.
        known = 0.0 if contradicted and suspicion is None else evidence(spec, suspicion)
        total = self.total + known + spec.flip * flipped - spec.allowance
        self.total = 0.0 if total < 0 else total  # not max(): that would make 0 of what is no number
        self.same = self.same + 1 if label is not None and label == self.label and not contradicted else 1
        self.label = label
        self.frames += 1


class Tracks:
    """The tracks of one source, and what their evidence makes of verdicts. Memory is bounded by the specification. Use
    it from one thread, with the frames in order."""

    def __init__(self, spec: TracksSpec, *, seed: int = 0) -> None:
        """seed: of the choice of each track's sample."""
        self.spec = spec
        self.tracks: list[Track] = []
        self._ended: list[Track] = []
        self._begun = 0
        self._random = np.random.default_rng(seed)

    def judge(self, verdicts: Sequence[Verdict]) -> list[Verdict]:
        """The verdicts on one frame, in order, those withheld whose tracks are too suspicious.

        What was withheld comes back withheld, with its own reason. Operators find how far the track's sum lies above
        its limit in `scores["track"]`; where `suspicion` was None, nothing is added to it.
        """
        if not verdicts:
            return []
        sequence = verdicts[0].sequence
        self._forget(sequence)
        judged = [place for place, verdict in enumerate(verdicts) if verdict.reason in _JUDGED]
        found = associate([track.region for track in self.tracks], [verdicts[place].region for place in judged])
        matched = [None if match is None else self.tracks[match] for match in found]
        answers = list(verdicts)
        # Those that go on come first: none of them may make room for a new one before it has had its say.
        for place, old in sorted(zip(judged, matched, strict=True), key=lambda pair: pair[1] is None):
            verdict = verdicts[place]
            track = old or self._begin(verdict)
            track.region, track.sequence = verdict.region, sequence
            if verdict.reason is not Reason.LATE:  # that tells of the machine, not of the sign
                contradicted = verdict.reason is Reason.CONTRADICTORY
                track.add(self.spec, verdict.suspicion, verdict.suspected_label, contradicted=contradicted)
                if not contradicted and self._random.random() * track.frames < 1:
                    track.sample = verdict
            answers[place] = self._decide(track, verdict)
        return answers

    def ended(self) -> list[Track]:
        """The tracks that have ended since this was asked last."""
        ended, self._ended = self._ended, []
        return ended

    def _decide(self, track: Track, verdict: Verdict) -> Verdict:
        verdict = replace(verdict, scores={**verdict.scores, "track": track.total - self.spec.limit})
        if not verdict.released:
            return verdict
        # Written so that a sum that is no number withholds too.
        if not track.total <= self.spec.limit:
            return replace(
                verdict, released=False, label=None, label_name=None, reason=Reason.SUSPICIOUS, detail="over time"
            )
        if track.same < self.spec.confirm:
            detail = f"seen in {track.same} of {self.spec.confirm} frames"
            return replace(
                verdict, released=False, label=None, label_name=None, reason=Reason.UNCONFIRMED, detail=detail
            )
        return verdict

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
        # What nobody asks for may not pile up either.
        self._ended = [*self._ended[-self.spec.max_tracks :], track]


def evidence(spec: TracksSpec, suspicion: float | None) -> float:
    """What one frame's suspicion counts, 0..cap."""
    if suspicion is None or math.isnan(suspicion):
        return spec.cap
    return min(max((suspicion - spec.typical) / -spec.typical, 0.0), spec.cap)


def running_sums(
    spec: TracksSpec, suspicions: npt.NDArray[np.float64], labels: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Of a whole track, (N,) each: the sum after each frame, and for how many frames running its label was shown.

    suspicions: (N,), NaN where unknown. labels: (N,). No limit enters.
    """
    track = Track(0, (0, 0, 1, 1), 0)
    sums, same = np.zeros(len(suspicions)), np.zeros(len(suspicions), np.int64)
    for index, (suspicion, label) in enumerate(zip(suspicions.tolist(), labels.tolist(), strict=True)):
        track.add(spec, suspicion, label)
        sums[index], same[index] = track.total, track.same
    return sums, same


def associate(tracks: Sequence[Region], regions: Sequence[Region]) -> list[int | None]:
    """For each region of a frame the place of its track, or None for a new one; no track is given twice.

    The nearest pair first. Near is what has moved by less than NEAR of its size, growth counting too: unlike the
    overlap of boxes this doesn't end where a small sign moves by most of its width.
    """
    found: list[int | None] = [None] * len(regions)
    if not tracks or not regions:
        return found
    old, new = np.array(tracks, np.float64)[:, None], np.array(regions, np.float64)[None]
    sizes = np.maximum((old[..., 2:] + new[..., 2:]) / 2, 1.0)
    moved = ((new[..., :2] + new[..., 2:] / 2) - (old[..., :2] + old[..., 2:] / 2)) / sizes
    grown = np.log2(np.maximum(new[..., 2:], 1.0) / np.maximum(old[..., 2:], 1.0)).mean(axis=2)
    distance = np.sqrt((moved**2).sum(axis=2) + grown**2)
    for pair in np.argsort(distance, axis=None, kind="stable").tolist():
        track, region = divmod(pair, len(regions))
        if not distance[track, region] < NEAR:
            break
        if found[region] is None and track not in found:
            found[region] = track
    return found
