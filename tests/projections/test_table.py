"""The statements of a table come from its columns: what is written over a row is all there, whatever a view holds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import Struct

from l02.bus.connection.bus import Bus
from l02.bus.wire.codec import RecordedEvent
from l02.domain.agent.work.executions import ExecutionCompleted
from l02.domain.kernel.message import Event
from l02.projections.folds.fold import Fold, encode_view
from l02.projections.projector.progress import Progress
from l02.projections.tables.database import connect, create_tables
from l02.projections.tables.definitions import TABLES
from l02.projections.tables.projector import TableProjector
from l02.projections.tables.table import Column, Table
from tests.projections import history as h
from tests.projections.replay import stored_rows

if TYPE_CHECKING:
    from l02.projections.tables.database import PgConnection


class Toy(Struct, frozen=True):
    shelf: str
    name: str
    price: int
    made_at: datetime
    weight: float | None
    sold: bool
    sequence: int


def _no_event(toy: Toy | None, recorded: RecordedEvent) -> Toy:
    raise AssertionError("nothing is projected here")


TOYS: Table[Toy] = Table(
    "toys",
    Fold(view=Toy, project=_no_event),
    key=("shelf", "box"),
    columns=(
        Column("shelf_too", "text", lambda toy: toy.shelf),
        Column("name", "text"),
        Column("price", "bigint", optional=True),
        Column("made_at", "timestamptz"),
        Column("weight", "double precision", optional=True),
        Column("sold", "boolean"),
        Column(
            "tags", "json", lambda toy: msgspec.json.encode([toy.price]).decode() if toy.price else None, optional=True
        ),
        Column("sequence", "bigint"),
    ),
    indexes={"toys_unsold": "(name) WHERE NOT sold"},
)
KEY = ("s1", "b1")


async def stored(connection: PgConnection, *views: Toy) -> dict[str, Any]:
    """The only row, after each of the views was written."""
    for view in views:
        await connection.execute(TOYS.upsert, *TOYS.upsert_arguments([(KEY, view, encode_view(view))]))
    (row,) = await connection.fetch("SELECT * FROM toys")
    return dict(row)


async def test_every_column_is_written_over(tables: str) -> None:
    async with connect(tables) as connection:
        for statement in (TOYS.create, *TOYS.create_indexes, TOYS.create, *TOYS.create_indexes):
            await connection.execute(statement)
        first = Toy("s1", "bear", 1, datetime(2026, 1, 1, tzinfo=UTC), None, False, 1)
        last = Toy("s2", "duck", 2, datetime(2026, 1, 2, tzinfo=UTC), 0.5, True, 2)
        assert await stored(connection, first, last) == {
            "shelf": "s1",
            "box": "b1",
            "shelf_too": "s2",
            "name": "duck",
            "price": 2,
            "made_at": datetime(2026, 1, 2, tzinfo=UTC),
            "weight": 0.5,
            "sold": True,
            "tags": "[2]",
            "sequence": 2,
            "view": encode_view(last).decode(),
        }
        assert (await stored(connection, first))["weight"] is None
        other = ("s2", "b1")
        await connection.execute(TOYS.upsert, *TOYS.upsert_arguments([(other, last, encode_view(last))]))
        found = await connection.fetch(TOYS.load, *TOYS.load_arguments([other, KEY, ("s2", "b2"), ("s1", "b2")]))
        assert {tuple(key): TOYS.fold.decode(view) for *key, view in found} == {KEY: first, other: last}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    toy=st.builds(
        Toy,
        shelf=st.text(max_size=10),
        name=st.one_of(st.text(), st.text(max_size=4).map(lambda text: text * 500)),
        price=st.integers(-(2**70), 2**70),
        made_at=st.datetimes(timezones=st.just(UTC)),
        weight=st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False)),
        sold=st.booleans(),
        sequence=st.integers(0, 2**63),
    )
)
async def test_whatever_a_view_holds_can_stand_in_a_column(tables: str, toy: Toy) -> None:
    async with connect(tables) as connection:
        await connection.execute(TOYS.create)
        row = await stored(connection, toy)
    assert row == {"shelf": "s1", "box": "b1", **TOYS.columns_of(toy), "view": encode_view(toy).decode()}
    assert row["name"] == toy.name[:256].replace("\0", "\ufffd")
    assert abs(row["price"]) == min(abs(toy.price), 2**63 - 1)


def at(version: int) -> datetime:
    """When the agent's event of this version was."""
    return h.START + timedelta(seconds=version)


