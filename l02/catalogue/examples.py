"""Examples for the pages, made by the code that makes the real ones."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from l02.bus.commands.outcomes import Outcome, failed
from l02.bus.wire.codec import encode_event
from l02.bus.wire.incoming import read_command
from l02.bus.wire.subjects import AggregateId, CommandAddress
from l02.domain.agent.work.executions import Execute, ExecutionCompleted
from l02.domain.aggregates import AGENT, AGGREGATES
from l02.domain.errors import Failure
from l02.domain.kernel.message import Context, Metadata

_AGENT = AggregateId("agent", "a1")
_COMMAND_ID = "count-42"
_COMPLETED = ExecutionCompleted(
    execution_id=_COMMAND_ID,
    output="5 commits",
    tokens=812,
    duration_seconds=1.25,
    calls=1,
    completes=(_COMMAND_ID,),
)
_CONTEXT = Context(
    aggregate_id=_AGENT.id,
    node_id="n1",
    time=0,
    metadata=Metadata(causation_id=_COMMAND_ID, correlation_id=_COMMAND_ID, actor="node/n1"),
)


def event() -> Any:
    """An event as it is stored."""
    raw = encode_event(
        _COMPLETED,
        aggregate=_AGENT,
        event_id="019a2f1c7b3e4d5f8a6b9c0d1e2f3a4b",
        version=5,
        time=datetime(2026, 3, 1, 12, 0, 2, 250_000, tzinfo=UTC),
        metadata=_CONTEXT.metadata,
    )
    return msgspec.json.decode(raw)


def completed_outcome() -> Outcome:
    """What the event of `event` tells the sender of the command."""
    return Outcome(
        command_id=_COMMAND_ID,
        ok=True,
        subject=str(_AGENT),
        version=5,
        events=[_COMPLETED.type],
        result=_COMPLETED.outcome(),
    )


def refused_outcome() -> Outcome:
    """A command that makes no sense now."""
    try:
        AGENT.decide(AGENT.initial_state(), Execute(input="count"), _CONTEXT)
    except Failure as failure:
        return failed(_COMMAND_ID, failure, str(_AGENT))
    raise AssertionError("an agent that does not exist took work")


def unreadable_outcome() -> Outcome:
    """A command that cannot be read."""
    body = b'{"spec": {"name": 7, "entrypoint": "/srv/historian.py"}}'
    try:
        read_command(AGGREGATES, CommandAddress(_AGENT, "spawn"), body, {}, command_id="spawn-a1")
    except Failure as failure:
        return failed("spawn-a1", failure)
    raise AssertionError("a name that is a number was taken")
