"""A verification finds what is wrong with the log itself: what only someone else than the runtime can have stored."""

from __future__ import annotations

from typing import Any

import pytest

from bus.connection import Bus, connect
from bus.embedded import EmbeddedNats
from bus.streams import ensure_streams, stream_configs
from domain.agent import events as e
from domain.message import Event
from l02.verify import Difference
from projections.database import connect as connect_postgres
from tests.projections import history as h
from tests.replay.conftest import found, project, store

HASH = "0123456789abcdef" * 2
QUICK = 0.2
AWAITED = e.ExecutionStarted(execution_id="x1", input=1, awaited_by="x1")
COMPLETED = e.ExecutionCompleted(
    execution_id="x1", output=1, tokens=0, duration_seconds=1.0, calls=0, completes=("x1",)
)
SIGNAL = e.SignalReceived(name="go", payload=1)


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
        ([(SIGNAL, {"subject": "l02.evt.agent.a2.signal.received"})], [(3, "subject")]),
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
    await project(bus, tables, 2)
    bad = await store(bus, event, version)
    await store(bus, SIGNAL, version + 1)
    await h.append_events(bus, [h.spawn_requested()], "a2")
    async with connect_postgres(tables) as connection:
        await connection.execute("UPDATE agents SET state = 'gone'")
    differences, summary = await found(bus, tables)
    assert _said(differences) == [
        ("events", "agent/a1", bad, field),
        ("events", "agent/a1", bad, None),
        # Compared as of the last event that projections can reach.
        ("agents", "a1", 2, "state"),
    ]
    first, second, _ = differences
    assert (first.expected, first.found) == (3, version)
    assert "no projection gets past agent." in second.message
    assert (summary.sequence, summary.events) == (2, 5)


async def test_an_event_of_a_newer_version(bus: Bus, tables: str) -> None:
    await _begin(bus)
    await project(bus, tables, 2)
    await bus.publish("l02.evt.agent.a1.cloned", b"{}")
    await bus.publish("l02.evt.agent.a1.cloned", b"\xff")
    await store(bus, SIGNAL, 3, actor="")
    differences, summary = await found(bus, tables)
    assert _said(differences) == [
        ("events", "l02.evt.agent.a1.cloned", 3, None),
        ("events", "l02.evt.agent.a1.cloned", 4, None),
        ("events", "agent/a1", 5, "actor"),
    ]
    assert "is not a CloudEvent" in differences[0].message
    assert (summary.sequence, summary.events) == (2, 5)


async def test_tables_that_claim_what_cannot_be_projected(bus: Bus, tables: str) -> None:
    await _begin(bus)
    await project(bus, tables, 2)
    await bus.publish("l02.evt.agent.a1.cloned", b"{}")
    async with connect_postgres(tables) as connection:
        await connection.execute("UPDATE positions SET position = 3 WHERE name = 'agents'")
    differences, _ = await found(bus, tables)
    assert _said(differences)[1:] == [("agents", "", 2, "position")]


@pytest.mark.parametrize(
    ("lost", "said"), [((2,), (2, "it")), ((1, 2), (1, "it and all up to event 2")), ((3,), (3, "it"))]
)
async def test_events_that_the_stream_has_lost(
    fresh_nats: EmbeddedNats, tables: str, lost: tuple[int, ...], said: tuple[int, str]
) -> None:
    async with connect(fresh_nats.url, name="test") as bus:
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
