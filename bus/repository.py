"""Decide and append as one step: the only way an aggregate changes, whoever asks.

Within a process the commands of one aggregate follow one another; between processes the expectation at the store keeps
writers apart, and the one that lost decides again on the fresh state. Folded states are kept, so that a command on a
known aggregate reads nothing.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Generic, TypeVar

from nats.errors import Error as NatsError

from bus.codec import Metadata, RecordedEvent, encode_event
from bus.event_store import AppendFailed, Conflict, EventStore
from bus.history import HistoryUnreadable
from bus.subjects import AggregateId, event_subject
from domain.aggregates import Aggregate
from domain.errors import ErrorCode, Failure
from domain.message import Command, Event

__all__ = ["CommandIdReused", "Decision", "Loaded", "Repository"]

S = TypeVar("S")

_CACHED_AGGREGATES = 10_000
_CONFLICT_RETRIES = 10
_UNREACHABLE_SECONDS = 30.0
_RETRY_SECONDS = 0.1


@dataclass(slots=True)
class Handled:
    """What a command from the wire led to: enough to answer a repetition as the first time."""

    command_hash: str
    version: int = 0
    event_types: list[str] = field(default_factory=list)
    awaited: bool = False
    completed_at: int | None = None


@dataclass(slots=True)
class Loaded(Generic[S]):
    """An aggregate in memory, as of stream sequence `sequence`."""

    state: S
    version: int = 0
    sequence: int = 0
    created_at: datetime | None = None
    handled: dict[str, Handled] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Decision:
    """What a command led to. `repeated` is set when its id was handled before, and then nothing was decided again."""

    version: int
    events: tuple[RecordedEvent, ...]
    repeated: Handled | None = None


class CommandIdReused(Failure):
    """The id of a command was used before for another one."""


class Repository(Generic[S]):
    """The aggregates of one kind."""

    def __init__(self, aggregate: Aggregate[S], store: EventStore) -> None:
        self.aggregate = aggregate
        self.store = store
        self._loaded: OrderedDict[str, Loaded[S]] = OrderedDict()
        self._locks: dict[str, tuple[asyncio.Lock, int]] = {}
        self._listeners: list[Callable[[RecordedEvent], None]] = []

    def on_recorded(self, listener: Callable[[RecordedEvent], None]) -> None:
        """Tell `listener` at once of what this process has recorded; others learn of it from the stream."""
        self._listeners.append(listener)

    async def load(self, aggregate_id: str) -> Loaded[S]:
        """The aggregate as it stands in the stream now; waits while the event store does not answer."""
        async with self._exclusive(aggregate_id):
            return await self._fresh(aggregate_id)

    async def record(self, aggregate_id: str, command: Command, metadata: Metadata) -> Decision:
        """Decide a command of the runtime's own, which reports a fact and so cannot be given up: while the event store
        does not answer, it is tried again. Raises the decider's Failure.
        """
        while True:
            try:
                return await self.decide(aggregate_id, command, metadata)
            except Failure as failure:
                if failure.code is not ErrorCode.CONFLICT:
                    raise

    async def decide(
        self,
        aggregate_id: str,
        command: Command,
        metadata: Metadata,
        *,
        expected_version: int | None = None,
    ) -> Decision:
        """Decide `command` and store its events.

        Raises Failure: the decider's, or E2113 CONFLICT if `expected_version` does not fit or the retries are used up.
        """
        async with self._exclusive(aggregate_id):
            deadline = asyncio.get_running_loop().time() + _UNREACHABLE_SECONDS
            conflicts = 0
            cached = self._loaded.get(aggregate_id)
            loaded = cached or await self._fresh(aggregate_id)
            while True:
                if metadata.command_hash is not None:
                    handled = loaded.handled.get(metadata.causation_id)
                    if handled is not None:
                        return _repeated(handled, metadata)
                try:
                    _require_version(loaded.version, expected_version)
                    events = self.aggregate.decide(loaded.state, command)
                except Failure:
                    if cached is not None and await self._has_moved(aggregate_id, loaded):
                        continue
                    raise
                if not events:
                    if cached is not None and await self._has_moved(aggregate_id, loaded):
                        continue
                    return Decision(version=loaded.version, events=())
                try:
                    return await self._append(aggregate_id, loaded, events, metadata)
                except Conflict as error:
                    conflicts += 1
                    if conflicts > _CONFLICT_RETRIES:
                        raise Failure(
                            ErrorCode.CONFLICT,
                            f"others kept changing {self.aggregate.name} {aggregate_id}; send the command again",
                        ) from error
                except AppendFailed as error:
                    if asyncio.get_running_loop().time() > deadline:
                        raise Failure(
                            ErrorCode.CONFLICT, f"the event store does not answer; send the command again: {error}"
                        ) from error
                    await asyncio.sleep(_RETRY_SECONDS)
                loaded = await self._fresh(aggregate_id, deadline)

    async def _append(self, aggregate_id: str, loaded: Loaded[S], events: list[Event], metadata: Metadata) -> Decision:
        address = AggregateId(self.aggregate.name, aggregate_id)
        now = datetime.now(UTC)
        later = Metadata(
            causation_id=metadata.causation_id,
            correlation_id=metadata.correlation_id,
            actor=metadata.actor,
            traceparent=metadata.traceparent,
        )
        recorded = [
            RecordedEvent(
                event=event,
                aggregate=address,
                event_id=uuid.uuid4().hex,
                version=loaded.version + offset,
                sequence=0,
                time=now,
                metadata=metadata if offset == 1 else later,
            )
            for offset, event in enumerate(events, start=1)
        ]
        messages = [
            (
                event_subject(address, item.event.type),
                encode_event(
                    item.event,
                    aggregate=address,
                    event_id=item.event_id,
                    version=item.version,
                    time=item.time,
                    metadata=item.metadata,
                ),
            )
            for item in recorded
        ]
        last = await self.store.append(address, messages, loaded.sequence)
        stored = tuple(_at(item, last - len(recorded) + offset) for offset, item in enumerate(recorded, start=1))
        for item in stored:
            self._apply(loaded, item)
        self._keep(aggregate_id, loaded)
        for item in stored:
            for listener in self._listeners:
                listener(item)
        return Decision(version=loaded.version, events=stored)

    async def _has_moved(self, aggregate_id: str, loaded: Loaded[S]) -> bool:
        """Whether another process has appended meanwhile: a refusal must not rest on an old state."""
        before = loaded.sequence
        await self._fresh(aggregate_id)
        return loaded.sequence != before

    async def _fresh(self, aggregate_id: str, deadline: float | None = None) -> Loaded[S]:
        """Bring the aggregate up to date with the stream, from what is in memory or from its first event."""
        loaded = self._loaded.get(aggregate_id) or Loaded(state=self.aggregate.initial_state())
        address = AggregateId(self.aggregate.name, aggregate_id)
        while True:
            try:
                events = await self.store.load(address, loaded.sequence)
                break
            except (NatsError, TimeoutError, HistoryUnreadable) as error:
                if deadline is not None and asyncio.get_running_loop().time() > deadline:
                    raise Failure(
                        ErrorCode.CONFLICT, f"the event store does not answer; send the command again: {error!r}"
                    ) from error
                await asyncio.sleep(_RETRY_SECONDS)
        for item in events:
            self._apply(loaded, item)
        self._keep(aggregate_id, loaded)
        return loaded

    def _apply(self, loaded: Loaded[S], item: RecordedEvent) -> None:
        loaded.state = self.aggregate.evolve(loaded.state, item.event)
        loaded.version = item.version
        loaded.sequence = item.sequence
        loaded.created_at = loaded.created_at or item.time
        _note_command(loaded.handled, item)

    def _keep(self, aggregate_id: str, loaded: Loaded[S]) -> None:
        if loaded.version == 0:
            return
        self._loaded[aggregate_id] = loaded
        self._loaded.move_to_end(aggregate_id)
        if len(self._loaded) > _CACHED_AGGREGATES:
            self._loaded.popitem(last=False)

    @asynccontextmanager
    async def _exclusive(self, aggregate_id: str) -> AsyncIterator[None]:
        """One at a time per aggregate, first come first served; the lock goes when nobody waits for it."""
        lock, users = self._locks.get(aggregate_id, (None, 0))
        lock = lock or asyncio.Lock()
        self._locks[aggregate_id] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            lock, users = self._locks[aggregate_id]
            if users == 1:
                del self._locks[aggregate_id]
            else:
                self._locks[aggregate_id] = (lock, users - 1)


def _note_command(handled: dict[str, Handled], item: RecordedEvent) -> None:
    if item.metadata.command_hash is not None:
        handled[item.metadata.causation_id] = Handled(item.metadata.command_hash)
    command = handled.get(item.metadata.causation_id)
    if command is not None:
        command.version = item.version
        command.event_types.append(item.event.type)
        command.awaited |= getattr(item.event, "awaited_by", None) == item.metadata.causation_id
    for command_id in getattr(item.event, "completes", ()):
        if command_id in handled:
            handled[command_id].completed_at = item.sequence


def _repeated(handled: Handled, metadata: Metadata) -> Decision:
    if handled.command_hash != metadata.command_hash:
        raise CommandIdReused(
            ErrorCode.COMMAND_INVALID,
            f"command id {metadata.causation_id} was used before with another body; use a new id for a new command",
        )
    return Decision(version=handled.version, events=(), repeated=handled)


def _require_version(version: int, expected: int | None) -> None:
    if expected is not None and expected != version:
        raise Failure(
            ErrorCode.CONFLICT,
            f"it is at version {version}, the command expected {expected}; look again and decide anew",
            "$.expected_version",
        )


def _at(item: RecordedEvent, sequence: int) -> RecordedEvent:
    return RecordedEvent(
        event=item.event,
        aggregate=item.aggregate,
        event_id=item.event_id,
        version=item.version,
        sequence=sequence,
        time=item.time,
        metadata=item.metadata,
    )
