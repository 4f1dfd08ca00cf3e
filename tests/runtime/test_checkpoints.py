"""Checkpoints over the wire: taken, gone back to, forked from, and what is said when one cannot be had."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import pytest

from l02.client.client import Client
from l02.domain.agent.life.spawning import SpawnRequested
from l02.domain.agent.life.suspension import AgentResumed, AgentSuspended
from l02.domain.agent.saved.checkpoints import CheckpointCreated
from l02.domain.agent.saved.forks import AgentForked
from l02.domain.agent.saved.restoring import CheckpointRestored
from l02.domain.agent.work.effects import EffectRecorded, ToolCalled, ToolRequested
from l02.domain.agent.work.executions import ExecutionCompleted, ExecutionFailed
from l02.domain.errors import Failure
from l02.node.running import Node
from tests.runtime.conftest import Raw, history, pid_of, settled, until

Spawn = Callable[..., Awaitable[str]]
COUNT = {"steps": [["count"]]}


async def of_type(client: Client, agent_id: str, kind: type[Any]) -> list[Any]:
    return [event for event in await history(client, agent_id) if isinstance(event, kind)]


async def damage(node: Node, agent_id: str, checkpoint_id: str) -> None:
    """Flip one bit of what PostgreSQL keeps of this checkpoint and no other one."""
    connection = await asyncpg.connect(node.runtime["postgres_url"], server_settings={"search_path": "l02"})
    try:
        chunks = """
            SELECT chunk FROM state_references WHERE agent_id = $1 AND checkpoint_id = $2
            EXCEPT SELECT chunk FROM state_references WHERE agent_id = $1 AND checkpoint_id <> $2"""
        changed = await connection.execute(
            f"""UPDATE state_chunks SET data = set_byte(data, length(data) - 1, get_byte(data, length(data) - 1) # 1)
            WHERE agent_id = $1 AND sha256 IN ({chunks})""",
            agent_id,
            checkpoint_id,
        )
    finally:
        await connection.close()
    assert changed != "UPDATE 0"


async def test_a_checkpoint_is_there_when_it_is_said_to_be(client: Client, spawn: Spawn) -> None:
    agent_id = await spawn()
    await client.execute(agent_id, COUNT)
    checkpoint_id = await client.checkpoint(agent_id, "first")
    (view,) = await client.checkpoints(agent_id)
    assert (view.checkpoint_id, view.checkpoint_type, view.label) == (checkpoint_id, "manual", "first")
    assert view.size_bytes
    assert view.sha256
    assert (await client.get(agent_id)).checkpoint_id == checkpoint_id


async def test_an_unchanged_agent_needs_no_other_one(client: Client, spawn: Spawn) -> None:
    agent_id = await spawn()
    first = await client.checkpoint(agent_id)
    assert await client.checkpoint(agent_id, "named later") == first
    assert (await client.checkpoints(agent_id))[0].label == "named later"
    assert (await client.suspend(agent_id)).result == {"checkpoint_id": first}
    assert len(await client.checkpoints(agent_id)) == 1


async def test_restore_brings_the_state_back_and_keeps_the_past(client: Client, spawn: Spawn) -> None:
    agent_id = await spawn()
    await client.execute(agent_id, COUNT)
    checkpoint_id = await client.checkpoint(agent_id)
    before = await history(client, agent_id)
    assert (await client.execute(agent_id, COUNT)).output == [2]
    outcome = await client.restore(agent_id, checkpoint_id)
    assert outcome.events == ["agent.checkpoint.restored"]
    assert (await client.execute(agent_id, COUNT)).output == [2]
    assert (await history(client, agent_id))[: len(before)] == before


async def test_restore_ends_work_under_way(client: Client, spawn: Spawn) -> None:
    agent_id = await spawn()
    checkpoint_id = await client.checkpoint(agent_id)
    work = asyncio.create_task(client.execute(agent_id, {"steps": [["signal", "never", None]]}))
    await until(client, agent_id, lambda recorded: isinstance(recorded.event, EffectRecorded))
    await client.restore(agent_id, checkpoint_id)
    with pytest.raises(Failure, match="E2112.*brought back to checkpoint"):
        await work
    assert (await client.execute(agent_id, COUNT)).output == [1]


async def test_large_and_binary_state_comes_back_as_it_was(client: Client, spawn: Spawn) -> None:
    agent_id = await spawn(executor={"context_window_tokens": 10_000_000})
    many = [["state", f"k{number}", "x" * 5_000] for number in range(100)]
    large = [["bytes", "raw", 512], ["bytes", "large", 400_000], ["state", "text", "y" * 300_000]]
    await client.execute(agent_id, {"steps": [*large, *many]})
    wanted = [["read", "raw"], ["read", "large"], ["read", "text"], ["read", "k99"]]
    before = (await client.execute(agent_id, {"steps": wanted})).output
    assert before[0] == (bytes(range(256)) * 2).hex()
    checkpoint_id = await client.checkpoint(agent_id)
    await client.execute(agent_id, {"steps": [["state", key, 0] for key in ("raw", "large", "text", "k99")]})
    await client.restore(agent_id, checkpoint_id)
    assert (await client.execute(agent_id, {"steps": wanted})).output == before
    (restored,) = await of_type(client, agent_id, CheckpointRestored)
    assert restored.state["large"].keys() == {"$object", "sha256", "size"}


async def test_suspend_keeps_a_checkpoint_and_resume_goes_on_from_a_named_one(client: Client, spawn: Spawn) -> None:
    agent_id = await spawn()
    await client.execute(agent_id, COUNT)
    first = await client.checkpoint(agent_id)
    await client.execute(agent_id, COUNT)
    outcome = await client.suspend(agent_id)
    created = await until(
        client,
        agent_id,
        lambda recorded: (
            isinstance(recorded.event, CheckpointCreated) and recorded.event.checkpoint_type == "pre_suspend"
        ),
    )
    assert isinstance(created.event, CheckpointCreated)
    assert outcome.result == {"checkpoint_id": created.event.checkpoint_id}
    resumed = await client.resume(agent_id, checkpoint_id=first)
    assert resumed.result
    assert resumed.result["checkpoint_id"] == first
    assert (await client.execute(agent_id, COUNT)).output == [2]


async def test_resume_from_the_checkpoint_it_was_suspended_with(client: Client, spawn: Spawn) -> None:
    agent_id = await spawn()
    await client.execute(agent_id, COUNT)
    checkpoint_id = await client.checkpoint(agent_id)
    await client.suspend(agent_id)
    assert (await client.resume(agent_id, checkpoint_id=checkpoint_id)).events == ["agent.resumed"]
    assert (await client.execute(agent_id, COUNT)).output == [2]


async def test_a_flipped_bit_is_seen_and_an_older_checkpoint_offered(node: Node, client: Client, spawn: Spawn) -> None:
    agent_id = await spawn()
    made = []
    for number in range(3):
        await client.execute(agent_id, {"steps": [["state", "text", f"{number}" * 100], ["count"]]})
        made.append(await client.checkpoint(agent_id, f"number {number}"))
    await client.execute(agent_id, COUNT)
    for checkpoint_id in made[1:]:
        await damage(node, agent_id, checkpoint_id)
    with pytest.raises(Failure, match=rf"E2033.*next older good one is {made[0]} \(number 0\): `l02 restore"):
        await client.restore(agent_id, made[2])
    assert (await client.execute(agent_id, COUNT)).output == [5], "nothing was taken silently"
    await client.restore(agent_id, made[0])
    assert (await client.execute(agent_id, COUNT)).output == [2]
    await damage(node, agent_id, made[0])
    with pytest.raises(Failure, match="E2033.*no older one that is good"):
        await client.restore(agent_id, made[0])


async def test_only_checkpoints_of_its_own(client: Client, spawn: Spawn) -> None:
    agent_id, other = await spawn(), await spawn()
    foreign = await client.checkpoint(other)
    for checkpoint_id in ("nothing", foreign):
        with pytest.raises(Failure, match="E2032.*has no checkpoint"):
            await client.restore(agent_id, checkpoint_id)
        with pytest.raises(Failure, match="E2032.*has no checkpoint"):
            await client.fork(agent_id, checkpoint_id=checkpoint_id)
    await client.suspend(agent_id)
    with pytest.raises(Failure, match="E2032.*has no checkpoint"):
        await client.resume(agent_id, checkpoint_id=foreign)


async def test_an_agent_takes_its_own_with_what_it_has_not_committed(client: Client, spawn: Spawn) -> None:
    agent_id = await spawn()
    steps = [["state", "half", 1], ["checkpoint", "half"], ["state", "half", 2]]
    steps += [["signal", "go", None], ["read", "half"]]
    work = asyncio.create_task(client.execute(agent_id, {"steps": steps}))
    await until(
        client,
        agent_id,
        lambda recorded: isinstance(recorded.event, EffectRecorded) and recorded.event.kind == "signal",
    )
    os.kill(await pid_of(client, agent_id), signal.SIGKILL)
    await client.signal(agent_id, "go", "on")
    checkpoint_id, _, half = (await work).output
    assert half == 2
    (created,) = await of_type(client, agent_id, CheckpointCreated)
    assert (created.checkpoint_id, created.label) == (checkpoint_id, "half"), "it is not taken again"
    await client.restore(agent_id, checkpoint_id)
    assert (await client.execute(agent_id, {"steps": [["read", "half"]]})).output == [1]


async def test_an_agent_is_told_of_the_newest_if_nothing_has_changed(client: Client, spawn: Spawn) -> None:
    agent_id = await spawn()
    output = (await client.execute(agent_id, {"steps": [["checkpoint", None], ["checkpoint", None]]})).output
    assert output[0] == output[1]


async def test_a_fork_goes_on_from_recorded_answers(client: Client, spawn: Spawn, raw: Raw) -> None:
    agent_id = await spawn()
    await settled(client, agent_id)
    await client.execute(agent_id, COUNT)
    steps = [["random"], ["tool", "mark", {"name": "m"}], ["signal", "go", None], ["random"], ["count"]]
    work = await client.execute(agent_id, {"steps": steps}, wait="accepted")
    waits = await until(
        client,
        agent_id,
        lambda recorded: isinstance(recorded.event, EffectRecorded) and recorded.event.kind == "signal",
    )
    version = (await client.get(agent_id)).version
    forked = (await client.fork(agent_id, at=waits.sequence)).agent_id
    assert (await client.get(agent_id)).version == version, "the other one is not touched"
    await client.signal(agent_id, "go", "theirs")
    await client.signal(forked, "go", "mine")
    outputs = []
    for one in (agent_id, forked):
        done = await until(
            client,
            one,
            lambda recorded: (
                isinstance(recorded.event, ExecutionCompleted) and recorded.event.execution_id == work.execution_id
            ),
        )
        assert isinstance(done.event, ExecutionCompleted)
        outputs.append(done.event.output)
    theirs, mine = outputs
    assert mine[:2] == theirs[:2], "recorded"
    assert mine[2:4] != theirs[2:4], "live"
    assert (theirs[4], mine[4]) == (2, 2)
    assert not await of_type(client, forked, ToolCalled)
    first, second, *_ = await history(client, forked)
    assert isinstance(first, SpawnRequested)
    assert isinstance(second, AgentForked)
    assert (second.from_agent_id, second.from_sequence) == (agent_id, waits.sequence)
    await client.terminate(forked)


async def test_a_fork_from_a_checkpoint_a_version_or_now(client: Client, spawn: Spawn) -> None:
    agent_id = await spawn()
    await client.execute(agent_id, COUNT)
    checkpoint_id = await client.checkpoint(agent_id)
    await client.execute(agent_id, COUNT)
    view = await client.get(agent_id)
    points: list[tuple[dict[str, Any], int]] = [
        ({"checkpoint_id": checkpoint_id}, 2),
        ({"version": view.version}, 3),
        ({"version": 2}, 1),
        ({}, 3),
    ]
    for point, counted in points:
        forked = (await client.fork(agent_id, **point)).agent_id
        assert (await client.execute(forked, COUNT)).output == [counted]
        assert (await client.get(forked)).forked_from == agent_id
        await client.terminate(forked)
    with pytest.raises(Failure, match=r"E2110.*has no 99 yet"):
        await client.fork(agent_id, version=99)
    with pytest.raises(Failure, match="E2111.*no agent 'nobody'"):
        await client.fork("nobody")
    with pytest.raises(Failure, match="E2112.*choose another id"):
        await client.fork(agent_id, agent_id)


async def killed_in_mid_call(client: Client, agent_id: str) -> str | None:
    """Give work whose tool must not be called twice, and kill the process while it is; the execution."""
    steps = [["tool", "slow_mark", {"name": "m", "seconds": 1.0}], ["count"]]
    work = await client.execute(agent_id, {"steps": steps}, wait="accepted")

    def this_work(recorded: Any, kind: type[Any]) -> bool:
        return isinstance(recorded.event, kind) and recorded.event.execution_id == work.execution_id

    await until(client, agent_id, lambda recorded: this_work(recorded, ToolRequested))
    os.kill(await pid_of(client, agent_id), signal.SIGKILL)
    failed = await until(client, agent_id, lambda recorded: this_work(recorded, ExecutionFailed))
    assert isinstance(failed.event, ExecutionFailed)
    assert failed.event.held
    assert f"`l02 resume {agent_id} --assume done`" in failed.event.message
    return work.execution_id


async def test_work_goes_on_when_a_person_has_said_how(client: Client, spawn: Spawn) -> None:
    agent_id = await spawn()
    await killed_in_mid_call(client, agent_id)
    assert (await client.assume(agent_id, "done", result="by hand")).output == ["by hand", 1]
    await killed_in_mid_call(client, agent_id)
    assert (await client.assume(agent_id, "not-done")).output == [1, 2]
    with pytest.raises(Failure, match="E2112.*no such execution is held"):
        await client.assume(agent_id, "done")


async def test_one_that_is_idle_is_suspended_until_there_is_work(client: Client, spawn: Spawn) -> None:
    agent_id = await spawn(lifecycle={"suspend_idle_after_seconds": 0.5})
    assert (await client.execute(agent_id, COUNT)).output == [1]

    def idle(recorded: Any) -> bool:
        return isinstance(recorded.event, AgentSuspended) and recorded.event.reason == "idle"

    await until(client, agent_id, idle)
    assert (await client.execute(agent_id, COUNT)).output == [2]
    (resumed,) = await of_type(client, agent_id, AgentResumed)
    assert resumed.checkpoint_id is not None or resumed.incarnation == 2
    await client.suspend(agent_id)
    with pytest.raises(Failure, match="E2112.*resume it first"):
        await client.execute(agent_id, COUNT)
