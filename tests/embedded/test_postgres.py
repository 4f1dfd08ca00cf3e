"""The embedded PostgreSQL: what it keeps, who gets in, and that it comes back, also for root."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import psutil
import pytest

from l02.bus.embedded import EmbeddedPostgres, ServerError
from l02.bus.embedded.endpoint import HOST
from tests.embedded.support import alive, mode, node, session, until, until_gone


@pytest.mark.parametrize("name", ["with space", "long/" * 40 + "end"])
async def test_data_port_and_password_survive_a_restart(tmp_path: Path, name: str) -> None:
    directory = tmp_path / name
    directory.mkdir(parents=True)
    server = EmbeddedPostgres(directory)
    first = await server.start()
    async with session(first) as connection:
        await connection.execute("CREATE TABLE kept AS SELECT 1 AS value")
    pid = server.pid
    await server.stop()
    assert not alive(pid)
    assert "database system is shut down" in (directory / "server.log").read_text()

    again = EmbeddedPostgres(directory)
    assert await again.start() == first
    async with session(first) as connection:
        assert await connection.fetchval("SELECT value FROM kept") == 1
    await again.stop()


async def test_is_configured_as_promised(tmp_path: Path) -> None:
    (tmp_path / "cluster.new").mkdir()
    (tmp_path / "cluster.new" / "half").write_text("what an initdb left whose node was killed")
    server = EmbeddedPostgres(tmp_path)
    async with session(await server.start()) as connection:
        for setting, value in {
            "fsync": "on",
            "synchronous_commit": "on",
            "full_page_writes": "on",
            "server_encoding": "UTF8",
            "listen_addresses": HOST,
            "unix_socket_directories": "",
            "max_connections": "50",
            "shared_buffers": "32MB",
        }.items():
            assert await connection.fetchval(f"SHOW {setting}") == value
        assert await connection.fetchval("SELECT current_database()") == "l02"
        listening = psutil.Process(server.pid).net_connections("inet")
        assert {entry.laddr.ip for entry in listening} == {HOST}
    files = [path for path in tmp_path.iterdir() if path.is_file()]
    assert {path.name for path in files} == {"endpoint.json", "server.log", "server.pid"}
    assert {mode(path) for path in files} == {0o600}
    assert mode(tmp_path / "cluster") == 0o700
    wrong = urlsplit(server.url)._replace(netloc=f"l02:wrong@{HOST}:{urlsplit(server.url).port}").geturl()
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(wrong)
    await server.stop()


async def test_killed_server_comes_back_with_what_was_committed(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path)
    url = await server.start()
    async with session(url) as connection:
        await connection.execute("CREATE TABLE kept AS SELECT 1 AS value")
        for _ in range(2):
            killed = server.pid
            os.kill(killed, signal.SIGKILL)
            await _until_back(server, killed)
    assert server.url == url
    async with session(url) as connection:
        assert await connection.fetchval("SELECT value FROM kept") == 1
    await server.stop()


async def _until_back(server: EmbeddedPostgres, killed: int) -> None:
    def back() -> bool:
        try:
            return server.pid != killed
        except RuntimeError:
            return False

    await until(back)


async def test_a_process_with_its_dead_servers_number_is_no_obstacle(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path)
    await server.start()
    held = (tmp_path / "cluster" / "postmaster.pid").read_text()
    await server.stop()
    innocent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "import sys; sys.stdin.read()", stdin=subprocess.PIPE
    )
    stale = [str(innocent.pid), *held.splitlines()[1:]]
    (tmp_path / "cluster" / "postmaster.pid").write_text("\n".join(stale) + "\n")
    (tmp_path / "server.pid").write_text(f"{innocent.pid}\n")
    await server.start()
    await server.stop()
    assert innocent.returncode is None
    innocent.kill()
    await innocent.wait()


async def test_failed_start_shows_the_log_and_leaves_nothing(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path)
    await server.start()
    await server.stop()
    (tmp_path / "cluster" / "global" / "pg_control").unlink()
    with pytest.raises(ServerError, match=r"PostgreSQL ended at its start: .*pg_control.*server\.log") as raised:
        await server.start()
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "server.pid").exists()


async def test_data_of_a_version_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "cluster").mkdir()
    (tmp_path / "cluster" / "PG_VERSION").write_text("9\n")
    with pytest.raises(ServerError, match=r"there is no PostgreSQL 9: .*L02_POSTGRES_URL"):
        await EmbeddedPostgres(tmp_path).start()


_CONTAINER = (sys.executable, str(Path(__file__).with_name("container.py")))
_FORBID = 'echo 0 > /proc/sys/user/max_user_namespaces; exec "$@"'
_ONE_USER = ("unshare", "--user", "--map-root-user", "sh", "-c", _FORBID, "-")


def _root_with(command: tuple[str, ...]) -> pytest.MarkDecorator:
    probe = [*command, "sh", "-c", "! unshare --user true"]
    able = sys.platform == "linux" and os.geteuid() == 0
    able = able and subprocess.run(probe, capture_output=True, check=False).returncode == 0
    return pytest.mark.skipif(not able, reason="needs root on Linux, and user namespaces")


@_root_with(_CONTAINER)
async def test_root_without_namespaces_runs_it_as_nobody(tmp_path: Path) -> None:
    """Below directories which only root may enter; and the data stays usable where namespaces are allowed."""
    tmp_path.chmod(0o700)
    for within, owner in ((_CONTAINER, "nobody"), ((), "root"), (_CONTAINER, "nobody")):
        async with node(tmp_path / "data", within=within) as (_, facts):
            assert psutil.Process(facts["postgres_pid"]).username() == owner
            assert (tmp_path / "data" / "postgres" / "cluster" / "PG_VERSION").owner() == owner
            async with session(facts["postgres_url"]) as connection:
                await connection.execute("CREATE TABLE IF NOT EXISTS kept AS SELECT 1 AS value")
                assert await connection.fetchval("SELECT value FROM kept") == 1
        await until_gone(facts["postgres_pid"])


@_root_with(_ONE_USER)
async def test_root_with_no_way_out_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="run as a normal user or set L02_POSTGRES_URL"):
        async with node(tmp_path / "data", within=_ONE_USER):
            pass
