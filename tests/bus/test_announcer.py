"""Outcomes of commands whose effect takes time, said once whoever crashes in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import msgspec
import pytest

from l02.bus.commands.announcer import OutcomeAnnouncer
from l02.bus.commands.dead_letters import dead_letters
from l02.bus.commands.outcomes import ErrorBody, Outcome
from l02.bus.commands.processor import CommandProcessor
from l02.bus.commands.sender import send_command
from l02.bus.connection.bus import Bus
from l02.bus.connection.streams import OBJECTS_BUCKET
from l02.bus.log.event_store import EventStore
from l02.bus.log.repository import Repository
from l02.bus.objects.store import outline
from l02.bus.wire.subjects import AggregateId, CommandAddress
from l02.domain.agent.life.spawning import AgentSpawned
from l02.domain.agent.state import AgentState, StateChange
from l02.domain.agent.work.executions import ExecutionCompleted, ExecutionFailed
from l02.domain.aggregates import AGENT
from l02.domain.errors import OwnError
from l02.domain.specification import ResourceLimits
from tests.bus.toy import append, outcome, outcomes, partitions_of, processing, send_raw, until

SPAWN = msgspec.json.encode({"spec": {"name": "a", "command": ["a"]}})


def reported(incarnation: int = 1) -> AgentSpawned:
    return AgentSpawned(
        agent_id="a1",
        session_id="s1",
        node_id="n1",
        sandbox_type="process",
        trust_level="trusted",
        resource_limits=ResourceLimits(),
        source="cold",
        spawn_seconds=0.1,
        incarnation=incarnation,
        pid=1,
    )


@pytest.fixture
def agents(store: EventStore) -> Repository[AgentState]:
    return Repository(AGENT, store, "n1")


@asynccontextmanager
async def announcing(
    bus: Bus, repository: Repository[Any] | None = None, node: CommandProcessor | None = None
) -> AsyncIterator[None]:
    """An announcer of `node` that follows the stream, and hears `repository` at once if that is given."""
    async with AsyncExitStack() as stack:
        partitions = await stack.enter_async_context(partitions_of(bus)) if node is None else node._partitions
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        announcer = OutcomeAnnouncer(bus, partitions, tasks)
        if repository is not None:
            repository.on_recorded(announcer.announce)
        run = tasks.create_task(announcer.run())
        yield
        assert not run.done()
        run.cancel()


async def send_to(bus: Bus, verb: str, body: bytes, command_id: str) -> None:
    await send_raw(bus, f"l02.cmd.agent.a1.{verb}", body, {"Nats-Msg-Id": command_id})


async def spawn(bus: Bus, agents: Repository[AgentState]) -> None:
    await send_to(bus, "spawn", SPAWN, "spawn")
    await until(lambda: agents._loaded.get("a1"))
    await agents.record("a1", reported())


async def complete(agents: Repository[AgentState], execution_id: str, output: Any, cause: str | None = None) -> None:
    command = ExecutionCompleted(
        execution_id=execution_id,
        output=output,
        tokens=0,
        duration_seconds=0.1,
        calls=0,
        state=StateChange(),
    )
    await agents.record("a1", command, cause)


async def test_an_outcome_comes_when_the_effect_is_complete(bus: Bus, agents: Repository[AgentState]) -> None:
    async with processing(bus, agents) as node, announcing(bus, agents, node):
        await send_to(bus, "spawn", SPAWN, "c1")
        await until(lambda: agents._loaded.get("a1"))
        # An outcome said too early would be there before that of a later command.
        await send_to(bus, "signal", b'{"name":"x"}', "c2")
        assert (await outcome(bus, "c2")).ok
        assert await outcomes(bus, "c1") == []
        await agents.record("a1", reported())
        said = await outcome(bus, "c1")
        assert said.ok and said.events == ["agent.spawned"]
        assert isinstance(said.result, dict) and said.result["session_id"] == "s1"


async def test_wait_accepted_is_answered_at_the_decision_and_not_again(
    bus: Bus, agents: Repository[AgentState]
) -> None:
    async with processing(bus, agents) as node, announcing(bus, agents, node):
        await send_to(bus, "spawn", msgspec.json.encode(msgspec.json.decode(SPAWN) | {"wait": "accepted"}), "c1")
        said = await outcome(bus, "c1")
        assert said.ok and said.events == ["agent.spawn.requested"]
        await agents.record("a1", reported())
        await send_to(bus, "execute", b'{"input":1,"wait":"accepted"}', "c2")
        assert (await outcome(bus, "c2")).result == {"execution_id": "c2"}
        await complete(agents, "c2", "done")
        await send_to(bus, "signal", b'{"name":"x"}', "c3")
        await outcome(bus, "c3")
    assert await outcomes(bus, "c1") == [said] and len(await outcomes(bus, "c2")) == 1


async def test_what_a_crash_left_unsaid_is_said_by_the_next(bus: Bus, agents: Repository[AgentState]) -> None:
    async with processing(bus, agents):
        await spawn(bus, agents)
        await send_to(bus, "execute", b'{"input":1}', "c1")
        await until(lambda: agents._loaded["a1"].state.executions)
        await complete(agents, "c1", {"answer": 42})
    assert await outcomes(bus, "c1") == []
    for _ in range(2):
        async with announcing(bus):
            said = await outcome(bus, "c1")
            assert said.result == {"execution_id": "c1", "output": {"answer": 42}}
    async with processing(bus, agents):
        await send_to(bus, "signal", b'{"name":"x"}', "c2")
        await outcome(bus, "c2")
    assert await outcomes(bus, "c1") == [said]


async def test_an_answer_that_comes_late_is_that_of_the_decision(
    bus: Bus, agents: Repository[AgentState], store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the execution did since, in the command's name, is no part of it."""
    reached = asyncio.Event()

    async def never(*_: object) -> None:
        reached.set()
        await asyncio.Event().wait()

    async with processing(bus, agents):
        await spawn(bus, agents)
    with monkeypatch.context() as crash:
        crash.setattr("l02.bus.commands.processor.publish_outcome", never)
        async with processing(bus, agents):
            await send_to(bus, "execute", b'{"input":1,"wait":"accepted"}', "c1")
            await reached.wait()
    await complete(agents, "c1", "done", "c1")
    async with processing(bus, Repository(AGENT, store, "n1")):
        said = await outcome(bus, "c1")
    assert said.events == ["agent.execution.started"] and said.result == {"execution_id": "c1"}
    assert said.version == 3


