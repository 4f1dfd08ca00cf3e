"""What a context-orchestrator that works is told, and what is on record of it."""

from __future__ import annotations

import psutil

from l02.bus.log.event_store import open_event_store
from l02.bus.log.repository import Repository
from l02.domain.agent.life.suspension import Suspend
from l02.domain.agent.saved.checkpoints import Checkpoint
from l02.domain.agent.sessions import (
    SessionEnded,
    SessionRecovered,
    SessionRolledBack,
    SessionSnapshotSaved,
    SessionStarted,
)
from l02.domain.aggregates import AGENT
from l02.handlers.sessions import BridgeSettings
from tests.sessions.conftest import Agents, Node, Server, keepers, until

SELDOM = BridgeSettings(heartbeat_interval_seconds=600, first_retry_seconds=0.02)


async def test_a_session_from_its_start_to_its_end(agents: Agents, node: Node, server: Server) -> None:
    async with node.bridge(server.specification, settings=SELDOM):
        await agents.spawn()
        started = await agents.until_type(SessionStarted)
        assert (started.session_id, started.task_id, started.version) == ("session-of-a1", "a1", 1)
        await agents.checkpoint("k1")
        first = await agents.until_type(SessionSnapshotSaved)
        assert (first.checkpoint_id, first.version, first.context_checkpoint_id, first.unsent) == ("k1", 2, None, 0)
        await agents.checkpoint("k2", "good")
        labelled = await agents.until(lambda event: getattr(event, "checkpoint_id", None) == "k2")
        assert (labelled.label, labelled.version, labelled.context_checkpoint_id) == ("good", 3, "c4")
        await agents.terminate(reason="completed")
        ended = await agents.until_type(SessionEnded)
        assert (ended.reason, ended.unsent, ended.error) == ("completed", 0, None)
    assert {event.session_id for event in agents.events()} == {"session-of-a1"}  # type: ignore[attr-defined]
    begun, *saved, checkpoint, last = server.calls()
    assert begun[1]["taskId"] == "a1"
    assert begun[1]["sessionId"] == "session-of-a1"
    assert begun[1]["updates"]["status"] == "in_progress"
    assert "l02 show a1" in begun[1]["updates"]["resumePrompt"]
    assert [tool for tool, _ in saved] == ["save_context_snapshot"] * 2
    assert "l02 restore a1 k1" in saved[0][1]["updates"]["resumePrompt"]
    assert checkpoint == (
        "create_checkpoint",
        {
            "label": "good",
            "description": "checkpoint k2 created",
            "taskId": "a1",
            "checkpointType": "manual",
            "sessionId": "session-of-a1",
        },
    )
    assert last[1]["updates"]["status"] == "completed"


async def test_the_task_is_what_the_specification_names(agents: Agents, node: Node, server: Server) -> None:
    async with node.bridge(server.specification):
        await agents.spawn(task_id="T-7")
        assert (await agents.until_type(SessionStarted)).task_id == "T-7"
    assert {arguments["taskId"] for _, arguments in server.calls()} == {"T-7"}


async def test_a_restored_checkpoint_is_rolled_back_to(agents: Agents, node: Node, server: Server) -> None:
    async with node.bridge(server.specification, settings=SELDOM):
        await agents.spawn()
        await agents.checkpoint("k1")
        await agents.until_type(SessionSnapshotSaved)
        await agents.checkpoint("k2", "good")
        await agents.until(lambda event: getattr(event, "label", None) == "good")
        for checkpoint_id in ("k1", "k2"):
            await agents.checkpoint(f"after-{checkpoint_id}")
            await agents.restore(checkpoint_id)
            await agents.until_rolled_back(checkpoint_id)
    targets = [arguments["target"] for _, arguments in server.calls("rollback_to")]
    assert targets == [{"type": "version", "version": 2}, {"type": "checkpoint", "checkpointId": "c4"}]
    first, second = [event for event in agents.events() if isinstance(event, SessionRolledBack)]
    assert (first.target, second.target) == ("version 2", "checkpoint c4")
    assert first.backup_checkpoint_id is not None


async def test_a_label_given_later_is_told(agents: Agents, node: Node, server: Server) -> None:
    async with node.bridge(server.specification, settings=SELDOM):
        await agents.spawn()
        await agents.checkpoint("k1")
        await agents.until_type(SessionSnapshotSaved)
        await agents.tell("a1", Checkpoint(label="good"), command_id="k2")
        await agents.until(lambda event: getattr(event, "label", None) == "good")
    assert [arguments["label"] for _, arguments in server.calls("create_checkpoint")] == ["good"]


async def test_a_suspended_agent_needs_no_keeper(agents: Agents, node: Node, server: Server) -> None:
    async with node.bridge(server.specification):
        await agents.spawn()
        await agents.until_type(SessionStarted)
        await agents.tell("a1", Suspend(), command_id="k1")
        await until(lambda: not keepers())


async def test_a_heartbeat_asks_for_the_task(agents: Agents, node: Node, server: Server) -> None:
    async with node.bridge(server.specification):
        await agents.spawn()
        await until(lambda: len(server.calls("get_unified_context")) >= 3)
    assert server.calls("get_unified_context")[0][1] == {"taskId": "a1", "includeRelationships": False}
    assert [event.type for event in agents.events()] == ["agent.session.started"], "a heartbeat is no event"


