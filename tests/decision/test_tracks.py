"""Evidence over time: it adds up, it withholds, it never releases, and it stays bounded."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from firewall.decision.over_time import served
from firewall.decision.tracks import Track, Tracks, TracksSpec, associate, evidence, running_sums
from firewall.frame import Region
from firewall.verdict import Reason, Verdict

SPEC = TracksSpec(typical=-1.0, cap=2.0, flip=1.0, allowance=0.25, limit=1.0, false_alarm_rate=0.05, tracks=57)
PLACE: Region = (100, 80, 40, 40)


def verdict(
    sequence: int,
    suspicion: float | None = -1.0,
    *,
    region: Region = PLACE,
    label: int | None = 3,
    reason: Reason | None = None,
) -> Verdict:
    """As the firewall gives it: released where the suspicion is at most 0."""
    released = suspicion is not None and suspicion <= 0 and reason is None
    return Verdict(
        "test",
        sequence,
        region,
        released=released,
        label=label if released else None,
        label_name=f"sign {label}" if released else None,
        reason=reason or (Reason.BENIGN if released else Reason.SUSPICIOUS),
        suspicion=suspicion,
        suspected_label=label,
    )


def judged(tracks: Tracks, *verdicts: Verdict) -> list[bool]:
    return [answer.released for one in verdicts for answer in tracks.judge([one])]


def test_frames_that_would_each_be_released_add_up_until_the_track_is_withheld() -> None:
    """Suspicion just under the limit of a frame, again and again, goes over the limit of the track."""
    doubtful = Tracks(SPEC)
    assert judged(doubtful, *(verdict(n, -0.2) for n in range(6))) == [True, False, False, False, False, False]
    last = doubtful.judge([verdict(6, -0.2)])[0]
    assert (last.label, last.label_name, last.reason, last.detail) == (None, None, Reason.SUSPICIOUS, "over time")
    assert last.scores["track"] > 0
    assert last.suspicion == -0.2, "the frame's own suspicion is told unchanged"

    assert all(judged(Tracks(SPEC), *(verdict(n, -0.8) for n in range(100))))


def test_one_suspicious_frame_does_not_condemn_a_track_for_ever() -> None:
    """What a single doubtful frame adds is worn off by normal ones."""
    tracks = Tracks(SPEC)
    assert judged(tracks, verdict(0, -1.0), verdict(1, 0.5)) == [True, False]
    after = judged(tracks, *(verdict(n, -1.0) for n in range(2, 12)))
    assert after[-1] and after == sorted(after)


@pytest.mark.parametrize("before", [0, 1, 300])
def test_benign_frames_save_nothing_up(before: int) -> None:
    """However long a sign looked normal, it takes as many doubtful frames as ever to withhold it."""
    tracks = Tracks(SPEC)
    judged(tracks, *(verdict(n, -1.0) for n in range(before)))
    assert judged(tracks, *(verdict(before + n, -0.2) for n in range(3))) == [True, False, False]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.one_of(st.none(), st.floats(-3, 3), st.just(math.nan)), st.integers(0, 2), st.integers(0, 60)),
        min_size=1,
        max_size=30,
    )
)
def test_a_track_never_releases_what_its_frame_withholds(frames: list[tuple[float | None, int, int]]) -> None:
    """Whatever came before: what is withheld stays withheld with its own reason, or takes a label back that was out,
    and withheld labels are None."""
    tracks = Tracks(SPEC)
    for number, (suspicion, label, shift) in enumerate(frames):
        given_ = verdict(number, suspicion, label=label, region=(100 + shift, 80, 40, 40))
        answer = tracks.judge([given_])[0]
        if not given_.released:
            assert not answer.released and answer.label is None
            assert answer.reason in (given_.reason, Reason.REVOKED)
        assert answer.released or (answer.label is None and answer.label_name is None)
        assert answer.region == given_.region and answer.sequence == number


@pytest.mark.parametrize("unknown", [None, math.nan, math.inf])
def test_an_unknown_suspicion_counts_as_the_most(unknown: float | None) -> None:
    """NaN and None add the cap, so that the next frame is withheld too, even if a detector only failed once."""
    assert evidence(SPEC, unknown) == SPEC.cap
    tracks = Tracks(SPEC)
    answers = judged(tracks, verdict(0, unknown, reason=Reason.DETECTOR_ERROR), verdict(1, -1.0))
    assert answers == [False, False]


def test_changing_labels_are_evidence() -> None:
    """A sign that is another class in every frame is withheld with no frame suspicious; one change isn't enough."""
    tracks = Tracks(SPEC)
    assert judged(tracks, *(verdict(n, -1.0, label=n % 2) for n in range(4))) == [True, True, False, False]
    once = Tracks(SPEC)
    assert all(judged(once, *(verdict(n, -1.0, label=int(n > 5)) for n in range(30))))


