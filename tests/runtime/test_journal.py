"""The journal: an execution goes on where it stopped, with the same answers, and no effect happens twice."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import UNSET

from l02.client.client import Client
from l02.domain.agent.life.restarts import AgentRestarted
from l02.domain.agent.work.effects import EffectRecorded, ToolCalled, ToolRequested
from l02.domain.agent.work.executions import ExecutionCompleted, ExecutionStarted
from l02.domain.errors import Failure
from tests.effects import effects
from tests.runtime.conftest import AGENTS, history, pid_of, until

Spawn = Callable[..., Awaitable[str]]


def is_tool_call(number: int) -> Callable[..., bool]:
    def fits(recorded: object) -> bool:
        event = getattr(recorded, "event", None)
        return isinstance(event, ToolCalled) and event.call == number

    return fits


async def test_a_killed_process_goes_on_where_it_was(client: Client, spawn: Spawn) -> None:
    agent_id = await spawn()
    steps = [["tool", "mark", {"name": "one"}], ["now"], ["random"], ["sleep", 1], ["tool", "mark", {"name": "two"}]]
    work = asyncio.create_task(client.execute(agent_id, {"steps": steps}))
    await until(
        client, agent_id, lambda recorded: isinstance(recorded.event, EffectRecorded) and not recorded.event.done
    )
    os.kill(await pid_of(client, agent_id), signal.SIGKILL)
    result = (await work).output
    events = await history(client, agent_id)
    now, random = (entry.result for entry in effects(events, "now", "random"))
    assert result == [1, pytest.approx(now), random, None, 2]
    assert Counter(entry.call for entry in effects(events, "tool")) == {1: 1, 5: 1}
    restarts = [event for event in events if isinstance(event, AgentRestarted)]
    assert ["SIGKILL" in event.cause for event in restarts] == [True]


async def test_concurrent_calls_are_answered_in_their_first_order(client: Client, spawn: Spawn) -> None:
    agent_id = await spawn()
    calls = [["add", {"a": number, "b": 1}] for number in range(20)]
    steps = [["gather", *calls], ["sleep", 1], ["gather", *calls]]
    work = asyncio.create_task(client.execute(agent_id, {"steps": steps}))
    await until(client, agent_id, lambda recorded: isinstance(recorded.event, EffectRecorded))
    os.kill(await pid_of(client, agent_id), signal.SIGKILL)
    expected = [number + 1 for number in range(20)]
    assert (await work).output == [expected, None, expected]


async def test_another_call_at_a_recorded_number_is_refused(client: Client, spawn: Spawn) -> None:
    agent_id = await spawn(
        {
            "name": "fickle",
            "entrypoint": str(AGENTS / "fickle.py"),
            "lifecycle": {"restart_delay_seconds": [0.05]},
        }
    )
    work = asyncio.create_task(client.execute(agent_id, {"seconds": 1}))
    await until(
        client, agent_id, lambda recorded: isinstance(recorded.event, EffectRecorded) and not recorded.event.done
    )
    os.kill(await pid_of(client, agent_id), signal.SIGKILL)
    with pytest.raises(Failure, match="E2116.*call 1"):
        await work


@pytest.mark.parametrize("before", [[], [["random"]]], ids=["call", "step"])
async def test_another_text_than_before_is_refused(client: Client, spawn: Spawn, before: list[list[str]]) -> None:
    """Whoever watches has seen what was said at first."""
    agent_id = await spawn()
    steps = [["emit", "at first: "], ["emit pid"], *before, ["sleep", 1], ["emit", "."]]
    work = asyncio.create_task(client.execute(agent_id, {"steps": steps}))
    await until(
        client, agent_id, lambda recorded: isinstance(recorded.event, EffectRecorded) and not recorded.event.done
    )
    os.kill(await pid_of(client, agent_id), signal.SIGKILL)
    with pytest.raises(Failure, match="E2116.*ieces of text"):
        await work


async def test_the_same_text_goes_on_where_it_was(client: Client, spawn: Spawn) -> None:
    agent_id = await spawn()
    steps = [
        ["emit", "one "],
        ["random"],
        ["tool", "mark", {"name": "m"}],
        ["emit", "two "],
        ["sleep", 1],
        ["emit", "."],
    ]
    work = asyncio.create_task(client.execute(agent_id, {"steps": steps}, command_id=f"{agent_id}-text"))
    await until(
        client, agent_id, lambda recorded: isinstance(recorded.event, EffectRecorded) and not recorded.event.done
    )
    os.kill(await pid_of(client, agent_id), signal.SIGKILL)
    assert (await work).output[1:] == [1, None]
    assert "".join([delta async for delta in client.tokens(agent_id, f"{agent_id}-text")]) == "one two ."
    events = await history(client, agent_id)
    said = [entry.text.pieces for entry in effects(events) if entry.text is not UNSET]
    assert said == [1, 1, 2]


async def test_a_tool_that_was_under_way_asks_a_person(client: Client, spawn: Spawn) -> None:
    agent_id = await spawn()
    steps = [["tool", "slow_mark", {"name": "x", "seconds": 60}]]
    work = asyncio.create_task(client.execute(agent_id, {"steps": steps}))
    await until(client, agent_id, lambda recorded: isinstance(recorded.event, ToolRequested))
    os.kill(await pid_of(client, agent_id), signal.SIGKILL)
    with pytest.raises(Failure, match="E2001.*not declared idempotent.*find out whether it took effect"):
        await work
    assert (await client.execute(agent_id, "and on")).output == "and on"


async def test_an_idempotent_tool_that_was_under_way_is_called_again(client: Client, spawn: Spawn) -> None:
    agent_id = await spawn(executor={"tool_timeout_seconds": 3, "max_tool_retries": 0})
    work = asyncio.create_task(client.execute(agent_id, {"steps": [["try", "hanging", {}]]}))
    await until(client, agent_id, lambda recorded: isinstance(recorded.event, ExecutionStarted))
    await asyncio.sleep(0.2)
    os.kill(await pid_of(client, agent_id), signal.SIGKILL)
    output = (await work).output
    assert output[0]["code"] == "E2002"


async def test_state_is_kept_and_a_failed_execution_leaves_none(client: Client, spawn: Spawn) -> None:
    agent_id = await spawn()
    await client.execute(agent_id, {"steps": [["state", "key", {"deep": [1, 2]}]]})
    with pytest.raises(Failure, match="E2005"):
        await client.execute(agent_id, {"steps": [["count"], ["fail", "on purpose"]]})
    os.kill(await pid_of(client, agent_id), signal.SIGKILL)
    assert (await client.execute(agent_id, {"steps": [["count"]]})).output == [1]


async def test_large_answers_and_state_go_to_the_object_store(client: Client, spawn: Spawn) -> None:
    agent_id = await spawn(executor={"context_window_tokens": 1_000_000})
    size = 300_000
    steps = [["tool", "large", {"size": size}], ["state", "big", "y" * size], ["sleep", 1]]
    work = asyncio.create_task(client.execute(agent_id, {"steps": steps}))
    await until(client, agent_id, lambda recorded: isinstance(recorded.event, EffectRecorded))
    os.kill(await pid_of(client, agent_id), signal.SIGKILL)
    assert (await work).output == ["x" * size, None]
    events = await history(client, agent_id)
    (called,) = effects(events, "tool")
    assert called.result.keys() == {"$object", "sha256", "size"}
    (completed,) = (event for event in events if isinstance(event, ExecutionCompleted))
    assert completed.output.keys() == {"$object", "sha256", "size"}


async def test_tools_that_fail(client: Client, spawn: Spawn) -> None:
    agent_id = await spawn(executor={"max_tool_retries": 1, "tool_timeout_seconds": 0.5, "context_window_tokens": 5000})
    steps = [
        ["try", "failing", {"text": "on purpose"}],
        ["try", "hanging", {}],
        ["try", "missing", {}],
        ["try", "add", {"a": "one", "b": 2}],
        ["try", "add", {"a": 1}],
        ["try", "large", {"size": 50_000}],
    ]
    output = (await client.execute(agent_id, {"steps": steps})).output
    assert [result["code"] for result in output] == ["E2001", "E2002", "E2001", "E2001", "E2001", "E2003"]
    events = await history(client, agent_id)
    calls = effects(events, "tool")
    assert [(entry.ok, entry.result["code"]) for entry in calls] == [(False, result["code"]) for result in output]
    assert [event.attempts for event in events if isinstance(event, ToolCalled)] == [0], "the agent has no such tool"
    assert "on purpose" in output[0]["message"]
    assert "there is no tool 'missing'; the agent has: add" in output[2]["message"]


async def test_input_over_the_context_window(client: Client, spawn: Spawn) -> None:
    agent_id = await spawn(executor={"context_window_tokens": 100})
    with pytest.raises(Failure, match="E2003"):
        await client.execute(agent_id, "x" * 1000)
    assert (await client.execute(agent_id, "short")).output == "short"


STEPS = st.lists(
    st.sampled_from(
        [
            ["tool", "mark", {"name": "m"}],
            ["tool", "add", {"a": 2, "b": 3}],
            ["random"],
            ["sleep", 0.05],
            ["gather", ["add", {"a": 1, "b": 1}], ["add", {"a": 2, "b": 2}]],
            ["count"],
        ]
    ),
    min_size=3,
    max_size=8,
)


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS, kill_after=st.lists(st.floats(0, 0.15), min_size=1, max_size=2))
async def test_killed_at_any_instant(
    client: Client, spawn: Spawn, steps: list[list[object]], kill_after: list[float]
) -> None:
    """Whatever the agent does and whenever it is killed: one answer per call, every mark once, or a person is asked."""
    agent_id = await spawn(lifecycle={"restart_delay_seconds": [0.01], "max_restart_count": 100})
    work = asyncio.create_task(client.execute(agent_id, {"steps": steps}))
    for seconds in kill_after:
        await asyncio.sleep(seconds)
        try:
            os.kill(await pid_of(client, agent_id), signal.SIGKILL)
        except ProcessLookupError:
            continue
    try:
        output = (await work).output
    except Failure as failure:
        assert "not declared idempotent" in failure.message
        return
    marks = [result for step, result in zip(steps, output, strict=False) if step[:2] == ["tool", "mark"]]
    calls = Counter(entry.call for entry in effects(await history(client, agent_id), "tool"))
    assert set(calls.values()) <= {1}
    assert marks == list(range(1, len(marks) + 1))


async def test_killed_while_it_is_told_to_run_a_tool_of_its_own(client: Client, spawn: Spawn) -> None:
    """The order may be on its way, or already lost; each time the work ends, one way or the other."""
    chance = random.Random(5)
    steps = [["tool", "add", {"a": 2, "b": 3}], ["tool", "mark", {"name": "m"}], ["tool", "mark", {"name": "m"}]]
    for _ in range(40):
        agent_id = await spawn(lifecycle={"restart_delay_seconds": [0.01], "max_restart_count": 100})
        work = asyncio.create_task(client.execute(agent_id, {"steps": steps}))
        await asyncio.sleep(chance.uniform(0.0, 0.03))
        with suppress(ProcessLookupError):
            os.kill(await pid_of(client, agent_id), signal.SIGKILL)
        async with asyncio.timeout(20):
            try:
                assert (await work).output == [5, 1, 2]
            except Failure as failure:
                assert "not declared idempotent" in failure.message
