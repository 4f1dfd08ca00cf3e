"""Whatever the context-orchestrator does, the agent works on, and what is on record is true."""

from __future__ import annotations

import time

import msgspec
import pytest

from l02.domain.agent.life.restarts import RecoverProcess, ReportSpawnFailed
from l02.domain.agent.sessions import (
    SessionDegraded,
    SessionEnded,
    SessionRecovered,
    SessionRestored,
    SessionRolledBack,
    SessionSnapshotSaved,
    SessionStarted,
)
from l02.domain.specification import ToolServer
from tests.sessions.conftest import QUICK, Agents, Node, Server, keepers, until

STUBBORN = msgspec.structs.replace(QUICK, max_retries=1_000)
"""Nothing is given up, however often it is refused."""


async def test_a_program_that_is_not_there(agents: Agents, node: Node) -> None:
    async with node.bridge(ToolServer(command=("no-such-program",))):
        await agents.spawn()
        degraded = await agents.until_degraded("start")
        assert degraded.code == "E2050"
        assert "no-such-program" in degraded.message
        await agents.terminate()
        await until(lambda: not keepers())
    assert {type(event) for event in agents.events()} == {SessionDegraded}, "what never started does not end"


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        ("exit", "exited with code 3"),
        ("silent", "did not answer the MCP handshake"),
        ("die", "exited with code 7 before it answered"),
        ("noise", "wrote on its standard output what is no MCP message"),
        ("hang", "did not answer within 1 s"),
        ("deaf", "did not answer within 1 s"),
        ("garbage", "answered with what is no answer"),
        ("odd", "answered with what is no answer"),
        ("failed", "the disk is full"),
        ("error", "out of order"),
        ("rpc error", "out of order"),
    ],
)
async def test_a_session_that_cannot_start(agents: Agents, node: Node, server: Server, mode: str, message: str) -> None:
    """The agent works on; when the server is well, the session starts and hears of the newest checkpoint."""
    server.behave(mode)
    async with node.bridge(server.specification):
        await agents.spawn()
        degraded = await agents.until_degraded("start")
        assert degraded.code == "E2050"
        assert message in degraded.message
        await agents.checkpoint("k1")
        await agents.checkpoint("k2")
        assert [type(event) for event in agents.events()] == [SessionDegraded], "nothing is claimed, nothing repeated"
        server.behave("good")
        await agents.until_type(SessionStarted)
        assert (await agents.until_type(SessionSnapshotSaved)).checkpoint_id == "k2"
    session = await agents.session()
    assert session.unsent == ()


@pytest.mark.parametrize("mode", ["exit", "die", "noise", "deaf", "garbage", "odd", "failed"])
async def test_what_cannot_be_said_waits_and_the_newest_wins(
    agents: Agents, node: Node, server: Server, mode: str
) -> None:
    async with node.bridge(server.specification, settings=STUBBORN) as servers:
        await agents.spawn()
        await agents.until_type(SessionStarted)
        server.behave(mode)
        if mode == "exit":
            servers.replace(server.specification)
        for number in range(1, 4):
            await agents.checkpoint(f"k{number}")
        assert (await agents.until_degraded("snapshot")).code == "E2052"
        await agents.checkpoint("k4", "before the storm")
        await agents.checkpoint("k5")
        await agents.restore("k4")
        await agents.checkpoint("k6")
        server.behave("good")
        await agents.until(lambda event: getattr(event, "checkpoint_id", None) == "k6")
    told = [event for event in agents.events() if isinstance(event, SessionSnapshotSaved | SessionRolledBack)]
    if told[0].checkpoint_id in ("k1", "k2", "k3"):
        del told[0]  # it was on its way to a server that was still starting
    assert [(event.checkpoint_id, event.type.rpartition(".")[2]) for event in told] == [
        ("k4", "saved"),
        ("k4", "rolled_back"),
        ("k6", "saved"),
    ]
    assert [event.unsent for event in told] == [2, 1, 0]
    degraded = [event for event in agents.events() if isinstance(event, SessionDegraded)]
    assert len([event for event in degraded if event.operation == "snapshot"]) == 1