def test_contradictions_count_and_lateness_does_not() -> None:
    """Two names at one place are evidence about the sign; a late verdict tells of the machine only."""
    late = Tracks(SPEC)
    judged(late, *(verdict(n, None, reason=Reason.LATE) for n in range(20)))
    assert judged(late, verdict(20, -1.0)) == [True]

    torn = Tracks(SPEC)
    judged(torn, *(verdict(n, None, reason=Reason.CONTRADICTORY) for n in range(3)))
    assert judged(torn, verdict(3, -1.0)) == [False]


def test_a_label_can_be_made_to_wait_for_confirmation() -> None:
    """With confirm = 3 the third frame running of one label is released; another label starts anew."""
    tracks = Tracks(SPEC.model_copy(update={"confirm": 3, "flip": 0.0}))
    labels = [1, 1, 1, 1, 2, 2, 2]
    assert judged(tracks, *(verdict(n, -1.0, label=label) for n, label in enumerate(labels))) == [
        *(False, False, True, True),
        *(False, False, True),
    ]


def test_only_frames_that_would_go_out_agree() -> None:
    """A frame that is withheld by itself starts the count again, whatever its label; a late one says nothing."""
    tracks = Tracks(SPEC.model_copy(update={"confirm": 3, "limit": 100.0}))
    frames = [verdict(0), verdict(1), verdict(2, 0.5), verdict(3), verdict(4), verdict(5), verdict(6)]
    assert judged(tracks, *frames) == [False] * 5 + [True, True]

    late = Tracks(SPEC.model_copy(update={"confirm": 3}))
    frames = [verdict(0), verdict(1), verdict(2, None, reason=Reason.LATE), verdict(3)]
    assert judged(late, *frames) == [False, False, False, True]
    torn = Tracks(SPEC.model_copy(update={"confirm": 3, "limit": 100.0}))
    frames = [verdict(0), verdict(1), verdict(2, None, reason=Reason.CONTRADICTORY), verdict(3), verdict(4), verdict(5)]
    assert judged(torn, *frames) == [False] * 5 + [True]


def test_a_large_sign_is_asked_for_longer() -> None:
    """By its shorter side as it is now; the frames in which it was small count too, and less is never asked."""
    spec = SPEC.model_copy(update={"confirm": 2, "confirm_large": 4, "large": 96})
    small, long, large = ((100, 80, width, height) for width, height in ((95, 95), (95, 300), (96, 96)))

    assert [spec.wanted(region) for region in (small, long, large)] == [2, 2, 4]
    assert spec.model_copy(update={"confirm": 9}).wanted(large) == 9
    assert judged(Tracks(spec), *(verdict(n, region=small) for n in range(3))) == [False, True, True]
    assert judged(Tracks(spec), *(verdict(n, region=large) for n in range(5))) == [False] * 3 + [True, True]
    grown = [verdict(0, region=small), verdict(1, region=small), verdict(2, region=large), verdict(3, region=large)]
    assert judged(Tracks(spec), *grown) == [False, True, False, True]
    waiting = Tracks(spec).judge([verdict(0, region=large)])[0]
    assert (waiting.reason, waiting.detail) == (Reason.UNCONFIRMED, "seen in 1 of 4 frames")


def reasons(tracks: Tracks, *verdicts: Verdict) -> list[Reason]:
    return [answer.reason for one in verdicts for answer in tracks.judge([one])]


