"""An attack followed by a channel. The attacker knows the channel, expects several, or knows nothing of it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from firewall.errors import UsageError
from firewall.lab.attacks.attack import Attack
from firewall.lab.attacks.channels import CHANNELS, Channel, parse_channel, sent, stand_in
from firewall.lab.attacks.criteria import Criterion
from firewall.lab.attacks.rounding import quantise, to_input

__all__ = ["KNOWLEDGE", "Channelled"]

#: What the attacker knows of the channel.
KNOWLEDGE = ("nothing", "known", "eot")


@dataclass(frozen=True)
class Channelled:
    """An attack followed by a channel: the attack's own bound holds before the channel.

    Args:
        attack: What changes the images.
        channel: A channel's name, as `parse_channel` takes it; "": none, only for an attacker who expects several.
        knows: `nothing`: the network is attacked as if there were no channel. `known`: the attacker sees the network
            through the stand-in of this very channel (BPDA). `eot`: through the mean of the logits over no channel,
            all of CHANNELS, and this one (expectation over transformations, Athalye et al. 2018).

    Raises:
        UsageError: There is no such channel or knowledge, or neither a channel nor an expectation.
        MissingExtraError: A channel's codec is not installed.
    """

    attack: Attack
    channel: str
    knows: str = "nothing"

    def __post_init__(self) -> None:
        if self.knows not in KNOWLEDGE or (not self.channel and self.knows != "eot"):
            raise UsageError(
                f"channel {self.channel!r}, knowledge {self.knows!r}: a channel needs a name, or the attack 'eot'; "
                f"allowed are {', '.join(KNOWLEDGE)}"
            )
        for name in self._seen:
            parse_channel(name)
        if self.channel:
            parse_channel(self.channel)

    @property
    def _seen(self) -> tuple[str, ...]:
        """The channels that the attacker sees the network through."""
        if self.knows == "eot":
            return tuple(dict.fromkeys([*CHANNELS, *([self.channel] if self.channel else [])]))
        return (self.channel,) if self.knows == "known" else ()

    @property
    def name(self) -> str:
        """See Attack."""
        return "@".join(filter(None, (self.attack.name, self.channel, "" if self.knows == "nothing" else self.knows)))

    @property
    def criterion(self) -> Criterion:
        """See Attack."""
        return self.attack.criterion

    @property
    def needs_gradient(self) -> bool:
        """See Attack."""
        return self.attack.needs_gradient

    @property
    def labels_only(self) -> bool:
        """See Attack."""
        return self.attack.labels_only

    @property
    def chunk(self) -> int:
        """See Attack."""
        return self.attack.chunk

    def run(self, model: nn.Module, images: Tensor, labels: Tensor, seed: int) -> Tensor:
        """See Attack.run: the images after the channel, multiples of 1/255."""
        return self.after(self.before(model, images, labels, seed), seed)

    @property
    def blind(self) -> bool:
        """Whether the attacker knows nothing of channels."""
        return not self._seen

    def after(self, before: Tensor, seed: int) -> Tensor:
        """What comes out of the channel.

        Args:
            before: Float (N, C, h, w) in 0..1: what `before` gives.
            seed: As in `run`.

        Returns:
            Float of the same shape, multiples of 1/255 where there is a channel.
        """
        if not self.channel:
            return before
        received = sent(parse_channel(self.channel), quantise(before), _derived(seed, "sent"))
        return to_input(received).to(before)

    def before(self, model: nn.Module, images: Tensor, labels: Tensor, seed: int) -> Tensor:
        """The attacked images before the channel: the attack's own result. Arguments and errors as `Attack.run`."""
        if self._seen:
            channels = [parse_channel(name) for name in self._seen]
            model = _Through(model, channels, plain=self.knows == "eot", seed=_derived(seed, "tried"))
        return self.attack.run(model, images, labels, seed)


class _Through(nn.Module):
    """The mean of a network's logits over channels, whose random choices are new at each call."""

    def __init__(self, network: nn.Module, channels: list[Channel], *, plain: bool, seed: int) -> None:
        super().__init__()
        self.network, self.channels, self.plain = network, channels, plain
        self.generator = torch.Generator().manual_seed(seed)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes) of float (N, C, h, w) in 0..1."""
        seen = [images] if self.plain else []
        for channel in self.channels:
            seed = int(torch.randint(2**31, (), generator=self.generator))
            seen.append(stand_in(channel, images, seed))
        logits: Tensor = self.network(torch.cat(seen))
        return logits.unflatten(0, (len(seen), len(images))).mean(0) if logits.ndim == 2 else logits


def _derived(seed: int, purpose: str) -> int:
    """What the channel does isn't what the attacker has tried."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{purpose}".encode()).digest()[:4], "big")
