"""The operations of a sweep. Each has one definition, used by the edge and the lab alike."""

from firewall.transforms.jpeg import SUBSAMPLINGS, SWEEP_16, SWEEP_76, jpeg_sweep
from firewall.transforms.operations import apply_operations
from firewall.transforms.resize import resize

__all__ = ["SUBSAMPLINGS", "SWEEP_16", "SWEEP_76", "apply_operations", "jpeg_sweep", "resize"]
