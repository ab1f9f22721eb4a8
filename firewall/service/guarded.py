"""The cameras that settings name, understood and checked, before anything is opened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from firewall.config import Part, Settings
from firewall.host.core_list import checked, listed
from firewall.host.pinning import Cores
from firewall.server import Watched
from firewall.sources import SourceSpec, parse

__all__ = ["DEADLINE_MS", "Guarded", "overlaps"]

#: Milliseconds after capture at which a verdict on a live frame is too late: one frame at 30 Hz.
DEADLINE_MS = 33.0


@dataclass(frozen=True)
class Guarded:
    """A camera that is to be guarded.

    Attributes:
        name: Its name.
        spec: Its source.
        regions: Where to look, as the setting has it.
        within: The part of its frames that is looked at; None: all.
        deadline_ms: Milliseconds after capture at which a verdict is too late; None: there is no such.
        cores: What its capture process runs on; empty: the cores that judging leaves.
    """

    name: str
    spec: SourceSpec
    regions: str
    within: Part | None
    deadline_ms: float | None
    cores: tuple[int, ...] = ()

    @classmethod
    def of(cls, settings: Settings) -> tuple[Guarded, ...]:
        """One or more.

        Raises:
            SourceUriError: If a source names nothing that can be opened.
            SourceError: If a file can't be read.
            UsageError: If this process may not run on a core that is named.
        """
        cameras = []
        for camera in settings.guarded:
            spec = parse(camera.source)
            deadline = camera.deadline_ms or (DEADLINE_MS if spec.live else None)
            within = Part.named(camera.within or settings.within)
            cores = () if camera.cores is None else checked(camera.cores, f"cores of camera {camera.name}")
            cameras.append(cls(camera.name, spec, camera.regions or settings.regions, within, deadline, cores))
        return tuple(cameras)

    @property
    def watched(self) -> Watched:
        """As the page names it."""
        return Watched(self.name, self.spec.name, self.spec.live, self.deadline_ms)

    @property
    def moving(self) -> bool:
        """Its frames follow each other, as those of single pictures don't."""
        return self.spec.live or self.spec.kind in ("video", "demo")

    @property
    def followed(self) -> bool:
        """Its signs are followed from frame to frame. A box that stays in place while signs pass by is not a sign."""
        return self.moving and self.regions.strip() in ("signs", "detector")

    def line(self, looking: str) -> str:
        """Where it looks, with `looking`, and by when; for people."""
        part = f"{self.within.line()}, " if self.within else ""
        return f"regions: {self.regions}{looking and f' ({looking})'}, {part}" + (
            f"deadline {self.deadline_ms:g} ms" if self.deadline_ms else "no deadline (not a live source)"
        )


def overlaps(cameras: Sequence[Guarded], judging: Cores | None) -> list[str]:
    """What to tell people, once, of cores that are named for more than one thing. That is allowed, and costs time.

    Args:
        cameras: All of them.
        judging: Where verdicts are computed, if that was named.
    """
    lines = []
    for number, camera in enumerate(cameras):
        if not camera.cores:
            continue
        both = {*camera.cores}.intersection(() if judging is None else judging.named)
        if both:
            lines.append(f"camera {camera.name} is read on core {listed(both)}, which judges too")
        lines += [
            f"cameras {camera.name} and {other.name} are both read on core {listed(both)}"
            for other in cameras[number + 1 :]
            if (both := {*camera.cores}.intersection(other.cores))
        ]
    return lines
