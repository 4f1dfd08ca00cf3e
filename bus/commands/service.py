"""Commands and queries as requests, for those who want the answer: the NATS micro service `l02`.

A command that comes this way is stored like any other before anything happens; the reply is its outcome. A failure
stands in the headers of micro services too. Only an inbox is answered (`l02.bus.connection.bus`);
without one a command is carried out all the same.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import structlog
from msgspec import Struct
from nats.errors import Error as NatsError
from nats.micro import add_service
from nats.micro.request import Request

from l02.bus.commands.ids import bound_id
from l02.bus.commands.outcomes import ErrorBody, Outcome, error_body, failed
from l02.bus.commands.sender import send_command
from l02.bus.connection.bus import Bus
from l02.bus.log.repository import Repository
from l02.bus.wire.codec import UNDECODABLE
from l02.bus.wire.incoming import (
    ACTOR_HEADER,
    CommandIdReused,
    command_id_of,
    read_command,
    require_bounded,
    wire_failure,
)
from l02.bus.wire.subjects import API, AggregateId, CommandAddress
from l02.domain.errors import ErrorCode, Failure
from l02.domain.identifiers import require_id
from l02.domain.printable import in_header

SERVICE_NAME = "l02"
_HEADER_BYTES = 4096
_QUERIES_AT_ONCE = 32
_MAX_QUERIES_WAITING = 250
_HEADERS_PASSED_ON = (ACTOR_HEADER, "traceparent")
_log = structlog.get_logger()

Query = Callable[[dict[str, Any]], Awaitable[Any]]


class Answer(Struct, frozen=True, omit_defaults=True):
    """The reply to a query."""

    ok: bool
    result: Any = None
    error: ErrorBody | None = None


@asynccontextmanager
async def run_service(
    bus: Bus, repositories: dict[str, Repository[Any]], queries: dict[str, Query], *, version: str, node_id: str
) -> AsyncIterator[None]:
    """Answer on `l02.api.<aggregate>.<verb>` as long as the context lasts. `queries` are keyed `agent.get`."""
    service = await add_service(
        bus.client, name=SERVICE_NAME, version=version, description="l02, an event-sourced agent runtime"
    )
    tasks: set[asyncio.Task[None]] = set()

    def in_background(handle: Callable[[Request], Awaitable[None]]) -> Callable[[Request], Awaitable[None]]:
        """nats-py calls one handler after another; a command that takes its time must not hold up the next."""

        async def start(request: Request) -> None:
            task = asyncio.create_task(_handle_safely(handle, request))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        return start

    try:
        for kind, repository in repositories.items():
            aggregate = bus.aggregates[kind]
            # Those of timers too, so that who sends one is told that it may not.
            for verb in aggregate.wire_commands | aggregate.due_commands:
                handler = _CommandEndpoint(bus, repository, kind, verb)
                await service.add_endpoint(
                    name=f"{kind}-{verb}",
                    subject=f"{API}.{kind}.{verb}",
                    handler=in_background(handler.answer),
                )
        turns = _Turns()
        for name, query in queries.items():
            await service.add_endpoint(
                name=name.replace(".", "-"),
                subject=f"{API}.{name}",
                handler=in_background(_QueryEndpoint(query, turns).answer),
            )
        await bus.client.flush()
        yield
    finally:
        if not bus.client.is_closed:
            await service.stop()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _handle_safely(handle: Callable[[Request], Awaitable[None]], request: Request) -> None:
    try:
        await handle(request)
    except Exception as error:
        if isinstance(error, NatsError | TimeoutError):
            _log.warning("a request failed: NATS does not answer", subject=request.subject, error=repr(error))
        else:
            _log.exception("a request failed", subject=request.subject)
        failure = error_body(ErrorCode.HANDLER_FAILED.value, f"the node failed on this request: {error!r}; see its log")
        await _answer(request, Answer(ok=False, error=failure))


async def _answer(request: Request, answer: Answer | Outcome) -> None:
    if not request._msg.reply:
        _log.warning("a request is not answered: its reply subject is no inbox", subject=request.subject)
        return
    raw, error = msgspec.json.encode(answer), answer.error
    limit = request._msg._client.max_payload - _HEADER_BYTES
    if len(raw) > limit:
        message = f"the answer has {len(raw):,} bytes, the NATS server takes {limit:,}; ask for less"
        answer = Answer(ok=False, error=error_body(ErrorCode.PAYLOAD_TOO_LARGE.value, message))
        raw, error = msgspec.json.encode(answer), answer.error
    if isinstance(error, ErrorBody):
        await request.respond_error(error.code, in_header(f"{error.name}: {error.message}"), raw)
    else:
        await request.respond(raw)


class _CommandEndpoint:
    def __init__(self, bus: Bus, repository: Repository[Any], kind: str, verb: str) -> None:
        self._bus = bus
        self._repository = repository
        self._kind = kind
        self._verb = verb

    async def answer(self, request: Request) -> None:
        headers = dict(request.headers or {})
        made_up = command_id = uuid.uuid4().hex
        try:
            command_id = command_id_of(headers, made_up)
            aggregate_id, command_id, body = _take_apart(request.data, command_id)
            address = CommandAddress(AggregateId(self._kind, aggregate_id), self._verb)
            if command_id == made_up:
                command_id = bound_id(address, body)
            outcome = await self._send(address, command_id, body, headers)
        except Failure as failure:
            outcome = failed(command_id, failure)
        await _answer(request, outcome)

    async def _send(self, address: CommandAddress, command_id: str, body: bytes, headers: dict[str, str]) -> Outcome:
        incoming = read_command(self._bus.aggregates, address, body, headers, command_id=command_id)
        loaded = await self._repository.load(address.aggregate.id)
        handled = loaded.handled.get(command_id)
        command_hash = incoming.metadata.command_hash
        if handled is not None and command_hash is not None and not handled.is_of(command_hash):
            raise CommandIdReused(command_id)
        passed_on = {name: headers[name] for name in _HEADERS_PASSED_ON if name in headers}
        return await send_command(self._bus, address, body, command_id=command_id, headers=passed_on)


def _take_apart(raw: bytes, command_id: str) -> tuple[str, str, bytes]:
    """The aggregate's id, the command's id and the command's own body."""
    fields = _fields(raw)
    aggregate_id = fields.pop("id", None)
    given_id = fields.pop("command_id", command_id)
    if not isinstance(aggregate_id, str):
        raise Failure(ErrorCode.COMMAND_INVALID, "say which aggregate: the field `id` is missing", "$.id")
    if not isinstance(given_id, str):
        raise Failure(ErrorCode.COMMAND_INVALID, "Expected `str`", "$.command_id")
    return require_id(aggregate_id, "$.id"), require_id(given_id, "$.command_id"), msgspec.json.encode(fields)


