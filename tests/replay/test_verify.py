"""A verification finds nothing where nothing is wrong, and every kind of damage to a read model, by its name."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest
import pytest_asyncio

from l02.bus.connection.bus import Bus
from l02.bus.connection.bus import connect as connect_bus
from l02.bus.connection.streams import VIEWS_BUCKET, ensure_streams
from l02.bus.embedded import EmbeddedNats
from l02.bus.log.event_store import open_event_store
from l02.bus.log.repository import Repository
from l02.domain.agent.life.restarts import ReportExit
from l02.domain.agent.life.spawning import Spawn
from l02.domain.agent.life.termination import Terminate
from l02.domain.agent.work.executions import Execute
from l02.domain.agent.work.signals import Signal
from l02.domain.aggregates import AGENT, AGGREGATES
from l02.domain.kernel.message import Command, Metadata, Report
from l02.projections.folds.agents import AgentView
from l02.projections.tables.database import DatabaseUnreachable, connect, migrate
from l02.projections.tables.definitions import TABLES
from l02.projections.views.bucket import ViewBucket
from l02.projections.views.projector import POSITION_KEY, stored_position
from l02.verify import verify
from tests.conftest import new_database
from tests.projections import history as h
from tests.replay.conftest import found, program, project

COUNT = 2500
AGENTS = 12


@pytest_asyncio.fixture
async def healthy(bus: Bus, tables: str) -> str:
    """PostgreSQL with everything in step, after 2,500 events of 12 agents."""
    await project(bus, tables, await h.append(bus, [*h.History(agents=AGENTS).events(COUNT)]))
    return tables


@pytest_asyncio.fixture(scope="module")
async def kept_healthy(tmp_path_factory: pytest.TempPathFactory, postgres_url: str) -> AsyncIterator[tuple[Bus, str]]:
    """The same for all tests that only damage tables, each a copy of them."""
    server = EmbeddedNats(tmp_path_factory.mktemp("healthy"), synced=False)
    await server.start()
    async with new_database(postgres_url) as url, connect_bus(server.url, name="healthy", aggregates=AGGREGATES) as bus:
        await ensure_streams(bus)
        await migrate(url)
        await project(bus, url, await h.append(bus, [*h.History(agents=AGENTS).events(COUNT)]))
        yield bus, url
    await server.stop()


@pytest_asyncio.fixture
async def copied(kept_healthy: tuple[Bus, str], postgres_url: str) -> AsyncIterator[tuple[Bus, str]]:
    bus, url = kept_healthy
    async with new_database(postgres_url, copy_of=urlsplit(url).path[1:]) as copy:
        yield bus, copy


async def _sql(url: str, statement: str) -> None:
    async with connect(url) as connection:
        assert await connection.execute(statement) not in ("UPDATE 0", "DELETE 0"), "nothing was damaged"


async def _view(bus: Bus, agent_id: str) -> tuple[bytes, AgentView]:
    raw = (await ViewBucket(bus).load(f"agent.{agent_id}")).value
    assert raw is not None
    return raw, msgspec.json.decode(raw, type=AgentView)


async def test_nothing_is_wrong(bus: Bus, healthy: str) -> None:
    differences, summary = await found(bus, healthy)
    assert differences == []
    assert (summary.sequence, summary.events, summary.aggregates) == (COUNT, COUNT, AGENTS)


async def test_an_empty_log(bus: Bus, tables: str) -> None:
    differences, summary = await found(bus, tables)
    assert (differences, summary.events) == ([], 0)


async def test_a_life_as_the_runtime_records_it(bus: Bus, tables: str) -> None:
    """Commands from the wire, awaited and completed, one of them sent twice: all invariants hold."""
    life: list[tuple[str | None, Command | Report]] = [
        ("c1", Spawn(spec=h.specification())),
        (None, h.spawned()),
        ("c2", Execute(input=1)),
        ("c3", Signal(name="go")),
        ("c2", Execute(input=1)),
        (None, ReportExit(incarnation=1, cause="killed", usage=h.terminated().resource_usage)),
        ("c4", Terminate()),
        (None, h.terminated()),
    ]
    newest = 0
    async with open_event_store(bus) as store:
        repository = Repository(AGENT, store, "n1")
        for command_id, command in life:
            command_hash = f"{int(command_id[1:]):032x}" if command_id else None
            cause = command_id or "n1"
            metadata = Metadata(causation_id=cause, correlation_id=cause, actor="ada", command_hash=command_hash)
            for recorded in (await repository.decide("a1", command, metadata)).events:
                newest = recorded.sequence
    assert newest == 8
    await project(bus, tables, newest)
    differences, summary = await found(bus, tables)
    assert (differences, summary.events) == ([], 8)


@pytest.mark.parametrize(
    ("statement", "place", "key", "fields"),
    [
        ("UPDATE agents SET state = 'gone' WHERE id = 'a3'", "agents", "a3", {"state"}),
        ("UPDATE agents SET sequence = sequence + 1 WHERE id = 'a3'", "agents", "a3", {"sequence"}),
        ("UPDATE agents SET fleet_id = NULL WHERE id = 'a3'", "agents", "a3", {"fleet_id"}),
        (
            "UPDATE agents SET view = jsonb_set(view::jsonb, '{usage,tokens_consumed}', '7')::json WHERE id = 'a3'",
            *("agents", "a3", {"view.usage.tokens_consumed"}),
        ),
        ("UPDATE agents SET view = '[]' WHERE id = 'a3'", "agents", "a3", {"view"}),
        ("UPDATE agents SET view = (view::text || ' ')::json WHERE id = 'a3'", "agents", "a3", {"view"}),
        ("DELETE FROM agents WHERE id = 'a3'", "agents", "a3", {None}),
        (
            """INSERT INTO agents SELECT 'b1', name, state, fleet_id, node_id, trust_level, created_at, updated_at,
               version, sequence, nodes, has_session, owes, asks, budgets, view FROM agents WHERE id = 'a3'""",
            *("agents", "b1", {None}),
        ),
        # The first has ended long ago: of it there is only a digest.
        ("UPDATE executions SET tokens = 1 WHERE execution_id = 'a3-0'", "executions", "a3/a3-0", {"tokens"}),
        (
            """UPDATE executions SET view = replace(view::text, '5 commits', '6 commits')::json
               WHERE execution_id = 'a3-0'""",
            *("executions", "a3/a3-0", {"view.output"}),
        ),
        (
            """UPDATE executions SET view = (view::jsonb - 'input' || '{"more": 1}')::json
               WHERE execution_id = 'a3-1'""",
            *("executions", "a3/a3-1", {"view.input", "view.more"}),
        ),
        ("DELETE FROM executions WHERE execution_id = 'a3-0'", "executions", "a3/a3-0", {None}),
        ("UPDATE executions SET agent_id = 'a4' WHERE execution_id = 'a3-0'", "executions", "a4/a3-0", {None}),
        ("UPDATE positions SET position = position + 1 WHERE name = 'agents'", "agents", "", {"position"}),
    ],
)
async def test_damaged_tables(
    copied: tuple[Bus, str], statement: str, place: str, key: str, fields: set[str | None]
) -> None:
    bus, healthy = copied
    await _sql(healthy, statement)
    differences, _ = await found(bus, healthy)
    mine = [difference for difference in differences if difference.key == key]
    assert {difference.field for difference in mine} == fields
    assert {difference.place for difference in differences} == {place}
    if "agent_id = 'a4'" in statement:
        assert [(other.key, other.message) for other in differences if other.key != key] == [
            ("a3/a3-0", "the row is missing")
        ]
    else:
        assert mine == differences


async def test_a_difference_says_all_there_is(bus: Bus, healthy: str) -> None:
    _, view = await _view(bus, "a3")
    await _sql(healthy, "UPDATE agents SET state = 'gone' WHERE id = 'a3'")
    (difference,), _ = await found(bus, healthy)
    assert (difference.place, difference.key, difference.sequence) == ("agents", "a3", view.sequence)
    assert (difference.field, difference.expected, difference.found) == ("state", "running", "gone")
    assert difference.message == 'state is "gone", by the events it is "running"'


async def test_damaged_views(bus: Bus, healthy: str) -> None:
    bucket = await bus.jetstream.key_value(VIEWS_BUCKET)
    raw, view = await _view(bus, "a1")
    await bucket.put("agent.a1", raw.replace(b'"n1"', b'"n2"'))
    await bucket.delete("agent.a2")
    await bucket.purge("agent.a3")
    await bucket.put("agent.a4", b"no view at all")
    await bucket.put("agent.a5", b'{"sequence":99999999}')
    await bucket.put("agent.nobody", raw)
    old, _ = await _view(bus, "a6")
    await bucket.put("agent.a6", old.replace(b'"version":', b'"version": '))
    differences, _ = await found(bus, healthy)
    assert {difference.place for difference in differences} == {"views"}
    said: dict[str, set[Any]] = {}
    for difference in differences:
        said.setdefault(difference.key, set()).add(difference.field)
    everything = {*AgentView.__struct_fields__} - {"halted_at"}  # which a view that goes on does not have
    assert said.pop("agent.a5") == everything
    assert said == {
        "agent.a1": {"node_id"},
        "agent.a2": {None},
        "agent.a3": {None},
        "agent.a4": {""},
        "agent.a6": {""},
        "agent.nobody": {None},
    }
    (first,) = [difference for difference in differences if difference.key == "agent.a1"]
    assert (first.sequence, first.expected, first.found) == (view.sequence, "n1", "n2")


async def test_what_is_shown_beside_the_views_is_no_view(bus: Bus, healthy: str) -> None:
    bucket = await bus.jetstream.key_value(VIEWS_BUCKET)
    await bucket.put("usage.a1", b"what a process takes")
    assert (await found(bus, healthy))[0] == []


async def test_a_view_from_before(bus: Bus, healthy: str) -> None:
    """It says itself that it is older, and the projector that it has passed: so nothing will change it any more."""
    raw, before = await _view(bus, "a1")
    newest = await h.append_events(bus, [h.started("again")], first_version=before.version + 1)
    await project(bus, healthy, newest)
    assert (await found(bus, healthy))[0] == []
    bucket = await bus.jetstream.key_value(VIEWS_BUCKET)
    await bucket.put("agent.a1", raw)
    differences, _ = await found(bus, healthy)
    assert {"open_executions.again", "version", "sequence"} < {difference.field for difference in differences}
    assert {(difference.key, difference.sequence) for difference in differences} == {("agent.a1", newest)}


async def test_projections_that_do_not_come(bus: Bus, healthy: str) -> None:
    newest = await h.append_events(bus, [h.spawn_requested()], "late")
    differences, summary = await found(bus, healthy, patience=0.2)
    assert [(it.place, it.field, it.expected, it.found) for it in differences] == [
        *((name, "position", newest, COUNT) for name in TABLES),
        ("views", "position", newest, COUNT),
    ]
    assert summary.sequence == newest


async def test_views_of_another_stream(bus: Bus, healthy: str) -> None:
    bucket = ViewBucket(bus)
    await bucket.store(POSITION_KEY, b"9999", (await stored_position(bucket))[1])
    (difference,), _ = await found(bus, healthy)
    assert (difference.place, difference.field, difference.found) == ("views", "position", 9999)


async def test_no_database(bus: Bus) -> None:
    with pytest.raises(DatabaseUnreachable):
        await verify(bus, "postgresql://127.0.0.1:1/none", lambda difference: None)


async def test_the_command(fresh_nats: EmbeddedNats, bus: Bus, healthy: str) -> None:
    where = {"L02_NATS_URL": fresh_nats.url, "L02_POSTGRES_URL": healthy}
    assert await program("verify", **where) == (
        0,
        f"nothing differs ({COUNT} events of {AGENTS} agents, nodes and budgets, compared as of event {COUNT})\n",
        "",
    )
    code, printed, _ = await program("verify", "--json", **where)
    assert (code, json.loads(printed)) == (
        0,
        {"sequence": COUNT, "events": COUNT, "aggregates": AGENTS, "differences": 0},
    )
    _, view = await _view(bus, "a3")
    await _sql(healthy, "UPDATE agents SET state = 'gone' WHERE id = 'a3'")
    code, printed, errors = await program("verify", **where)
    first, last = printed.splitlines()
    assert (code, errors) == (1, "")
    assert first == f'agents a3, event {view.sequence}: state is "gone", by the events it is "running"'
    assert last.startswith("1 difference (")
    code, printed, _ = await program("verify", "--json", **where)
    difference, summary = map(json.loads, printed.splitlines())
    assert (code, summary["differences"]) == (1, 1)
    assert (difference["key"], difference["field"], difference["found"]) == ("a3", "state", "gone")
    await _sql(healthy, "DROP TABLE executions")
    code, printed, errors = await program("verify", **where)
    assert (code, printed) == (1, "")
    assert 'relation "executions" does not exist' in errors
    code, _, errors = await program("verify", L02_NATS_URL=fresh_nats.url)
    assert code == 3
    assert "L02_POSTGRES_URL" in errors
