"""Each verb over the wire, three times: it happens, it is ignored or refused, it meets a wrong version."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from l02.client.client import Client
from l02.domain.agent.life.spawning import AgentSpawned
from l02.domain.agent.sessions import SessionStarted
from l02.domain.agent.work.effects import EffectRecorded, ToolRequested
from l02.domain.agent.work.executions import ExecutionCompleted, ExecutionFailed, ExecutionStarted
from l02.domain.errors import Failure
from l02.handlers.executor.effects import Effects
from l02.handlers.executor.tools.calling import ToolBox
from tests.runtime.conftest import Raw, history, until, worker

Spawn = Callable[..., Awaitable[str]]


async def test_spawn_says_when_the_agent_runs(client: Client, spawn: Spawn) -> None:
    agent_id = await spawn()
    spawned = [event for event in await history(client, agent_id) if isinstance(event, AgentSpawned)]
    assert [event.sandbox_type for event in spawned] == ["landlock"]
    assert spawned[0].trust_level == "standard"


async def test_spawn_of_an_existing_agent_is_refused(client: Client, spawn: Spawn) -> None:
    agent_id = await spawn()
    with pytest.raises(Failure, match="E2112.*exists"):
        await client.spawn(worker(), id=agent_id)


async def test_execute_returns_the_output(client: Client, spawn: Spawn) -> None:
    agent_id = await spawn()
    result = await client.execute(agent_id, {"steps": [["tool", "add", {"a": 1, "b": 2}]]})
    assert result.output == [3]


async def test_execute_on_an_unknown_agent_is_refused(client: Client) -> None:
    with pytest.raises(Failure, match="E2111"):
        await client.execute("nobody", 1)


async def test_executions_are_worked_off_in_order(client: Client, spawn: Spawn) -> None:
    agent_id = await spawn()
    accepted = [
        await client.execute(agent_id, {"steps": [["sleep", 0.02], ["count"]]}, wait="accepted") for _ in range(5)
    ]
    last = await client.execute(agent_id, {"steps": [["count"]]})
    assert last.output == [6]
    completed = [event for event in await history(client, agent_id) if isinstance(event, ExecutionCompleted)]
    assert [event.execution_id for event in completed[:5]] == [result.execution_id for result in accepted]


async def test_the_queue_has_a_bound(client: Client, spawn: Spawn) -> None:
    agent_id = await spawn(executor={"max_queued_executions": 2})
    for _ in range(2):
        await client.execute(agent_id, {"steps": [["signal", "go", None]]}, wait="accepted")
    with pytest.raises(Failure, match="E2112.*max_queued_executions"):
        await client.execute(agent_id, 1)


async def test_a_signal_reaches_who_waits_for_it(client: Client, spawn: Spawn) -> None:
    agent_id = await spawn()
    work = await client.execute(agent_id, {"steps": [["signal", "go", None]]}, wait="accepted")
    await until(client, agent_id, lambda recorded: isinstance(recorded.event, EffectRecorded))
    await client.signal(agent_id, "other", 1)
    await client.signal(agent_id, "go", {"approved": True})
    done = await until(client, agent_id, lambda recorded: isinstance(recorded.event, ExecutionCompleted))
    assert isinstance(done.event, ExecutionCompleted)
    assert done.event.execution_id == work.execution_id
    assert done.event.output == [{"approved": True}]


async def test_a_signal_waits_for_who_asks_later(client: Client, spawn: Spawn) -> None:
    agent_id = await spawn()
    await client.signal(agent_id, "go", "first")
    await client.signal(agent_id, "go", "second")
    result = await client.execute(
        agent_id, {"steps": [["signal", "go", 5], ["signal", "go", 5], ["signal", "go", 0.1]]}
    )
    assert result.output == ["first", "second", None]


async def test_suspend_takes_the_process_and_resume_gives_one_back(client: Client, spawn: Spawn) -> None:
    agent_id = await spawn()
    assert (await client.execute(agent_id, {"steps": [["count"]]})).output == [1]
    assert (await client.suspend(agent_id)).events == ["agent.checkpoint.requested", "agent.suspended"]
    assert (await client.suspend(agent_id)).events == []
    with pytest.raises(Failure, match="E2112.*resume it first"):
        await client.execute(agent_id, 1)
    assert (await client.resume(agent_id)).events == ["agent.resumed"]
    assert (await client.resume(agent_id)).events == []
    assert (await client.execute(agent_id, {"steps": [["count"]]})).output == [2]


async def test_an_execution_outlives_its_suspension(client: Client, spawn: Spawn) -> None:
    agent_id = await spawn()
    work = await client.execute(
        agent_id, {"steps": [["tool", "add", {"a": 1, "b": 1}], ["signal", "go", None], ["count"]]}, wait="accepted"
    )
    await until(client, agent_id, lambda recorded: isinstance(recorded.event, EffectRecorded))
    await client.suspend(agent_id)
    await client.signal(agent_id, "go", "now")
    await client.resume(agent_id)
    done = await until(client, agent_id, lambda recorded: isinstance(recorded.event, ExecutionCompleted))
    assert isinstance(done.event, ExecutionCompleted)
    assert (done.event.execution_id, done.event.output) == (work.execution_id, [2, "now", 1])


async def test_a_tool_that_has_not_begun_when_its_agent_is_suspended_begins_when_it_is_resumed(
    client: Client, spawn: Spawn, monkeypatch: pytest.MonkeyPatch
) -> None:
    about_to_call, suspended, let_go = asyncio.Event(), asyncio.Event(), asyncio.Event()
    check, perform = ToolBox.check, Effects.perform

    async def slow_check(*arguments: Any) -> None:
        about_to_call.set()
        await suspended.wait()
        await check(*arguments)

    async def watched(*arguments: Any) -> Any:
        try:
            return await perform(*arguments)
        except asyncio.CancelledError:
            let_go.set()
            raise

    monkeypatch.setattr(ToolBox, "check", slow_check)
    monkeypatch.setattr(Effects, "perform", watched)
    agent_id = await spawn()
    steps = [["tool", "mark", {"name": "one"}], ["count"]]
    work = await client.execute(agent_id, {"steps": steps}, wait="accepted")
    await about_to_call.wait()
    await client.suspend(agent_id)
    await let_go.wait()
    suspended.set()
    assert not any(isinstance(event, ToolRequested) for event in await history(client, agent_id))
    await client.resume(agent_id)
    done = await until(client, agent_id, lambda recorded: isinstance(recorded.event, ExecutionCompleted))
    assert isinstance(done.event, ExecutionCompleted)
    assert (done.event.execution_id, done.event.output) == (work.execution_id, [1, 1])
    told = [event.type for event in await history(client, agent_id)]
    assert told.count("agent.tool.requested") == 1 and told.index("agent.tool.requested") > told.index("agent.resumed")


async def test_terminate_ends_it_for_good(client: Client, spawn: Spawn) -> None:
    agent_id = await spawn()
    outcome = await client.terminate(agent_id)
    assert outcome.events == ["agent.terminated"]
    assert (await client.terminate(agent_id)).events == []
    for attempt in (client.execute(agent_id, 1), client.suspend(agent_id), client.resume(agent_id)):
        with pytest.raises(Failure, match="E2112.*terminated"):
            await attempt


async def test_terminate_fails_what_is_under_way(client: Client, spawn: Spawn) -> None:
    agent_id = await spawn(lifecycle={"graceful_shutdown_seconds": 5})
    work = await client.execute(agent_id, {"steps": [["signal", "never", None]]}, wait="accepted")
    await client.terminate(agent_id)
    failed = [event for event in await history(client, agent_id) if isinstance(event, ExecutionFailed)]
    assert [(event.execution_id, event.code) for event in failed] == [(work.execution_id, "E2112")]


@pytest.mark.parametrize("verb", ["execute", "signal", "suspend", "resume", "terminate"])
async def test_a_wrong_version_is_a_conflict(spawn: Spawn, raw: Raw, verb: str) -> None:
    agent_id = await spawn()
    body = {"execute": b'"input": 1, ', "signal": b'"name": "go", '}.get(verb, b"")
    outcome = await raw.publish(f"l02.cmd.agent.{agent_id}.{verb}", b"{" + body + b'"expected_version": 1}')
    assert not outcome.ok
    assert outcome.error
    assert (outcome.error.code, outcome.error.path) == ("E2113", "$.expected_version")


async def test_the_right_version_is_none(client: Client, spawn: Spawn, raw: Raw) -> None:
    agent_id = await spawn()
    newest = await until(client, agent_id, lambda recorded: isinstance(recorded.event, SessionStarted))
    outcome = await raw.publish(f"l02.cmd.agent.{agent_id}.suspend", b'{"expected_version": %d}' % newest.version)
    assert outcome.ok
    assert outcome.version == newest.version + 2


async def test_a_command_sent_twice_happens_once(client: Client, spawn: Spawn, raw: Raw) -> None:
    agent_id = await spawn()
    command_id = uuid.uuid4().hex
    body = b'{"input": {"steps": [["count"]]}}'
    first = await raw.publish(f"l02.cmd.agent.{agent_id}.execute", body, command_id)
    again = await raw.request(
        "agent.execute", {"id": agent_id, "command_id": command_id, "input": {"steps": [["count"]]}}
    )
    assert first.ok
    assert again["result"] == first.result
    started = [event for event in await history(client, agent_id) if isinstance(event, ExecutionStarted)]
    assert len(started) == 1


async def test_accepted_comes_at_the_decision(spawn: Spawn, raw: Raw) -> None:
    agent_id = await spawn()
    body = b'{"input": {"steps": [["signal", "never", null]]}, "wait": "accepted"}'
    outcome = await raw.publish(f"l02.cmd.agent.{agent_id}.execute", body)
    assert outcome.events == ["agent.execution.started"]