@pytest.mark.parametrize("against", [Reason.SUSPICIOUS, Reason.NOT_A_SIGN, Reason.LOW_CONTRAST, Reason.CONTRADICTORY])
def test_a_label_that_is_out_is_taken_back_once(against: Reason) -> None:
    """The first frame that speaks against it says so, and names what was released; then it is as with a new sign."""
    tracks = Tracks(SPEC.model_copy(update={"confirm": 2, "limit": 100.0}))
    assert judged(tracks, verdict(0), verdict(1), verdict(2)) == [False, True, True]

    (back,) = tracks.judge([verdict(3, 0.5, reason=against)])
    assert (back.decision, back.reason, back.label, back.label_name) == ("withhold", Reason.REVOKED, None, None)
    assert back.line()["reason"] == f"revoked: sign 3: {against}" and back.suspicion == 0.5

    assert reasons(tracks, verdict(4, 0.5, reason=against), verdict(5), verdict(6)) == [
        *(against, Reason.UNCONFIRMED, Reason.BENIGN)
    ]
    assert tracks.judge([verdict(7, 0.5)])[0].reason is Reason.REVOKED, "what went out after that can be taken back too"


def test_a_label_is_taken_back_for_evidence_over_time() -> None:
    """No frame is suspicious by itself; the sum is."""
    answers = reasons(Tracks(SPEC), *(verdict(n, -0.2) for n in range(4)))
    assert answers == [Reason.BENIGN, Reason.REVOKED, Reason.SUSPICIOUS, Reason.SUSPICIOUS]


def test_what_was_taken_back_is_confirmed_from_the_first_frame_on() -> None:
    """The frames that agreed before the sum went too high don't count."""
    tracks = Tracks(SPEC.model_copy(update={"confirm": 3}))
    assert judged(tracks, verdict(0), verdict(1), verdict(2), verdict(3, -0.2)) == [False, False, True, True]
    assert reasons(tracks, verdict(4, -0.2)) == [Reason.REVOKED]
    again = [tracks.judge([verdict(n)])[0] for n in range(5, 8)]
    assert [answer.detail for answer in again] == ["seen in 1 of 3 frames", "seen in 2 of 3 frames", ""]


def test_another_label_takes_the_first_one_back() -> None:
    """While the new one waits for confirmation nobody may go on with the old one."""
    tracks = Tracks(SPEC.model_copy(update={"confirm": 2, "flip": 0.0}))
    tracks.judge([verdict(0)])
    assert tracks.judge([verdict(1)])[0].released
    (back,) = tracks.judge([verdict(2, label=5)])
    assert (back.reason, back.detail) == (Reason.REVOKED, "sign 3: another label")
    assert reasons(tracks, verdict(3, label=5), verdict(4, label=5)) == [Reason.BENIGN, Reason.BENIGN]

    # Without a name the number stands for it; and nothing was out before the second frame here.
    bare = Tracks(SPEC.model_copy(update={"limit": 100.0}))
    bare.judge([replace(verdict(0), label_name=None)])
    assert bare.judge([verdict(1, 0.5)])[0].detail == "3: suspicious"
    early = Tracks(SPEC.model_copy(update={"confirm": 2, "flip": 0.0}))
    assert reasons(early, verdict(0), verdict(1, label=5)) == [Reason.UNCONFIRMED] * 2


@pytest.mark.parametrize("failure", [Reason.LATE, Reason.ENGINE_ERROR, Reason.DETECTOR_ERROR, Reason.UNCERTIFIED])
def test_a_failure_takes_nothing_back(failure: Reason) -> None:
    """It speaks of the machine, not of the sign: withheld with its own reason, and confirmed again afterwards."""
    tracks = Tracks(SPEC.model_copy(update={"confirm": 2, "limit": 100.0}))
    judged(tracks, verdict(0), verdict(1))
    assert reasons(tracks, verdict(2, None, reason=failure)) == [failure]
    # The first frame after it may wait, with the same label: that is no other sign.
    assert reasons(tracks, verdict(3), verdict(4))[-1] is Reason.BENIGN
    assert Reason.REVOKED not in reasons(tracks, verdict(5), verdict(6, None, reason=failure), verdict(7))


