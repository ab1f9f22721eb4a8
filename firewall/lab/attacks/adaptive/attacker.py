"""An attacker of one bundle: image and label in, a row of what came of it out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from firewall.bundle import Bundle
from firewall.engines import OnnxRuntimeEngine
from firewall.errors import DataError, EngineError, UsageError
from firewall.lab.attacks.adaptive.ball import Ball
from firewall.lab.attacks.adaptive.descent import WAYS
from firewall.lab.attacks.adaptive.gate import Gate
from firewall.lab.attacks.adaptive.picture import Picture
from firewall.lab.attacks.adaptive.search import BOUNDARY, Search, decide, search
from firewall.lab.attacks.adaptive.whole import Found, Walk, walk
from firewall.lab.models import load_torch
from firewall.screening import Firewall
from firewall.sweep.keyed import key_of
from firewall.transforms import resize

__all__ = ["METHODS", "Attacker", "Plan"]

Pixels = npt.NDArray[np.uint8]

#: `all`: every way by gradient in turn, and `search` behind it where a detector has no gradient.
METHODS = ("all", *WAYS, "search", "decision")


@dataclass(frozen=True)
class Plan:
    """What is attacked how.

    Args:
        ball: How far an image may be changed.
        method: One of METHODS.
        walk: Of the attack by gradient; its `ways` are what `method` says.
        search: Of the attacks without.
        seed: What all random choices depend on, together with an image's number.

    Raises:
        UsageError: A parameter is out of its range, or two don't fit.
    """

    ball: Ball
    method: str = "all"
    walk: Walk = field(default_factory=Walk)
    search: Search = field(default_factory=Search)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise UsageError(f"--method must be one of {', '.join(METHODS)}, got {self.method!r}")
        allowed = self.search.methods
        if allowed and self.method not in allowed:
            raise UsageError(f"{self.search.subspace} is for --method {' or '.join(allowed)}, got {self.method!r}")

    @property
    def by_gradient(self) -> tuple[str, ...]:
        """The ways by gradient."""
        return WAYS if self.method == "all" else (self.method,) if self.method in WAYS else ()


class Attacker:
    """Attacks a bundle.

    Args:
        bundle: It is loaded, ready to judge, by itself.
        plan: What to do.
        sweep_key: The device's, which only its firewall knows; the attack by gradient averages over keys. None: one
            that follows from the plan's seed.

    Attributes:
        notices: What the user has to know, a line each: what has no gradient.

    Raises:
        EngineError: A network can't be run.
    """

    def __init__(self, bundle: Bundle, plan: Plan, sweep_key: bytes | None = None) -> None:
        self.plan = plan
        engine = OnnxRuntimeEngine(bundle, threads=1)
        key = key_of(plan.seed) if sweep_key is None else sweep_key
        # All scores, so that a search can tell by how much it was withheld. The decision is the same.
        self.firewall = Firewall(bundle, engine, threads=1, exhaustive=plan.method != "decision", sweep_key=key)
        self.firewall.correction = None  # nobody asks for it
        self.picture: Picture | None = None
        self.notices: list[str] = []
        if plan.by_gradient:
            self.picture = self._in_torch(bundle)

    def _in_torch(self, bundle: Bundle) -> Picture | None:
        try:
            picture = Picture(bundle, load_torch(bundle.path))
        except DataError as error:
            self.notices.append(f"{error}; --method search is used, which needs none")
            return None
        left_out = (
            "it is left out of the loss, asked for every verdict, and attacked by search behind the other methods"
        )
        self.notices.extend(f"{name} has no gradient ({why}); {left_out}" for name, why in picture.blind.items())
        return picture

    def row(
        self,
        index: int,
        pixels: Pixels,
        label: int,
        keep: Callable[[Pixels], str] | None = None,
        others: Iterable[Pixels] = (),
    ) -> dict[str, Any]:
        """Attack one image.

        Args:
            index: Its number, for the seed.
            pixels: Uint8 (h, w, 3) RGB, the region's own pixels.
            label: Its class.
            keep: Stores the attacked image and says where.
            others: Pictures of other signs; a walk along the border starts from them.

        Returns:
            Ready for JSON: label, released, released_label, wrong (a label was released, and not the right one),
            queries (asked of the real firewall), steps, linf and l2 of the change in units of 0..1, method, target,
            suspicion, size; of a walk `nearest`, how near a wrong release came in the ball's norm.
        """
        gate = Gate(self.firewall, label)
        shape = (pixels.shape[1], pixels.shape[0])
        found = self._found(gate, pixels, [self.plan.seed, index], (resize(other, *shape) for other in others))
        attempt, change = found.attempt, found.attempt.pixels.astype(np.float64) - pixels
        verdict = attempt.verdict
        row = {
            "label": label,
            "released": verdict.released,
            "released_label": verdict.label,
            "wrong": attempt.wrong,
            "queries": gate.queries,
            "steps": found.steps,
            "linf": float(np.abs(change).max()) / 255,
            "l2": float(np.linalg.norm(change)) / 255,
            "method": found.way,
            "target": found.target,
            "suspicion": verdict.suspicion,
            "size": list(shape),
        }
        if self.plan.search.subspace == BOUNDARY:
            row["nearest"] = found.nearest
        return row if keep is None else {**row, "file": keep(attempt.pixels)}

    def _found(self, gate: Gate, pixels: Pixels, seed: list[int], others: Iterator[Pixels]) -> Found:
        plan = self.plan
        if plan.method == "decision":
            return decide(gate, pixels, plan.ball, plan.search, seed, others)
        found = None
        if self.picture is not None:
            found = walk(self.picture, gate, pixels, plan.ball, plan.walk, seed)
            if found.attempt.wrong or not self.picture.blind:
                return found
        start = found if found is not None and found.way != "none" else None
        ended = search(gate, pixels, plan.ball, plan.search, seed, lambda image: self._lead(image, gate.label), start)
        return Found(
            ended.attempt, ended.way, None if start is None else start.target, 0 if start is None else start.steps
        )

    def _lead(self, pixels: Pixels, label: int) -> float:
        """By how much the right class leads in the classifier's logits."""
        size = self.firewall.bundle.manifest.classifier.input
        logits = self.firewall.engine.classify(resize(pixels, size.width, size.height)[None])[0]
        if not np.isfinite(logits).all():
            raise EngineError("the classifier gave logits that are not finite numbers")
        return float(logits[label] - np.delete(logits, label).max())
