"""How long a projector gathers events before it writes them: the longer writing takes and the more there are, longer.

A row that many events change in a moment is then written once for all of them, and a busy node spends its time on
commands. Whoever waits for a projection does not wait for this (`l02.projections.projector.progress`).
"""

from __future__ import annotations

_TIMES = 5.0
_LONGEST_SECONDS = 0.25
# So many at a time are of a node at work: each of its agents has several in the time below.
_BUSY_EVENTS = 32
_BUSY_SECONDS = 0.2


def gathering_seconds(shortest: float, writing: float, events: int = 0) -> float:
    """The pause after a round in which writing `events` took `writing` seconds: five times as long, or a fifth of a
    second if they were many; a quarter second at most.
    """
    busy = _BUSY_SECONDS if events >= _BUSY_EVENTS else 0.0
    return max(shortest, busy, min(_TIMES * writing, _LONGEST_SECONDS))
