"""The database of adversarial images: normal and attacked ones of one classifier, with one file history for both."""

from firewall.lab.database.building import Built, Plan, build
from firewall.lab.database.database import Attacked, Database

__all__ = ["Attacked", "Built", "Database", "Plan", "build"]
