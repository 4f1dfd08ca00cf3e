"""What can go wrong with the node's own servers and its data directory: each message is one line for a person."""

from __future__ import annotations


class ServerError(Exception):
    """An embedded server cannot be started, or cannot be kept running."""


class DataDirectoryError(ServerError):
    """The data directory cannot be used: in use by another node, read-only, full, or not a directory."""
