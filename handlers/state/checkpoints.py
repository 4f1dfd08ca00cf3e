"""Stores the checkpoints that an agent's events ask for, brings agents back to them, and deletes what has expired.

Each step looks at the agent first and can be repeated: what was stored and not yet reported when the node died is
stored again, and what is left of the first time is removed.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import stamina
import structlog

from l02.bus.background.backoff import outlasting
from l02.bus.connection.bus import Bus
from l02.bus.log.repository import Repository
from l02.bus.wire.codec import RecordedEvent
from l02.domain.agent.saved.checkpoints import (
    CheckpointCreated,
    CheckpointExpired,
    CheckpointFailed,
    CheckpointRequested,
)
from l02.domain.agent.saved.restoring import CheckpointRestored, RestoreFailed, RestoreRequested
from l02.domain.agent.state import AgentState, KeptCheckpoint
from l02.domain.errors import ErrorCode, Failure
from l02.domain.kernel.message import Report
from l02.handlers.state.capture import outline_all, parts_of, state_of
from l02.handlers.state.checkpoint_store import CheckpointStore, Saved

_T = TypeVar("_T")
_PATIENCE_SECONDS = 15.0
_RETRY_SECONDS = 0.5
_OFFERS_TRIED = 20
_log = structlog.get_logger()


class Checkpoints:
    """Of the agents of one node, in one store."""

    def __init__(self, bus: Bus, agents: Repository[AgentState], store: CheckpointStore, node_id: str) -> None:
        self._bus = bus
        self._agents = agents
        self._store = store
        self._node_id = node_id

    async def take(self, recorded: RecordedEvent, event: CheckpointRequested, *, perhaps_again: bool) -> None:
        """Store the checkpoint that `event` asks for, unless that is done or another node is to by now.

        `perhaps_again` after a crash.
        """
        agent_id = recorded.aggregate.id
        began = time.monotonic()
        try:
            taken = await _patiently(ErrorCode.CHECKPOINT_FAILED, lambda: self._save(agent_id, event.checkpoint_id))
        except Failure as failure:
            await self._report(
                recorded,
                CheckpointFailed(
                    checkpoint_id=event.checkpoint_id,
                    checkpoint_type=event.checkpoint_type,
                    code=failure.code.value,
                    message=failure.message,
                ),
            )
            return
        if taken is not None:
            saved, version, revision, asked_before = taken
            perhaps_again = perhaps_again or asked_before
            await self._report(
                recorded,
                CheckpointCreated(
                    checkpoint_id=event.checkpoint_id,
                    checkpoint_type=event.checkpoint_type,
                    label=event.label,
                    storage_location=saved.storage_location,
                    size_bytes=saved.size_bytes,
                    compressed_bytes=saved.compressed_bytes,
                    sha256=saved.sha256,
                    version=version,
                    revision=revision,
                    created_at=time.time(),
                    duration_seconds=time.monotonic() - began,
                ),
            )
        if perhaps_again:
            await self._remove_leftovers(agent_id, event.checkpoint_id)

    async def _save(self, agent_id: str, checkpoint_id: str) -> tuple[Saved, int, int, bool] | None:
        loaded = await self._agents.load(agent_id)
        state, version = loaded.state, loaded.version
        pending = state.pending_checkpoints.get(checkpoint_id)
        if pending is None or pending.node_id != self._node_id:
            return None
        parts = await parts_of(self._bus, state, version, pending)
        saved = await self._store.save(agent_id, checkpoint_id, parts)
        return saved, version, state.revision, pending.asked_before

    async def _remove_leftovers(self, agent_id: str, checkpoint_id: str) -> None:
        """What a save stored of this checkpoint that nobody has heard of, as its node died before it could say so."""
        kept = (await self._agents.load(agent_id)).state.checkpoints.get(checkpoint_id)
        for location in await self._store.locations(agent_id):
            if f"/{checkpoint_id}/" in location and (kept is None or location != kept.storage_location):
                await self._store.delete(location)

    async def restore(self, recorded: RecordedEvent, event: RestoreRequested) -> None:
        """Bring the agent back as `event` asks, unless that is done or another node is to by now."""
        agent_id = recorded.aggregate.id
        began = time.monotonic()
        restoring = (await self._agents.load(agent_id)).state.restoring
        if restoring is None or (restoring.checkpoint_id, restoring.node_id) != (event.checkpoint_id, self._node_id):
            return
        try:
            parts = await _patiently(
                ErrorCode.RESTORE_FAILED, lambda: self._store.load(event.storage_location, event.sha256)
            )
            await self._report(
                recorded,
                CheckpointRestored(
                    checkpoint_id=event.checkpoint_id,
                    restore_seconds=time.monotonic() - began,
                    state=await outline_all(self._bus, state_of(parts)),
                ),
            )
        except Failure as failure:
            advice = await self._offer(agent_id, event.checkpoint_id)
            report = RestoreFailed(
                checkpoint_id=event.checkpoint_id, code=failure.code.value, message=f"{failure.message}; {advice}"
            )
            await self._report(recorded, report)

    async def _offer(self, agent_id: str, checkpoint_id: str) -> str:
        """Which older checkpoint would do. It is for a person to take it: what it lacks may matter."""
        stored = list((await self._agents.load(agent_id)).state.checkpoints.values())
        older = [item for item in stored if _is_before(item, checkpoint_id, stored)][-_OFFERS_TRIED:]
        for item in reversed(older):
            try:
                state_of(await self._store.load(item.storage_location, item.sha256))
            except Failure as failure:
                _log.warning(
                    "a checkpoint is not good", agent_id=agent_id, checkpoint_id=item.checkpoint_id, why=failure.message
                )
                continue
            label = f" ({item.label})" if item.label else ""
            return (
                f"the next older good one is {item.checkpoint_id}{label}: `l02 restore {agent_id} {item.checkpoint_id}`"
            )
        return "there is no older one that is good"

    async def delete(self, event: CheckpointExpired) -> None:
        """Delete what is stored of an expired checkpoint; waits while the store is away."""
        await outlasting(
            lambda: self._store.delete(event.storage_location),
            lambda error: isinstance(error, Failure),
            f"the store of checkpoints to delete {event.storage_location}",
            longest=_RETRY_SECONDS,
        )

    async def _report(self, recorded: RecordedEvent, report: Report) -> None:
        await self._agents.record(
            recorded.aggregate.id, report, recorded.event_id, correlation_id=recorded.metadata.correlation_id
        )


def _is_before(item: KeptCheckpoint, checkpoint_id: str, stored: list[KeptCheckpoint]) -> bool:
    names = [one.checkpoint_id for one in stored]
    return checkpoint_id not in names or names.index(item.checkpoint_id) < names.index(checkpoint_id)


async def _patiently(passing: ErrorCode, act: Callable[[], Awaitable[_T]]) -> _T:
    """Try again for a while what fails with the code that the store has for being away."""
    again = stamina.AsyncRetryingCaller(
        attempts=None, timeout=_PATIENCE_SECONDS, wait_initial=_RETRY_SECONDS, wait_max=_RETRY_SECONDS
    )
    return await again(lambda error: isinstance(error, Failure) and error.code is passing, act)
