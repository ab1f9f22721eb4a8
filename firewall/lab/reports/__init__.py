"""Pages for people: what was measured, on what, and what it looks like."""
