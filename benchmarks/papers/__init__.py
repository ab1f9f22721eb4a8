"""The papers' own experiments, repeated on this project's data and networks: `python -m benchmarks.papers`."""
