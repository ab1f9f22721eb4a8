"""From trained networks to what a device runs. Needs the `export` extra; nothing here is imported by the edge."""
