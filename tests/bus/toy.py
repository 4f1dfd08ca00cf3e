"""A small aggregate of its own kind, so that the bus is tested with decisions simple enough to count."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, ClassVar

import msgspec

from l02.bus.background.cancelling import end
from l02.bus.commands.leases import Leases
from l02.bus.commands.outcomes import Outcome, decode_outcome
from l02.bus.commands.partitions import COMMAND_PARTITIONS, Partitions
from l02.bus.commands.processor import CommandProcessor
from l02.bus.connection.bus import Bus, connect
from l02.bus.connection.streams import COMMANDS_STREAM, OUTCOMES_STREAM
from l02.bus.jetstream.history import sequence_of
from l02.bus.log.event_store import EventStore, open_event_store
from l02.bus.log.reader import last_sequence
from l02.bus.log.repository import Repository
from l02.bus.wire.codec import LogEntry, RecordedEvent, encode_event
from l02.bus.wire.subjects import AggregateId, command_subject, event_subject, outcome_subject
from l02.domain.aggregates import AGGREGATES
from l02.domain.errors import ErrorCode, Failure
from l02.domain.kernel.aggregate import Aggregate
from l02.domain.kernel.message import Context, Event, Metadata, TimerCommand, WireCommand

State = tuple[Any, ...]
"""All that was noted, in order."""


class Noted(Event, frozen=True, kw_only=True):
    type: ClassVar[str] = "toy.noted"
    name: str
    payload: Any

    def evolve(self, state: State, /) -> State:
        return (*state, self.payload)


class Note(WireCommand, frozen=True, kw_only=True):
    """Its name says how it is decided: `add` or any other name always, `boom` never."""

    verb: ClassVar[str] = "note"
    begins: ClassVar[bool] = True
    name: str
    payload: Any = None

    def decide(self, state: State, context: Context, /) -> list[Noted]:
        match self.name:
            case "boom":
                raise RuntimeError("the decider has a fault")
            case "unless-opened" if "open" not in state:
                raise Failure(ErrorCode.INVALID_STATE, "not opened")
            case "once" if self.payload in state:
                return []
            case "two":
                return [Noted(name=self.name, payload=[self.payload, part]) for part in (1, 2)]
            case _:
                return [Noted(name=self.name, payload=self.payload)]


class Remind(TimerCommand, frozen=True, kw_only=True):
    verb: ClassVar[str] = "remind"
    begins: ClassVar[bool] = True
    payload: str

    def decide(self, state: State, context: Context, /) -> list[Noted]:
        return [Noted(name="due", payload=self.payload)]


class Clear(WireCommand, frozen=True, kw_only=True):
    verb: ClassVar[str] = "clear"

    def decide(self, state: State, context: Context, /) -> list[Cleared]:
        return [Cleared()] if state else []


class Cleared(Event, frozen=True, kw_only=True):
    type: ClassVar[str] = "toy.cleared"

    def evolve(self, state: State, /) -> State:
        return ()


TOY: Aggregate[State] = Aggregate(
    name="toy",
    initial_state=tuple,
    exists=bool,
    messages=(Note, Noted, Remind, Clear, Cleared),
    fold_version=1,
    absent="there is no such toy",
)
TABLE: dict[str, Aggregate[Any]] = {**AGGREGATES, TOY.name: TOY}
"""The toy beside those that there are."""


def toy_id(aggregate_id: str) -> AggregateId:
    return AggregateId(TOY.name, aggregate_id)


def note(payload: Any, name: str = "add") -> Note:
    return Note(name=name, payload=payload)


def metadata(command_id: str | None = None, command_hash: str | None = None) -> Metadata:
    causation = command_id or uuid.uuid4().hex
    return Metadata(causation_id=causation, correlation_id=causation, actor="test", command_hash=command_hash)


def message(aggregate_id: str, version: int, payload: Any = None) -> tuple[str, bytes]:
    """A message as the event store takes it."""
    event = Noted(name="add", payload=payload if payload is not None else version)
    raw = encode_event(
        event,
        aggregate=toy_id(aggregate_id),
        event_id=uuid.uuid4().hex,
        version=version,
        time=datetime.now(UTC),
        metadata=metadata(),
    )
    return event_subject(toy_id(aggregate_id), event.type), raw


async def append(bus: Bus, aggregate: AggregateId, event: Event, version: int = 1, subject: str | None = None) -> int:
    """Store an event as one who may publish below `l02.evt` can, whatever was before it; its sequence."""
    raw = encode_event(
        event,
        aggregate=aggregate,
        event_id=uuid.uuid4().hex,
        version=version,
        time=datetime.now(UTC),
        metadata=metadata(),
    )
    return (await bus.publish(subject or event_subject(aggregate, event.type), raw)).seq


def payloads(entries: Sequence[LogEntry]) -> list[Any]:
    events = [item.event for item in entries if isinstance(item, RecordedEvent)]
    return [event.payload for event in events if isinstance(event, Noted)]


async def append_many(store: EventStore, aggregate_id: str, count: int) -> None:
    """`count` events in appends of 500 at most."""
    sequence = version = 0
    while version < count:
        size = min(500, count - version)
        batch = [message(aggregate_id, version + offset) for offset in range(1, size + 1)]
        sequence = await store.append(toy_id(aggregate_id), batch, sequence)
        version += size


@asynccontextmanager
async def another_process(url: str) -> AsyncIterator[tuple[Bus, EventStore]]:
    """A connection and a store of their own, which share nothing with others but the server."""
    async with connect(url, name="another", aggregates=TABLE) as bus, open_event_store(bus) as store:
        yield bus, store


@asynccontextmanager
async def partitions_of(bus: Bus, node_id: str = "n1") -> AsyncIterator[Partitions]:
    """The partitions of a node that, in the end, goes without a word: it is what a crash leaves behind."""
    leases = Leases(bus, node_id, "here")
    await leases.acquire()
    partitions = Partitions(bus, leases)
    await partitions.settle()
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(leases.keep()), tasks.create_task(partitions.run())]
        try:
            yield partitions
        finally:
            for task in running:
                await end(task)


@asynccontextmanager
async def processing(bus: Bus, repository: Repository[Any], node_id: str = "n1") -> AsyncIterator[CommandProcessor]:
    async with partitions_of(bus, node_id) as partitions:
        processor = CommandProcessor(bus, {repository.aggregate.name: repository}, partitions)
        task = asyncio.create_task(processor.run())
        try:
            yield processor
            assert not task.done(), "the processor has ended by itself"
        finally:
            await end(task)


async def are_done(bus: Bus, processor: CommandProcessor) -> bool:
    """Whether every command is done with."""
    newest = await last_sequence(bus, COMMANDS_STREAM)
    held = processor._partitions._held
    return all(held[name].position >= newest for name in COMMAND_PARTITIONS)


async def send(bus: Bus, aggregate_id: str, command_id: str, payload: Any = None, name: str = "add") -> int:
    """Store a note; its stream sequence."""
    body = msgspec.json.encode({"name": name, "payload": payload})
    return await send_raw(bus, command_subject(toy_id(aggregate_id), "note"), body, {"Nats-Msg-Id": command_id})


async def send_raw(bus: Bus, subject: str, body: bytes, headers: dict[str, str] | None = None) -> int:
    return (await bus.publish(subject, body, headers)).seq


async def outcome(bus: Bus, command_id: str) -> Outcome:
    """The outcome, when it is said."""
    said: list[Outcome] = await until(lambda: outcomes(bus, command_id))
    return said[-1]


async def outcomes(bus: Bus, command_id: str) -> list[Outcome]:
    """All that the stream holds for a command id, in order."""
    found: list[Outcome] = []
    sequence = 1
    while message := await bus.stored(OUTCOMES_STREAM, sequence=sequence, next_on=outcome_subject(command_id)):
        found.append(decode_outcome(message.data))
        sequence = sequence_of(message) + 1
    return found


async def until(fact: Callable[[], Any], *, seconds: float = 20.0) -> Any:
    """Wait for something to become true (a value or an awaitable of one), and give it."""
    async with asyncio.timeout(seconds):
        while True:
            value = fact()
            if asyncio.iscoroutine(value):
                value = await value
            if value:
                return value
            await asyncio.sleep(0.01)
