"""Classifiers and detector networks in torch: open one by name, read one from an ONNX file, or build one to train."""

from firewall.lab.models.onnx_network import load_network
from firewall.lab.models.opening import load_torch, open_classifier
from firewall.lab.models.protected import Protected

__all__ = ["Protected", "load_network", "load_torch", "open_classifier"]
