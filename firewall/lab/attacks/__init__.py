"""Attacks on an image classifier, one in each file, behind one protocol; `registry.ATTACKS` holds them by name.

`attack_crops` attacks crops at their own size, `send_crops` puts benign ones through the same channel. Start with
`registry` for the list, `attack` for what every attack takes and returns, and `criteria` for what counts as success.
"""

from firewall.lab.attacks.attack import Attack
from firewall.lab.attacks.criteria import Criterion, Target, TopOut
from firewall.lab.attacks.crops import attack_crops, send_crops
from firewall.lab.attacks.registry import ATTACKS, BLACK_BOX, PAPER_TARGETED, PAPER_UNTARGETED, by_name
from firewall.lab.attacks.rounding import quantise, survivors

__all__ = [
    "ATTACKS",
    "BLACK_BOX",
    "PAPER_TARGETED",
    "PAPER_UNTARGETED",
    "Attack",
    "Criterion",
    "Target",
    "TopOut",
    "attack_crops",
    "by_name",
    "quantise",
    "send_crops",
    "survivors",
]
