"""What an agent has taken from the world, by its events: the same whether its node or it did it itself."""

from __future__ import annotations

from collections.abc import Iterable

from l02.domain.agent.execution import JournalEntry
from l02.domain.agent.work.effects import EffectRecorded, StepsRecorded, ToolCalled
from l02.domain.kernel.message import Event


def effects(events: Iterable[Event], *kinds: str) -> list[JournalEntry]:
    """Each whose answer is on record, of these kinds or of all, in the order of the events."""
    found: list[JournalEntry] = []
    for event in events:
        if isinstance(event, StepsRecorded):
            found += (step.entry for step in event.steps)
        elif isinstance(event, ToolCalled) or (isinstance(event, EffectRecorded) and event.done):
            found.append(event.entry)
    return [entry for entry in found if entry.kind in (kinds or (entry.kind,))]
