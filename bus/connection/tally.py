"""What a process's connection has seen happen, counted where it happens, for whoever shows figures.

Plain numbers: the bus knows nothing of how they are shown, and two nodes in one process count each for itself.
"""

from __future__ import annotations

from collections import Counter


class Tally:
    """Counts since the connection was made, and the durable consumers that are pulled from now."""

    def __init__(self) -> None:
        self.redeliveries: Counter[str] = Counter()
        """Messages that came not for the first time, by durable consumer."""
        self.parked: Counter[str] = Counter()
        """Messages put among the dead letters, by consumer."""
        self.outcomes: Counter[str] = Counter()
        """Outcomes of commands said, by error code; `ok` for those that had none."""
        self.unread: dict[str, int] = {}
        """Messages that are there to be read, by who reads them for its partitions."""
        self.consumers: dict[str, str] = {}
        """The stream of each durable consumer."""
