"""Decisions about a node: each report has its tests, happened and ignored; none is refused."""
