"""Messages that cannot be handled are kept with the reason, so that they block nobody and are not lost."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import msgspec
from msgspec import Struct
from nats.aio.msg import Msg
from nats.js.errors import NotFoundError

from bus.connection import Bus
from bus.reader import last_sequence
from bus.streams import DEAD_STREAM
from bus.subjects import dead_subject

__all__ = ["DeadLetter", "dead_letter_at", "dead_letters", "park", "resend"]


class DeadLetter(Struct, frozen=True, kw_only=True):
    """A parked message: where it was meant to go, its bytes (base64 in JSON), and why it is here."""

    consumer: str
    subject: str
    headers: dict[str, str]
    body: bytes
    code: str
    reason: str
    deliveries: int
    time: datetime
    sequence: int = 0


_decoder = msgspec.json.Decoder(DeadLetter)


async def park(bus: Bus, message: Msg, *, consumer: str, code: str, reason: str) -> None:
    """Keep `message`; when this returns it is stored, and the original may be acknowledged."""
    letter = DeadLetter(
        consumer=consumer,
        subject=message.subject,
        headers={key: value for key, value in (message.headers or {}).items() if value is not None},
        body=message.data,
        code=code,
        reason=reason,
        deliveries=message.metadata.num_delivered or 1,
        time=datetime.now(UTC),
    )
    sequence = message.metadata.sequence.stream
    await bus.jetstream.publish(
        dead_subject(consumer),
        msgspec.json.encode(letter),
        headers={"Nats-Msg-Id": f"{consumer}-{sequence}"},
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
        yield _letter(message.data or b"", message.seq)
        sequence = message.seq + 1


async def dead_letter_at(bus: Bus, sequence: int) -> DeadLetter | None:
    """One of them, by its number."""
    try:
        message = await bus.jetstream.get_msg(DEAD_STREAM, seq=sequence)
    except NotFoundError:
        return None
    return _letter(message.data or b"", sequence)


async def resend(bus: Bus, letter: DeadLetter) -> None:
    """Send the message where it was meant to go, again, and take the letter off the list."""
    await bus.jetstream.publish(letter.subject, letter.body, headers=dict(letter.headers) or None)
    await bus.jetstream.delete_msg(DEAD_STREAM, letter.sequence)


def _letter(raw: bytes, sequence: int) -> DeadLetter:
    return msgspec.structs.replace(_decoder.decode(raw), sequence=sequence)
