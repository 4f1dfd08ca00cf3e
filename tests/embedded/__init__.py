"""The node's own servers and its data directory."""
