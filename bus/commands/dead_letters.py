"""Messages that cannot be handled are kept with the reason, so that they block nobody and are not lost.

Of what stands in the event log and cannot be taken in a letter says so once, whoever meets it and however often.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import UTC, datetime
from itertools import islice

import msgspec
import structlog
from msgspec import Struct
from nats.aio.msg import Msg
from nats.errors import NoRespondersError
from nats.js.errors import NotFoundError

from l02.bus.connection.bus import Bus
from l02.bus.connection.leader import message_from_leader
from l02.bus.connection.streams import DEAD_STREAM, EVENTS_STREAM
from l02.bus.jetstream.put import put
from l02.bus.log.reader import last_sequence
from l02.bus.wire.codec import UNDECODABLE, SetAside
from l02.bus.wire.incoming import COMMAND_ID_HEADER
from l02.bus.wire.subjects import EVENTS, dead_subject, retry_subject
from l02.domain.errors import ErrorCode, Failure


class DeadLetter(Struct, frozen=True, kw_only=True):
    """A parked message: where it was meant to go, its bytes (base64 in JSON), and why it is here.

    Of one that is too large for that, `truncated`, only the beginning is kept.
    """

    consumer: str
    subject: str
    headers: dict[str, str]
    body: bytes
    code: str
    reason: str
    deliveries: int
    time: datetime
    truncated: bool = False
    origin: int = 0
    """The sequence of the message in the stream that it comes from."""
    sequence: int = 0

    @property
    def is_event(self) -> bool:
        """Whether it is an event, which stays in its own stream whatever becomes of this letter."""
        return self.subject.startswith(f"{EVENTS}.")


_LOG = "projections"
_AT_ONCE = 64
_ENVELOPE_BYTES = 4096
_HANDLING_SECONDS = 30.0
_KEPT_BYTES = 64 * 1024
_KEPT_HEADERS = 32
_KEPT_HEADER_LENGTH = 256
_decoder = msgspec.json.Decoder(DeadLetter)
_log = structlog.get_logger()


async def park(bus: Bus, message: Msg, *, consumer: str, code: str, reason: str, tried: int = 0) -> None:
    """Keep `message`; when this returns it is stored, and the original may be acknowledged.

    `tried` is how often, where that is not how often it was delivered.
    """
    letter = DeadLetter(
        consumer=consumer,
        subject=message.subject,
        headers=dict(message.headers or {}),
        body=message.data,
        code=code,
        reason=reason,
        deliveries=tried or message.metadata.num_delivered or 1,
        time=datetime.now(UTC),
        origin=message.metadata.sequence.stream,
    )
    await bus.publish(dead_subject(consumer), _encoded(bus, letter), {"Nats-Msg-Id": f"{consumer}-{letter.origin}"})
    bus.tally.parked[consumer] += 1


async def park_entries(bus: Bus, entries: Iterable[SetAside]) -> None:
    """Keep what was set aside of the event log; when this returns there is a letter for each, and but one."""
    slots = asyncio.Semaphore(_AT_ONCE)

    async def keep(entry: SetAside) -> None:
        async with slots:
            await _park_entry(bus, entry)

    await asyncio.gather(*(keep(entry) for entry in entries))


async def _park_entry(bus: Bus, entry: SetAside) -> None:
    message = await message_from_leader(bus, EVENTS_STREAM, sequence=entry.sequence)
    letter = DeadLetter(
        consumer=_LOG,
        subject=entry.subject,
        headers=dict(message.headers) if message is not None else {},
        body=message.data if message is not None else b"",
        code=ErrorCode.HANDLER_FAILED.value,
        reason=entry.reason,
        deliveries=1,
        time=datetime.now(UTC),
        origin=entry.sequence,
    )
    if await put(bus, dead_subject(f"{_LOG}.{entry.sequence}"), _encoded(bus, letter), after=0) is not None:
        _log.error("an event is set aside", sequence=entry.sequence, subject=entry.subject, reason=entry.reason)
        bus.tally.parked[_LOG] += 1


def _encoded(bus: Bus, letter: DeadLetter) -> bytes:
    raw = msgspec.json.encode(letter)
    if len(raw) > bus.client.max_payload - _ENVELOPE_BYTES:
        return msgspec.json.encode(_beginning(letter))
    return raw


def _beginning(letter: DeadLetter) -> DeadLetter:
    headers = dict(islice(letter.headers.items(), _KEPT_HEADERS))
    return msgspec.structs.replace(
        letter,
        subject=letter.subject[:_KEPT_BYTES],
        headers={key[:_KEPT_HEADER_LENGTH]: value[:_KEPT_HEADER_LENGTH] for key, value in headers.items()},
        body=letter.body[:_KEPT_BYTES],
        reason=letter.reason[:_KEPT_BYTES],
        truncated=True,
    )


async def dead_letters(bus: Bus) -> AsyncIterator[DeadLetter]:
    """All that are kept, oldest first."""
    sequence, last = 1, await last_sequence(bus, DEAD_STREAM)
    while sequence <= last:
        try:
            message = await bus.jetstream.get_msg(DEAD_STREAM, seq=sequence, subject=dead_subject(">"), next=True)
        except NotFoundError:
            return
        assert message.seq is not None
        yield _letter(message.subject or "", message.data or b"", message.seq)
        sequence = message.seq + 1


async def dead_letter_at(bus: Bus, sequence: int) -> DeadLetter | None:
    """One of them, by its number."""
    try:
        message = await bus.jetstream.get_msg(DEAD_STREAM, seq=sequence)
    except NotFoundError:
        return None
    return _letter(message.subject or "", message.data or b"", sequence)


async def resend(bus: Bus, letter: DeadLetter) -> None:
    """Give the message to who could not handle it, again, and take the letter off the list.

    A command is sent where it was meant to go; Failure E2115 if only its beginning was kept. An event is on record
    and must not be published a second time: the handler that failed on it is asked to handle it once more, and the
    letter stays, with Failure E2117, if that fails again or no node that runs has this handler. What the read models
    have set aside they take in when they are rebuilt.
    """
    if letter.consumer == _LOG:
        raise Failure(
            ErrorCode.HANDLER_FAILED,
            f"letter {letter.sequence} stays: message {letter.origin} is in the log for good. If it is of a newer "
            "version of l02, upgrade, then `l02 rebuild` each read model that `l02 verify` names",
        )
    if letter.is_event:
        await _ask_handler(bus, letter)
    else:
        await _send(bus, letter)
    await bus.jetstream.delete_msg(DEAD_STREAM, letter.sequence)


async def _ask_handler(bus: Bus, letter: DeadLetter) -> None:
    subject, wanted = retry_subject(letter.consumer), str(letter.origin).encode()
    try:
        reply = await bus.requests.request(subject, wanted, timeout=_HANDLING_SECONDS)
    except NoRespondersError as error:
        raise Failure(
            ErrorCode.HANDLER_FAILED,
            f"no node that runs has the handler {letter.consumer}; start its node and try again. "
            f"Letter {letter.sequence} stays, and the event is in the log: `l02 events --since {letter.origin}`",
        ) from error
    if reply.data:
        raise Failure(
            ErrorCode.HANDLER_FAILED,
            f"{letter.consumer} failed on event {letter.origin} again, letter {letter.sequence} stays: "
            f"{reply.data.decode()}",
        )


async def _send(bus: Bus, letter: DeadLetter) -> None:
    if letter.truncated:
        raise Failure(
            ErrorCode.PAYLOAD_TOO_LARGE,
            f"dead letter {letter.sequence} was too large to be kept whole; its sender must send it anew",
        )
    await bus.publish(letter.subject, letter.body, headers_to_send(letter.headers))


def headers_to_send(headers: Mapping[str, str]) -> dict[str, str]:
    """Those of a stored message for its second way: what else the server put there or was told there is not for it."""
    return {
        name: value
        for name, value in headers.items()
        if name == COMMAND_ID_HEADER or not name.lower().startswith("nats-")
    }


def _letter(subject: str, raw: bytes, sequence: int) -> DeadLetter:
    try:
        return msgspec.structs.replace(_decoder.decode(raw), sequence=sequence)
    except UNDECODABLE as error:
        return DeadLetter(
            consumer="",
            subject=subject,
            headers={},
            body=raw,
            code=ErrorCode.HANDLER_FAILED.value,
            reason=f"this is no dead letter, somebody else has put it here: {error}",
            deliveries=0,
            time=datetime.fromtimestamp(0, UTC),
            sequence=sequence,
        )