def test_each_sign_is_taken_back_by_itself() -> None:
    """One sign's suspicion says nothing about the one beside it."""
    tracks = Tracks(SPEC.model_copy(update={"limit": 100.0}))
    far: Region = (500, 80, 40, 40)
    tracks.judge([verdict(0), verdict(0, region=far)])
    first, second = tracks.judge([verdict(1, 0.5), verdict(1, region=far)])
    assert first.reason is Reason.REVOKED and second.released


def test_what_is_asked_of_a_guarded_stream() -> None:
    """Three frames, five of a large sign, or more if the bundle says so; the operator's number counts for all sizes. A
    bundle that says nothing about tracks only has its frames agree."""
    strict = SPEC.model_copy(update={"confirm": 4, "confirm_large": 7})
    assert [(spec.confirm, spec.confirm_large) for spec in (served(SPEC), served(strict))] == [(3, 5), (4, 7)]
    assert served(SPEC).limit == SPEC.limit and served(SPEC, 1).wanted((0, 0, 500, 500)) == 1
    assert [(spec.confirm, spec.confirm_large) for spec in (served(strict, 2), served(None, 6))] == [(2, 2), (6, 6)]

    plain = Tracks(served(None))
    doubtful = [verdict(n, -1e-9, label=3) for n in range(50)]
    assert judged(plain, *doubtful) == [False, False, *[True] * 48]
    assert reasons(plain, verdict(50, 0.5), verdict(51, math.nan, reason=Reason.DETECTOR_ERROR)) == [
        *(Reason.REVOKED, Reason.DETECTOR_ERROR)
    ]
    assert judged(plain, *(verdict(52 + n) for n in range(3))) == [False, False, True]


def test_a_label_that_waits_says_so() -> None:
    """The reason is not that of an error, and the detail counts the frames."""
    (waiting,) = Tracks(SPEC.model_copy(update={"confirm": 3})).judge([verdict(0, -1.0)])
    assert (waiting.reason, waiting.detail) == (Reason.UNCONFIRMED, "seen in 1 of 3 frames")


def test_two_signs_are_two_tracks_also_when_they_move() -> None:
    """A benign sign beside a suspicious one is released throughout, though both move and grow and change places in the
    list."""
    tracks = Tracks(SPEC)
    released = []
    for n in range(20):
        size = 20 + 2 * n
        hostile = verdict(n, 0.5, region=(50 - 2 * n, 60 - n, size, size), label=1)
        benign = verdict(n, -1.0, region=(200 + 6 * n, 60 - n, size, size), label=2)
        pair = [hostile, benign] if n % 2 else [benign, hostile]
        released.append({answer.region: answer.released for answer in tracks.judge(pair)}[benign.region])
    assert all(released) and len(tracks.tracks) == 2


def test_a_sign_out_of_sight_is_forgotten_and_one_that_blinks_is_not() -> None:
    """After max_age frames without it a new sign at the place starts clean; within it the evidence stays."""
    tracks = Tracks(SPEC)
    judged(tracks, *(verdict(n, 0.5) for n in range(5)))
    assert judged(tracks, verdict(4 + SPEC.max_age, -1.0)) == [False]
    assert judged(tracks, verdict(5 + 2 * SPEC.max_age, -1.0)) == [True]


def test_a_source_that_starts_again_starts_new_tracks() -> None:
    """A sequence that goes back is another run: evidence of the last one says nothing about it."""
    tracks = Tracks(SPEC)
    judged(tracks, *(verdict(1000 + n, 0.5) for n in range(5)))
    assert judged(tracks, verdict(0, -1.0)) == [True]


def test_memory_is_bounded_and_a_flood_does_not_wash_a_suspicious_track_away() -> None:
    """Thousands of new regions: no more tracks than allowed, and the suspicious one is still withheld."""
    spec = SPEC.model_copy(update={"max_tracks": 8, "max_age": 1000})
    tracks = Tracks(spec)
    judged(tracks, *(verdict(n, 0.5) for n in range(5)))
    for n in range(5, 600):
        flood = [verdict(n, -1.0, region=(1000 + 97 * n, 700 * k, 20, 20)) for k in range(4)]
        tracks.judge([*flood])
        assert len(tracks.tracks) <= 8
    assert judged(tracks, verdict(600, -1.0)) == [False]
    assert len(tracks.ended()) <= spec.max_tracks + 1
    assert tracks.ended() == []


