"""The command side: every stored command is decided, once, in the order of its aggregate, and its outcome is said.

Commands of one aggregate wait in a lane of their own, so one that is slow holds up no other aggregate. A command that
cannot be read, or whose handling keeps failing, is parked with the reason; the lane goes on.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

import structlog
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.errors import NotFoundError

from bus.connection import Bus
from bus.dead_letters import park
from bus.outcomes import Outcome, completed, failed, publish_outcome, said_outcome
from bus.pull import pull
from bus.repository import CommandIdReused, Decision, Repository
from bus.streams import COMMANDS_STREAM
from bus.subjects import COMMANDS, parse_command_subject
from bus.wire import Incoming, command_id_of, read_command
from domain.agent.outcome import result_of
from domain.errors import ErrorCode, Failure

__all__ = ["CONSUMER", "CommandProcessor"]

CONSUMER = "commands"
_MAX_IN_FLIGHT = 1000
_ATTEMPTS = 5
_RETRY_SECONDS = 0.2
_log = structlog.get_logger()


class CommandProcessor:
    """Takes commands from the stream to their aggregates' deciders."""

    def __init__(self, bus: Bus, repositories: dict[str, Repository[Any]], node_id: str) -> None:
        self._bus = bus
        self._repositories = repositories
        self._node_id = node_id
        self._lanes: dict[str, deque[Msg]] = {}
        self._in_flight: set[int] = set()

    async def run(self) -> None:
        """Process commands until cancelled."""
        async with (
            asyncio.TaskGroup() as tasks,
            pull(self._bus, COMMANDS_STREAM, self._consumer_config, window=_MAX_IN_FLIGHT) as source,
        ):
            while True:
                for message in await source.next_batch(_MAX_IN_FLIGHT):
                    self._enqueue(message, tasks)

    async def _consumer_config(self) -> dict[str, Any]:
        """Begin after the last command below which all are done, so that none overtakes one that comes again."""
        config = {
            "durable_name": CONSUMER,
            "ack_policy": "explicit",
            "ack_wait": 60_000_000_000,
            "max_ack_pending": _MAX_IN_FLIGHT * 2,
            "filter_subject": f"{COMMANDS}.>",
        }
        try:
            info = await self._bus.jetstream.consumer_info(COMMANDS_STREAM, CONSUMER)
        except NotFoundError:
            return config | {"deliver_policy": "all"}
        floor = info.ack_floor.stream_seq if info.ack_floor else 0
        await self._bus.jetstream.delete_consumer(COMMANDS_STREAM, CONSUMER)
        return config | {"deliver_policy": "by_start_sequence", "opt_start_seq": floor + 1}

    def _enqueue(self, message: Msg, tasks: asyncio.TaskGroup) -> None:
        sequence = message.metadata.sequence.stream
        if sequence in self._in_flight:
            return
        self._in_flight.add(sequence)
        address = parse_command_subject(message.subject)
        key = str(address.aggregate) if address else message.subject
        if key in self._lanes:
            self._lanes[key].append(message)
        else:
            self._lanes[key] = deque([message])
            tasks.create_task(self._work_off(key))

    async def _work_off(self, key: str) -> None:
        lane = self._lanes[key]
        while lane:
            message = lane[0]
            await self._handle(message)
            lane.popleft()
            self._in_flight.discard(message.metadata.sequence.stream)
        del self._lanes[key]

    async def _handle(self, message: Msg) -> None:
        attempt = 0
        while True:
            try:
                await self._process(message)
                await message.ack()
                return
            except (NatsError, TimeoutError) as error:
                _log.warning("waiting for JetStream", subject=message.subject, error=repr(error))
            except Exception as error:
                attempt += 1
                _log.exception("handling a command failed", subject=message.subject, attempt=attempt)
                if attempt == _ATTEMPTS:
                    failure = Failure(ErrorCode.HANDLER_FAILED, f"handling failed {attempt} times: {error!r}")
                    await self._park(message, failure)
                    return
            await asyncio.sleep(_RETRY_SECONDS * 2**attempt)

    async def _process(self, message: Msg) -> None:
        headers = message.headers or {}
        sequence = message.metadata.sequence.stream
        command_id: str | None = None
        try:
            command_id = command_id_of(headers, f"command-{sequence}")
            address = parse_command_subject(message.subject)
            if address is None:
                raise Failure(
                    ErrorCode.COMMAND_INVALID, "publish commands on l02.cmd.<aggregate>.<id>.<verb>; ids have no dots"
                )
            incoming = read_command(address, message.data, headers, command_id=command_id, node_id=self._node_id)
        except Failure as failure:
            await self._park(message, failure)
            if command_id is not None:
                await publish_outcome(self._bus, failed(command_id, failure))
            return
        await self._decide(incoming, message)

    async def _decide(self, incoming: Incoming, message: Msg) -> None:
        repository = self._repositories[incoming.aggregate.kind]
        try:
            decision = await repository.decide(
                incoming.aggregate.id,
                incoming.command,
                incoming.metadata,
                expected_version=incoming.command.expected_version,
            )
        except CommandIdReused as failure:
            await self._refuse_reused_id(incoming, failure, message)
            return
        except Failure as failure:
            await publish_outcome(self._bus, failed(incoming.command_id, failure, str(incoming.aggregate)))
            return
        outcome = await self._outcome(repository, incoming, decision)
        if outcome is not None:
            await publish_outcome(self._bus, outcome)

    async def _refuse_reused_id(self, incoming: Incoming, failure: Failure, message: Msg) -> None:
        """The id belongs to another command, whose outcome must not be mixed up with this refusal."""
        await self._park(message, failure)
        if await said_outcome(self._bus, incoming.command_id) is not None:
            await publish_outcome(self._bus, failed(incoming.command_id, failure, str(incoming.aggregate)))

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
            return _decided(incoming, handled.version, handled.event_types, {})
        if any(getattr(item.event, "awaited_by", None) == incoming.command_id for item in decision.events):
            return None
        result = {key: value for item in decision.events for key, value in result_of(item.event).items()}
        return _decided(incoming, decision.version, [item.event.type for item in decision.events], result)

    async def _park(self, message: Msg, failure: Failure) -> None:
        _log.warning("command parked", subject=message.subject[:200], code=failure.code.value, reason=failure.message)
        await park(self._bus, message, consumer=CONSUMER, code=failure.code.value, reason=failure.message)


def _decided(incoming: Incoming, version: int, event_types: list[str], result: dict[str, Any]) -> Outcome:
    return Outcome(
        command_id=incoming.command_id,
        ok=True,
        subject=str(incoming.aggregate),
        version=version,
        events=event_types,
        result=result,
    )
