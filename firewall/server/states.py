"""The states of a guarded camera, and which may follow which: the one place that names them.

What leads to a state is looked at in firewall.server.monitor and firewall.server.camera_view; a change of state is
told with its cause, whoever asks. A way that the table doesn't have is never taken: the camera is then `not ready`, and
the cause says which way was missing. What is over stays over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

__all__ = ["ALLOWED", "Change", "Course", "State"]


class State(str, Enum):
    """What a camera's guard is doing. Labels are released in `guarding`, and in `overloaded` those that are in time."""

    STARTING = "starting"
    GUARDING = "guarding"
    OVERLOADED = "overloaded"
    CAMERA_FAULT = "camera fault"
    STALE = "stale"
    LOST = "source lost"
    RETURNING = "returning"
    NOT_READY = "not ready"
    ENDED = "ended"
    STOPPED = "stopped"

    def __str__(self) -> str:
        return self.value


_BROKEN = frozenset({State.CAMERA_FAULT, State.STALE, State.LOST, State.NOT_READY})
_OVER = frozenset({State.ENDED, State.STOPPED})
#: What may follow where nothing was released: frames are judged, or they have come back and are not trusted yet.
_MENDED = frozenset({State.GUARDING, State.RETURNING}) | _BROKEN | _OVER
#: State -> those that may follow it.
ALLOWED: Mapping[State, frozenset[State]] = {
    State.STARTING: frozenset({State.GUARDING}) | _BROKEN | _OVER,
    State.GUARDING: frozenset({State.OVERLOADED}) | _BROKEN | _OVER,
    State.OVERLOADED: frozenset({State.GUARDING}) | _BROKEN | _OVER,
    State.CAMERA_FAULT: _MENDED - {State.CAMERA_FAULT},
    State.STALE: _MENDED - {State.STALE},
    State.LOST: _MENDED - {State.LOST},
    State.RETURNING: _MENDED - {State.RETURNING},
    # Back to `starting` if what was wrong is over before the first frame has come, to `overloaded` before the next one.
    State.NOT_READY: (_MENDED | {State.STARTING, State.OVERLOADED}) - {State.NOT_READY},
    State.ENDED: frozenset({State.STOPPED}),
    State.STOPPED: frozenset(),
}


@dataclass(frozen=True, slots=True)
class Change:
    """One camera has come from one state into another.

    Attributes:
        camera: Its name.
        before: The state that it was in.
        state: The one that it is in now.
        cause: Why, one line.
    """

    camera: str
    before: State
    state: State
    cause: str

    def line(self) -> str:
        """For people; which camera is left to whoever has several."""
        return f"state {self.before} -> {self.state}: {self.cause}"


class Course:
    """The state of one camera. Not thread-safe.

    Args:
        camera: Its name.
    """

    def __init__(self, camera: str) -> None:
        self.camera = camera
        self.state = State.STARTING
        #: One line for people.
        self.detail = ""

    def to(self, state: State, detail: str) -> Change | None:
        """Go to a state, or stay in it with another detail.

        Args:
            state: Where to.
            detail: One line for people, which is also the cause of the change.

        Returns:
            The change; None if there is none.
        """
        before = self.state
        if state is not before and state not in ALLOWED[before]:
            if before in _OVER:
                return None
            state, detail = State.NOT_READY, f"no way leads from {before} to {state}; this is a fault of the firewall"
        self.state, self.detail = state, detail
        if state is before:
            return None
        cause = detail if detail not in ("", state.value) else "frames are judged"
        return Change(self.camera, before, state, cause)
