"""When work must have ended, a timer says: it stands before the work does, so that no crash can come between the two.

A process is held to its time by the runner, to the moment; the timer is for when there is none, and for clocks that
differ. It is taken away with the end of the work; one that is left over is ignored when it fires. Of time that runs
out, the runner warns.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial

import msgspec
from msgspec import UNSET

from l02.bus.background.cancelling import end
from l02.bus.background.moments import reached
from l02.bus.commands.timers import cancel_timer, set_timer
from l02.bus.connection.bus import Bus
from l02.bus.log.contained import contained
from l02.bus.log.repository import Repository
from l02.bus.wire.subjects import AggregateId
from l02.domain.agent.execution import Execution
from l02.domain.agent.life.resuming import ExecutionReopened
from l02.domain.agent.resources import WARN_AT_PERCENT, ResourceWarned
from l02.domain.agent.saved.forks import ExecutionInherited
from l02.domain.agent.state import AgentState
from l02.domain.agent.work.executions import ExecutionDue, ExecutionStarted
from l02.domain.kernel.message import Event


async def set_deadlines(bus: Bus, agent_id: str, events: Sequence[Event]) -> None:
    """Set the timers of what these events begin. Raises as `set_timer`."""
    limited = [
        (event.execution_id, event.deadline)
        for event in events
        if isinstance(event, ExecutionStarted | ExecutionReopened | ExecutionInherited)
        and isinstance(event.deadline, float)
    ]
    await asyncio.gather(*(_set(bus, agent_id, execution_id, deadline) for execution_id, deadline in limited))


async def _set(bus: Bus, agent_id: str, execution_id: str, deadline: float) -> None:
    body = {"execution_id": execution_id, "deadline": deadline, "wait": "accepted"}
    await set_timer(
        bus,
        AggregateId("agent", agent_id),
        _name(execution_id),
        due=datetime.fromtimestamp(deadline, UTC),
        verb=ExecutionDue.verb,
        body=msgspec.json.encode(body),
        command_id=uuid.uuid4().hex,
    )


async def cancel_deadline(bus: Bus, agent_id: str, execution_id: str) -> None:
    """Take the timer of work away that has ended; where that fails, it fires in vain."""
    cancel = partial(cancel_timer, bus, AggregateId("agent", agent_id), _name(execution_id))
    await contained(cancel, "cancelling a timer", agent_id, again=False)


@asynccontextmanager
async def warned_of_time(agents: Repository[AgentState], agent_id: str, execution: Execution) -> AsyncIterator[None]:
    """Record it when so many percent of the execution's time are over, as long as the context lasts."""
    if execution.deadline is None:
        yield
        return
    warning = asyncio.create_task(_warn(agents, agent_id, execution, execution.deadline))
    try:
        yield
    finally:
        await end(warning)


async def _warn(agents: Repository[AgentState], agent_id: str, execution: Execution, deadline: float) -> None:
    seconds = (await agents.known(agent_id, 0)).state.specification.resource_limits.execution_seconds
    if seconds is UNSET:
        return
    for percent in WARN_AT_PERCENT:
        if percent > execution.warned_percent:
            left = (100 - percent) / 100 * seconds
            await reached(deadline - left)
            warned = ResourceWarned(
                resource_type="execution_seconds",
                current_usage=round(seconds - left, 3),
                limit=seconds,
                threshold_percent=percent,
                execution_id=execution.execution_id,
            )
            await contained(partial(agents.record, agent_id, warned), "warning of a limit", agent_id, again=False)


def _name(execution_id: str) -> str:
    return f"{ExecutionDue.verb}.{execution_id}"