async def test_agents_of_other_nodes_are_left_alone(agents: Agents, node: Node, server: Server) -> None:
    async with node.bridge(server.specification):
        await agents.spawn("a2", node_id="n2")
        await agents.checkpoint("k1", agent_id="a2")
        await agents.spawn()
        await agents.until_type(SessionStarted)
    assert agents.events("a2") == []


async def test_a_node_runs_no_server_without_an_agent_of_its_own(agents: Agents, node: Node, server: Server) -> None:
    async with (
        node.bridge(server.specification, idle_seconds=0.1),
        node.bridge(server.specification, node_id="n2", idle_seconds=0.1),
    ):
        await agents.spawn("a2", node_id="n2")
        await agents.until_type(SessionStarted, "a2")
        await agents.checkpoint("k1", agent_id="a2")
        await agents.until_type(SessionSnapshotSaved, "a2")
        assert len(server.processes()) == 1, "only the agent's node has one"
        await agents.terminate("a2")
        assert (await agents.until_type(SessionEnded, "a2")).error is None
        await until(lambda: not server.processes())
        await agents.spawn("a3", node_id="n2")
        await agents.until_type(SessionStarted, "a3")


async def test_what_another_process_records_is_told_too(agents: Agents, node: Node, server: Server) -> None:
    async with node.bridge(server.specification, settings=SELDOM), open_event_store(node.bus) as store:
        await agents.spawn()
        await agents.until_type(SessionStarted)
        await Agents(Repository(AGENT, store, "n1")).checkpoint("k1")
        assert (await agents.until_type(SessionSnapshotSaved)).checkpoint_id == "k1"


async def test_sessions_named_as_lost_are_recovered_and_marked(agents: Agents, node: Node, server: Server) -> None:
    async with node.bridge(server.specification):
        for agent_id in ("a1", "a2"):
            await agents.spawn(agent_id)
            await agents.until_type(SessionStarted, agent_id)
    await agents.checkpoint("k1")
    server.names_as_lost("session-of-a1", "a stranger's")
    async with node.bridge(server.specification, "a1", "a2"):
        for agent_id in ("a1", "a2"):
            await agents.begins_anew(agent_id)
        recovered = await agents.until_type(SessionRecovered)
        assert (recovered.recovery_type, recovered.last_activity) == ("crash", "yesterday")
        await agents.until_type(SessionSnapshotSaved)
        await agents.checkpoint("k2", agent_id="a2")
        await agents.until_type(SessionSnapshotSaved, "a2")
    assert SessionRecovered not in map(type, agents.events("a2"))
    asked = [arguments for _, arguments in server.calls("check_recovery")]
    assert asked == [{}, {"markRecovered": "session-of-a1"}]
    summaries = [
        arguments["changeSummary"] for _, arguments in server.calls() if arguments["sessionId"] == "session-of-a1"
    ]
    assert summaries == ["the agent has begun", "the agent was recovered", "checkpoint k1 created"], (
        "nothing is sent before the question: it would say that the session is well"
    )


async def test_an_agent_that_comes_from_a_lost_node_is_recovered(agents: Agents, node: Node, server: Server) -> None:
    async with node.bridge(server.specification):
        await agents.spawn()
        await agents.until_type(SessionStarted)
    server.names_as_lost("session-of-a1")
    async with node.bridge(server.specification, node_id="n2"):
        await agents.begins_anew(node_id="n2")
        assert (await agents.until_type(SessionRecovered)).node_id == "n2"
        await until(lambda: len(server.calls("check_recovery")) == 2)


async def test_who_ends_an_agent_of_a_lost_node_ends_its_session(agents: Agents, node: Node, server: Server) -> None:
    async with node.bridge(server.specification):
        await agents.spawn()
        await agents.until_type(SessionStarted)
    async with node.bridge(server.specification, node_id="n2"):
        await agents.terminate()
        await agents.until_type(SessionEnded)


async def test_the_question_can_be_turned_off(agents: Agents, node: Node, server: Server) -> None:
    off = BridgeSettings(enable_recovery_check=False)
    async with node.bridge(server.specification):
        await agents.spawn()
        await agents.until_type(SessionStarted)
    server.names_as_lost("session-of-a1")
    async with node.bridge(server.specification, "a1", settings=off):
        await agents.begins_anew()
        await agents.checkpoint("k1")
        await agents.until_type(SessionSnapshotSaved)
    assert server.calls("check_recovery") == []


async def test_what_a_killed_node_left_unsaid_is_said(agents: Agents, node: Node, server: Server) -> None:
    """The queue is in the agent's events: a bridge that begins anew has it."""
    async with node.bridge(server.specification, settings=SELDOM):
        await agents.spawn()
        await agents.until_type(SessionStarted)
    await agents.checkpoint("k1")
    await agents.checkpoint("k2")
    await agents.spawn("a2")
    await agents.terminate()
    async with node.bridge(server.specification, "a1", "a2", settings=SELDOM):
        assert (await agents.until_type(SessionSnapshotSaved)).checkpoint_id == "k2"
        assert (await agents.until_type(SessionEnded)).error is None
        await agents.until_type(SessionStarted, "a2")


async def test_a_bridge_ends_with_its_server(agents: Agents, node: Node, server: Server) -> None:
    async with node.bridge(server.specification):
        await agents.spawn()
        await agents.until_type(SessionStarted)
        assert psutil.Process().children(recursive=True)
    left = [
        process
        for process in psutil.Process().children(recursive=True)
        if any("orchestrator.py" in word for word in process.cmdline())
    ]
    assert left == []
