"""Reads the past that a fork begins from, before the fork is decided: the decision itself is about the new agent alone.

The other agent's events are folded anew up to the point; nothing is asked of it, and nothing of it changes.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from l02.bus.connection.bus import Bus
from l02.bus.log.history import read_log_entries
from l02.bus.log.repository import Repository
from l02.bus.wire.codec import RecordedEvent, SetAside, UnreadableEvent
from l02.bus.wire.subjects import AggregateId, aggregate_filter
from l02.domain.agent.saved.checkpoints import CheckpointCreated
from l02.domain.agent.saved.forks import Fork, ForkFrom, Past, past_of
from l02.domain.agent.state import AgentState
from l02.domain.errors import ErrorCode, Failure
from l02.domain.identifiers import require_id
from l02.domain.kernel.message import Context
from l02.handlers.state.capture import fitting


class Forking:
    """Gives `fork` commands the past they name."""

    def __init__(self, bus: Bus, agents: Repository[AgentState]) -> None:
        self._bus = bus
        self._agents = agents
        agents.before_deciding(Fork, self._with_past)

    async def _with_past(self, command: Fork, context: Context) -> Fork | ForkFrom:
        require_id(command.from_agent_id, "$.from_agent_id")
        aggregate = AggregateId("agent", command.from_agent_id)
        past = await self._past(command, await self._events(command, aggregate))
        return command if past is None else command.of(past, context)

    async def _events(self, command: Fork, aggregate: AggregateId) -> list[RecordedEvent]:
        """The other agent's events; of one that has halted those before what cannot be read, if no more is wanted."""
        try:
            return await self._agents.store.load(aggregate)
        except UnreadableEvent:
            events: list[RecordedEvent] = []
            more = True
            while more:
                after = events[-1].sequence if events else 0
                entries, more = await read_log_entries(self._bus, aggregate_filter(aggregate), after=after)
                for entry in entries:
                    if isinstance(entry, SetAside):
                        reached = events[-1].version if events else 0
                        is_before = command.version is not None and command.version <= reached
                        if is_before or (command.at is not None and command.at < entry.sequence):
                            return events
                        raise
                    events.append(entry)
            raise

    async def _past(self, command: Fork, events: Sequence[RecordedEvent]) -> Past | None:
        if not events:
            return None
        version = _version(command, events)
        wanted = [recorded for recorded in events if _is_in(command, recorded, version)]
        if not wanted:
            return None
        aggregate = self._agents.aggregate
        state = aggregate.initial_state()
        for recorded in wanted:
            state = aggregate.evolve(state, recorded.event)
        past = past_of(state, wanted[-1].version, wanted[-1].sequence)
        return replace(past, data=await fitting(self._bus, past.data))


def _is_in(command: Fork, recorded: RecordedEvent, version: int | None) -> bool:
    if version is not None:
        return recorded.version <= version
    return command.at is None or recorded.sequence <= command.at


def _version(command: Fork, events: Sequence[RecordedEvent]) -> int | None:
    """The version up to which the past is wanted, if it is said so. It may be that of a checkpoint long expired."""
    if command.checkpoint_id is None:
        newest = events[-1].version
        if command.version is not None and command.version > newest:
            message = f"agent {command.from_agent_id} is at version {newest} and has no {command.version} yet"
            raise Failure(ErrorCode.COMMAND_INVALID, message, "$.version")
        return command.version
    for recorded in events:
        match recorded.event:
            case CheckpointCreated(checkpoint_id=command.checkpoint_id, version=version):
                return version
    raise Failure(
        ErrorCode.RESTORE_FAILED,
        f"agent {command.from_agent_id} has no checkpoint {command.checkpoint_id[:40]!r}; "
        f"`l02 checkpoints {command.from_agent_id}` lists those it has",
        "$.checkpoint_id",
    )
