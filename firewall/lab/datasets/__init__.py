from firewall.lab.datasets.catalogue import data_root, open_dataset
from firewall.lab.datasets.dataset import Dataset
from firewall.lab.datasets.splits import PARTS, split

__all__ = ["PARTS", "Dataset", "data_root", "open_dataset", "split"]