async def test_a_task_that_the_server_does_not_know(agents: Agents, node: Node, server: Server) -> None:
    server.behave("unknown")
    async with node.bridge(server.specification):
        await agents.spawn()
        degraded = await agents.until_degraded("start")
        assert degraded.code == "E2054"
        assert "Task not found" in degraded.message
        server.behave("good")
        await agents.until_type(SessionStarted)
        server.behave("unknown")
        await agents.checkpoint("k1")
        assert (await agents.until_degraded("snapshot")).code == "E2054"
        asked = len(server.calls())
        await until(lambda: len(server.calls()) > asked + QUICK.max_retries)  # what is refused would be given up by now
        server.behave("good")
        await agents.until_type(SessionSnapshotSaved)


async def test_what_a_server_in_good_health_refuses_is_given_up(agents: Agents, node: Node, server: Server) -> None:
    server.behave("no create_checkpoint")
    async with node.bridge(server.specification):
        await agents.spawn()
        await agents.checkpoint("k1", "taken already")
        given_up = await agents.until(lambda event: getattr(event, "gave_up", None) == 1)
        assert given_up.code == "E2052"
        assert "not this one" in given_up.message
        await agents.checkpoint("k2")
        saved = await agents.until_type(SessionSnapshotSaved)
        assert (saved.checkpoint_id, saved.number) == ("k2", 2)


@pytest.mark.parametrize("mode", ["die", "deaf", "error"])
async def test_a_heartbeat_that_fails_is_a_warning(agents: Agents, node: Node, server: Server, mode: str) -> None:
    async with node.bridge(server.specification):
        await agents.spawn()
        await agents.until_type(SessionStarted)
        server.behave(mode)
        assert (await agents.until_degraded("heartbeat")).code == "E2051"
        server.behave("good")
        await agents.until_type(SessionRestored)
    assert [type(event) for event in agents.events()] == [SessionStarted, SessionDegraded, SessionRestored]
    assert (await agents.session()).failures == {}


async def test_a_server_that_hangs_for_good_is_replaced(agents: Agents, node: Node, server: Server) -> None:
    async with node.bridge(server.specification):
        await agents.spawn()
        await agents.until_type(SessionStarted)
        server.behave("hang")
        assert (await agents.until_degraded("heartbeat")).code == "E2051"
        server.behave("good")  # of no use to the process that sleeps
        await agents.until_type(SessionRestored)


async def test_a_silent_server_costs_one_session_its_time_not_each(agents: Agents, node: Node, server: Server) -> None:
    server.behave("deaf")
    async with node.bridge(server.specification):
        for number in range(100):
            await agents.spawn(f"a{number}")
        began = time.monotonic()
        for number in range(100):
            await agents.until_degraded("start", f"a{number}")
        assert time.monotonic() - began < 10, "one after another they would wait for a hundred seconds"
        server.behave("good")
        for number in range(100):
            await agents.until_type(SessionStarted, f"a{number}")


@pytest.mark.parametrize("mode", ["exit", "deaf", "error", "odd"])
async def test_recovery_that_cannot_be_asked_for(agents: Agents, node: Node, server: Server, mode: str) -> None:
    async with node.bridge(server.specification):
        await agents.spawn()
        await agents.until_type(SessionStarted)
    server.names_as_lost("session-of-a1")
    server.behave(mode)
    async with node.bridge(server.specification, "a1"):
        await agents.begins_anew()
        assert (await agents.until_degraded("recovery")).code == "E2053"
        await agents.checkpoint("k1")
        server.behave("good")
        await agents.until_type(SessionRecovered)
        await agents.until_type(SessionSnapshotSaved)


