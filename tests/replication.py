"""Two PostgreSQL servers, one the standby of the other by streaming replication, and what it takes to fail over."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import msgspec

from l02.bus.embedded import EmbeddedPostgres
from l02.bus.embedded.endpoint import HOST, Endpoint
from l02.bus.embedded.postgres_server import _find_program
from l02.bus.embedded.private_file import make_private_directory, write_private
from l02.bus.embedded.server_process import ServerCommand, run_to_end
from tests.cluster.servers import _port

_COPY_SECONDS = 60.0


class MortalPostgres(EmbeddedPostgres):
    """A server that stays dead when it is killed: its machine is gone."""

    restart_delays = ()


class Standby(MortalPostgres):
    """A copy of another server that follows it until it is promoted."""

    def __init__(self, directory: Path, primary: EmbeddedPostgres) -> None:
        super().__init__(directory)
        self._primary = primary

    async def _initialize(self) -> None:
        make_private_directory(self._cluster)
        await run_to_end(
            ServerCommand(
                name="pg_basebackup",
                arguments=(
                    *(str(_find_program(self._version(), "pg_basebackup")), "-d", self._primary.url),
                    *("-D", str(self._cluster), "--write-recovery-conf", "--checkpoint=fast"),
                ),
                identity=str(self._cluster),
                directory=self.directory,
                stop_signals=(),
                death_signal=signal.SIGKILL,
                owned_directory=self._cluster,
            ),
            _COPY_SECONDS,
        )

    def _version(self) -> int:
        return self._primary._version()


class Pair:
    """The primary, its standby, and the URL that names both."""

    def __init__(self, root: Path) -> None:
        self.primary = MortalPostgres(root / "primary")
        self.standby = Standby(root / "standby", self.primary)

    async def start(self) -> None:
        await self.primary.start()
        home = self.standby.directory
        make_private_directory(home)
        own = Endpoint(port=_port(home / "port", set()), password=self.primary.endpoint.password)
        write_private(home / "endpoint.json", msgspec.json.encode(own))
        await self.standby.start()

    async def stop(self) -> None:
        # A primary that ends in peace waits for its standby.
        await self.primary.stop()
        await self.standby.stop()

    @property
    def url(self) -> str:
        """The primary first; nothing but asking tells which of them takes writes."""
        parts = urlsplit(self.primary.url)
        return parts._replace(netloc=f"{parts.netloc},{HOST}:{self.standby.endpoint.port}").geturl()

    async def caught_up(self) -> None:
        """Wait until the standby has all that the primary has committed so far."""
        async with _connected(self.primary) as primary, _connected(self.standby) as standby:
            written = await primary.fetchval("SELECT pg_current_wal_insert_lsn()::text")
            while await standby.fetchval(f"SELECT pg_wal_lsn_diff('{written}', pg_last_wal_replay_lsn()) > 0"):
                await primary.execute("SELECT pg_log_standby_snapshot()")

    async def cut_off(self) -> None:
        """From now on nothing reaches the standby: what is committed is on the primary alone."""
        async with _connected(self.standby) as standby:
            await standby.execute("ALTER SYSTEM SET primary_conninfo = ''")
            await standby.execute("SELECT pg_reload_conf()")
            while await standby.fetchval("SELECT count(*) FROM pg_stat_wal_receiver"):
                pass

    async def refuse_writes(self) -> None:
        """The primary only lets people read from now on; whoever is connected stays so."""
        async with _connected(self.primary) as primary:
            await primary.execute("ALTER SYSTEM SET default_transaction_read_only = on")
            await primary.execute("SELECT pg_reload_conf()")
            while await primary.fetchval("SHOW default_transaction_read_only") != "on":
                pass

    async def kill_primary(self) -> None:
        """As a machine dies, and stays away."""
        os.kill(self.primary.pid, signal.SIGKILL)
        await self.primary.wait_failed()

    async def promote(self) -> None:
        """What whoever watches over the servers does."""
        async with _connected(self.standby) as standby:
            assert await standby.fetchval("SELECT pg_promote(wait => true)")


@asynccontextmanager
async def replicated(root: Path) -> AsyncIterator[Pair]:
    pair = Pair(root)
    try:
        await pair.start()
        yield pair
    finally:
        await pair.stop()


@asynccontextmanager
async def _connected(server: EmbeddedPostgres) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    connection = await asyncpg.connect(server.url)
    try:
        yield connection
    finally:
        connection.terminate()
