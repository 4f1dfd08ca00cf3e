"""An agent's process that says nothing more is noticed, killed and started again; one that is busy is left alone."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable

from l02.client.client import Client
from l02.domain.agent.life.restarts import AgentRestarted
from tests.runtime.conftest import history, pid_of, until

Spawn = Callable[..., Awaitable[str]]
QUICK = {"restart_delay_seconds": [0.05], "hung_after_seconds": 1.0}


async def restarts(client: Client, agent_id: str) -> list[str]:
    return [event.cause for event in await history(client, agent_id) if isinstance(event, AgentRestarted)]


async def test_one_that_was_stopped(client: Client, spawn: Spawn) -> None:
    agent_id = await spawn(lifecycle=QUICK)
    os.kill(await pid_of(client, agent_id), signal.SIGSTOP)
    await until(client, agent_id, lambda recorded: isinstance(recorded.event, AgentRestarted))
    assert (await client.execute(agent_id, "hello")).output == "hello"
    [cause] = await restarts(client, agent_id)
    assert "E2080" in cause and "hung_after_seconds" in cause


async def test_one_whose_work_never_awaits_goes_on_where_it_was(client: Client, spawn: Spawn) -> None:
    agent_id = await spawn(lifecycle=QUICK)
    steps = [["tool", "mark", {"name": "one"}], ["block once", 3600], ["tool", "mark", {"name": "two"}]]
    assert (await client.execute(agent_id, {"steps": steps})).output == [1, 2]
    [cause] = await restarts(client, agent_id)
    assert "E2080" in cause


async def test_a_tool_of_its_own_may_take_its_time(client: Client, spawn: Spawn) -> None:
    agent_id = await spawn(lifecycle=QUICK)
    assert (await client.execute(agent_id, {"steps": [["tool", "blocking", {"seconds": 3}]]})).output == ["done"]
    assert await restarts(client, agent_id) == []


async def test_one_that_is_idle_answers(client: Client, spawn: Spawn) -> None:
    agent_id = await spawn(lifecycle={"restart_delay_seconds": [0.05], "hung_after_seconds": 0.3})
    await asyncio.gather(*(client.execute(agent_id, {"steps": [["sleep", 0.4]]}) for _ in range(3)))
    assert await restarts(client, agent_id) == []


async def test_one_that_is_held_to_its_share_is_not_hung(client: Client, spawn: Spawn) -> None:
    agent_id = await spawn(lifecycle=QUICK, resource_limits={"cpu": "100m"})
    await client.execute(agent_id, {"steps": [["burn", 0.1]] * 5})
    assert await restarts(client, agent_id) == []
