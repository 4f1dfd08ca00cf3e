"""The executor where it needs no server."""
