"""Attacks on a whole firewall by one who knows all of it, and by one who sees only what it releases.

`picture` is a bundle as one differentiable function, `scores` has a line for each detector, `descent` the ways down its
gradients, `search` what needs none, and `gate` the real firewall, whose verdict alone counts.
"""

from firewall.lab.attacks.adaptive.attacker import METHODS, Attacker, Plan

__all__ = ["METHODS", "Attacker", "Plan"]
