"""Whose a command id is: an id belongs to one content at one address, to the first that came under it.

An outcome stands under the command's id alone. So the id is claimed before its command is decided, and another command
under it is refused, whoever sends it and whichever node decides it. A claim is kept as long as an outcome, an hour; an
aggregate knows the ids of its own commands for ever.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct
from nats.js.errors import APIError

from bus.codec import UNDECODABLE
from bus.connection import Bus
from bus.group_commit import UNEXPECTED_CODES
from bus.leader import StoredMessage, last_on, message_from_leader
from bus.streams import COMMANDS_STREAM, OUTCOMES_STREAM
from bus.subjects import owner_subject
from bus.wire import content_of
from domain.errors import ErrorCode, Failure

__all__ = ["CommandIdReused", "claim_id", "has_content", "owner_of"]

_REMEMBERED = 10_000


class CommandIdReused(Failure):
    """The id of a command was used before for another one (E2110)."""

    def __init__(self, command_id: str) -> None:
        super().__init__(
            ErrorCode.COMMAND_INVALID,
            f"command id {command_id} was used before with another body, verb or address; "
            "use a new id for a new command",
            "$.command_id",
        )


class _Owner(Struct, frozen=True):
    """The content (`bus.wire.content_of`) that an id belongs to, and the stream sequence of its first command."""

    content: str
    sequence: int


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(_Owner)


async def claim_id(bus: Bus, command_id: str, content: str, sequence: int) -> None:
    """Take the id for `content`; it does no harm to take it again. Raises CommandIdReused if it is another's."""
    subject = owner_subject(command_id)
    raw, expected = _encoder.encode(_Owner(content, sequence)), 0
    while True:
        claim = (subject, raw, {"Nats-Expected-Last-Subject-Sequence": str(expected)})
        try:
            await bus.together(OUTCOMES_STREAM).store(subject, [claim])
        except APIError as error:
            if error.err_code not in UNEXPECTED_CODES:
                raise
        else:
            _remember(bus, command_id, sequence)
            return
        stored = await last_on(bus, OUTCOMES_STREAM, subject)
        expected = 0 if stored is None else stored.sequence
        owner = None if stored is None else _owner(stored)
        if owner is not None:  # else its hour was over just now, or what stands there is none of ours
            if owner.content != content:
                raise CommandIdReused(command_id)
            _remember(bus, command_id, owner.sequence)
            return


async def owner_of(bus: Bus, command_id: str) -> int:
    """The stream sequence of the command that the id belongs to; 0 if none was decided under it within the hour."""
    stored = await last_on(bus, OUTCOMES_STREAM, owner_subject(command_id))
    owner = None if stored is None else _owner(stored)
    return 0 if owner is None else owner.sequence


async def has_content(bus: Bus, sequence: int, content: str) -> bool | None:
    """Whether the command stored with this stream sequence has the same content; None if it is no longer there."""
    stored = await message_from_leader(bus, COMMANDS_STREAM, {"seq": sequence})
    return None if stored is None else content_of(stored.subject, stored.data) == content


def _owner(stored: StoredMessage) -> _Owner | None:
    try:
        return _decoder.decode(stored.data)
    except UNDECODABLE:
        return None


def _remember(bus: Bus, command_id: str, sequence: int) -> None:
    bus.claimed[command_id] = sequence
    if len(bus.claimed) > _REMEMBERED:
        del bus.claimed[next(iter(bus.claimed))]
