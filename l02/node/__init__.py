"""A node: its wiring, its endpoints and what it shows of itself."""
