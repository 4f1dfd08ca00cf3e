"""Timers that fire though every process be down: scheduled messages that become commands when they are due.

A timer has a subject of its own; setting it again replaces it. The server fires it at one-second precision. It lives in
the stream of commands, not of events: a stream with schedules must allow purging, and the audit log must not.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime

from bus.connection import Bus
from bus.subjects import AggregateId, command_subject, timer_subject

__all__ = ["set_timer"]


async def set_timer(
    bus: Bus, aggregate: AggregateId, name: str, *, due: datetime, verb: str, body: bytes, command_id: str
) -> None:
    """At `due` (rounded up to a second), send the aggregate the command `verb`; replaces the timer of that name."""
    second = datetime.fromtimestamp(math.ceil(due.timestamp()), UTC)
    await bus.publish(
        timer_subject(aggregate, name),
        body,
        headers={
            "Nats-Schedule": f"@at {second:%Y-%m-%dT%H:%M:%SZ}",
            "Nats-Schedule-Target": command_subject(aggregate, verb),
            "Nats-TTL": "never",
            "L02-Command-Id": command_id,
            "L02-Actor": "timer",
        },
    )
