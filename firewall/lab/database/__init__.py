"""The database of adversarial images: benign and attacked images of one classifier, with one file history for both.

`build` makes one, `Database` reads one, `sweep` (in `swept`) gives what the classifier says of its images.
"""

from firewall.lab.database.building import Built, Plan, build
from firewall.lab.database.database import Attacked, Database

__all__ = ["Attacked", "Built", "Database", "Plan", "build"]