def test_a_full_house_of_followed_signs_still_follows_them() -> None:
    """More regions than tracks in one frame: each gets a verdict, and those that were known keep their evidence."""
    tracks = Tracks(SPEC.model_copy(update={"max_tracks": 1}))
    judged(tracks, *(verdict(n, 0.5) for n in range(3)))
    answers = tracks.judge([verdict(3, -1.0, region=(900, 80, 40, 40)), verdict(3, -1.0)])
    assert [answer.released for answer in answers] == [True, False]


def test_what_is_no_sign_makes_no_track() -> None:
    """An empty frame, a bad image and a lost source pass through untouched."""
    tracks = Tracks(SPEC)
    for reason in (Reason.NOTHING_FOUND, Reason.BAD_IMAGE, Reason.SOURCE_ERROR):
        one = verdict(0, None, reason=reason)
        assert tracks.judge([one]) == [one]
    assert tracks.judge([]) == [] and tracks.tracks == []


def test_each_frame_of_a_track_is_as_likely_to_be_its_sample() -> None:
    """Over many tracks of four frames every frame is drawn about a quarter of the time (5 standard deviations)."""
    drawn = np.zeros(4)
    for seed in range(400):
        tracks = Tracks(SPEC, seed=seed)
        for n in range(4):
            tracks.judge([verdict(n)])
        sample = tracks.tracks[0].sample
        assert sample is not None
        drawn[sample.sequence] += 1
    assert np.all(np.abs(drawn - 100) < 5 * math.sqrt(400 * 0.25 * 0.75))


def test_nearest_first_and_nobody_twice() -> None:
    """Of two regions near one track the nearer gets it; what moved by its own size or doubled is another sign."""
    assert associate([(0, 0, 20, 20)], [(8, 0, 20, 20), (2, 0, 20, 20)]) == [None, 0]
    assert associate([(0, 0, 20, 20)], [(20, 0, 20, 20)]) == [None]
    assert associate([(0, 0, 20, 20)], [(-10, -10, 40, 40)]) == [None]
    assert associate([], [(0, 0, 1, 1)]) == [None] and associate([(0, 0, 1, 1)], []) == []


def test_sums_of_a_whole_track_are_those_of_its_frames() -> None:
    """What the lab calibrates on is what the edge adds up."""
    random = np.random.default_rng(0)
    suspicions, labels = random.normal(-0.7, 0.6, 40), random.integers(0, 2, 40)
    suspicions[7] = np.nan
    sums, same = running_sums(SPEC, suspicions, labels)
    tracks = Tracks(SPEC)
    for n in range(40):
        value = None if np.isnan(suspicions[n]) else float(suspicions[n])
        answer = tracks.judge([verdict(n, value, label=int(labels[n]))])[0]
        assert answer.scores["track"] == pytest.approx(sums[n] - SPEC.limit)
    assert same.min() == 1 and same.max() > 1


def test_a_frame_that_is_withheld_confirms_nothing() -> None:
    """In the lab's sums as on the edge; the evidence is the same."""
    suspicions, labels = np.full(4, -0.5), np.ones(4, np.int64)
    sums, same = running_sums(SPEC, suspicions, labels, np.array([True, True, False, True]))
    assert same.tolist() == [1, 2, 0, 1]
    assert sums.tolist() == running_sums(SPEC, suspicions, labels)[0].tolist()


def test_a_sum_that_is_no_number_withholds() -> None:
    """Should arithmetic ever fail, the exit is closed."""
    tracks = Tracks(SPEC)
    tracks.judge([verdict(0)])
    tracks.tracks[0].total = math.nan
    assert judged(tracks, verdict(1)) == [False]


@pytest.mark.parametrize(
    "wrong", [{"typical": 0.0}, {"cap": 0.0}, {"limit": -1.0}, {"limit": math.nan}, {"confirm": 0}, {"max_tracks": 0}]
)
def test_a_specification_that_can_not_be_is_refused(wrong: dict[str, float]) -> None:
    """Zero scale, no memory, a limit that isn't one."""
    with pytest.raises(ValidationError):
        TracksSpec(**{**SPEC.model_dump(), **wrong})


