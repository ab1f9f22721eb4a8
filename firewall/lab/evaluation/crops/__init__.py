"""What the whole firewall makes of attacked crops at their own size: `firewall lab evaluate attacks`."""