def _fields(raw: bytes) -> dict[str, Any]:
    try:
        require_bounded(raw)
        return msgspec.json.decode(raw or b"{}", type=dict[str, Any])
    except UNDECODABLE as error:
        raise wire_failure(error) from error


class _Turns:
    """Few queries are answered at a time, so that agents are served meanwhile however many there are."""

    def __init__(self) -> None:
        self._free = asyncio.Semaphore(_QUERIES_AT_ONCE)
        self._waiting = 0

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Failure E2103 if too many wait already."""
        if self._waiting >= _MAX_QUERIES_WAITING:
            raise Failure(ErrorCode.RATE_LIMITED, f"{self._waiting} queries wait for their turn already; ask again")
        self._waiting += 1
        try:
            await self._free.acquire()
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._free.release()


class _QueryEndpoint:
    def __init__(self, query: Query, turns: _Turns) -> None:
        self._query = query
        self._turns = turns

    async def answer(self, request: Request) -> None:
        try:
            fields = _fields(request.data)
            async with self._turns.turn():
                answer = Answer(ok=True, result=await self._query(fields))
        except Failure as failure:
            answer = _refusal(failure)
        except msgspec.ValidationError as error:
            answer = _refusal(wire_failure(error))
        await _answer(request, answer)


def _refusal(failure: Failure) -> Answer:
    return Answer(ok=False, error=error_body(failure.code.value, failure.message, failure.path))