def test_a_track_is_told_apart_by_its_number() -> None:
    """Numbers count up and are not given twice."""
    tracks = Tracks(SPEC)
    tracks.judge([verdict(0), verdict(0, region=(400, 80, 40, 40))])
    tracks.judge([replace(verdict(1), region=(700, 80, 40, 40))])
    assert [track.number for track in tracks.tracks] == [1, 2, 3]
    assert isinstance(tracks.tracks[0], Track)


def sums(tracks: Tracks, *verdicts: Verdict) -> list[float]:
    """The track's sum after each verdict, of frames with one region each."""
    return [tracks.judge([one])[0].scores["track"] + tracks.spec.limit for one in verdicts]


def test_what_each_frame_adds() -> None:
    """By hand: 0.75 less the allowance of 0.25 twice is the limit of 1, which still passes; a change of label adds 1;
    a contradiction adds 1, and no more where no detector was asked; and the cap is 2."""
    tracks = Tracks(SPEC)
    assert sums(tracks, verdict(0, -0.25), verdict(1, -0.25), verdict(2, -0.25)) == [0.5, 1.0, 1.5]
    assert judged(Tracks(SPEC), *(verdict(n, -0.25) for n in range(3))) == [True, True, False]
    assert sums(Tracks(SPEC), verdict(0, -1.0, label=1), verdict(1, -1.0, label=2)) == [0.0, 0.75]
    assert sums(Tracks(SPEC), verdict(0, None, reason=Reason.CONTRADICTORY)) == [0.75]
    assert sums(Tracks(SPEC), verdict(0, -0.5, reason=Reason.CONTRADICTORY)) == [1.25]
    assert sums(Tracks(SPEC), verdict(0, 0.0), verdict(1, 0.0, reason=Reason.CONTRADICTORY)) == [0.75, 2.5]
    assert sums(Tracks(SPEC), verdict(0, 9.0), verdict(1, None)) == [1.75, 3.5]
    assert sums(Tracks(SPEC), verdict(0, None, reason=Reason.LATE), verdict(1, -0.25)) == [0.0, 0.5]


def test_suspicion_counts_in_units_of_a_typical_frame() -> None:
    """A usual frame is 0, one on the frame's limit is 1, whatever a typical suspicion is."""
    spec = SPEC.model_copy(update={"typical": -2.0})
    assert [evidence(spec, value) for value in (-3.0, -2.0, -1.0, 0.0, 1.0, 5.0)] == [0.0, 0.0, 0.5, 1.0, 1.5, 2.0]


def test_what_is_withheld_over_time_tells_no_label() -> None:
    """Neither number nor name, be it for the sum or for want of confirmation."""
    for spec, reason in (
        (SPEC.model_copy(update={"limit": 0.0}), Reason.SUSPICIOUS),
        (SPEC.model_copy(update={"confirm": 2}), Reason.UNCONFIRMED),
    ):
        released = verdict(0, -0.5)
        (answer,) = Tracks(spec).judge([released])
        assert (released.label, released.label_name) == (3, "sign 3")
        assert (answer.released, answer.label, answer.label_name) == (False, None, None) and answer.reason is reason


def test_the_known_have_their_say_before_a_new_one_takes_a_place() -> None:
    """With all places taken a new region ends the least suspicious track, by what this frame has shown of each."""
    other: Region = (400, 80, 40, 40)
    tracks = Tracks(SPEC.model_copy(update={"max_tracks": 2}))
    tracks.judge([verdict(0, 0.25), verdict(0, -0.25, region=other)])
    assert [track.total for track in tracks.tracks] == [1.0, 0.5]
    tracks.judge([verdict(1, -1.0, region=(900, 80, 40, 40)), verdict(1, 0.5, region=other)])
    assert [track.region for track in tracks.tracks] == [other, (900, 80, 40, 40)]
    assert [answer.released for answer in tracks.judge([verdict(2, -1.0, region=other)])] == [False]


