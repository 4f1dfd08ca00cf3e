"""Values that are too large for a message."""
