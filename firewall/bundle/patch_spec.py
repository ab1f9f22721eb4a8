"""What is asked of labels under masks: a field of the manifest, and of the settings."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from firewall.bundle.strict import Strict

__all__ = ["PatchSpec"]


class PatchSpec(Strict):
    """Release only labels that pass under masks over every place of a sticker, see firewall.decision.masking.

    Attributes:
        area: Area of the largest square that may change, as a share (0..1) of the network's input. A sticker on the
            sign has to be smaller, see firewall.decision.masking.largest_sticker.
        masks: Masks along each side, so there are masks * masks of them.
        rounds: 1: the label must hold under every mask. 2: it must hold under every pair of masks, which also means
            that double masking finds this label whatever sticker is added.
        fill: Grey value of a mask, 0..255.
        rule: What is released, see firewall.decision.dial. "agree": a label that every mask names; all that is released
            is certified. "object": a label that no mask objects to; the verdict says if it is certified too. By default
            "object" if there is a tau, else "agree".
        tau: The confidence from which a mask's label counts. None: "agree" counts every label that leads, "object"
            takes the tau that the bundle states (firewall.bundle.stickers), and its `finer`.
        finer: Masks along each side of a mask that is unsure, 2 to 6, see firewall.decision.steps. 0: one step.
    """

    area: float = Field(gt=0, lt=1)
    masks: int = Field(6, ge=2, le=16)
    rounds: int = Field(1, ge=1, le=2)
    fill: int = Field(128, ge=0, le=255)
    rule: Literal["agree", "object"] = "agree"
    tau: float | None = Field(None, gt=0, lt=1)
    finer: int = Field(0, ge=0, le=6)

    @model_validator(mode="before")
    @classmethod
    def _a_dial_alone_is_for_objections(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("tau") is not None and values.get("rule") is None:
            return {**values, "rule": "object"}
        return values

    @model_validator(mode="after")
    def _two_rounds_agree(self) -> PatchSpec:
        if self.rounds == 2 and self.rule == "object":
            raise ValueError("two rounds ask every pair of masks to agree: rule 'object' has one round")
        return self

    @model_validator(mode="after")
    def _two_steps_are_of_one_round_with_tau(self) -> PatchSpec:
        if self.finer == 1:
            raise ValueError("finer masks are 2 to 6 along a side of an unsure one, or 0 for none, got 1")
        if self.finer and self.rounds == 2:
            raise ValueError("finer masks are asked in one round: give rounds 1, or finer 0")
        if self.finer and self.rule == "agree" and self.tau is None:
            raise ValueError("finer masks are asked where a mask is unsure: give a tau too, or finer 0")
        return self

    @model_serializer(mode="wrap")
    def _without_a_dial_as_before_it(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """What says nothing of a dial reads, and is hashed, as it was before there was one."""
        values: dict[str, Any] = dump(self)
        if self.tau is None:
            values.pop("tau", None)
            if self.rule == "agree":
                values.pop("rule", None)
        if not self.finer:
            values.pop("finer", None)
        return values
