"""An agent's past as another agent takes it over, and what the other one then begins with."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from l02.domain.agent import events as e
from l02.domain.agent.rules import deadline
from l02.domain.agent.state import AgentState, PendingSignal
from l02.domain.specification import AgentSpecification

__all__ = ["InheritedExecution", "Past", "begin_from", "past_of"]


class InheritedExecution(Struct, frozen=True, kw_only=True):
    """Work that was under way, with the answers that were on record."""

    execution_id: str
    input: Any
    journal: tuple[e.JournalEntry, ...]


class Past(Struct, frozen=True, kw_only=True):
    """An agent as of its `version`, the event with stream sequence `sequence`: all that a fork takes over."""

    version: int
    sequence: int
    spec: AgentSpecification
    data: dict[str, Any]
    signals: tuple[PendingSignal, ...]
    executions: tuple[InheritedExecution, ...]


def past_of(state: AgentState, version: int, sequence: int) -> Past:
    """The past that has led to `state`. Waits and calls under way had no answer yet, so a fork begins them anew."""
    return Past(
        version=version,
        sequence=sequence,
        spec=state.specification,
        data=state.data,
        signals=state.signals,
        executions=tuple(
            InheritedExecution(execution_id=item.execution_id, input=item.input, journal=item.journal)
            for item in state.executions.values()
        ),
    )


def begin_from(
    past: Past, from_agent_id: str, checkpoint_id: str | None, time: float
) -> list[e.AgentForked | e.ExecutionInherited]:
    """What follows the first event of an agent that is forked; the time of its work begins at `time`."""
    return [
        e.AgentForked(
            from_agent_id=from_agent_id,
            from_version=past.version,
            from_sequence=past.sequence,
            checkpoint_id=checkpoint_id,
            state=past.data,
            signals=past.signals,
        ),
        *(
            e.ExecutionInherited(
                execution_id=item.execution_id,
                input=item.input,
                journal=item.journal,
                deadline=deadline(past.spec, time),
            )
            for item in past.executions
        ),
    ]
