"""How long a projector gathers events before it writes them: the longer writing takes, the longer.

A row that many events change in a moment is then written once for all of them, and a busy node spends its time on
commands. Whoever waits for a projection does not wait for this (`l02.projections.projector.progress`).
"""

from __future__ import annotations

__all__ = ["gathering_seconds"]

_TIMES = 5.0
_LONGEST_SECONDS = 0.25


def gathering_seconds(shortest: float, writing: float) -> float:
    """The pause after a round of writing that took `writing` seconds: five times as long, a quarter second at most."""
    return max(shortest, min(_TIMES * writing, _LONGEST_SECONDS))