def test_of_equally_suspicious_tracks_the_oldest_goes() -> None:
    """And one that has been seen since is not the oldest, whenever it began."""
    tracks = Tracks(SPEC.model_copy(update={"max_tracks": 2}))
    places: list[Region] = [(100 + 300 * n, 80, 40, 40) for n in range(3)]
    for sequence, place in enumerate((places[0], places[1], places[0], places[2])):
        tracks.judge([verdict(sequence, -1.0, region=place)])
    assert [track.region for track in tracks.tracks] == [places[0], places[2]]


def test_a_frame_that_comes_in_parts_is_one_frame() -> None:
    """Regions of one frame judged one after another: the second call forgets nothing."""
    tracks = Tracks(SPEC)
    assert judged(tracks, verdict(5, 1.0), verdict(5, -1.0)) == [False, False]
    assert len(tracks.tracks) == 1


def test_every_track_that_ended_is_handed_out_once() -> None:
    """In the order in which they ended, with what was seen of each; what nobody asks for is forgotten, oldest first."""
    tracks = Tracks(SPEC.model_copy(update={"max_tracks": 3, "max_age": 1}))
    for n in range(4):
        tracks.judge([verdict(10 * n, -1.0, label=n)])
    assert [(track.number, track.frames, track.label) for track in tracks.ended()] == [(1, 1, 0), (2, 1, 1), (3, 1, 2)]
    for n in range(4, 12):
        tracks.judge([verdict(10 * n, -1.0, label=n)])
    assert [track.number for track in tracks.ended()] == [8, 9, 10, 11]


def test_the_choice_of_samples_can_be_repeated() -> None:
    """The same seed draws the same frames, 0 unless another is given."""

    def drawn(tracks: Tracks) -> list[int]:
        found = []
        for n in range(60):
            tracks.judge([verdict(n)])
            sample = tracks.tracks[0].sample
            assert sample is not None
            found.append(sample.sequence)
        return found

    assert drawn(Tracks(SPEC)) == drawn(Tracks(SPEC, seed=0)) != drawn(Tracks(SPEC, seed=1))


def test_sums_need_a_label_for_each_suspicion() -> None:
    """Whole numbers of frames come back, and lists of unequal length are no track."""
    _, same = running_sums(SPEC, np.array([-1.0, -1.0]), np.array([1, 1]))
    assert same.tolist() == [1, 2] and same.dtype == np.int64
    with pytest.raises(ValueError, match="shorter"):
        running_sums(SPEC, np.array([-1.0, -1.0]), np.array([1]))


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        # Moved by 0.9 of a width of 40, not of a height of 10; the other way too, and up or down by its height.
        ((0, 0, 40, 10), (36, 0, 40, 10), True),
        ((36, 0, 40, 10), (0, 0, 40, 10), True),
        ((0, 0, 40, 10), (40, 0, 40, 10), False),
        ((0, 0, 40, 10), (0, 9, 40, 10), True),
        ((0, 0, 40, 10), (0, 10, 40, 10), False),
        ((0, 0, 10, 40), (0, 36, 10, 40), True),
        # Grown or shrunk by a half around its centre; by one half more and it is another sign.
        ((0, 0, 20, 20), (-5, -5, 30, 30), True),
        ((-5, -5, 30, 30), (0, 0, 20, 20), True),
        ((-12, -12, 44, 44), (0, 0, 20, 20), False),
        # The smallest regions there are.
        ((0, 0, 1, 1), (0, 0, 1, 1), True),
        ((0, 0, 1, 1), (1, 0, 1, 1), False),
        ((0, 0, 2, 2), (1, 1, 1, 1), False),
    ],
)
def test_near_is_what_moved_or_grew_by_less_than_its_size(old: Region, new: Region, same: bool) -> None:
    """Width counts along x and height along y, sizes as their mean before and after; growth in powers of two."""
    assert associate([old], [new]) == [0 if same else None]


def test_each_pair_is_measured_by_itself() -> None:
    """A large region elsewhere makes no small one grow; of many pairs that are as near the first of each goes first."""
    assert associate([(0, 0, 20, 20)], [(0, 0, 20, 20), (500, 500, 320, 320)]) == [0, None]
    assert associate([(0, 0, 20, 20), (500, 500, 320, 320)], [(505, 500, 320, 320)]) == [1]
    place: Region = (0, 0, 20, 20)
    assert associate([place] * 40, [place] * 40) == list(range(40))
