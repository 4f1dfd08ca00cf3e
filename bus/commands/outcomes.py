"""The outcome of a command: said once, on a subject of its own, and kept an hour for those who ask late."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from itertools import chain, repeat
from typing import Any, NamedTuple, TypeVar

import msgspec
from msgspec import UNSET, Struct, UnsetType
from nats.aio.msg import Msg
from nats.errors import ConnectionClosedError
from nats.errors import Error as NatsError
from nats.js.errors import APIError

from l02.bus.connection.bus import Bus
from l02.bus.connection.leader import last_on
from l02.bus.connection.listening import listen
from l02.bus.connection.streams import OUTCOMES_STREAM
from l02.bus.jetstream.group_commit import together
from l02.bus.jetstream.put import UNEXPECTED_CODES, expecting
from l02.bus.objects.store import inline
from l02.bus.wire.codec import UNDECODABLE, RecordedEvent
from l02.bus.wire.subjects import outcome_subject, refusal_subject
from l02.domain.errors import ErrorCode, Failure, OwnError, error_code
from l02.domain.kernel.message import Refused
from l02.domain.values import as_reference

_INLINE_OUTPUT_BYTES = 1024 * 1024
COMMAND_SEQUENCE_HEADER = "L02-Command-Sequence"
_SEQUENCE = re.compile("[0-9]{1,20}")
# How long an outcome is listened for before the stream is asked; a repeated command's has long been said.
_LISTEN_SECONDS = (0.25, 0.5, 1.0, 2.0)
_LISTEN_ON_SECONDS = 5.0


class ErrorBody(Struct, frozen=True, kw_only=True):
    """A failure on the wire. Beside E2005, `detail` has the agent's own code for it."""

    code: str
    name: str
    message: str
    path: str | UnsetType = UNSET
    detail: OwnError | UnsetType = UNSET


class Outcome(Struct, frozen=True, kw_only=True):
    """What became of a command. `version` is the aggregate's after it, `events` what it led to."""

    command_id: str
    ok: bool
    subject: str | UnsetType = UNSET
    version: int | UnsetType = UNSET
    events: list[str] | UnsetType = UNSET
    result: dict[str, Any] | UnsetType = UNSET
    error: ErrorBody | UnsetType = UNSET

    @property
    def is_refusal(self) -> bool:
        """Whether the command had no effect; so the same id may be tried again."""
        return self.version is UNSET


class Said(NamedTuple):
    """An outcome, the stream sequence of the command it was said for (0: of no certain one), and its own if stored.

    None if it is no outcome that stands in its place, which others than nodes have put there.
    """

    outcome: Outcome | None
    command_sequence: int
    sequence: int


T = TypeVar("T")

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Outcome)


def failed(command_id: str, failure: Failure, subject: str | None = None) -> Outcome:
    """The outcome of a command that was refused."""
    return Outcome(
        command_id=command_id,
        ok=False,
        subject=subject or UNSET,
        error=error_body(failure.code.value, failure.message, failure.path),
    )


async def completed(bus: Bus, recorded: RecordedEvent, command_id: str) -> Outcome:
    """The outcome of a command that `recorded` completes."""
    told = recorded.event.outcome()
    if not isinstance(told, Refused) and "output" in told:
        try:
            told["output"] = await _inline_if_it_fits(bus, told["output"])
        except Failure as corrupted:
            told = Refused(code=corrupted.code.value, message=corrupted.message)
    refused = told if isinstance(told, Refused) else None
    return Outcome(
        command_id=command_id,
        ok=refused is None,
        subject=str(recorded.aggregate),
        version=recorded.version,
        events=[recorded.event.type],
        result=UNSET if isinstance(told, Refused) else told,
        error=error_body(refused.code, refused.message, detail=refused.detail) if refused else UNSET,
    )


