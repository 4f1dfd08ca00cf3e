"""A verification finds what is wrong with the log itself: what only someone else than the runtime can have stored."""

from __future__ import annotations

from typing import Any

import pytest

from l02.bus.commands.dead_letters import dead_letters
from l02.bus.connection.bus import Bus, connect
from l02.bus.connection.streams import ensure_streams, stream_configs
from l02.bus.embedded import EmbeddedNats
from l02.domain.agent.work.executions import ExecutionCompleted, ExecutionStarted
from l02.domain.agent.work.signals import SignalReceived
from l02.domain.aggregates import AGGREGATES
from l02.domain.kernel.message import Event
from l02.projections.rebuild import rebuild
from l02.projections.tables.database import connect as connect_postgres
from l02.verify import Difference, Summary
from tests.projections import history as h
from tests.replay.conftest import found, project, store

HASH = "0123456789abcdef" * 2
QUICK = 0.2
AWAITED = ExecutionStarted(execution_id="x1", input=1, awaited_by="x1")
COMPLETED = ExecutionCompleted(execution_id="x1", output=1, tokens=0, duration_seconds=1.0, calls=0, completes=("x1",))
SIGNAL = SignalReceived(name="go", payload=1)


def _said(differences: list[Difference]) -> list[tuple[str, str, int, str | None]]:
    return [(difference.place, difference.key, difference.sequence, difference.field) for difference in differences]


async def _begin(bus: Bus) -> None:
    """Two events of an agent, and nothing wrong."""
    await h.append_events(bus, [h.spawn_requested(), h.spawned()])


@pytest.mark.parametrize(
    ("stored", "where"),
    [
        ([(AWAITED, {}), (COMPLETED, {}), (SIGNAL, {})], []),
        ([(SIGNAL, {"command_hash": HASH}), (SIGNAL, {})], []),
        ([(AWAITED, {}), (COMPLETED, {}), (h.tool_called("x1", 0), {})], [(5, "data")]),
        ([(SIGNAL, {"causation_id": ""})], [(3, "causationid")]),
        ([(SIGNAL, {"actor": "", "correlation_id": ""})], [(3, "correlationid"), (3, "actor")]),
        ([(SIGNAL, {"command_hash": "none"})], [(3, "commandhash")]),
        ([(SIGNAL, {"command_hash": HASH}), (SIGNAL, {"command_hash": HASH})], [(4, "causationid")]),
        ([(AWAITED, {}), (COMPLETED, {}), (COMPLETED, {})], [(5, "completes")]),
        ([(h.started("x1"), {}), (COMPLETED, {})], [(4, "completes")]),
    ],
)
async def test_what_projections_do_not_mind(
    bus: Bus, tables: str, stored: list[tuple[Event, dict[str, Any]]], where: list[tuple[int, str]]
) -> None:
    await _begin(bus)
    for version, (event, changes) in enumerate(stored, start=3):
        newest = await store(bus, event, version, **changes)
    await project(bus, tables, newest)
    differences, _ = await found(bus, tables)
    assert _said(differences) == [("events", "agent/a1", sequence, name) for sequence, name in where]


@pytest.mark.parametrize(
    ("event", "version", "field"),
    [(h.started("x1"), 4, "version"), (h.started("x1"), 2, "version"), (SIGNAL, 1, "version")],
    ids=["a gap", "a repetition", "a new beginning"],
)
async def test_versions_that_do_not_follow(bus: Bus, tables: str, event: Event, version: int, field: str) -> None:
    await _begin(bus)
    bad = await store(bus, event, version)
    await store(bus, SIGNAL, version + 1)
    newest = await h.append_events(bus, [h.spawn_requested()], "a2")
    await project(bus, tables, newest)
    async with connect_postgres(tables) as connection:
        rows = await connection.fetch("SELECT id, version, sequence FROM agents ORDER BY id")
        assert [*map(tuple, rows)] == [("a1", 2, bad), ("a2", 1, newest)]
        await connection.execute("UPDATE agents SET state = 'gone' WHERE id = 'a2'")
    differences, summary = await found(bus, tables)
    assert _said(differences) == [
        ("events", "agent/a1", bad, field),
        ("events", "agent/a1", bad, None),
        # Whatever else is wrong is found too.
        ("agents", "a2", newest, "state"),
    ]
    first, second, _ = differences
    assert (first.expected, first.found) == (3, version)
    assert "set it aside" in second.message and f"version {version}" in second.message
    assert (summary.sequence, summary.events) == (newest, newest)


