"""The firewall against what a user would pick instead: `python -m benchmarks.alternatives`."""

import sys
from pathlib import Path

# operations.py beside this folder is also run as a program, and finds its neighbours as one.
sys.path.append(str(Path(__file__).parents[1]))
