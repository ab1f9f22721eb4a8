"""What a mask says of a label: it names it surely, it objects to it, or neither. Proofs: docs/certificates.md.

Let p be the confidences (softmax) under one mask, and tau the dial, between 0 and 1. A label y is

* *named surely* if p(y) >= tau and y leads every other label;
* *objected to* if another label w has p(w) >= tau and is not behind y.

Where y is named surely, every other label is objected to. So what a mask names surely and what it doesn't object to are
never two different labels, and that is all that the proofs need. Two rules come from it, each the mirror of the other:

* `agree`: a label is released if every mask names it surely. On a sign where no mask objects to y, no sticker gets
  another label than y released.
* `object`: a label is released if no mask objects to it. On a sign where every mask names y surely, no sticker gets
  another label than y released.

Without tau every leading label is sure, and the two rules are one: PatchCleanser's first round. The last bits of a
logit may differ from batch to batch. So what is sure clears its bounds by SLACK, and what objects need not: a
difference of half of it in every logit breaks no proof.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from firewall.bundle import PatchSpec
from firewall.errors import EngineError, UsageError

__all__ = ["SLACK", "Dial", "against", "check_logits", "named", "stricter"]

#: By how much, in logits, a sure label clears its bounds.
SLACK = 1e-3

Logits = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]
_Floats = npt.NDArray[np.float64]


def named(logits: Logits, label: int) -> _Floats:
    """How surely each mask names a label.

    Args:
        logits: (masks, classes).
        label: The class, 0-based.

    Returns:
        (masks,), log(p / (1 - p)) of the label; -inf where it doesn't lead by SLACK.

    Raises:
        EngineError: A logit is not finite.
    """
    values = _finite(logits)
    return _odds(values, np.full(len(values), label), SLACK)


def against(logits: Logits, label: int) -> _Floats:
    """How surely each mask names another label.

    Args:
        logits: (masks, classes).
        label: The class, 0-based.

    Returns:
        (masks,), log(p / (1 - p)) of the best other label; -inf where it is behind the label.

    Raises:
        EngineError: A logit is not finite.
    """
    values = _finite(logits)
    rest = values.copy()
    rest[:, label] = -np.inf
    best = rest.max(axis=1)
    return np.where(best >= values[:, label], _odds(values, rest.argmax(axis=1), 0.0), -np.inf)


@dataclass(frozen=True, slots=True)
class Dial:
    """A rule at one setting.

    Attributes:
        rule: "agree" or "object", see the module.
        tau: The confidence from which a label counts, above 0 and below 1. None: a label that leads counts.
    """

    rule: str = "agree"
    tau: float | None = None

    @classmethod
    def of(cls, spec: PatchSpec) -> Dial:
        """The dial of a demand."""
        return cls(spec.rule, spec.tau)

    def sure(self, level: _Floats) -> Flags:
        """Where `named` is enough: (masks,)."""
        return np.asarray(level > -np.inf if self.tau is None else level >= self._bound + SLACK)

    def objects(self, level: _Floats) -> Flags:
        """Where `against` is enough: (masks,)."""
        return np.asarray(level > -np.inf if self.tau is None else level >= self._bound)

    def permits(self, logits: Logits, label: int) -> Flags:
        """Which masks let a label pass; it is released if all do.

        Args:
            logits: (masks, classes).
            label: The class, 0-based.

        Returns:
            (masks,).

        Raises:
            EngineError: A logit is not finite.
        """
        return ~self.objects(against(logits, label)) if self.rule == "object" else self.sure(named(logits, label))

    def shields(self, logits: Logits, label: int) -> bool:
        """Whether no sticker can get another label released on a sign.

        Args:
            logits: (masks, classes) of the clean sign, under every mask.
            label: What the sign shows: a class, 0-based.

        Returns:
            True if the masks rule it out, whatever the protected classifier says.

        Raises:
            EngineError: A logit is not finite.
        """
        held = self.sure(named(logits, label)) if self.rule == "object" else ~self.objects(against(logits, label))
        return bool(held.all())

    @property
    def _bound(self) -> float:
        tau = 0.5 if self.tau is None else self.tau
        return math.log(tau) - math.log1p(-tau)


def _finite(logits: Logits) -> _Floats:
    values = np.asarray(logits, np.float64)
    if not np.isfinite(values).all():  # no comparison with NaN objects to anything
        raise EngineError("the classifier gave logits that are not finite under masks")
    return values


def _odds(values: _Floats, labels: npt.NDArray[np.intp], lead: float) -> _Floats:
    """log(p / (1 - p)) of one label a row, (rows,); -inf where it leads every other label by less than `lead`."""
    rows, others = np.arange(len(values)), values.copy()
    own = values[rows, labels]
    others[rows, labels] = -np.inf
    best = others.max(axis=1)
    base = np.where(np.isfinite(best), best, 0.0)  # a classifier of one class has no others, and is sure
    with np.errstate(divide="ignore"):
        odds = own - base - np.log(np.exp(others - base[:, None]).sum(axis=1))
    return np.where(own - best >= lead, odds, -np.inf)


def check_logits(classify: Callable[[npt.NDArray[np.uint8]], Logits], height: int, width: int, what: str) -> None:
    """Refuse a network that gives probabilities: confidences made of them would never reach tau, and nothing object.

    Args:
        classify: Gives the outputs (N, classes) of images (N, height, width, 3) uint8.
        height: Of its input in pixels.
        width: Of its input in pixels.
        what: Names the network in the message.

    Raises:
        EngineError: Its outputs lie within 0..1 and sum up to 1.
    """
    grey = np.full((height, width, 3), 128, np.uint8)
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    outputs = np.asarray(classify(np.stack([grey, noise])), np.float64)
    if outputs.shape[1] > 1 and (outputs >= 0).all() and np.allclose(outputs.sum(axis=1), 1, atol=1e-2):
        raise EngineError(
            f"{what} gives probabilities, and tau needs logits: export it without its softmax, or ask without tau"
        )


def stricter(first: PatchSpec | None, second: PatchSpec | None) -> PatchSpec | None:
    """What satisfies both of two demands: the larger sticker, the stricter rule, and two rounds if either asks for two.

    Rules form one line, from `object` with tau near 1, which releases most, over `object` with a lower tau and no dial
    at all to `agree` with tau near 1. Each releases no label that the one before it withholds, and certifies every sign
    that it certifies. Finer masks (firewall.decision.steps) at tau stand between `object` at tau without them and
    `agree` at tau without them; with what lies between these two, or with other finer masks, they can't be compared.
    Nor can other masks: what passes under 36 large ones may fail under 196 small ones, and the reverse. Masks for a
    larger sticker are larger; whoever is safe from that one is safe from a smaller one too, but they may pass a label
    that the smaller ones would not.

    Args:
        first: The bundle's demand, None if it has none.
        second: The operator's demand, None if there is none. Number and grey value of the masks are those of the
            demand that names them.

    Returns:
        The combined demand, None if there is none.

    Raises:
        UsageError: Neither rule is the stricter one, or both name masks, and different ones.
    """
    if first is None or second is None:
        return first or second
    strict = _stricter_rule(first, second)
    named = {field: _named(field, first, second) for field in ("masks", "fill")}
    named = {field: value for field, value in named.items() if value is not None}
    hardest = {"area": max(first.area, second.area), "rounds": max(first.rounds, second.rounds)}
    rule = {"rule": strict.rule, "tau": strict.tau, "finer": strict.finer}
    return second.model_copy(update={**hardest, **rule, **named})


def _named(field: str, first: PatchSpec, second: PatchSpec) -> int | None:
    """A number of which none is the stricter one, None if neither demand names it."""
    found = {getattr(each, field) for each in (first, second) if field in each.model_fields_set}
    if len(found) > 1:
        raise UsageError(
            f"stickers are asked about with {field} {getattr(first, field)} and with {field} {getattr(second, field)}, "
            f"and neither is the stricter one: leave out {field}, or give the same"
        )
    return found.pop() if found else None


def _stricter_rule(first: PatchSpec, second: PatchSpec) -> PatchSpec:
    if first.finer == second.finer and (not first.finer or first.tau == second.tau):
        return max(first, second, key=_strictness)
    if not (first.finer and second.finer):
        plain, steps = (second, first) if first.finer else (first, second)
        if abs(_strictness(plain)) >= abs(_strictness(steps)):
            return plain if plain.rule == "agree" else steps
    raise UsageError(
        f"stickers are asked about by {_told(first)} and by {_told(second)}, and neither is the stricter one: give the "
        "same tau and finer, or rule 'agree' with that tau and finer 0"
    )


def _told(spec: PatchSpec) -> str:
    return f"rule '{spec.rule}' with tau {'none' if spec.tau is None else f'{spec.tau:g}'} and finer {spec.finer}"


def _strictness(spec: PatchSpec) -> float:
    """-1..1, where the rule stands on the line of `stricter`."""
    if spec.rule == "object":
        return -1.0 if spec.tau is None else -spec.tau
    return spec.tau or 0.0
