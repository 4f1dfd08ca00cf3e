"""The log of events: storing, folding, reading and following it."""
