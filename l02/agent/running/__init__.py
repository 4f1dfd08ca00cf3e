"""One run of a handler: its calls, what it does itself, and their order."""
