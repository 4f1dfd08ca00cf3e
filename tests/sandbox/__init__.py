"""Sandboxes: what gets in, what cannot get out, and that nothing is left behind."""
