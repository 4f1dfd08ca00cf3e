"""Whose a command id is: an id belongs to one content at one address, to the first that came under it.

An outcome stands under the command's id alone. So the id is claimed before its command is decided, and another command
under it is refused, whoever sends it and whichever node decides it. A claim is kept as long as an outcome, an hour; an
aggregate knows the ids of its own commands for ever.

A claim is a write, synced, before anything happens. An id that is made for a command (`bound_id`) needs none: it holds
the hash of what that says and to whom, so anybody can see, for ever, that another command under it is another.
"""

from __future__ import annotations

import hashlib
import re
import secrets

import msgspec
from msgspec import Struct
from nats.js.errors import APIError

from l02.bus.connection.bus import Bus
from l02.bus.connection.leader import StoredMessage, last_on, message_from_leader
from l02.bus.connection.streams import COMMANDS_STREAM, OUTCOMES_STREAM
from l02.bus.jetstream.group_commit import together
from l02.bus.jetstream.put import UNEXPECTED_CODES, expecting
from l02.bus.wire.codec import UNDECODABLE
from l02.bus.wire.incoming import CommandIdReused, content_of
from l02.bus.wire.subjects import CommandAddress, owner_subject

_REMEMBERED = 10_000
_BOUND = re.compile("l02-[0-9a-f]{16}-([0-9a-f]{32})")


class _Owner(Struct, frozen=True):
    """The content (see `content_of`) that an id belongs to, and the stream sequence of its first command."""

    content: str
    sequence: int


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(_Owner)


def bound_id(address: CommandAddress, body: bytes) -> str:
    """A new id that no other command can have."""
    return f"l02-{secrets.token_hex(8)}-{_digest(address, body)}"


def is_bound(command_id: str) -> bool:
    """Whether the id says itself which command it belongs to."""
    return _BOUND.fullmatch(command_id) is not None


def is_bound_to(command_id: str, address: CommandAddress | None, body: bytes) -> bool:
    """Whether a bound id was made for this command, byte for byte."""
    return address is not None and command_id.endswith(_digest(address, body))


def _digest(address: CommandAddress, body: bytes) -> str:
    # Of the bytes: how two versions of the runtime read them may differ.
    return hashlib.sha256(f"{address.aggregate}/{address.verb}\n".encode() + body).hexdigest()[:32]


async def claim_id(bus: Bus, command_id: str, content: str, sequence: int) -> None:
    """Take the id for `content`; it does no harm to take it again. Raises CommandIdReused if it is another's."""
    subject = owner_subject(command_id)
    raw, expected = _encoder.encode(_Owner(content, sequence)), 0
    while True:
        claim = (subject, raw, expecting(expected))
        try:
            await together(bus, OUTCOMES_STREAM).store({subject}, [claim])
        except APIError as error:
            if error.err_code not in UNEXPECTED_CODES:
                raise
        else:
            remember(bus, command_id, sequence)
            return
        stored = await last_on(bus, OUTCOMES_STREAM, subject)
        expected = 0 if stored is None else stored.sequence
        owner = None if stored is None else _owner(stored)
        if owner is not None:  # else its hour was over just now, or what stands there is none of ours
            if owner.content != content:
                raise CommandIdReused(command_id)
            remember(bus, command_id, owner.sequence)
            return


async def owner_of(bus: Bus, command_id: str) -> int:
    """The stream sequence of the command that the id belongs to; 0 if none has claimed it within the hour."""
    if is_bound(command_id):
        return 0
    stored = await last_on(bus, OUTCOMES_STREAM, owner_subject(command_id))
    owner = None if stored is None else _owner(stored)
    return 0 if owner is None else owner.sequence


async def has_content(bus: Bus, sequence: int, content: str) -> bool | None:
    """Whether the command stored with this stream sequence has the same content; None if it is no longer there."""
    stored = await message_from_leader(bus, COMMANDS_STREAM, sequence=sequence)
    return None if stored is None else content_of(bus.aggregates, stored.subject, stored.data) == content


def _owner(stored: StoredMessage) -> _Owner | None:
    try:
        return _decoder.decode(stored.data)
    except UNDECODABLE:
        return None


def remember(bus: Bus, command_id: str, sequence: int) -> None:
    """The outcome, whoever says it later, says with it for which command of the stream it is."""
    bus.claimed[command_id] = sequence
    if len(bus.claimed) > _REMEMBERED:
        del bus.claimed[next(iter(bus.claimed))]
