"""The timer of a restart waits as long as the restart is wanted, and no longer."""

from __future__ import annotations

import os
import signal
from collections.abc import Awaitable, Callable

import pytest

from l02.bus.connection.leader import standing_of
from l02.bus.connection.streams import TIMERS_STREAM
from l02.bus.wire.subjects import AggregateId, timer_subject
from l02.client.client import Client
from l02.domain.agent.life.restarts import AgentRestarted, RestartDue
from l02.handlers.lifecycle import Lifecycle
from l02.node.running import Node
from tests.bus.toy import until as until_fact
from tests.runtime.conftest import pid_of, until

Spawn = Callable[..., Awaitable[str]]


@pytest.mark.parametrize("heard", ["once", "from the stream too"])
@pytest.mark.parametrize("verb", ["suspend", "terminate"])
async def test_it_is_cancelled_with_the_restart(
    node: Node, client: Client, spawn: Spawn, verb: str, heard: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever has heard of it twice before it looked has heard of it once."""
    if heard == "once":
        agents, lifecycle = node.parts.agents, node.parts.lifecycle
        others = [listener for listener in agents._listeners if not _is_of(lifecycle, listener)]
        assert len(others) == len(agents._listeners) - 1
        monkeypatch.setattr(agents, "_listeners", others)
    agent_id = await spawn(lifecycle={"restart_delay_seconds": [600]})
    subject = timer_subject(AggregateId("agent", agent_id), RestartDue.verb)

    async def waiting() -> int:
        return (await standing_of(node.parts.bus, TIMERS_STREAM, subject)).messages

    async def gone() -> bool:
        return await waiting() == 0

    os.kill(await pid_of(client, agent_id), signal.SIGKILL)
    await until(client, agent_id, lambda recorded: isinstance(recorded.event, AgentRestarted))
    await until_fact(waiting)
    await getattr(client, verb)(agent_id)
    await until_fact(gone)
    if verb == "suspend":
        await client.resume(agent_id)
        await until_fact(lambda: _is_running(client, agent_id))
        assert await gone()


def _is_of(lifecycle: Lifecycle, listener: Callable[..., None]) -> bool:
    """Whether it is what tells the lifecycle at once of what its node records (see `react`)."""
    return getattr(listener, "__self__", None) is lifecycle._listener


async def _is_running(client: Client, agent_id: str) -> bool:
    return (await client.get(agent_id)).state.value == "running"
