"""A table of contents of what can be asked of an agent: a file for each verb."""
