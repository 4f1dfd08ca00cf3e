"""Decide and append as one step: the only way an aggregate changes, whoever asks.

Within a process the commands of one aggregate follow one another; between processes the expectation at the store keeps
writers apart, and the one that lost decides again on the fresh state. Folded states are kept, so that a command on a
known aggregate reads nothing.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import structlog
from nats.errors import Error as NatsError

from l02.bus.jetstream.history import HistoryUnreadable
from l02.bus.log.attempt import Attempt, store_together
from l02.bus.log.event_store import AppendFailed, Conflict, EventStore
from l02.bus.log.loaded import Handled, Loaded
from l02.bus.log.patience import RETRY_SECONDS, Patience
from l02.bus.log.snapshots import Snapshots
from l02.bus.log.turns import Turn, turn_of
from l02.bus.wire.codec import RecordedEvent
from l02.bus.wire.incoming import CommandIdReused
from l02.bus.wire.subjects import AggregateId
from l02.domain.errors import ErrorCode, Failure
from l02.domain.kernel.aggregate import Aggregate
from l02.domain.kernel.message import Command, Context, Event, Metadata, Report

S = TypeVar("S")
C = TypeVar("C", bound=Command)

_log = structlog.get_logger()
_CACHED_AGGREGATES = 10_000


@dataclass(frozen=True, slots=True)
class Decision:
    """What a command led to. `repeated` is set when its id was handled before, and then nothing was decided again."""

    version: int
    events: tuple[RecordedEvent, ...]
    repeated: Handled | None = None


class Repository(Generic[S]):
    """The aggregates of one kind."""

    def __init__(
        self, aggregate: Aggregate[S], store: EventStore, node_id: str, snapshots: Snapshots[S] | None = None
    ) -> None:
        """What is decided here is decided at `node_id`."""
        self.aggregate = aggregate
        self.store = store
        self.node_id = node_id
        self._snapshots = snapshots
        self.newest_sequence = 0
        """Of the events that this process has recorded."""
        self._loaded: OrderedDict[str, Loaded[S]] = OrderedDict()
        self._locks: dict[str, Turn] = {}
        self._listeners: list[Callable[[RecordedEvent], None]] = []
        self._before_storing: list[Callable[[str, Sequence[Event]], Awaitable[None]]] = []
        self._preparations: dict[type[Command], list[Callable[[Any, Context], Awaitable[Command]]]] = {}

    def on_recorded(self, listener: Callable[[RecordedEvent], None]) -> None:
        """Tell `listener` at once of what this process has recorded; others learn of it from the stream."""
        self._listeners.append(listener)

    @contextmanager
    def listening(self, listener: Callable[[RecordedEvent], None]) -> Iterator[None]:
        """The same, as long as the context lasts."""
        self.on_recorded(listener)
        try:
            yield
        finally:
            self._listeners.remove(listener)

    def before_deciding(self, command_type: type[C], prepare: Callable[[C, Context], Awaitable[Command]]) -> None:
        """Have `prepare` make of commands of a type those that are decided, with what only the runtime can know.

        It may raise a Failure, which refuses the command. Several follow one another.
        """
        self._preparations.setdefault(command_type, []).append(prepare)

    def before_storing(self, prepare: Callable[[str, Sequence[Event]], Awaitable[None]]) -> None:
        """Have `prepare` do what has to stand before the events of an aggregate do, so that no crash comes in between.

        It may be asked more than once, and the events may not be stored after all. It may raise NatsError and
        TimeoutError: then it is asked again.
        """
        self._before_storing.append(prepare)

    async def load(self, aggregate_id: str) -> Loaded[S]:
        """The aggregate as it stands in the stream now; waits while the event store does not answer."""
        async with self._exclusive(aggregate_id):
            loaded = self._loaded.get(aggregate_id)
            if loaded is None:
                return await self._read(aggregate_id)
            await self._refresh(aggregate_id, loaded)
            return loaded

    def in_memory(self, aggregate_id: str) -> Loaded[S] | None:
        """The aggregate as this process knows it, if it does."""
        return self._loaded.get(aggregate_id)

    async def known(self, aggregate_id: str, at_least: int) -> Loaded[S]:
        """The aggregate as of the stream sequence `at_least` or later; the stream is read only if memory is behind."""
        loaded = self._loaded.get(aggregate_id)
        if loaded is not None and loaded.sequence >= at_least:
            return loaded
        return await self.load(aggregate_id)

    async def record(
        self,
        aggregate_id: str,
        report: Command | Report,
        cause: str | None = None,
        *,
        correlation_id: str | None = None,
        incarnation: int | None = None,
    ) -> Decision:
        """Decide what this node reports, which is a fact and so cannot be given up: while the event store does not
        answer, it is tried again. Raises the decider's Failure.

        `cause` is what it goes back to, and `correlation_id` the command at the root of that, if they are known.
        `incarnation` is the agent's process whose word it is, if it is one's.
        """
        return await self.record_all(
            aggregate_id, (report,), cause, correlation_id=correlation_id, incarnation=incarnation
        )

    async def record_all(
        self,
        aggregate_id: str,
        reports: Sequence[Command | Report],
        cause: str | None = None,
        *,
        correlation_id: str | None = None,
        incarnation: int | None = None,
    ) -> Decision:
        """The same for reports that follow one another: each is decided on the state that those before it leave, and
        as many as fit are stored in one append. When one is refused, those before it are stored.
        """
        cause = cause or uuid.uuid4().hex
        metadata = Metadata(causation_id=cause, correlation_id=correlation_id or cause, actor=f"node/{self.node_id}")
        stored: tuple[RecordedEvent, ...] = ()
        while True:
            try:
                decision, decided = await self._decide(aggregate_id, reports, metadata, incarnation=incarnation)
            except Failure as failure:
                if failure.code is not ErrorCode.CONFLICT:
                    raise
                continue
            stored += decision.events
            reports = reports[decided:]
            if not reports:
                return Decision(version=decision.version, events=stored)

    async def decide(
        self,
        aggregate_id: str,
        command: Command | Report,
        metadata: Metadata,
        *,
        expected_version: int | None = None,
    ) -> Decision:
        """Decide `command` and store its events.

        Raises Failure: the decider's, E2113 CONFLICT if `expected_version` does not fit or the retries are used up, or
        EventStoreSilent. Cancelled, it may have stored its events or not.
        """
        decision, _ = await self._decide(aggregate_id, (command,), metadata, expected_version=expected_version)
        return decision

    async def _decide(
        self,
        aggregate_id: str,
        commands: Sequence[Command | Report],
        metadata: Metadata,
        *,
        expected_version: int | None = None,
        incarnation: int | None = None,
    ) -> tuple[Decision, int]:
        """Decide `commands` one after another, as many of them from the first on as one append takes; how many."""
        async with self._exclusive(aggregate_id):
            patience = Patience(f"{self.aggregate.name} {aggregate_id}")
            attempted: dict[str, int] = {}
            loaded = self._loaded.get(aggregate_id)
            is_fresh = loaded is None
            if loaded is None:
                loaded = await self._read(aggregate_id)
            while True:
                if metadata.command_hash is not None:
                    handled = loaded.handled.get(metadata.causation_id)
                    if handled is not None:
                        return _repeated(handled, metadata), len(commands)
                attempt = Attempt(self.aggregate, loaded, self.store)
                refusal: Failure | None = None
                try:
                    _require_version(loaded.version, expected_version)
                    for command in commands:
                        context = Context(
                            aggregate_id=aggregate_id,
                            node_id=self.node_id,
                            time=time.time(),
                            metadata=metadata,
                            incarnation=incarnation,
                        )
                        if not attempt.takes(await self._prepared(command, context), context):
                            break
                except Failure as failure:
                    refusal = failure
                if attempt.recorded:
                    attempted.update((item.event_id, attempt.decided) for item in attempt.recorded)
                    try:
                        return (await self._store({aggregate_id: attempt}))[aggregate_id], attempt.decided
                    except (Conflict, AppendFailed, NatsError, TimeoutError) as error:
                        await patience.after(error)
                elif is_fresh:
                    return _unchanged(loaded, refusal), attempt.decided
                news = await self._refresh(aggregate_id, loaded, patience)
                stored = tuple(item for item in news if item.event_id in attempted)
                if stored:
                    return self._tell(stored), attempted[stored[0].event_id]
                is_fresh = True

    async def record_together(
        self, reports: Mapping[str, Sequence[Command | Report]], cause: str | None = None
    ) -> dict[str, Decision]:
        """The same for several aggregates: what follows for all of them is stored in one append, or nothing is.

        Raises the first decider's Failure, on the fresh state; E2113 if others kept changing them.
        """
        cause = cause or uuid.uuid4().hex
        metadata = Metadata(causation_id=cause, correlation_id=cause, actor=f"node/{self.node_id}")
        async with AsyncExitStack() as turns:
            for aggregate_id in sorted(reports):  # in one order, so that nobody waits in a circle
                await turns.enter_async_context(self._exclusive(aggregate_id))
            patience = Patience(f"{self.aggregate.name} {', '.join(reports)}")
            attempted: set[str] = set()
            is_fresh = False
            loaded = {key: self._loaded.get(key) or await self._read(key) for key in reports}
            while True:
                attempts = {key: Attempt(self.aggregate, loaded[key], self.store) for key in reports}
                refusal: Failure | None = None
                try:
                    for key, attempt in attempts.items():
                        context = Context(aggregate_id=key, node_id=self.node_id, time=time.time(), metadata=metadata)
                        for report in reports[key]:
                            if not attempt.takes(report, context):
                                raise Failure(
                                    ErrorCode.PAYLOAD_TOO_LARGE, f"too much for one append: {', '.join(reports)}"
                                )
                except Failure as failure:
                    refusal = failure
                changing = {key: attempt for key, attempt in attempts.items() if attempt.recorded}
                if refusal is None and changing:
                    attempted |= {item.event_id for attempt in changing.values() for item in attempt.recorded}
                    try:
                        return await self._store(changing)
                    except (Conflict, AppendFailed, NatsError, TimeoutError) as error:
                        await patience.after(error)
                elif is_fresh:
                    if refusal is not None:
                        raise refusal
                    return {}
                news = {key: await self._refresh(key, item, patience) for key, item in loaded.items()}
                stored = {
                    key: tuple(item for item in found if item.event_id in attempted) for key, found in news.items()
                }
                if any(stored.values()):
                    return {key: self._tell(events) for key, events in stored.items() if events}
                is_fresh = True

    async def _store(self, attempts: Mapping[str, Attempt[S]]) -> dict[str, Decision]:
        """Store them, and take them in. Raises as `EventStore.append`."""
        for prepare_for in self._before_storing:
            for aggregate_id, attempt in attempts.items():
                await prepare_for(aggregate_id, [item.event for item in attempt.recorded])
        stored = await store_together(self.store, list(attempts.values()))
        for aggregate_id, attempt in attempts.items():
            self._keep(aggregate_id, attempt.loaded)
        return {key: self._tell(events) for key, events in zip(attempts, stored, strict=True)}

    async def _prepared(self, command: Command | Report, context: Context) -> Command | Report:
        if isinstance(command, Command):
            for prepare in self._preparations.get(type(command), ()):
                command = await prepare(command, context)
        return command

    def _tell(self, stored: tuple[RecordedEvent, ...]) -> Decision:
        self.newest_sequence = max(self.newest_sequence, stored[-1].sequence)
        for item in stored:
            for listener in self._listeners:
                listener(item)
        return Decision(version=stored[-1].version, events=stored)

    async def _read(self, aggregate_id: str) -> Loaded[S]:
        """The aggregate as it stands in the stream now, from its snapshot on if that fits the events.

        Only for the first look: who searches the news for events of its own must not be handed a snapshot with them.
        """
        loaded = await self._snapshots.read(aggregate_id) if self._snapshots is not None else None
        if loaded is not None:
            events = await self._events_after(aggregate_id, loaded.sequence - 1, loaded.version - 1)
            if events and loaded.is_at(events[0]):
                self._take_in(aggregate_id, loaded, events[1:])
                return loaded
            _log.warning("snapshot passed over: no such event", aggregate=aggregate_id, sequence=loaded.sequence)
        loaded = Loaded(state=self.aggregate.initial_state())
        await self._refresh(aggregate_id, loaded)
        return loaded

    async def _refresh(
        self, aggregate_id: str, loaded: Loaded[S], patience: Patience | None = None
    ) -> list[RecordedEvent]:
        """Bring `loaded` up to date with the stream; gives what was new."""
        events = await self._events_after(aggregate_id, loaded.sequence, loaded.version, patience)
        self._take_in(aggregate_id, loaded, events)
        return events

    async def _events_after(
        self, aggregate_id: str, sequence: int, version: int, patience: Patience | None = None
    ) -> list[RecordedEvent]:
        while True:
            try:
                return await self.store.load(AggregateId(self.aggregate.name, aggregate_id), sequence, version)
            except (NatsError, TimeoutError, HistoryUnreadable) as error:
                if patience is None:
                    await asyncio.sleep(RETRY_SECONDS)
                else:
                    await patience.after(error)

    def _take_in(self, aggregate_id: str, loaded: Loaded[S], events: Sequence[RecordedEvent]) -> None:
        for item in events:
            loaded.apply(self.aggregate.evolve, item)
        self._keep(aggregate_id, loaded)

    def _keep(self, aggregate_id: str, loaded: Loaded[S]) -> None:
        if loaded.version == 0:
            return
        self._loaded[aggregate_id] = loaded
        self._loaded.move_to_end(aggregate_id)
        if len(self._loaded) > _CACHED_AGGREGATES:
            self._loaded.popitem(last=False)
        if self._snapshots is not None:
            self._snapshots.write_if_due(aggregate_id, loaded)

    def _exclusive(self, aggregate_id: str) -> Turn:
        """One at a time per aggregate, first come first served."""
        return turn_of(self._locks, aggregate_id)


def _repeated(handled: Handled, metadata: Metadata) -> Decision:
    if metadata.command_hash is not None and not handled.is_of(metadata.command_hash):
        raise CommandIdReused(metadata.causation_id)
    return Decision(version=handled.version, events=(), repeated=handled)


def _unchanged(loaded: Loaded[S], refusal: Failure | None) -> Decision:
    if refusal is not None:
        raise refusal
    return Decision(version=loaded.version, events=())


def _require_version(version: int, expected: int | None) -> None:
    if expected is not None and expected != version:
        raise Failure(
            ErrorCode.CONFLICT,
            f"it is at version {version}, the command expected {expected}; look again and decide anew",
            "$.expected_version",
        )
