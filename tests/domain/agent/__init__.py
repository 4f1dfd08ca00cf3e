"""A table of contents of what is decided about an agent: a file for each command and each report, by its name."""
