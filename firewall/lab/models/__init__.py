from firewall.lab.models.opening import open_classifier
from firewall.lab.models.protected import Protected

__all__ = ["Protected", "open_classifier"]
