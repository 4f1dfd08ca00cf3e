"""The node is killed, and its servers with it, while others write: what was acknowledged is there afterwards, once.

Some writers stay through all of it, others come with each node and are cancelled when it goes.
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from l02.bus.background.cancelling import end
from l02.bus.connection.bus import connect
from l02.bus.connection.streams import ensure_streams
from l02.bus.log.event_store import open_event_store
from l02.bus.log.repository import Repository
from tests.bus.faults import Acknowledged, all_events, write_for_ever
from tests.bus.toy import TABLE, TOY
from tests.embedded.support import node, until, until_gone


@asynccontextmanager
async def writing(url: str, names: list[str], acknowledged: Acknowledged) -> AsyncIterator[None]:
    """Writers on a connection of their own, as long as the context lasts."""
    async with connect(url, name="writer", aggregates=TABLE) as bus, open_event_store(bus) as store:
        repository = Repository(TOY, store, "n1")
        writers = [asyncio.create_task(write_for_ever(repository, name, acknowledged)) for name in names]
        try:
            yield
        finally:
            for writer in writers:
                await end(writer)
        assert all(writer.cancelled() for writer in writers)


async def lay_out(url: str) -> None:
    async with connect(url, name="setup", aggregates=TABLE) as bus:
        await ensure_streams(bus)


def count(acknowledged: Acknowledged, names: list[str] | None = None) -> int:
    return sum(len(acknowledged.get(name, [])) for name in (acknowledged if names is None else names))


async def gone(facts: dict[str, Any]) -> None:
    """Wait until a node's servers have ended."""
    await until_gone(facts["nats_pid"])
    await until_gone(facts["postgres_pid"])


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kills", [5, pytest.param(300, marks=pytest.mark.soak)])
async def test_killed_at_random_instants_it_loses_nothing(tmp_path: Path, kills: int) -> None:
    chance = random.Random(kills)
    steady, fleeting = [f"steady-{number}" for number in range(8)], [f"fleeting-{number}" for number in range(4)]
    acknowledged: Acknowledged = {}
    former: dict[str, Any] | None = None
    async with AsyncExitStack() as throughout:
        for round_ in range(kills):
            async with node(tmp_path) as (process, facts):
                if round_ == 0:
                    url = facts["nats_url"]
                    await lay_out(url)
                    await throughout.enter_async_context(writing(url, steady, acknowledged))
                assert facts["nats_url"] == url
                if former is not None:
                    await gone(former)
                async with writing(url, fleeting, acknowledged):
                    await asyncio.sleep(chance.uniform(0.0, 0.5))
                    process.kill()
                    await process.wait()
                former = facts
            if sys.platform == "linux" and chance.random() < 0.5:  # elsewhere, and else, the next node ends them
                await gone(facts)
        async with node(tmp_path) as (_, facts):
            before = count(acknowledged, steady)
            await until(lambda: count(acknowledged, steady) > before)
            await throughout.aclose()
            async with connect(facts["nats_url"], name="reader", aggregates=TABLE) as bus:
                stored = await all_events(bus)
    print(f"{kills} kills, {count(acknowledged)} events acknowledged")
    for name, ids in acknowledged.items():
        found = stored[name]
        assert len(set(found)) == len(found), "stored twice"
        known = set(ids)
        assert [event_id for event_id in found if event_id in known] == ids, "lost, or in another order"
        # A writer that is cancelled may have stored one decision more than it was told of.
        assert len(found) <= len(ids) + 2 * (1 if name in steady else kills), "decided again"
