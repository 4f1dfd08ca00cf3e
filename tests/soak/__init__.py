"""Long randomized fault runs over a whole system: `make soak`."""
