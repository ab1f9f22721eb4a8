"""Adaptive attacks on a whole firewall: white-box, or seeing only what it releases.

picture   the bundle as one differentiable function
scores    the differentiable score of each detector
descent   the methods that use gradients
search    the methods that need none
gate      the real firewall: only its verdict decides whether an attack has succeeded
"""

from firewall.lab.attacks.adaptive.attacker import METHODS, Attacker, Plan

__all__ = ["METHODS", "Attacker", "Plan"]
