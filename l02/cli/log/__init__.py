"""The commands about the log: what is in it, what was, what could not be handled, and what is built of it anew."""
