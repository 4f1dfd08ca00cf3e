"""Sending a command and waiting for its outcome, as the service, the Python client and the command line do."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import UNSET

from l02.bus.commands.ids import has_content, owner_of
from l02.bus.commands.outcomes import Outcome, failed, outcome_waiter
from l02.bus.connection.bus import Bus
from l02.bus.wire.incoming import COMMAND_ID_HEADER, CommandIdReused, content_of
from l02.bus.wire.subjects import CommandAddress, command_subject


async def send_command(
    bus: Bus, address: CommandAddress, body: bytes, *, command_id: str, headers: Mapping[str, str]
) -> Outcome:
    """Store the command and wait for its outcome, however long that takes; sending it again is harmless.

    If the id belongs to another command, that is E2110, and never the other's outcome.
    """
    subject = command_subject(address.aggregate, address.verb)
    sent = _Sent(bus, address, command_id, body)
    async with outcome_waiter(bus, command_id) as outcome:
        message = (subject, body, {**headers, COMMAND_ID_HEADER: command_id})
        ack = await bus.publish(*message)
        # Within the server's window it is not stored a second time, whatever it says.
        if ack.duplicate and await sent.is_at(ack.seq) is False:
            return failed(command_id, CommandIdReused(command_id), str(address.aggregate))
        return await outcome.wait(ack.seq, sent.is_meant_by)


class _Sent:
    """A command, and whether an outcome under its id is its own."""

    def __init__(self, bus: Bus, address: CommandAddress, command_id: str, body: bytes) -> None:
        self._bus = bus
        self._address = address
        self._command_id = command_id
        self._body = body

    async def is_at(self, sequence: int) -> bool | None:
        """Whether that message of the stream says the same; None if it is no longer there."""
        subject = command_subject(self._address.aggregate, self._address.verb)
        content = content_of(self._bus.aggregates, subject, self._body)
        return await has_content(self._bus, sequence, content)

    async def is_meant_by(self, outcome: Outcome, sequence: int) -> bool:
        """Of an outcome that was said for another message of the stream, or for no certain one (0)."""
        sequence = sequence or await owner_of(self._bus, self._command_id)
        has = await self.is_at(sequence) if sequence else None
        # Of what is no longer known only its aggregate can have said it, which does not mix up its own commands.
        return has if has is not None else outcome.subject in (UNSET, str(self._address.aggregate))
