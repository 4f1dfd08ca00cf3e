"""How events become rows: pure functions."""
