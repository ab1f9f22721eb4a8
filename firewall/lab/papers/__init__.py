"""The papers' own experiments, made anew on this project's data and networks: `firewall lab paper ...`."""
