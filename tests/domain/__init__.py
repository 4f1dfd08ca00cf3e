"""The domain by itself: what is asked of it, and what follows."""
