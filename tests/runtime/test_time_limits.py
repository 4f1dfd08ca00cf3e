"""One piece of work has so many seconds; an agent that shall end at once does; it begins with what it was given."""

from __future__ import annotations

import asyncio
import os
import signal
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import pytest

from l02.bus.connection.leader import standing_of
from l02.bus.connection.streams import TIMERS_STREAM
from l02.bus.wire.codec import RecordedEvent
from l02.bus.wire.subjects import AggregateId, due_subject, timer_subject
from l02.client.client import Client
from l02.domain.agent.life.restarts import AgentRestarted
from l02.domain.agent.life.spawning import AgentSpawned, SpawnRequested
from l02.domain.agent.life.termination import AgentTerminated, TerminationRequested
from l02.domain.agent.saved.checkpoints import CheckpointRequested
from l02.domain.agent.state import Status
from l02.domain.agent.work.effects import EffectRecorded, ToolRequested
from l02.domain.agent.work.executions import ExecutionDue, ExecutionStarted
from l02.domain.errors import ErrorCode, Failure
from l02.node.running import Node
from tests.bus.toy import until as until_fact
from tests.runtime.conftest import history, pid_of, until, worker


@pytest.fixture
def agent_id() -> str:
    return uuid.uuid4().hex


def limited(seconds: float, **more: Any) -> dict[str, Any]:
    return worker(resource_limits={"execution_seconds": seconds}, **more)


@pytest.mark.parametrize(
    "steps",
    [[["sleep", 600]], [["tool", "hanging", {}]], [["tool", "blocking", {"seconds": 600}]], [["signal", "go", None]]],
    ids=["sleeps", "waits for a tool", "lets nothing run", "waits for a signal"],
)
async def test_work_that_takes_too_long_fails_and_the_next_goes_on(
    client: Client, agent_id: str, steps: list[Any]
) -> None:
    await client.spawn(limited(1.0), id=agent_id)
    before = await pid_of(client, agent_id)
    with pytest.raises(Failure) as failed:
        await client.execute(agent_id, {"steps": steps})
    assert failed.value.code is ErrorCode.EXECUTION_TIMEOUT
    assert "execution_seconds" in failed.value.message
    await until(
        client, agent_id, lambda recorded: isinstance(recorded.event, AgentSpawned) and recorded.event.pid != before
    )
    assert (await client.execute(agent_id, {"steps": [["tool", "add", {"a": 1, "b": 2}]]})).output


async def test_work_without_time_left_costs_no_agent_however_often(client: Client, agent_id: str) -> None:
    patience = {"max_restart_count": 0, "restart_delay_seconds": [3600]}
    await client.spawn(limited(0.5, lifecycle=patience), id=agent_id)
    for _ in range(3):
        with pytest.raises(Failure) as failed:
            await client.execute(agent_id, {"steps": [["sleep", 600]]})
        assert failed.value.code is ErrorCode.EXECUTION_TIMEOUT
    await until(client, agent_id, is_fourth)


def is_fourth(recorded: RecordedEvent) -> bool:
    return isinstance(recorded.event, AgentSpawned) and recorded.event.incarnation == 4


def timer_of(agent_id: str, execution_id: str) -> str:
    return timer_subject(AggregateId("agent", agent_id), f"{ExecutionDue.verb}.{execution_id}")


async def suspend(client: Client, agent_id: str) -> None:
    await client.suspend(agent_id)


async def crash(client: Client, agent_id: str) -> None:
    os.kill(await pid_of(client, agent_id), signal.SIGKILL)
    await until(client, agent_id, lambda recorded: isinstance(recorded.event, AgentRestarted))


@pytest.mark.parametrize(
    "lose_process, status", [(suspend, Status.SUSPENDED), (crash, Status.PENDING)], ids=["suspended", "to be restarted"]
)
async def test_without_a_process_its_time_ends_it_too(
    client: Client, agent_id: str, lose_process: Callable[[Client, str], Awaitable[None]], status: Status
) -> None:
    await client.spawn(limited(3.0, lifecycle={"restart_delay_seconds": [3600]}), id=agent_id)
    work = asyncio.create_task(client.execute(agent_id, {"steps": [["sleep", 600]]}))
    await until(client, agent_id, lambda recorded: isinstance(recorded.event, EffectRecorded))
    await lose_process(client, agent_id)
    with pytest.raises(Failure) as failed:
        await work
    assert failed.value.code is ErrorCode.EXECUTION_TIMEOUT
    assert "execution_seconds" in failed.value.message
    assert (await client.get(agent_id)).state is status