@pytest.mark.parametrize(("mode", "code"), [("die", "E2052"), ("error", "E2052"), ("unknown", "E2054")])
async def test_an_end_that_cannot_be_told_is_no_secret(
    agents: Agents, node: Node, server: Server, mode: str, code: str
) -> None:
    async with node.bridge(server.specification):
        await agents.spawn()
        await agents.until_type(SessionStarted)
        server.behave(mode)
        await agents.checkpoint("k1")
        await agents.terminate()
        ended = await agents.until_type(SessionEnded)
        assert ended.error is not None
        assert ended.error.code == code
        await until(lambda: not keepers())


async def test_a_failed_agent_leaves_its_task_blocked(agents: Agents, node: Node, server: Server) -> None:
    async with node.bridge(server.specification):
        await agents.spawn()
        await agents.until_type(SessionStarted)
        incarnation = (await agents.repository.load("a1")).state.incarnation + 1
        await agents.tell("a1", RecoverProcess(lost_node_id="n1", cause="the node began anew"))
        await agents.tell(
            "a1", ReportSpawnFailed(incarnation=incarnation, code="E2040", message="no such class", permanent=True)
        )
        assert (await agents.until_type(SessionEnded)).reason == "failed"
    last = server.calls("save_context_snapshot")[-1][1]["updates"]
    assert last["status"] == "blocked"
    assert last["immediateContext"]["blockers"] == ["the agent has failed"]


async def test_latency_is_measured(agents: Agents, node: Node, server: Server) -> None:
    async with node.bridge(server.specification):
        await agents.spawn()
        await agents.checkpoint("k1")
        await agents.until_type(SessionSnapshotSaved)
        await agents.terminate()
        await agents.until_type(SessionEnded)
    assert node.latest is not None
    (family,) = node.latest.latency.collect()
    counted = {
        sample.labels["operation"]: sample.value for sample in family.samples if sample.name == f"{family.name}_count"
    }
    assert {operation: counted[operation] for operation in ("start", "snapshot", "end")} == {
        "start": 1.0,
        "snapshot": 1.0,
        "end": 1.0,
    }


async def test_a_task_that_a_server_leaves_out_is_one_that_it_does_not_know(
    agents: Agents, node: Node, server: Server
) -> None:
    """The answer about an unknown task is a good one, but for the task: E2054, not a session in good health."""
    async with node.bridge(server.specification):
        await agents.spawn()
        await agents.until_type(SessionStarted)
        server.behave("forgetful")
        degraded = await agents.until_degraded("heartbeat")
        assert (degraded.code, "'a1'" in degraded.message) == ("E2054", True)
        await agents.checkpoint("k1")
        assert (await agents.until_degraded("snapshot")).code == "E2054"
        server.behave("good")
        await agents.until_type(SessionSnapshotSaved)


async def test_after_a_refused_rollback_the_restored_state_is_saved(agents: Agents, node: Node, server: Server) -> None:
    async with node.bridge(server.specification):
        await agents.spawn()
        await agents.checkpoint("k1")
        await agents.until_type(SessionSnapshotSaved)
        server.behave("no rollback_to")
        await agents.checkpoint("k2")
        await agents.restore("k1")
        saved = await agents.until(
            lambda event: isinstance(event, SessionSnapshotSaved) and event.checkpoint_id == "k1" and event.number > 1
        )
        assert (await agents.until_degraded("rollback")).gave_up is None
        await agents.until_type(SessionRestored)
    assert saved.unsent == 0
    assert len(server.calls("rollback_to")) == QUICK.max_retries + 1
    last = [arguments["updates"] for _, arguments in server.calls("save_context_snapshot")][-1]
    assert last["immediateContext"]["lastAction"] == "checkpoint k1 restored"


async def test_the_newest_failure_is_the_one_that_is_shown(agents: Agents, node: Node, server: Server) -> None:
    server.behave("failed")
    async with node.bridge(server.specification, settings=STUBBORN):
        await agents.spawn()
        assert "the disk is full" in (await agents.until_degraded("start")).message
        server.behave("error")
        await agents.until(lambda event: isinstance(event, SessionDegraded) and "out of order" in event.message)
