"""One cluster for all tests of this package. Its streams are shared, so each test has aggregates of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from l02.bus.connection.bus import Bus, connect
from l02.bus.connection.streams import ensure_streams
from l02.bus.log.event_store import EventStore, open_event_store
from tests.bus.toy import TABLE
from tests.cluster.servers import Cluster, run_cluster
from tests.conftest import in_containers


@pytest_asyncio.fixture(scope="package")
async def started(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    if in_containers():
        pytest.skip("the cluster is made of the embedded server; its faults need its processes")
    async with run_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        async with connect(cluster.url, name="test", aggregates=TABLE) as bus:
            await ensure_streams(bus, replicas=3)
        yield cluster


@pytest_asyncio.fixture
async def cluster(started: Cluster) -> Cluster:
    """Three servers that are all up and agree, whatever a test before did to them."""
    await started.start()
    async with connect(started.url, name="test", aggregates=TABLE) as bus:
        await started.settled(bus)
    return started


@pytest_asyncio.fixture
async def bus(cluster: Cluster) -> AsyncIterator[Bus]:
    """A client that may use any of the servers."""
    async with connect(cluster.url, name="test", aggregates=TABLE) as connected:
        yield connected


@pytest_asyncio.fixture
async def store(bus: Bus) -> AsyncIterator[EventStore]:
    async with open_event_store(bus) as opened:
        yield opened