async def test_a_repeated_command_gets_the_outcome_of_the_first(bus: Bus, agents: Repository[AgentState]) -> None:
    address = CommandAddress(AggregateId("agent", "a1"), "execute")

    async def execute() -> Outcome:
        return await send_command(bus, address, b'{"input":1}', command_id="c1", headers={})

    async with processing(bus, agents) as node, announcing(bus, agents, node), asyncio.TaskGroup() as tasks:
        await spawn(bus, agents)
        first = tasks.create_task(execute())
        await until(lambda: agents._loaded["a1"].state.executions)
        await asyncio.sleep(0.2)  # the server's own window
        second = tasks.create_task(execute())
        await complete(agents, "c1", "done")
        assert await first == await second
        await asyncio.sleep(0.2)  # the server's own window
        assert await execute() == await first
    assert len(await outcomes(bus, "c1")) == 1


@pytest.mark.parametrize("damage", ["gone", "forged"])
async def test_an_output_that_cannot_be_had_does_not_silence_the_announcer(
    bus: Bus, agents: Repository[AgentState], damage: str
) -> None:
    async with processing(bus, agents) as node, announcing(bus, agents, node):
        await spawn(bus, agents)
        for command_id in ("c1", "c2"):
            await send_to(bus, "execute", b'{"input":1}', command_id)
        await until(lambda: len(agents._loaded["a1"].state.executions) == 2)
        output = await outline(bus, "x" * 300_000)
        if damage == "gone":
            await (await bus.jetstream.object_store(OBJECTS_BUCKET)).delete(output["$object"])
        else:
            output = {"$object": 1, "sha256": [], "size": "large"}
        await complete(agents, "c1", output)
        await complete(agents, "c2", "fine")
        assert (await outcome(bus, "c2")).ok
        said = await outcome(bus, "c1")
    if damage == "gone":
        assert said.error and said.error.code == "E2033"
    else:
        assert said.result == {"execution_id": "c1", "output": output}


