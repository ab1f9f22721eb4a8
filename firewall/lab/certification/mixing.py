"""A fast first-order search for semidefinite programs of sign vectors: max <Q, Z> over Z >= 0 with diag(Z) = 1.

Burer and Monteiro's factorisation Z = V V^T with rows of length 1, after Wang, Chang and Kolter's mixing method (2017);
here all rows take their step at once, which for a positive semidefinite Q never lowers the objective (it is convex) and
is one matrix product. Its value is reached by a feasible Z, so it lies below the program's; what is proved comes from
dual.py alone, whatever state this search is left in.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from firewall.errors import EngineError
from firewall.lab.certification.flow_budget import Floats

__all__ = ["Mixed", "mix"]


@dataclass(frozen=True)
class Mixed:
    """Where a search stopped.

    Args:
        value: Of the feasible Z that was reached.
        lengths: |(Q V)_i| for each row, the dual variables if it is optimal.
        steps: How many were taken.
        converged: Whether the value had stopped rising.
    """

    value: float
    lengths: Floats
    steps: int
    converged: bool


def mix(matrix: Floats, *, steps: int = 3000, tolerance: float = 1e-7, beyond: float = np.inf, seed: int = 0) -> Mixed:
    """Search for the maximum of <matrix, Z>.

    Args:
        matrix: (n, n), symmetric and positive semidefinite.
        steps: Largest number of steps.
        tolerance: Relative rise in ten steps below which the search ends.
        beyond: A value above which the search ends too.
        seed: What the start depends on.

    Returns:
        Where it stopped.

    Raises:
        EngineError: The numbers stop being finite.
    """
    size = len(matrix)
    rank = int(np.ceil(np.sqrt(2 * size))) + 1
    rows = np.random.default_rng(seed).normal(size=(size, rank))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    value = -np.inf
    for step in range(1, steps + 1):
        pulled = matrix @ rows
        lengths = np.linalg.norm(pulled, axis=1)
        reached = float(np.sum(pulled * rows))
        if not np.isfinite(reached):
            raise EngineError("the search for a spatial certificate met numbers that are not finite; check the weights")
        if reached > beyond:
            break
        if step % 10 == 0:
            if reached - value <= tolerance * abs(reached):
                return Mixed(reached, lengths, step, converged=True)
            value = reached
        rows = pulled / np.maximum(lengths, 1e-300)[:, None]
    return Mixed(reached, lengths, step, converged=False)