async def test_its_timer_stands_when_it_is_accepted_and_goes_when_it_ends(
    node: Node, client: Client, agent_id: str
) -> None:
    bus = node.parts.bus
    await client.spawn(limited(3600.0), id=agent_id)
    accepted = await client.execute(agent_id, {"steps": [["signal", "go", None]]}, wait="accepted")
    subject = timer_of(agent_id, accepted.execution_id)
    assert (await standing_of(bus, TIMERS_STREAM, subject)).messages == 1

    async def gone() -> bool:
        return (await standing_of(bus, TIMERS_STREAM, subject)).messages == 0

    await client.signal(agent_id, "go")
    await until_fact(gone)


async def test_where_the_timer_is_first_the_process_at_work_is_ended(node: Node, client: Client, agent_id: str) -> None:
    patience = {"max_restart_count": 0, "restart_delay_seconds": [3600]}
    await client.spawn(limited(3600.0, lifecycle=patience), id=agent_id)
    before = await pid_of(client, agent_id)
    work = asyncio.create_task(client.execute(agent_id, {"steps": [["tool", "blocking", {"seconds": 600}]]}))
    await until(client, agent_id, lambda recorded: isinstance(recorded.event, ToolRequested))
    [begun] = [event for event in await history(client, agent_id) if isinstance(event, ExecutionStarted)]
    due = {"execution_id": begun.execution_id, "deadline": begun.deadline}
    subject = due_subject(AggregateId("agent", agent_id), ExecutionDue.verb)
    await node.parts.bus.publish(subject, msgspec.json.encode(due))
    with pytest.raises(Failure) as failed:
        await work
    assert failed.value.code is ErrorCode.EXECUTION_TIMEOUT
    await until(
        client, agent_id, lambda recorded: isinstance(recorded.event, AgentSpawned) and recorded.event.pid != before
    )
    assert (await client.execute(agent_id, {"steps": [["tool", "add", {"a": 1, "b": 2}]]})).output == [3]


async def test_its_time_goes_on_while_others_are_before_it(client: Client, agent_id: str) -> None:
    await client.spawn(limited(1.0), id=agent_id)
    work = [client.execute(agent_id, {"steps": [["sleep", 600]]}) for _ in range(2)]
    for failure in await asyncio.gather(*work, return_exceptions=True):
        assert isinstance(failure, Failure) and failure.code is ErrorCode.EXECUTION_TIMEOUT
    asked = [event for event in await history(client, agent_id) if isinstance(event, EffectRecorded)]
    assert len(asked) == 1, "the second one has not begun"


async def test_a_suspension_without_a_checkpoint(client: Client, agent_id: str) -> None:
    await client.spawn(worker(), id=agent_id)
    await client.suspend(agent_id, checkpoint=False)
    assert not [event for event in await history(client, agent_id) if isinstance(event, CheckpointRequested)]
    await client.resume(agent_id)
    assert (await client.execute(agent_id, {"steps": []})) is not None


@pytest.fixture
async def stubborn(client: Client, agent_id: str) -> AsyncIterator[None]:
    """An agent that lets nothing run, not even its end, with an hour to end in."""
    lifecycle = {"graceful_shutdown_seconds": 3600, "restart_delay_seconds": [0.05]}
    await client.spawn(worker(lifecycle=lifecycle), id=agent_id)
    await client.execute(agent_id, {"steps": [["tool", "blocking", {"seconds": 3600}]]}, wait="accepted")
    await until(client, agent_id, lambda recorded: isinstance(recorded.event, ToolRequested))
    yield


@pytest.mark.usefixtures("stubborn")
async def test_forced_it_ends_at_once(client: Client, agent_id: str) -> None:
    async with asyncio.timeout(30):
        await client.terminate(agent_id, "error", force=True)
    ended = [event for event in await history(client, agent_id) if isinstance(event, AgentTerminated)]
    assert [event.reason for event in ended] == ["error"]


@pytest.mark.usefixtures("stubborn")
async def test_forced_while_it_is_given_time_it_ends_at_once(client: Client, agent_id: str) -> None:
    asked = asyncio.create_task(client.terminate(agent_id))
    await until(client, agent_id, lambda recorded: isinstance(recorded.event, TerminationRequested))
    async with asyncio.timeout(30):
        await client.terminate(agent_id, force=True)
        assert (await asked).ok


async def test_a_state_to_begin_with(client: Client, agent_id: str) -> None:
    await client.spawn(worker(), id=agent_id, state={"seen": 41})
    spawned = [event for event in await history(client, agent_id) if isinstance(event, SpawnRequested)]
    assert [event.state for event in spawned] == [{"seen": 41}]
    assert (await client.execute(agent_id, {"steps": [["read", "seen"]]})).output == [41]
