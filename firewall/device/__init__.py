"""A device that starts by itself: the systemd unit, what the guard tells systemd while it runs, and its health."""
