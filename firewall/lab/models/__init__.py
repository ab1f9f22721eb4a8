from firewall.lab.models.opening import load_torch, open_classifier
from firewall.lab.models.protected import Protected

__all__ = ["Protected", "load_torch", "open_classifier"]