async def test_the_rows_of_an_agent(bus: Bus, tables: str) -> None:
    """Each column has what its name says, after the first event and after the last."""
    agent = {
        "id": "a1",
        "name": "historian",
        "state": "pending",
        "fleet_id": "archive",
        "node_id": "n1",
        "trust_level": "standard",
        "created_at": at(1),
        "updated_at": at(1),
        "version": 1,
        "sequence": 1,
        "nodes": '["n1"]',
        "has_session": False,
        "owes": False,
    }
    execution = {"agent_id": "a1", "execution_id": "x1", "state": "running", "tokens": 0, "duration_seconds": None}
    checkpoint = {"agent_id": "a1", "checkpoint_id": "k1", "checkpoint_type": "manual", "state": "requested"}
    steps: list[tuple[list[Event], dict[str, dict[str, Any]]]] = [
        ([h.spawn_requested()], {"agents": agent}),
        (
            [h.spawned(), h.started("x1"), h.checkpoint_requested("k1", "n2")],
            {
                "agents": agent
                | {"state": "running", "updated_at": at(4), "version": 4, "sequence": 4, "nodes": '["n1","n2"]'},
                "executions": execution | {"ended_at": None, "sequence": 3},
                "checkpoints": checkpoint | {"label": None, "size_bytes": None, "created_at": None, "sequence": 4},
            },
        ),
        (
            [h.completed("x1"), h.terminated()],
            {
                "agents": agent
                | {"state": "terminated", "updated_at": at(6), "version": 6, "sequence": 6, "nodes": '["n2"]'},
                "executions": execution
                | {"state": "completed", "tokens": 30, "duration_seconds": 1.75, "ended_at": at(5), "sequence": 5},
            },
        ),
    ]
    version = 1
    for events, expected in steps:
        newest = await h.append_events(bus, events, first_version=version)
        version += len(events)
        await TableProjector(bus, tables, Progress()).run(until=newest)
        found = await stored_rows(tables)
        for name, columns in expected.items():
            (row,) = found[name].values()
            assert {column: row[column] for column in columns} == columns, name


class Spent(Struct, frozen=True):
    """What an agent has spent, of which the runtime keeps no table."""

    agent_id: str
    tokens: int
    sequence: int


def _spend(view: Spent | None, recorded: RecordedEvent) -> Spent:
    tokens = recorded.event.tokens if isinstance(recorded.event, ExecutionCompleted) else 0
    before = 0 if view is None else view.tokens
    return Spent(recorded.aggregate.id, before + tokens, recorded.sequence)


def _spender(recorded: RecordedEvent) -> tuple[str] | None:
    return (recorded.aggregate.id,) if isinstance(recorded.event, ExecutionCompleted) else None


async def test_another_projection_is_a_fold_and_an_entry(bus: Bus, tables: str) -> None:
    """It comes to a database that has the others already, and catches up with them."""
    spent = Table("spent", Fold(view=Spent, project=_spend, key=_spender), ("id",), (Column("tokens", "bigint"),))
    work = [h.started("x1"), h.completed("x1"), h.started("x2"), h.completed("x2")]
    newest = await h.append_events(bus, [h.spawn_requested(), h.spawned(), *work])
    await TableProjector(bus, tables, Progress()).run(until=newest)
    newest = await h.append_events(bus, [h.spawn_requested(), h.spawned(), *work[:2]], "a2")
    async with connect(tables) as connection:
        await create_tables(connection, [spent])
        await TableProjector(bus, tables, Progress(), tables=TABLES | {"spent": spent}).run(until=newest)
        rows = await connection.fetch("SELECT id, tokens, view FROM spent ORDER BY id")
    assert [(row["id"], row["tokens"], spent.fold.decode(row["view"]).sequence) for row in rows] == [
        ("a1", 60, 6),
        ("a2", 30, 10),
    ]
    assert len((await stored_rows(tables))["agents"]) == 2
