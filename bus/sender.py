"""Sending a command and waiting for its outcome, as the service, the Python client and the command line do."""

from __future__ import annotations

from collections.abc import Mapping

from bus.connection import Bus
from bus.outcomes import Outcome, outcome_waiter
from bus.streams import COMMANDS_STREAM
from bus.subjects import CommandAddress, command_subject
from bus.wire import COMMAND_ID_HEADER

__all__ = ["send_command"]


async def send_command(
    bus: Bus, address: CommandAddress, body: bytes, *, command_id: str, headers: Mapping[str, str]
) -> Outcome:
    """Store the command and wait for its outcome, however long that takes; sending it again is harmless."""
    async with outcome_waiter(bus, command_id) as outcome:
        subject = command_subject(address.aggregate, address.verb)
        message = (subject, body, {**headers, COMMAND_ID_HEADER: command_id})
        sequence = await bus.together(COMMANDS_STREAM).store(command_id, [message])
        return await outcome.wait(sequence)
