"""An agent replayed to a sequence or a time is what its live view was then."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from msgspec import UNSET

from l02.bus.connection.bus import Bus
from l02.bus.embedded import EmbeddedNats
from l02.bus.wire.codec import UnreadableEvent
from l02.client.discovery import NodeUnreachable
from l02.client.replay import replay_agent, replay_agents
from l02.domain.errors import ErrorCode, Failure
from l02.projections.folds.agents import AgentView
from l02.projections.folds.fold import encode_view
from l02.projections.projector.progress import Progress
from l02.projections.views.projector import VIEWS, ViewProjector
from tests.projections import history as h
from tests.projections.conftest import running
from tests.projections.replay import Views, stored_views
from tests.replay.conftest import program, store


async def _live(bus: Bus, count: int, agents: int) -> tuple[list[Views], list[datetime]]:
    """Store events one after another: the live views after each, and a time at which they were so."""
    views: list[Views] = [{}]
    times = [datetime.now(UTC)]
    progress, history = Progress(), h.History(agents=agents)
    async with running(ViewProjector(bus, progress).run()):
        for _ in range(count):
            sequence = await h.append(bus, [*history.events(1)])
            await progress.wait_for(VIEWS, sequence)
            views.append(await stored_views(bus))
            times.append(datetime.now(UTC))
    return views, times


async def test_every_sequence_and_every_time(bus: Bus) -> None:
    views, times = await _live(bus, 60, agents=3)
    for sequence, expected in enumerate(views):
        for to in (sequence, times[sequence]):
            fleet = await replay_agents(bus, to)
            assert {(view.id,): encode_view(view) for view in fleet} == expected
            assert [view.id for view in fleet] == sorted(view.id for view in fleet)
            for (agent_id,), view in expected.items():
                assert encode_view(await replay_agent(bus, agent_id, to)) == view


async def test_an_event_stored_at_that_instant_counts(bus: Bus) -> None:
    for version, event in enumerate([h.spawn_requested(), h.spawned(), h.started("x1")], start=1):
        await h.append_events(bus, [event], first_version=version)
    message = await bus.stored("L02_EVENTS", sequence=2)
    assert message is not None
    assert message.headers is not None
    stored_at = datetime.fromisoformat(message.headers["Nats-Time-Stamp"])
    assert (await replay_agent(bus, "a1", stored_at)).version == 2
    assert (await replay_agent(bus, "a1", stored_at - timedelta(microseconds=2))).version == 1


async def test_times_far_away(bus: Bus) -> None:
    await h.append_events(bus, [h.spawn_requested(), h.spawned()])
    assert await replay_agents(bus, datetime(1, 1, 1, tzinfo=UTC)) == []
    assert [view.version for view in await replay_agents(bus, datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC))] == [2]
    assert [view.version for view in await replay_agents(bus, datetime.now(UTC) + timedelta(days=1))] == [2]


async def test_more_events_than_a_page_and_what_came_later(bus: Bus) -> None:
    history = h.History(agents=7)
    at = await h.append(bus, [*history.events(3500)])
    progress = Progress()
    async with running(ViewProjector(bus, progress).run(until=at)):
        await progress.wait_for(VIEWS, at)
    expected = await stored_views(bus)
    await h.append(bus, [*history.events(500)])
    told: list[tuple[int, int]] = []
    fleet = await replay_agents(bus, at, lambda done, total: told.append((done, total)))
    assert {(view.id,): encode_view(view) for view in fleet} == expected
    assert told == sorted(told)
    assert len(told) > 2
    assert told[-1] == (at, at)


async def test_what_cannot_be_replayed(bus: Bus) -> None:
    with pytest.raises(Failure, match="there is no event 1 yet; the newest is 0") as early:
        await replay_agent(bus, "a1", 1)
    assert early.value.code is ErrorCode.COMMAND_INVALID
    await h.append_events(bus, [h.spawn_requested()], "a1")
    await h.append_events(bus, [h.spawn_requested()], "a2")
    with pytest.raises(Failure, match="there was no agent 'a2' at event 1") as unborn:
        await replay_agent(bus, "a2", 1)
    assert unborn.value.code is ErrorCode.AGGREGATE_NOT_FOUND
    with pytest.raises(Failure) as wrong:
        await replay_agent(bus, "a.b", 1)
    assert wrong.value.code is ErrorCode.COMMAND_INVALID
    await store(bus, h.spawned(), version=3)
    assert (await replay_agent(bus, "a1", 2)).version == 1
    with pytest.raises(UnreadableEvent, match="sequence 3: agent/a1 cannot go on from version 1 .* version 3"):
        await replay_agent(bus, "a1", 3)
    assert [(view.id, view.halted_at) for view in await replay_agents(bus, 3)] == [("a1", 3), ("a2", UNSET)]
    await bus.publish("l02.evt.agent.a2.cloned", b"{}")
    with pytest.raises(UnreadableEvent, match="sequence 4 is not a CloudEvent"):
        await replay_agent(bus, "a2", 4)


async def test_the_command_as_of_a_time(fresh_nats: EmbeddedNats, bus: Bus) -> None:
    where = {"L02_NATS_URL": fresh_nats.url}
    await h.append_events(bus, [h.spawn_requested(), h.spawned("a1")], "a1")
    before = datetime.now(UTC)
    await h.append_events(bus, [h.started("x1")], "a1", first_version=3)
    await h.append_events(bus, [h.spawn_requested()], "a2")
    for words, agents in (([before.isoformat()], {"a1": 2}), (["0s"], {"a1": 3, "a2": 1}), (["1d"], {})):
        code, printed, errors = await program("replay", "--to", *words, "--json", **where)
        assert (code, errors) == (0, "")
        assert {view["id"]: view["version"] for view in json.loads(printed)} == agents
    code, printed, _ = await program("replay", "a1", "--to", before.isoformat(), "--json", **where)
    assert (code, json.loads(printed)["sequence"]) == (0, 2)
    code, printed, errors = await program("replay", "a2", "--to", before.isoformat(), **where)
    assert (code, printed) == (1, "")
    assert "E2111" in errors


async def test_a_server_that_no_node_has_used(fresh_nats: EmbeddedNats) -> None:
    code, printed, errors = await program("replay", "--to", "1", L02_NATS_URL=fresh_nats.url)
    assert (code, printed) == (3, "")
    assert NodeUnreachable.__name__ not in errors
    assert "l02 up" in errors


async def test_the_command(fresh_nats: EmbeddedNats, bus: Bus) -> None:
    await h.append_events(bus, [h.spawn_requested(), h.spawned("a1"), h.started("x1"), h.completed("x1")], "a1")
    await h.append_events(bus, [h.spawn_requested()], "a2")
    where = {"L02_NATS_URL": fresh_nats.url}
    code, printed, _ = await program("replay", "a1", "--to", "3", "--json", **where)
    view = msgspec.json.decode(printed, type=AgentView)
    assert (code, view) == (0, await replay_agent(bus, "a1", 3))
    assert list(view.open_executions) == ["x1"]
    code, printed, _ = await program("replay", "a1", "--to", "3", **where)
    assert code == 0
    assert "x1 since" in printed
    assert "version 3, event 3" in printed
    code, printed, _ = await program("replay", "--to", "0s", "--json", **where)
    assert (code, [view["id"] for view in json.loads(printed)]) == (0, ["a1", "a2"])
    code, printed, _ = await program("replay", "--to", "2", **where)
    heading, *rows = printed.splitlines()
    assert (code, heading.split()[0], [row.split()[0] for row in rows]) == (0, "ID", ["a1"])
    code, printed, errors = await program("replay", "--to", "99", **where)
    assert (code, printed) == (1, "")
    assert errors == "E2110 COMMAND_INVALID: there is no event 99 yet; the newest is 5 (at to)\n"
