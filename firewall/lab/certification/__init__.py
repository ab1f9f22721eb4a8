"""What can be promised, and proved, of networks and of the firewall as a whole."""
