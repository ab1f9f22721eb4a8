"""The operations of a sweep. Each has one definition, used by the edge and the lab alike."""

from firewall.transforms.gaussian_blur import gaussian_blur
from firewall.transforms.jpeg import SUBSAMPLINGS, SWEEP_16, SWEEP_76, jpeg_sweep, jpeg_sweep_normalised
from firewall.transforms.operations import OPERATIONS_38, apply_operations, apply_operations_normalised
from firewall.transforms.residual import residual
from firewall.transforms.resize import crops, resize
from firewall.transforms.rotate import rotate
from firewall.transforms.scale import scale

__all__ = [
    "OPERATIONS_38",
    "SUBSAMPLINGS",
    "SWEEP_16",
    "SWEEP_76",
    "apply_operations",
    "apply_operations_normalised",
    "crops",
    "gaussian_blur",
    "jpeg_sweep",
    "jpeg_sweep_normalised",
    "residual",
    "resize",
    "rotate",
    "scale",
]
