"""Released labels of a stream, counted: a label that goes on going out at about the same place counts once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from firewall.decision.tracks import associate
from firewall.frame import Region

__all__ = ["Event", "ReleasedLabels"]

#: Frames after which a label at the same place counts again.
_GAP = 15


@dataclass(slots=True)
class Event:
    """A label that was released.

    Attributes:
        label: The class.
        region: Where it went out last, (x, y, width, height) in pixels.
        first: Number of the frame in which it went out first.
        last: Of the last.
        frames: In how many frames it went out.
    """

    label: int
    region: Region
    first: int
    last: int
    frames: int = 1


class ReleasedLabels:
    """Takes the releases of one frame after the other."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def add(self, sequence: int, released: Sequence[tuple[Region, int]]) -> list[Event]:
        """Count the releases of a frame.

        Args:
            sequence: The frame's number, above those before.
            released: Region and label of each.

        Returns:
            What went out for the first time.
        """
        begun: list[Event] = []
        for label in sorted({label for _, label in released}):
            regions = [region for region, other in released if other == label]
            going = [event for event in self.events if event.label == label and sequence - event.last <= _GAP]
            for region, match in zip(regions, associate([event.region for event in going], regions), strict=True):
                if match is None:
                    begun.append(Event(label, region, sequence, sequence))
                else:
                    event = going[match]
                    event.region, event.last, event.frames = region, sequence, event.frames + 1
        self.events += begun
        return begun
