"""The real servers every test shares: the embedded ones, or the official images with L02_TEST_CONTAINERS=1."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import secrets
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import msgspec
import nats as nats_py
import pytest
import pytest_asyncio
from hypothesis import settings
from nats.aio.client import Client

from l02.bus.embedded import EmbeddedNats, EmbeddedPostgres
from l02.bus.embedded.endpoint import Endpoint

# What Python has compiled is kept, though the machine may say otherwise: hundreds of processes would compile it anew.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# A busy machine must not fail a property.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")

# Data directories lie in memory where there is room for them: servers are killed here, but no machine loses its power,
# so what was synced and what was only written are the same to every test. PYTEST_DEBUG_TEMPROOT names another place.
_MEMORY = Path("/dev/shm")
_ROOM_BYTES = 4 << 30
if (
    os.access(_MEMORY, os.W_OK)
    and not os.statvfs(_MEMORY).f_flag & getattr(os, "ST_NOEXEC", 0)
    and shutil.disk_usage(_MEMORY).free >= _ROOM_BYTES
):
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(_MEMORY))

PLAIN_PYTHON = (sys.executable, "-IS")
"""For programs of the standard library: not looking for packages, it starts in a third of the time."""

NATS_IMAGE = "nats:2.12-alpine"
POSTGRES_IMAGE = "postgres:16-alpine"
NATS_CONFIGURATION = Path(__file__).parent.parent / "deploy" / "nats.conf"


@pytest.fixture
def deep_path(tmp_path: Path) -> Iterator[Path]:
    """A directory for deep trees. pytest's own cleaning raises on one that a failed test leaves, in later runs too."""
    path = tmp_path / "deep"
    path.mkdir()
    yield path
    subprocess.run(["rm", "-rf", path], check=True)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--shuffle", type=int, metavar="SEED", help="run the tests in a random order, the same for a SEED")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What is collected stays to the end. Looking through it again and again stops a loop for a third of a second."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Every test passes in any order; a package's or a session's fixtures are made when they are first needed."""
    seed = config.getoption("--shuffle")
    if seed is not None:
        random.Random(seed).shuffle(items)


def in_containers() -> bool:
    return os.environ.get("L02_TEST_CONTAINERS") == "1"


@pytest.fixture(scope="session")
def docker_engine() -> None:
    """Fail with one clear line if the containers asked for cannot be had."""
    from docker import from_env  # type: ignore[import-untyped]
    from docker.errors import DockerException  # type: ignore[import-untyped]

    try:
        from_env().ping()
    except DockerException as error:
        pytest.fail(f"L02_TEST_CONTAINERS=1 needs a running Docker engine: {error}", pytrace=False)


@pytest_asyncio.fixture(scope="session")
async def nats_url(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """One NATS server for the session, every write synced. Its streams are shared: see `fresh_nats`."""
    if in_containers():
        request.getfixturevalue("docker_engine")
        from testcontainers.community.nats import NatsContainer

        container = NatsContainer(NATS_IMAGE)
        container.with_volume_mapping(NATS_CONFIGURATION, "/etc/nats/l02.conf", "ro")
        container.with_command("-js -c /etc/nats/l02.conf")
        await asyncio.to_thread(container.start)
        try:
            yield container.nats_uri()
        finally:
            await asyncio.to_thread(container.stop)
    else:
        server = EmbeddedNats(tmp_path_factory.mktemp("nats"))
        yield await server.start()
        await server.stop()


@pytest_asyncio.fixture(scope="session")
async def postgres_url(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """One PostgreSQL server for the session. Tests take a `database` of their own on it."""
    if in_containers():
        request.getfixturevalue("docker_engine")
        from testcontainers.community.postgres import PostgresContainer

        container = PostgresContainer(POSTGRES_IMAGE, username="l02", dbname="l02", driver=None)
        await asyncio.to_thread(container.start)
        try:
            yield container.get_connection_url()
        finally:
            await asyncio.to_thread(container.stop)
    else:
        server = EmbeddedPostgres(tmp_path_factory.mktemp("postgres"))
        yield await server.start()
        await server.stop()


@pytest_asyncio.fixture
async def nats(nats_url: str) -> AsyncIterator[Client]:
    """A client of the session's NATS server."""
    async with connected(nats_url) as client:
        yield client


@pytest_asyncio.fixture
async def fresh_nats(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[EmbeddedNats]:
    """A NATS server for this test alone (30 ms), since streams belong to a whole server.

    It does not sync its writes unless asked: `@pytest.mark.parametrize("fresh_nats", ["synced"], indirect=True)`.
    """
    server = EmbeddedNats(tmp_path / "nats", synced=getattr(request, "param", None) == "synced")
    await server.start()
    yield server
    await server.stop()


@pytest_asyncio.fixture
async def database(postgres_url: str) -> AsyncIterator[str]:
    """The URL of an empty PostgreSQL database for this test alone, dropped after it with all its sessions."""
    async with new_database(postgres_url) as url:
        yield url


@asynccontextmanager
async def new_database(postgres_url: str, copy_of: str = "template1") -> AsyncIterator[str]:
    """The URL of a database as long as the context lasts; `copy_of` is the name of one that nobody is connected to."""
    name = f"test_{secrets.token_hex(6)}"
    administrator = await asyncpg.connect(postgres_url)
    try:
        await administrator.execute(f"CREATE DATABASE {name} TEMPLATE {copy_of}")
        yield urlsplit(postgres_url)._replace(path=f"/{name}").geturl()
        await administrator.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await administrator.close()


@pytest_asyncio.fixture(scope="session")
async def initialized_postgres(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the first start of an embedded PostgreSQL makes, in a second of the processor: see `started_before`."""
    directory = tmp_path_factory.mktemp("initialized")
    server = EmbeddedPostgres(directory)
    await server.start()
    await server.stop()
    return directory


def started_before(directory: Path, initialized_postgres: Path) -> Path:
    """`directory`, made as that of an embedded PostgreSQL which has been started before."""
    directory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    subprocess.run(["cp", "-a", initialized_postgres, directory], check=True)
    (directory / "endpoint.json").unlink()
    password = Endpoint.load(initialized_postgres / "endpoint.json").password
    own = msgspec.structs.replace(Endpoint.load(directory / "endpoint.json"), password=password)
    (directory / "endpoint.json").write_bytes(msgspec.json.encode(own))
    return directory


@pytest.fixture
def data_dir(tmp_path: Path, initialized_postgres: Path) -> Path:
    """A node's data directory, whose PostgreSQL has been started before."""
    return started_before(tmp_path / "data" / "postgres", initialized_postgres).parent


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Client]:
    client = await nats_py.connect(url)
    try:
        yield client
    finally:
        await client.close()
