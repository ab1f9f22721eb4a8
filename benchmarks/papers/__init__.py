"""The papers' own experiments, repeated on this project's data and networks: `python -m benchmarks.papers`."""

from firewall.host.temporary import temporary_folder

# For matplotlib's list of fonts, as in firewall.lab.reports: it would be written into the user's home.
temporary_folder("MPLCONFIGDIR")
