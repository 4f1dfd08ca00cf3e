"""Both stores of checkpoints over real servers, and a look at the bytes they keep."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

import asyncpg
import pytest
import pytest_asyncio

from l02.bus.connection.bus import Bus, connect
from l02.bus.connection.streams import CHECKPOINTS_BUCKET
from l02.bus.embedded import EmbeddedNats
from l02.bus.jetstream.history import read_stored, sequence_of
from l02.domain.aggregates import AGGREGATES
from l02.handlers.state.checkpoint_store import CheckpointStore
from l02.handlers.state.settings import Compression
from l02.handlers.state.stores.objects import open_object_checkpoints
from l02.handlers.state.stores.postgres import open_postgres_checkpoints

LIMIT = 100 * 1024 * 1024
STORES = ("postgres", "objects")


@dataclass(frozen=True)
class Piece:
    """Bytes that a store keeps, and how to put others in their place."""

    where: str
    raw: bytes = field(repr=False)
    replace: Callable[[bytes], Awaitable[object]]


@dataclass(frozen=True)
class Servers:
    """Where a store is opened, by its name."""

    postgres: str
    nats: str

    @asynccontextmanager
    async def opened(
        self, name: str, *, compression: Compression = "gzip", limit: int = LIMIT
    ) -> AsyncIterator[CheckpointStore]:
        if name == "postgres":
            async with open_postgres_checkpoints(self.postgres, compression=compression, limit=limit) as postgres:
                yield postgres
        else:
            async with (
                connect(self.nats, name="state", aggregates=AGGREGATES) as bus,
                open_object_checkpoints(bus, compression=compression, limit=limit) as objects,
            ):
                yield objects

    async def pieces(self, name: str) -> list[Piece]:
        """All that a store keeps of contents: chunks, and what names them."""
        if name == "postgres":
            return await _rows(self.postgres)
        async with connect(self.nats, name="state", aggregates=AGGREGATES) as bus:
            return [piece async for piece in _messages(bus, self.nats)]

    async def chunk_bytes(self, name: str) -> int:
        """What the chunks of all checkpoints take, each counted once."""
        return sum(len(piece.raw) for piece in await self.pieces(name) if piece.where == "chunk")


@pytest.fixture
def servers(database: str, fresh_nats: EmbeddedNats) -> Servers:
    return Servers(database, fresh_nats.url)


@pytest.fixture(params=STORES)
def name(request: pytest.FixtureRequest) -> str:
    """Which store: each test is run with both."""
    return str(request.param)


@pytest_asyncio.fixture
async def store(servers: Servers, name: str) -> AsyncIterator[CheckpointStore]:
    async with servers.opened(name) as opened:
        yield opened


async def _rows(url: str) -> list[Piece]:
    async def fetch(statement: str, *arguments: object) -> list[asyncpg.Record]:
        connection = await asyncpg.connect(url, server_settings={"search_path": "l02"})
        try:
            # As a damaged disk would: without the foreign keys' consent.
            await connection.execute("SET session_replication_role = replica")
            return await connection.fetch(statement, *arguments)
        finally:
            await connection.close()

    found = []
    for where, table, column, key in (
        ("chunk", "state_chunks", "data", "sha256"),
        ("list", "state_references", "chunk", "position"),
    ):
        for row in await fetch(f"SELECT agent_id, {key} AS key, {column} AS raw FROM {table}"):
            statement = f"UPDATE {table} SET {column} = $3 WHERE agent_id = $1 AND {key} = $2"
            found.append(Piece(where, row["raw"], partial(fetch, statement, row["agent_id"], row["key"])))
    return found


async def _messages(bus: Bus, url: str) -> AsyncIterator[Piece]:
    for where, subjects in (("name", f"$O.{CHECKPOINTS_BUCKET}.M.>"), ("chunk", f"$O.{CHECKPOINTS_BUCKET}.C.>")):
        raw: dict[str, bytes] = {}
        position, more = 0, True
        while more:
            messages, more = await read_stored(bus, f"OBJ_{CHECKPOINTS_BUCKET}", subjects, after=position)
            for message in messages:
                assert message.headers is not None
                subject, position = message.headers["Nats-Subject"], sequence_of(message)
                raw[subject] = raw.get(subject, b"") + message.data
        for subject, content in raw.items():
            yield Piece(where, content, _replacing(url, subject))


def _replacing(url: str, subject: str) -> Callable[[bytes], Awaitable[object]]:
    async def replace(raw: bytes) -> None:
        async with connect(url, name="damage", aggregates=AGGREGATES) as bus:
            await bus.jetstream.purge_stream(f"OBJ_{CHECKPOINTS_BUCKET}", subject=subject)
            await bus.publish(subject, raw)

    return replace