async def test_an_event_of_a_newer_version(bus: Bus, tables: str) -> None:
    await _begin(bus)
    await bus.publish("l02.evt.agent.a1.cloned", b"{}")
    await bus.publish("l02.evt.agent.a1.cloned", b"\xff")
    await store(bus, SIGNAL, 3, actor="")
    await project(bus, tables, 5)
    differences, summary = await found(bus, tables)
    assert _said(differences) == [
        ("events", "l02.evt.agent.a1.cloned", 3, None),
        ("events", "l02.evt.agent.a1.cloned", 4, None),
        ("events", "agent/a1", 5, "actor"),
    ]
    assert "is not a CloudEvent" in differences[0].message
    assert (summary.sequence, summary.events) == (5, 5)


async def test_a_read_model_of_before_an_upgrade_that_can_read_more(bus: Bus, tables: str) -> None:
    """A row that has halted is not what the events give any more: it is to be rebuilt, and is right then."""
    await _begin(bus)
    signal = await store(bus, SIGNAL, 3)
    await project(bus, tables, signal)
    async with connect_postgres(tables) as connection:  # as a version has left it that could not read the signal
        await connection.execute(
            "UPDATE agents SET version = 2, view = regexp_replace("
            """replace(view::text, '"version":3', '"version":2'), '}$', ',"halted_at":3}')::json"""
        )
    differences, _ = await found(bus, tables)
    assert ("agents", "a1", 3, "view.halted_at") in _said(differences)
    await rebuild("agents", bus, tables)
    assert await found(bus, tables) == ([], Summary(sequence=3, events=3, aggregates=1, differences=0))


async def test_messages_that_stand_where_they_do_not_belong(bus: Bus, tables: str) -> None:
    """Each halts the agent on whose subject it is, and no other, least of all the one that it names."""
    await _begin(bus)
    await h.append_events(bus, [h.spawn_requested()], "a2")
    subjects = ["l02.evt.agent.a2.signal.received", "l02.evt.agent.a3.spawned", "l02.evt.nothing", "l02.evt.agent.a b"]
    subjects[3:] = ["l02.evt.ghost.a1.signal.received", "l02.evt.agent.a1"]
    for subject in subjects:
        await store(bus, SIGNAL, 3, subject=subject)
    newest = await store(bus, SIGNAL, 3)
    await project(bus, tables, newest)
    differences, _ = await found(bus, tables)
    assert _said(differences) == [("events", subject, number, None) for number, subject in enumerate(subjects, start=4)]
    assert "not on l02.evt.agent.a1.signal.received" in differences[0].message
    async with connect_postgres(tables) as connection:
        rows = await connection.fetch("SELECT id, version, view::text LIKE '%halted_at\":4%' FROM agents ORDER BY id")
    assert [*map(tuple, rows)] == [("a1", 3, False), ("a2", 1, True)]
    letters = [letter async for letter in dead_letters(bus)]
    assert sorted((letter.origin, letter.subject) for letter in letters) == [*enumerate(subjects, start=4)]


@pytest.mark.parametrize(
    ("lost", "said"), [((2,), (2, "it")), ((1, 2), (1, "it and all up to event 2")), ((3,), (3, "it"))]
)
async def test_events_that_the_stream_has_lost(
    fresh_nats: EmbeddedNats, tables: str, lost: tuple[int, ...], said: tuple[int, str]
) -> None:
    async with connect(fresh_nats.url, name="test", aggregates=AGGREGATES) as bus:
        events = next(config for config in stream_configs(1) if config["name"] == "L02_EVENTS")
        answer = await bus.api("STREAM.CREATE.L02_EVENTS", events | {"deny_delete": False, "deny_purge": False})
        assert "error" not in answer
        for agent_id in ("a1", "a2", "a3"):
            await h.append_events(bus, [h.spawn_requested()], agent_id)
        for sequence in lost:
            assert (await bus.api("STREAM.MSG.DELETE.L02_EVENTS", {"seq": sequence}))["success"]
        await ensure_streams(bus)
        differences, summary = await found(bus, tables, patience=QUICK)
    first = next(difference for difference in differences if difference.place == "events")
    assert (first.sequence, first.message) == (said[0], f"the stream has lost {said[1]}")
    assert summary.events == 3 - len(lost)
