"""Timers that fire though every process be down: scheduled messages that become commands when they are due.

A timer has a subject of its own; setting it again replaces it. It lives in a stream of its own: one with schedules must
allow purging and roll-ups, and neither the audit log nor the commands may. So it cannot be set in the same append as
the event that asks for it. Either the event is the intention, which lasts: the handler that sees it sets the timer, and
after a crash sees it again. Or the timer is set before the event is stored (`Repository.before_storing`), and ignored
if that never is.

What is promised: a timer fires at its second or later, never before. Many that are due together take their time
(measured, synced: 400 to 900 a second). Killed just then, the server may publish one twice: both have the same command
id, by which the aggregate knows the second; nobody can guess it, and so take it before. Cancelling or replacing may
come too late; so whoever decides the command must see in its state whether it is still wanted, as a restart is told by
its attempt.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime

from l02.bus.connection.bus import Bus
from l02.bus.connection.leader import answer_of
from l02.bus.connection.streams import TIMERS_STREAM
from l02.bus.wire.incoming import ACTOR_HEADER, TIMER_COMMAND_ID_HEADER
from l02.bus.wire.subjects import AggregateId, due_subject, timer_subject
from l02.domain.kernel.message import TIMER_ACTOR


async def set_timer(
    bus: Bus, aggregate: AggregateId, name: str, *, due: datetime, verb: str, body: bytes, command_id: str
) -> None:
    """At `due` (rounded up to a second), send the aggregate the command `verb`; replaces the timer of that name.

    Raises as `Bus.publish`. It does no harm to set it again.
    """
    second = datetime.fromtimestamp(math.ceil(due.timestamp()), UTC)
    await bus.publish(
        timer_subject(aggregate, name),
        body,
        headers={
            "Nats-Schedule": f"@at {second:%Y-%m-%dT%H:%M:%SZ}",
            "Nats-Schedule-Target": due_subject(aggregate, verb),
            "Nats-TTL": "never",
            TIMER_COMMAND_ID_HEADER: command_id,
            ACTOR_HEADER: TIMER_ACTOR,
        },
    )


async def send_due(bus: Bus, aggregate: AggregateId, verb: str, body: bytes, command_id: str) -> None:
    """Send the aggregate the command `verb` now, as a timer that is due would; raises as `Bus.publish`.

    It is decided at the node that has the aggregate, once, whoever else sends it under this id.
    """
    await bus.publish(
        due_subject(aggregate, verb), body, headers={TIMER_COMMAND_ID_HEADER: command_id, ACTOR_HEADER: TIMER_ACTOR}
    )


async def cancel_timer(bus: Bus, aggregate: AggregateId, name: str) -> bool:
    """Take the timer of that name away; whether there was one that had not fired.

    Raises APIError, and as `Bus.api`. It does no harm to cancel it again.
    """
    request = {"filter": timer_subject(aggregate, name)}
    return bool((await answer_of(bus, f"STREAM.PURGE.{TIMERS_STREAM}", request))["purged"])
