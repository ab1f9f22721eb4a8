"""A camera's frames, read in a thread of its own: one that hangs, dies or floods holds up no other."""

from __future__ import annotations

import threading
import time
from types import TracebackType

from typing_extensions import Self

from firewall.frame import Frame
from firewall.host.pinning import elsewhere
from firewall.service.camera import Camera
from firewall.sources import End, Failure, Idle

__all__ = ["Feed"]

_OLD = 0.05  # seconds: a frame that waits longer is replaced, however late its verdict may be
_PAUSE = 0.5  # seconds after an error that nobody expected
_CLOSE_TIMEOUT = 5.0  # seconds: the capture process gets two to end by itself


class Feed:
    """Holds one frame or failure that nobody has taken yet; the source waits, or drops what comes meanwhile.

    A live frame that has waited for a while (half its deadline) is replaced as soon as there is a newer one, and counts
    as dropped. A failure is never replaced.

    Args:
        camera: The camera. Its capture is used by this thread alone, from `__enter__` to `__exit__`.
        arrived: Set whenever there is something to take, or the source has ended.
    """

    def __init__(self, camera: Camera, arrived: threading.Event) -> None:
        self.camera = camera
        #: Number of the turn in which something was taken last; whoever waits for longest comes first.
        self.served = 0
        #: Seconds that a frame of this camera has cost lately, from looking for regions to the verdict.
        self.cost = 0.0
        self.ended = False
        self._arrived = arrived
        half = _OLD if camera.deadline_ms is None else min(_OLD, camera.deadline_ms / 2e3)
        self._refresh = half if camera.capture.spec.live else None
        self._changed = threading.Condition()
        self._waiting: Frame | Failure | None = None
        self._sequence = 0  # of what comes next
        self._closing = False
        self._thread = threading.Thread(target=self._read_on, name=f"camera {camera.name}", daemon=True)

    def __enter__(self) -> Self:
        with elsewhere():
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
        self._thread.join(_CLOSE_TIMEOUT)

    @property
    def waiting(self) -> Frame | Failure | None:
        """What can be taken."""
        return self._waiting

    @property
    def finished(self) -> bool:
        """Nothing can be taken, and nothing ever will."""
        return self.ended and self._waiting is None

    def take(self) -> Frame | Failure | None:
        """The newest frame or failure, which is given once."""
        with self._changed:
            taken, self._waiting = self._waiting, None
            self._changed.notify()
        return taken

    def close(self) -> None:
        """Have the thread end its capture process, without waiting for it."""
        with self._changed:
            self._closing = True
            self._changed.notify()

    def _read_on(self) -> None:
        while not self._closing and not self.ended:
            try:
                taken = self.camera.capture.read()
            except Exception as error:  # whatever it is: this camera is withheld, and the others go on
                taken = self._broken(error)
            if isinstance(taken, End):
                self.ended = True
                self._arrived.set()
            elif not isinstance(taken, Idle):
                self._offer(taken)
        self.camera.capture.close()

    def _broken(self, error: Exception) -> Failure:
        with self._changed:
            if not self._closing:
                self._changed.wait(_PAUSE)
        spec = self.camera.capture.spec
        return Failure(spec.name, self._sequence, time.monotonic(), f"{type(error).__name__} while reading: {error}")

    def _offer(self, taken: Frame | Failure) -> None:
        """Lay it out, and wait until it is taken or old."""
        with self._changed:
            self.camera.overtaken += isinstance(self._waiting, Frame)
            self._waiting, self._sequence = taken, taken.sequence + 1
            self._arrived.set()
            while self._waiting is taken and not self._closing:
                left = _PAUSE
                if self._refresh is not None and isinstance(taken, Frame):
                    left = taken.captured_at + self._refresh - time.monotonic()
                    if left <= 0:
                        return
                self._changed.wait(left)
