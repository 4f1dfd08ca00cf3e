"""What the service asks, and waiting for one's own write."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from l02.bus.connection.bus import Bus
from l02.domain.agent.life.suspension import AgentSuspended
from l02.domain.agent.life.termination import TerminationRequested
from l02.domain.agent.saved.checkpoints import CheckpointFailed, CheckpointKept
from l02.domain.agent.saved.restoring import RestoreFailed
from l02.domain.agent.sessions import SessionEnded, SessionStarted
from l02.domain.agent.state import Status
from l02.projections.folds.executions import ExecutionState
from l02.projections.projector.progress import Progress
from l02.projections.queries import ReadModel, open_read_model
from l02.projections.tables.definitions import TABLES
from l02.projections.tables.projector import TableProjector
from l02.projections.views.projector import VIEWS, ViewProjector
from tests.projections import history as h
from tests.projections.conftest import running


@pytest_asyncio.fixture
async def model(bus: Bus, database: str) -> AsyncIterator[ReadModel]:
    """Four agents: a1 and a2 run on n1, a3 on n2, a4 is suspended on n1; a1 has three executions."""
    async with open_read_model(bus, database) as model:
        work = [event for n in range(3) for event in (h.started(f"x{n}"), h.completed(f"x{n}"))]
        await h.append_events(bus, [h.spawn_requested(), h.spawned("a1"), *work], "a1")
        await h.append_events(bus, [h.spawn_requested(), h.spawned("a2")], "a2")
        await h.append_events(bus, [h.spawn_requested("n2"), h.spawned("a3", "n2")], "a3")
        suspended = AgentSuspended(session_id=None, reason="x")
        newest = await h.append_events(bus, [h.spawn_requested(), h.spawned("a4"), suspended], "a4")
        await TableProjector(bus, database, Progress()).run(until=newest)
        yield model


async def test_get_agent(model: ReadModel) -> None:
    view = await model.get_agent("a1")
    assert view is not None
    assert (view.id, view.state, view.executions_completed, view.version) == ("a1", Status.RUNNING, 3, 8)
    assert await model.get_agent("nobody") is None


async def test_list_agents(model: ReadModel) -> None:
    async def ids(**filters: object) -> list[str]:
        return [view.id for view in await model.list_agents(**filters)]  # type: ignore[arg-type]

    assert await ids() == ["a1", "a2", "a3", "a4"]
    assert await ids(state=Status.SUSPENDED) == ["a4"]
    assert await ids(fleet="archive") == ["a1", "a2", "a3", "a4"]
    assert await ids(fleet="another") == []
    assert await ids(limit=2) == ["a1", "a2"]
    assert await ids(limit=2, after="a2") == ["a3", "a4"]
    assert await ids(state=Status.RUNNING, fleet="archive", after="a1", limit=1) == ["a2"]


async def test_executions(model: ReadModel) -> None:
    (view,) = await model.list_executions("a1", limit=1, after="x2")
    assert (view.execution_id, view.state, view.output) == ("x1", ExecutionState.COMPLETED, "5 commits")
    assert [view.execution_id for view in await model.list_executions("a1")] == ["x2", "x1", "x0"]
    assert [view.execution_id for view in await model.list_executions("a1", limit=1)] == ["x2"]
    assert [view.execution_id for view in await model.list_executions("a1", after="x2", limit=5)] == ["x1", "x0"]
    assert await model.list_executions("a2") == []
    assert await model.list_executions("a1", state=ExecutionState.RUNNING) == []


async def test_executions_of_all_agents(model: ReadModel, bus: Bus, database: str) -> None:
    """Those of a2 have the ids of those of a1, as after a fork, and two of them began in the same moment."""
    newest = await h.append_events(bus, [h.started("x1"), h.started("x0"), h.failed("x0")], "a2", first_version=5)
    await TableProjector(bus, database, Progress()).run(until=newest)
    whole = ["a1/x2", "a2/x0", "a2/x1", "a1/x1", "a1/x0"]
    for size in range(1, 7):
        found: list[str] = []
        while len(page := await model.list_executions(limit=size, after=found[-1] if found else None)) == size:
            found += [f"{view.agent_id}/{view.execution_id}" for view in page]
        assert [*found, *(f"{view.agent_id}/{view.execution_id}" for view in page)] == whole
    failed = await model.list_executions(state=ExecutionState.FAILED)
    assert [(view.agent_id, view.execution_id) for view in failed] == [("a2", "x0")]


async def test_agents_of_node(model: ReadModel) -> None:
    assert await model.agents_of_node("n1", [Status.RUNNING]) == ["a1", "a2"]
    assert await model.agents_of_node("n1", [Status.RUNNING, Status.SUSPENDED]) == ["a1", "a2", "a4"]
    assert await model.agents_of_node("n3", [Status.RUNNING]) == []


async def test_open_sessions_of_a_node_whatever_texts_its_agents_hold(
    model: ReadModel, bus: Bus, database: str
) -> None:
    """PostgreSQL looks into no JSON that has a NUL in a text."""
    at_other_side = {"session_id": "s\0", "task_id": "\0"}
    begun = SessionStarted(node_id="n1", version=None, **at_other_side)
    kept = CheckpointKept(checkpoint_id="c1", label="\0")
    paused = AgentSuspended(session_id="\0", reason="\0")
    over = SessionEnded(reason="\0", unsent=0, error=None, **at_other_side)
    alive = [h.spawn_requested(name="\0"), h.spawned("s"), begun]
    stories = {"s1": alive, "s2": [*alive, paused], "s3": [*alive, kept, paused], "s4": [*alive, over], "s5": alive[:2]}
    for agent_id, story in stories.items():
        newest = await h.append_events(bus, story, agent_id)
    await TableProjector(bus, database, Progress()).run(until=newest)
    assert await model.open_sessions_of_node("n1") == ["s1", "s3"]
    assert [view.name for view in await model.list_agents(after="s") if view.id == "s2"] == ["\0"]


async def test_agents_missing(model: ReadModel, bus: Bus, database: str) -> None:
    assert await model.agents_missing(["n1", "n2"]) == []
    assert await model.agents_missing(["n1"]) == [("a3", "n2")]
    assert await model.agents_missing([]) == [("a1", "n1"), ("a2", "n1"), ("a3", "n2")]
    asked = [h.checkpoint_requested("k1", "n3"), h.checkpoint_requested("k2", "n1")]
    await h.append_events(bus, asked, "a4", first_version=4)
    bring_back = h.restore_requested("k0", "n4")
    newest = await h.append_events(bus, [bring_back], "a3", first_version=3)
    await TableProjector(bus, database, Progress()).run(until=newest)
    assert await model.agents_missing(["n1", "n2"]) == [("a3", "n4"), ("a4", "n3")]
    failed = CheckpointFailed(checkpoint_id="k1", checkpoint_type="manual", code="E2030", message="no")
    await h.append_events(bus, [failed], "a4", first_version=6)
    not_found = RestoreFailed(checkpoint_id="k0", code="E2032", message="no")
    newest = await h.append_events(bus, [not_found], "a3", first_version=4)
    await TableProjector(bus, database, Progress()).run(until=newest)
    assert await model.agents_missing(["n1", "n2"]) == []
    ending = TerminationRequested(reason="user_request", requested_by="test")
    newest = await h.append_events(bus, [ending], "a4", first_version=7)
    await TableProjector(bus, database, Progress()).run(until=newest)
    assert await model.agents_missing(["n2"]) == [("a1", "n1"), ("a2", "n1"), ("a4", "n1")]


async def test_waiting_for_a_projector_of_this_process(bus: Bus, database: str) -> None:
    progress, history = Progress(), h.History(agents=3)
    async with (
        open_read_model(bus, database, progress) as model,
        running(TableProjector(bus, database, progress).run(), ViewProjector(bus, progress).run()),
    ):
        for _ in range(30):
            sequence = await h.append(bus, [*history.events(1)])
            for name in (*TABLES, VIEWS):
                await model.wait_for(name, sequence)
            assert max(view.sequence for view in await model.list_agents()) == sequence


async def test_waiting_for_a_projector_of_another_process(bus: Bus, database: str) -> None:
    async with open_read_model(bus, database) as model:
        sequence = await h.append(bus, [*h.History(agents=3).events(10)])
        waiting = [asyncio.create_task(model.wait_for(name, sequence)) for name in (*TABLES, VIEWS)]
        async with running(TableProjector(bus, database, Progress()).run(), ViewProjector(bus, Progress()).run()):
            await asyncio.gather(*waiting)
        assert max(view.sequence for view in await model.list_agents()) == sequence


async def test_waiting_in_vain(model: ReadModel) -> None:
    with pytest.raises(TimeoutError, match="agents has not reached event 1000 in 0.2 s"):
        await model.wait_for("agents", 1000, timeout=0.2)
    with pytest.raises(KeyError):
        await model.wait_for("nothing", 1)


async def test_nobody_waits_longer_than_needed() -> None:
    progress = Progress()
    waiting = {n: asyncio.create_task(progress.wait_for("agents", n)) for n in (1, 5, 10)}
    cancelled = asyncio.create_task(progress.wait_for("agents", 5))
    await asyncio.sleep(0)
    cancelled.cancel()
    progress.reached("agents", 5)
    await asyncio.wait(waiting.values(), return_when=asyncio.FIRST_COMPLETED)
    assert {n for n, task in waiting.items() if task.done()} == {1, 5}
    progress.reached("executions", 100)
    progress.reached("agents", 3)
    assert (progress.position("agents"), waiting[10].done()) == (3, False)
    progress.reached("agents", 10)
    await waiting[10]
