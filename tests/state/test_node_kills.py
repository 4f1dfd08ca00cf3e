"""A node that dies at the worst of all instants, and is there again: each checkpoint is stored, read, deleted once."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from l02.bus.connection.bus import Bus, connect
from l02.bus.embedded import EmbeddedNats
from l02.client.client import Client
from l02.domain.agent.saved.checkpoints import CheckpointCreated, CheckpointExpired
from l02.domain.agent.saved.restoring import CheckpointRestored
from l02.domain.aggregates import AGGREGATES
from l02.domain.errors import Failure
from l02.handlers.state.checkpoints import Checkpoints
from l02.handlers.state.hot import open_hot_state
from l02.handlers.state.settings import StateSettings
from l02.handlers.state.stores import open_checkpoints
from l02.node.running import Node, running_node
from l02.node.session_server import OFF, SessionSettings
from l02.node.settings import Settings
from tests.runtime.conftest import history, until, worker
from tests.stored_checkpoints import stored_checkpoints

COUNT = {"steps": [["count"]]}
MORTAL = StateSettings(retention_days=0, keep_last=1, auto_checkpoint_interval_seconds=0)


class Site:
    """Servers that outlive the nodes, and a directory for one of those."""

    def __init__(self, nats_url: str, postgres_url: str, data_dir: Path) -> None:
        self.nats_url = nats_url
        self.postgres_url = postgres_url
        self.data_dir = data_dir

    @asynccontextmanager
    async def dying(self, place: str) -> AsyncIterator[Process]:
        """A node that will kill itself at this place."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.state.dying_node", place, str(self.data_dir)),
            env=os.environ
            | {
                "L02_NATS_URL": self.nats_url,
                "L02_POSTGRES_URL": self.postgres_url,
                "L02_CHECKPOINT_RETENTION_DAYS": "0",
                "L02_CHECKPOINT_KEEP_LAST": "1",
                "L02_AUTO_CHECKPOINT_INTERVAL_SECONDS": "0",
                "L02_SESSION_SERVER": OFF,
            },
            stdout=PIPE,
        )
        try:
            assert process.stdout
            async with asyncio.timeout(30):
                assert await process.stdout.readline() == b"ready\n"
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()

    @asynccontextmanager
    async def node(self, state: StateSettings = MORTAL) -> AsyncIterator[Node]:
        """A node that lives."""
        settings = Settings(
            data_dir=self.data_dir,
            nats_url=self.nats_url,
            postgres_url=self.postgres_url,
            state=state,
            sessions=SessionSettings(server=OFF),
        )
        async with running_node(settings) as running:
            yield running

    async def stored(self, agent_id: str) -> list[str]:
        """The ids of the checkpoints that PostgreSQL has."""
        return await stored_checkpoints(self.postgres_url, agent_id)


@pytest.fixture
def site(fresh_nats: EmbeddedNats, database: str, tmp_path: Path) -> Site:
    return Site(fresh_nats.url, database, tmp_path / "node")


async def until_true(look: Callable[[], Awaitable[object]], wanted: object) -> None:
    """What is in PostgreSQL is said by no event."""
    async with asyncio.timeout(20):
        while await look() != wanted:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def is_dead(process: Process) -> None:
    async with asyncio.timeout(30):
        await process.wait()


def of_type(kind: type[Any], checkpoint_id: str) -> Any:
    return lambda recorded: isinstance(recorded.event, kind) and recorded.event.checkpoint_id == checkpoint_id


async def count_of(client: Client, agent_id: str, kind: type[Any]) -> int:
    return sum(isinstance(event, kind) for event in await history(client, agent_id))


@pytest.mark.parametrize("place", ["before it is stored", "before it is reported"])
async def test_a_checkpoint_under_way_is_stored_once(site: Site, place: str) -> None:
    async with Client.connect(nats_url=site.nats_url) as client:
        async with site.dying(place) as process:
            await client.spawn(worker(), id="a1")
            await client.execute("a1", COUNT)
            asked = asyncio.create_task(client.checkpoint("a1", command_id="k1"))
            await is_dead(process)
        async with site.node():
            assert await asked == "k1"
            await until_true(lambda: site.stored("a1"), ["k1"])
            assert await count_of(client, "a1", CheckpointCreated) == 1
            await client.execute("a1", COUNT)
            await client.restore("a1", "k1")
            assert (await client.execute("a1", COUNT)).output == [2]


@pytest.mark.parametrize("place", ["before its timer is set", "before it is deleted"])
async def test_an_old_checkpoint_goes_and_so_do_its_bytes(site: Site, place: str) -> None:
    async with Client.connect(nats_url=site.nats_url) as client:
        async with site.dying(place) as process:
            await client.spawn(worker(), id="a1")
            assert await client.checkpoint("a1", command_id="k1") == "k1"
            await client.execute("a1", COUNT)
            asked = asyncio.create_task(client.checkpoint("a1", command_id="k2"))
            await is_dead(process)
        async with site.node():
            assert await asked == "k2"
            await until(client, "a1", of_type(CheckpointExpired, "k1"))
            await until_true(lambda: site.stored("a1"), ["k2"])
            assert [view.checkpoint_id for view in await client.checkpoints("a1")] == ["k2"]
            assert await count_of(client, "a1", CheckpointExpired) == 1


