"""Pages for people: what was measured, on what, and what it looks like."""

from firewall.host.temporary import temporary_folder

# For matplotlib's list of fonts: here, since all that imports matplotlib is in this package.
temporary_folder("MPLCONFIGDIR")
