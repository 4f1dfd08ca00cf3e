"""The outcome of a command: said once, on a subject of its own, and kept an hour for those who ask late."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType
from nats.aio.subscription import Subscription
from nats.js.errors import APIError, NotFoundError

from bus.codec import RecordedEvent
from bus.connection import Bus
from bus.objects import inline
from bus.streams import OUTCOMES_STREAM
from bus.subjects import outcome_subject
from domain.agent.outcome import failure_of, result_of
from domain.errors import ErrorCode, Failure
from domain.values import as_reference

__all__ = ["ErrorBody", "Outcome", "OutcomeWaiter", "completed", "failed", "outcome_waiter", "publish_outcome"]

_INLINE_OUTPUT_BYTES = 1024 * 1024
_EXISTS_CODES = (10071, 10164)


class ErrorBody(Struct, frozen=True, kw_only=True):
    """A failure on the wire."""

    code: str
    name: str
    message: str
    path: str | UnsetType = UNSET


class Outcome(Struct, frozen=True, kw_only=True):
    """What became of a command. `version` is the aggregate's after it, `events` what it led to."""

    command_id: str
    ok: bool
    subject: str | UnsetType = UNSET
    version: int | UnsetType = UNSET
    events: list[str] | UnsetType = UNSET
    result: dict[str, Any] | UnsetType = UNSET
    error: ErrorBody | UnsetType = UNSET


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
    failure = failure_of(recorded.event)
    result = UNSET if failure else result_of(recorded.event)
    if result is not UNSET and "output" in result:
        result["output"] = await _inline_if_it_fits(bus, result["output"])
    return Outcome(
        command_id=command_id,
        ok=failure is None,
        subject=str(recorded.aggregate),
        version=recorded.version,
        events=[recorded.event.type],
        result=result,
        error=error_body(*failure) if failure else UNSET,
    )


async def _inline_if_it_fits(bus: Bus, output: Any) -> Any:
    reference = as_reference(output)
    if reference is None or reference.size > _INLINE_OUTPUT_BYTES:
        return output
    return await inline(bus, output)


def error_body(code: str, message: str, path: str | None = None) -> ErrorBody:
    """A failure on the wire, with the name that belongs to its code."""
    return ErrorBody(code=code, name=ErrorCode(code).name, message=message, path=path or UNSET)


async def publish_outcome(bus: Bus, outcome: Outcome) -> None:
    """Say the outcome, unless it has been said: the stream takes the first on a subject and no other."""
    try:
        await bus.jetstream.publish(
            outcome_subject(outcome.command_id),
            _encoder.encode(outcome),
            headers={"Nats-Expected-Last-Subject-Sequence": "0"},
        )
    except APIError as error:
        if error.err_code not in _EXISTS_CODES:
            raise


async def said_outcome(bus: Bus, command_id: str) -> Outcome | None:
    """The outcome that was said, if it was in the last hour."""
    try:
        message = await bus.jetstream.get_last_msg(OUTCOMES_STREAM, outcome_subject(command_id), direct=True)
    except NotFoundError:
        return None
    return decode_outcome(message.data or b"")


def decode_outcome(raw: bytes) -> Outcome:
    """An outcome from the wire."""
    return _decoder.decode(raw)


class OutcomeWaiter:
    """Listens before the command is sent, so that the outcome cannot be missed."""

    def __init__(self, bus: Bus, command_id: str, subscription: Subscription) -> None:
        self._bus = bus
        self._command_id = command_id
        self._subscription = subscription

    async def wait(self) -> Outcome:
        """The outcome, whenever it comes. A server's restart in between loses nothing: the stream is asked too."""
        while True:
            try:
                message = await self._subscription.next_msg(timeout=5)
            except TimeoutError:
                outcome = await self._asked()
                if outcome is not None:
                    return outcome
            else:
                return decode_outcome(message.data)

    async def _asked(self) -> Outcome | None:
        try:
            return await said_outcome(self._bus, self._command_id)
        except TimeoutError:
            return None


@asynccontextmanager
async def outcome_waiter(bus: Bus, command_id: str) -> AsyncIterator[OutcomeWaiter]:
    """Subscribe to the outcome of a command that is about to be sent."""
    subscription = await bus.client.subscribe(outcome_subject(command_id))
    try:
        yield OutcomeWaiter(bus, command_id, subscription)
    finally:
        if not bus.client.is_closed:
            await subscription.unsubscribe()