async def _inline_if_it_fits(bus: Bus, output: Any) -> Any:
    reference = as_reference(output)
    if reference is None or reference.size > min(_INLINE_OUTPUT_BYTES, bus.client.max_payload // 2):
        return output
    value = await inline(bus, output)
    # A value that looks like a reference stays behind its own, so that the reader resolves exactly once.
    return output if as_reference(value) is not None else value


def error_body(code: str, message: str, path: str | None = None, detail: OwnError | None = None) -> ErrorBody:
    """A failure on the wire, with the name that belongs to its code.

    A code that is not in the catalogue is the agent's own, whatever text that is.
    """
    known = error_code(code)
    if known is not None:
        return ErrorBody(code=known.value, name=known.name, message=message, path=path or UNSET, detail=detail or UNSET)
    failed = ErrorCode.EXECUTION_FAILED
    detail = OwnError(code=code, name=code)
    return ErrorBody(code=failed.value, name=failed.name, message=message, path=path or UNSET, detail=detail)


async def publish_outcome(bus: Bus, outcome: Outcome, command_sequence: int = 0) -> None:
    """Say the outcome, unless it has been said: the stream takes one on a subject.

    Only a refusal gives way, when the id was tried again; `command_sequence` (of the command's message in its stream)
    tells that from a message that is delivered again.
    """
    subject, raw = outcome_subject(outcome.command_id), _encoder.encode(outcome)
    expected = 0
    while True:
        headers = expecting(expected) | {COMMAND_SEQUENCE_HEADER: str(command_sequence)}
        try:
            await together(bus, OUTCOMES_STREAM).store({subject}, [(subject, raw, headers)])
            bus.tally.outcomes["ok" if outcome.error is UNSET else outcome.error.code] += 1
            return
        except APIError as error:
            if error.err_code not in UNEXPECTED_CODES:
                raise
        said = await said_outcome(bus, outcome.command_id)
        if said is not None and not _gives_way(said, outcome, command_sequence):
            return
        expected = said.sequence if said is not None else 0


def _gives_way(said: Said, outcome: Outcome, command_sequence: int) -> bool:
    if said.outcome is None:
        return True
    if said.outcome.is_refusal:
        return not outcome.is_refusal or command_sequence > said.command_sequence
    # An id is claimed for an hour; a command that takes longer may find that another has had it since.
    return not outcome.is_refusal and said.outcome.subject != outcome.subject


async def say_beside(bus: Bus, refusal: Outcome, command_sequence: int) -> None:
    """Say to whoever sent a command under the id of another that it is refused.

    It is kept on a subject of its own. On the outcome's subject it is heard, and not kept: there stands what became of
    the command that the id belongs to.
    """
    raw, headers = _encoder.encode(refusal), {COMMAND_SEQUENCE_HEADER: str(command_sequence)}
    await bus.publish(refusal_subject(refusal.command_id, command_sequence), raw, headers)
    await bus.client.publish(
        outcome_subject(refusal.command_id), raw, headers=headers | {"Nats-Expected-Stream": "none: heard, not kept"}
    )
    bus.tally.outcomes["" if refusal.error is UNSET else refusal.error.code] += 1


async def said_outcome(bus: Bus, command_id: str) -> Said | None:
    """The outcome of the command that the id belongs to, if it was said in the last hour."""
    return await _said_on(bus, outcome_subject(command_id))


async def _said_on(bus: Bus, subject: str) -> Said | None:
    message = await last_on(bus, OUTCOMES_STREAM, subject)
    return None if message is None else _said(message.data, message.headers, message.sequence)


def _said(raw: bytes, headers: Mapping[str, str], sequence: int = 0) -> Said:
    number = headers.get(COMMAND_SEQUENCE_HEADER, "")
    try:
        outcome = decode_outcome(raw)
    except UNDECODABLE:
        return Said(None, 0, sequence)
    return Said(outcome, int(number) if _SEQUENCE.fullmatch(number) else 0, sequence)


def decode_outcome(raw: bytes) -> Outcome:
    """An outcome from the wire."""
    return _decoder.decode(raw)


class OutcomeWaiter:
    """Listens before the command is sent, so that the outcome cannot be missed."""

    def __init__(self, bus: Bus, command_id: str) -> None:
        self._bus = bus
        self._command_id = command_id
        self._heard: deque[Msg] = deque()
        self._waiting: asyncio.Future[None] | None = None

    def receive(self, message: Msg) -> None:
        """What was heard on the outcome's subject."""
        self._heard.append(message)
        self._wake()

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    async def _hear(self, seconds: float) -> Msg | None:
        """The next that was heard, within a time: at half the cost of a queue and a timeout of asyncio."""
        if not self._heard:
            loop = asyncio.get_running_loop()
            self._waiting, timer = loop.create_future(), loop.call_later(seconds, self._wake)
            try:
                await self._waiting
            finally:
                timer.cancel()
        return self._heard.popleft() if self._heard else None

    async def wait(self, command_sequence: int, is_same: Callable[[Outcome, int], Awaitable[bool]]) -> Outcome:
        """The outcome, whenever it comes. A server's restart in between loses nothing: the stream is asked too.

        What was said for another command than that with the stream sequence `command_sequence` counts if `is_same` says
        so of it and of the other's sequence (0: unknown). A refusal of an earlier one does not: it is tried again.
        """
        timeouts = chain(_LISTEN_SECONDS, repeat(_LISTEN_ON_SECONDS))
        while True:
            message = await self._hear(next(timeouts))
            if message is not None:
                said: Said | None = _said(message.data, message.headers or {})
            else:
                said = await _unless_away(self._asked(command_sequence), None)
            if said is None or said.outcome is None:
                continue
            if said.command_sequence == command_sequence:
                return said.outcome
            too_early = said.outcome.is_refusal and said.command_sequence < command_sequence
            if not too_early and await _unless_away(is_same(said.outcome, said.command_sequence), False):
                return said.outcome

    async def _asked(self, command_sequence: int) -> Said | None:
        refused = await _said_on(self._bus, refusal_subject(self._command_id, command_sequence))
        return refused or await said_outcome(self._bus, self._command_id)


async def _unless_away(answer: Awaitable[T], otherwise: T) -> T:
    """An answer of the server; `otherwise` while it is away: it will be asked again."""
    try:
        return await answer
    except ConnectionClosedError:
        raise
    except (NatsError, TimeoutError):
        return otherwise


@asynccontextmanager
async def outcome_waiter(bus: Bus, command_id: str) -> AsyncIterator[OutcomeWaiter]:
    """Subscribe to the outcome of a command that is about to be sent."""
    waiter = OutcomeWaiter(bus, command_id)
    subscription = await listen(bus.client, outcome_subject(command_id), waiter.receive)
    try:
        yield waiter
    finally:
        if not bus.client.is_closed:
            await subscription.unsubscribe()
