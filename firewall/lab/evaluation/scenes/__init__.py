"""What the whole firewall makes of road scenes, attacked or not, and over time: `firewall lab evaluate scenes`."""