async def test_an_agent_is_brought_back_once(site: Site) -> None:
    async with Client.connect(nats_url=site.nats_url) as client:
        async with site.dying("before it is read") as process:
            await client.spawn(worker(), id="a1")
            await client.execute("a1", COUNT)
            checkpoint_id = await client.checkpoint("a1")
            await client.execute("a1", COUNT)
            asked = asyncio.create_task(client.restore("a1", checkpoint_id))
            await is_dead(process)
        async with site.node():
            assert (await asked).events == ["agent.checkpoint.restored"]
            assert (await client.execute("a1", COUNT)).output == [2]
            assert await count_of(client, "a1", CheckpointRestored) == 1


async def test_what_nobody_has_heard_of_is_removed(site: Site) -> None:
    """A checkpoint stored by a node that died, and again with other content by the next, leaves the second one only."""
    async with Client.connect(nats_url=site.nats_url) as client:
        async with site.dying("before it is stored") as process:
            await client.spawn(worker(), id="a1")
            asked = asyncio.create_task(client.checkpoint("a1", command_id="k1"))
            await is_dead(process)
        async with (
            connect(site.nats_url, name="test", aggregates=AGGREGATES) as bus,
            open_store(bus, site.postgres_url) as store,
        ):
            left = await store.save("a1", "k1", {"other": b"content"})
            async with site.node():
                assert await asked == "k1"
                (kept,) = (view.storage_location for view in await client.checkpoints("a1"))
                await until_true(lambda: store.locations("a1"), [kept])
                assert kept != left.storage_location


def open_store(bus: Bus, postgres_url: str) -> Any:
    return open_checkpoints(MORTAL, bus, postgres_url)


async def test_what_fails_though_it_should_not_is_tried_again(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    failures = iter([RuntimeError("at first")])
    take = Checkpoints.take

    async def fail_first(self: Checkpoints, *arguments: Any, **more: Any) -> None:
        for failure in failures:
            raise failure
        await take(self, *arguments, **more)

    monkeypatch.setattr(Checkpoints, "take", fail_first)
    async with Client.connect(nats_url=site.nats_url) as client, site.node():
        await client.spawn(worker(), id="a1")
        assert await client.checkpoint("a1", command_id="k1") == "k1"
        assert not [*failures]


async def test_a_changed_agent_has_a_checkpoint_at_an_interval_and_an_unchanged_one_none(site: Site) -> None:
    often = StateSettings(auto_checkpoint_interval_seconds=0.2)
    async with Client.connect(nats_url=site.nats_url) as client, site.node(often) as node:
        await client.spawn(worker(), id="a1")

        async def is_kept() -> bool:
            return (await node.parts.agents.load("a1")).state.unchanged_since is not None

        for _ in range(2):
            await client.execute("a1", COUNT)
            await until_true(is_kept, True)
        views = await client.checkpoints("a1")
        # One more for each look of the watch that has met an execution in its middle.
        assert 2 <= len(views) <= 4 and {view.checkpoint_type for view in views} == {"auto"}
        # What is asked for now is decided after any look of the watch before it: that has found nothing to take.
        assert await client.checkpoint("a1") == views[0].checkpoint_id
        assert await count_of(client, "a1", CheckpointCreated) == len(views)


async def test_a_state_that_is_too_large_is_an_error_with_a_code(site: Site) -> None:
    small = StateSettings(max_size_mb=1)
    async with Client.connect(nats_url=site.nats_url) as client, site.node(small):
        await client.spawn(worker(), id="a1")
        await client.execute("a1", {"steps": [["bytes", "raw", 2 * 1024 * 1024]]})
        with pytest.raises(Failure, match="E2031"):
            await client.checkpoint("a1")
        (caught,) = (await client.execute("a1", {"steps": [["try checkpoint"]]})).output
        assert caught == "E2031"
        (view, _) = await client.checkpoints("a1", every=True)
        assert view.error
        assert (view.state.value, view.error.code) == ("failed", "E2031")
        assert await client.checkpoints("a1") == []


async def test_an_agent_that_has_ended_keeps_none_for_ever(site: Site) -> None:
    async with Client.connect(nats_url=site.nats_url) as client, site.node():
        await client.spawn(worker(), id="a1")
        await client.checkpoint("a1", command_id="k1")
        await client.terminate("a1")
        await until(client, "a1", of_type(CheckpointExpired, "k1"))
        await until_true(lambda: site.stored("a1"), [])


async def test_the_hot_copy_is_there_while_the_agent_runs(site: Site) -> None:
    async with Client.connect(nats_url=site.nats_url) as client, site.node() as node:
        await client.spawn(worker(), id="a1")
        await client.execute("a1", COUNT)
        async with open_hot_state(MORTAL, node.parts.bus) as hot:

            async def found() -> object:
                kept = await hot.get("a1")
                return None if kept is None else msgspec.json.decode(kept[1])["state"]

            await until_true(found, {"count": 1})
            await client.suspend("a1")
            await until_true(found, None)
            await client.resume("a1")
            await until_true(found, {"count": 1})
