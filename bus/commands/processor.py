"""The command side: every stored command is decided, once, in the order of its aggregate, and its outcome is said.

Commands of one aggregate, and what its timers send, wait in a lane of their own, so one that is slow holds up no other
aggregate. A command that cannot be read, or whose handling keeps failing, is parked with the reason; the lane goes on.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import structlog
from nats.aio.msg import Msg

from l02.bus.commands.dead_letters import park
from l02.bus.commands.ids import claim_id, is_bound, is_bound_to, remember
from l02.bus.commands.outcomes import Outcome, completed, failed, publish_outcome, said_outcome, say_beside
from l02.bus.commands.partitions import (
    COMMAND_PARTITIONS,
    DUE_PARTITIONS,
    Partition,
    Partitions,
    command_partition,
    due_partition,
)
from l02.bus.connection.bus import Bus
from l02.bus.connection.streams import COMMANDS_STREAM, TIMERS_STREAM
from l02.bus.jetstream.pull import delivery_of, stored_at
from l02.bus.log.event_store import EventStoreSilent
from l02.bus.log.passing import is_passing
from l02.bus.log.reader import read_stream
from l02.bus.log.repository import Decision, Repository
from l02.bus.wire.codec import UnreadableEvent
from l02.bus.wire.incoming import CommandIdReused, Incoming, command_id_of, content_of, read_command
from l02.bus.wire.subjects import COMMANDS, DUE, AggregateId, parse_command_subject
from l02.domain.errors import ErrorCode, Failure
from l02.domain.kernel.message import Event, Refused

CONSUMER = "commands"
_MAX_IN_FLIGHT = 1000
_ATTEMPTS = 5
_RETRY_SECONDS = 0.2
_log = structlog.get_logger()


class _Source(NamedTuple):
    """Where commands come from: `consumer` names it among dead letters and in metrics."""

    consumer: str
    stream: str
    subjects: str
    partitions: tuple[str, ...]
    partition_of: Callable[[AggregateId], str]


_SOURCES = (
    _Source(CONSUMER, COMMANDS_STREAM, f"{COMMANDS}.>", COMMAND_PARTITIONS, command_partition),
    _Source("dues", TIMERS_STREAM, f"{DUE}.>", DUE_PARTITIONS, due_partition),
)


class CommandProcessor:
    """Takes the commands of this node's partitions from the stream to their aggregates' deciders."""

    def __init__(self, bus: Bus, repositories: dict[str, Repository[Any]], partitions: Partitions) -> None:
        self._bus = bus
        self._repositories = repositories
        self._served = {kind: known for kind, known in bus.aggregates.items() if kind in repositories}
        self._partitions = partitions
        self._lanes: dict[str, deque[tuple[Partition, Msg]]] = {}
        self._in_flight = 0
        self._ended_one = asyncio.Event()

    async def run(self) -> None:
        """Process commands until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for source in _SOURCES:
                tasks.create_task(self._work_on(source, tasks))

    async def _work_on(self, source: _Source, tasks: asyncio.TaskGroup) -> None:
        await self._partitions.work(source.partitions, lambda mine: self._read(source, mine, tasks))

    async def _read(self, source: _Source, partitions: list[Partition], tasks: asyncio.TaskGroup) -> None:
        """Take in what comes for these partitions. Cancelled, it has not lost any."""
        after = min(partition.read_up_to for partition in partitions)
        by_name = {partition.name: partition for partition in partitions}
        async with read_stream(
            self._bus, source.stream, after=after, filters=[source.subjects], window=_MAX_IN_FLIGHT
        ) as reader:
            while True:
                while self._in_flight >= _MAX_IN_FLIGHT:
                    self._ended_one.clear()
                    await self._ended_one.wait()
                for message in await reader.next_batch(_MAX_IN_FLIGHT - self._in_flight):
                    self._take(source, message, by_name, tasks)
                for partition in partitions:
                    partition.passed(reader.position)
                self._bus.tally.unread[source.consumer] = reader.behind

    def _take(self, source: _Source, message: Msg, partitions: dict[str, Partition], tasks: asyncio.TaskGroup) -> None:
        address = parse_command_subject(message.subject)
        # What has no address is refused, once: all such messages belong to one partition.
        partition = partitions.get(source.partition_of(address.aggregate) if address else source.partitions[0])
        if partition is None or not partition.take(delivery_of(message).stream_sequence):
            return
        self._in_flight += 1
        key = str(address.aggregate) if address else message.subject
        if key in self._lanes:
            self._lanes[key].append((partition, message))
        else:
            self._lanes[key] = deque([(partition, message)])
            tasks.create_task(self._work_off(key))

    async def _work_off(self, key: str) -> None:
        lane = self._lanes[key]
        while lane:
            partition, message = lane[0]
            sequence = delivery_of(message).stream_sequence
            await self._handle(message, sequence, perhaps_answered=sequence <= partition.newest_at_start)
            lane.popleft()
            partition.done(sequence)
            self._in_flight -= 1
            self._ended_one.set()
        del self._lanes[key]

    async def _handle(self, message: Msg, sequence: int, *, perhaps_answered: bool) -> None:
        """When this returns, the command is decided and its outcome said, or it is parked."""
        failures = 0
        reason: Failure | None = None
        while True:
            try:
                if perhaps_answered and await self._is_answered(message, sequence):
                    return
                if reason is None:
                    await self._process(message, sequence)
                else:
                    await self._refuse(message, sequence, reason)
                return
            except Exception as error:
                perhaps_answered = True
                if is_passing(error):
                    _log.warning("waiting for JetStream", subject=message.subject[:200], error=repr(error))
                    await asyncio.sleep(_RETRY_SECONDS)
                    continue
                failures += 1
                _log.exception("handling a command failed", subject=message.subject[:200], attempt=failures)
                if failures >= _ATTEMPTS:
                    reason = Failure(ErrorCode.HANDLER_FAILED, f"handling failed {failures} times: {error!r}")
                await asyncio.sleep(_RETRY_SECONDS * 2 ** min(failures, _ATTEMPTS))

    async def _is_answered(self, message: Msg, sequence: int) -> bool:
        """Whether this very message was: a refusal must not be decided again when it is delivered again."""
        with suppress(Failure):
            said = await said_outcome(self._bus, id_of(message))
            return said is not None and said.outcome is not None and said.command_sequence == sequence
        return False

    async def _process(self, message: Msg, sequence: int) -> None:
        try:
            given = command_id_of(message.headers or {}, "")
        except Failure as failure:
            await self._park(message, failure)  # nobody can be told
            return
        command_id = given or _made_up_id(message)
        read = self._read_command(message, command_id)
        try:
            # One that was made up is nobody else's, and that of a timer is the runtime's own.
            if given and not _is_due(message):
                await self._claim(command_id, read, message, sequence)
            if isinstance(read, Failure):
                await self._refuse(message, sequence, read)
            else:
                await self._decide(read, message, sequence)
        except CommandIdReused as reused:
            await self._park(message, reused)
            await say_beside(self._bus, failed(command_id, reused, _addressee(message)), sequence)

    async def _claim(self, command_id: str, read: Incoming | Failure, message: Msg, sequence: int) -> None:
        if not is_bound(command_id):
            content = (
                content_of(self._bus.aggregates, message.subject, message.data)
                if isinstance(read, Failure)
                else read.content
            )
            await claim_id(self._bus, command_id, content, sequence)
            return
        if not is_bound_to(command_id, parse_command_subject(message.subject), message.data):
            # The same in other words is answered if it was decided, as under any id.
            if isinstance(read, Failure):
                raise CommandIdReused(command_id)
            loaded = await self._repositories[read.aggregate.kind].load(read.aggregate.id)
            handled = loaded.handled.get(command_id)
            if handled is None or not handled.is_of(read.content):
                raise CommandIdReused(command_id)
        remember(self._bus, command_id, self._bus.claimed.get(command_id, sequence))

    def _read_command(self, message: Msg, command_id: str) -> Incoming | Failure:
        address = parse_command_subject(message.subject)
        if address is None:
            return Failure(
                ErrorCode.COMMAND_INVALID, "publish commands on l02.cmd.<aggregate>.<id>.<verb>; ids have no dots"
            )
        headers = message.headers or {}
        try:
            return read_command(self._served, address, message.data, headers, command_id=command_id)
        except Failure as failure:
            return failure

    async def _decide(self, incoming: Incoming, message: Msg, sequence: int) -> None:
        repository = self._repositories[incoming.aggregate.kind]
        try:
            decision = await repository.decide(
                incoming.aggregate.id,
                incoming.command,
                incoming.metadata,
                expected_version=incoming.command.expected_version,
            )
        except (EventStoreSilent, CommandIdReused):
            raise
        except UnreadableEvent as failure:
            # Kept, to be sent again once that can be read.
            await self._refuse(message, sequence, failure)
            return
        except Failure as failure:
            await publish_outcome(self._bus, failed(incoming.command_id, failure, str(incoming.aggregate)), sequence)
            return
        outcome = await self._outcome(repository, incoming, decision)
        if outcome is not None:
            await publish_outcome(self._bus, outcome, sequence)

    async def _refuse(self, message: Msg, sequence: int, failure: Failure) -> None:
        """Park a message and say so to its sender, if it has given an id that can be answered."""
        await self._park(message, failure)
        with suppress(Failure):
            await publish_outcome(self._bus, failed(id_of(message), failure), sequence)

    async def _outcome(self, repository: Repository[Any], incoming: Incoming, decision: Decision) -> Outcome | None:
        """What to say now; None if an event to come completes the command."""
        handled = decision.repeated
        if handled is not None:
            if handled.completed_at is not None and handled.awaited:
                return await completed(
                    self._bus, await repository.store.event_at(handled.completed_at), incoming.command_id
                )
            if handled.awaited:
                return None
            events = [(await repository.store.event_at(sequence)).event for sequence in handled.sequences]
            return _decided(incoming, handled.version, events)
        if any(item.event.owed_to() == incoming.command_id for item in decision.events):
            return None
        return _decided(incoming, decision.version, [item.event for item in decision.events])

    async def _park(self, message: Msg, failure: Failure) -> None:
        consumer = _SOURCES[_is_due(message)].consumer
        _log.warning("command parked", subject=message.subject[:200], code=failure.code.value, reason=failure.message)
        await park(self._bus, message, consumer=consumer, code=failure.code.value, reason=failure.message)


def id_of(message: Msg) -> str:
    """Its sender's id for it; else one that is made up."""
    return command_id_of(message.headers or {}, "") or _made_up_id(message)


def _made_up_id(message: Msg) -> str:
    """One that comes out the same at each delivery, and that nobody can take before."""
    kind = "due" if _is_due(message) else "command"
    return f"{kind}-{delivery_of(message).stream_sequence}-{stored_at(message)}"


def _is_due(message: Msg) -> bool:
    return message.subject.startswith(f"{DUE}.")


def _addressee(message: Msg) -> str | None:
    address = parse_command_subject(message.subject)
    return None if address is None else str(address.aggregate)


def _decided(incoming: Incoming, version: int, events: Sequence[Event]) -> Outcome:
    return Outcome(
        command_id=incoming.command_id,
        ok=True,
        subject=str(incoming.aggregate),
        version=version,
        events=[event.type for event in events],
        result={key: value for event in events for key, value in _result(event).items()},
    )


def _result(event: Event) -> dict[str, Any]:
    told = event.outcome()
    return {} if isinstance(told, Refused) else told
