"""The machine and the process that the firewall runs in: streams, folders, libraries that want to talk."""