async def test_what_was_said_is_remembered_only_so_long(
    bus: Bus, agents: Repository[AgentState], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("l02.bus.commands.announcer._REMEMBERED", 2)
    async with processing(bus, agents) as node, announcing(bus, agents, node):
        await spawn(bus, agents)
        for number in range(10):
            await send_to(bus, "execute", b'{"input":1}', f"c{number}")
        await until(lambda: len(agents._loaded["a1"].state.executions) == 10)
        await asyncio.gather(*(complete(agents, f"c{number}", number) for number in range(10)))
        for number in range(10):
            assert (await outcome(bus, f"c{number}")).result == {"execution_id": f"c{number}", "output": number}


@pytest.mark.parametrize("code", ["PAYMENT_REFUSED", "", "E9999", "E2112 ", "\0", "\n* l02.>", "é" * 10_000])
async def test_an_agents_own_code_stands_beside_ours(bus: Bus, agents: Repository[AgentState], code: str) -> None:
    async with processing(bus, agents) as node, announcing(bus, agents, node):
        await spawn(bus, agents)
        await send_to(bus, "execute", b'{"input":1}', "c1")
        await until(lambda: agents._loaded["a1"].state.executions)
        failed = ExecutionFailed(execution_id="c1", code=code, message="no", tokens=0)
        await agents.record("a1", failed)
        error = (await outcome(bus, "c1")).error
    assert error == ErrorBody(
        code="E2005", name="EXECUTION_FAILED", message="no", detail=OwnError(code=code, name=code)
    )


async def test_what_a_hostile_event_completes_silences_nobody(bus: Bus, agents: Repository[AgentState]) -> None:
    """Ids that no command can have are nobody's; an outcome that no server takes is parked."""
    ids = ("", "a b", "a.b", "*", ">", "\0", "\r\nPUB l02.evt.agent.a2.spawned 2", "x" * 100_000)
    nobodys = ExecutionFailed(execution_id="x", code="?", message="", completes=ids)
    huge = ExecutionFailed(execution_id="x", code="x" * 5_000_000, message="no", completes=("huge",))
    async with processing(bus, agents) as node, announcing(bus, None, node):
        await send_to(bus, "spawn", SPAWN, "spawn")
        await append(bus, AggregateId("agent", "h1"), huge)
        await append(bus, AggregateId("agent", "h2"), nobodys)
        await until(lambda: agents._loaded.get("a1"))
        await agents.record("a1", reported())
        assert (await outcome(bus, "spawn")).ok
        letters = [letter async for letter in dead_letters(bus)]
    assert [(letter.consumer, letter.subject) for letter in letters] == [
        ("outcomes", "l02.evt.agent.h1.execution.failed")
    ]
    assert "cannot be said" in letters[0].reason


@pytest.mark.parametrize("put", [b"", b"\xff", b"[]", b'{"ok": 1}', b"[" * 5000])
async def test_what_others_put_in_the_place_of_an_outcome_gives_way(
    bus: Bus, agents: Repository[AgentState], put: bytes
) -> None:
    await bus.publish("l02.out.c1", put, {"L02-Command-Sequence": "many"})
    async with processing(bus, agents) as node, announcing(bus, agents, node), asyncio.timeout(20):
        said = await send_command(
            bus, CommandAddress(AggregateId("agent", "a1"), "signal"), b"{}", command_id="c1", headers={}
        )
    assert said.error and said.error.code == "E2110"
